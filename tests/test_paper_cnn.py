from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from salientry.detectors import SPD
from salientry.errors import TrainingFailed, UsageError
from salientry.paper_cnn import ASSIRA_NET, CIFAR10_NET, MNIST_NET, PaperCNN, in_order
from salientry.training import Optimiser
from salientry.types import Shape

SHAPES = {
    "mnist": (MNIST_NET, Shape(1, 28, 28, 10), 2_450_058, 1_134.6),
    "cifar10": (CIFAR10_NET, Shape(3, 32, 32, 10), 933_217, 94.5),
    "assira": (ASSIRA_NET, Shape(3, 112, 112, 2), 11_174_466, 2_571.5),
}


@pytest.mark.parametrize("data", SHAPES)
def test_the_nets_have_the_weights_and_the_cost_of_the_papers_figure(data: str) -> None:
    settings, shape, weights, millions = SHAPES[data]
    with torch.device("meta"):
        net = settings.layers((shape.channels, shape.height, shape.width), shape.classes)
    assert sum(p.numel() for p in net.parameters()) == weights
    x, products = torch.zeros(1, shape.channels, shape.height, shape.width, device="meta"), 0
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            products += x[0, 0].numel() * layer.weight.numel()
        if isinstance(layer, nn.Linear):
            products += layer.weight.numel()
    assert products / 1e6 == pytest.approx(millions, abs=0.05)
    assert x.shape == (1, shape.classes)


@pytest.mark.parametrize(("settings", "drops"), [(MNIST_NET, 1), (CIFAR10_NET, 2), (ASSIRA_NET, 3), (PaperCNN(dropout=0.0), 0)])
def test_drop_out_stands_before_every_dense_layer_and_nowhere_else(settings: PaperCNN, drops: int) -> None:
    with torch.device("meta"):
        net = list(settings.layers((1, 32, 32), 2))
    assert [type(b) for a, b in itertools.pairwise(net) if isinstance(a, nn.Dropout)] == [nn.Linear] * drops
    assert isinstance(net[-1], nn.Linear), "logits, no ReLU and no softmax"
    assert all(m.p == 0.6 for m in net if isinstance(m, nn.Dropout))


def test_weights_begin_as_glorot_says() -> None:
    torch.manual_seed(0)
    for layer in CIFAR10_NET.layers((3, 32, 32), 10):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            kernel = math.prod(layer.weight.shape[2:])
            bound = math.sqrt(6 / (kernel * (layer.weight.shape[0] + layer.weight.shape[1])))
            assert bound * 0.98 < float(layer.weight.detach().abs().max()) <= bound
            assert float(layer.bias.detach().abs().max()) == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("kernel", [3, 6, 8])
def test_an_even_kernel_has_its_further_zero_after_the_image(kernel: int) -> None:
    """As TensorFlow pads: of k - 1 zeros the smaller half before, the larger after."""
    net = PaperCNN(blocks=((1, 1, kernel),), pool=False, dense=(), dropout=0.0).layers((1, 9, 9), 2)
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
        body = net[:-2]  # without the dense layer
        x = torch.zeros(1, 1, 9, 9)
        x[0, 0, 4, 4] = 1.0
        rows = body(x)[0, 0].sub(1).abs().sum(1).nonzero()[:, 0].tolist()  # bias 1
    before = (kernel - 1) // 2
    assert rows == list(range(4 - (kernel - 1 - before), 4 + before + 1))


def test_a_heads_score_is_the_log_odds_of_its_two_outputs() -> None:
    head = PaperCNN(blocks=((1, 4, 3),), dense=()).head((2, 8, 8)).eval()
    x = torch.rand(5, 2, 8, 8)
    outputs = head[0](x)
    torch.testing.assert_close(torch.sigmoid(head(x)), outputs.softmax(1)[:, 1])
    y = torch.tensor([0, 1, 1, 0, 1])
    torch.testing.assert_close(F.binary_cross_entropy_with_logits(head(x), y.float()), F.cross_entropy(outputs, y))


def test_a_detector_may_have_the_classifiers_own_net_as_its_head() -> None:
    built = SPD(head=CIFAR10_NET).build((3, 32, 32))
    classifier = CIFAR10_NET.layers((3, 32, 32), 10)
    ours = [tuple(p.shape) for p in built.head[0].parameters()]  # type: ignore[index, union-attr]
    assert ours[:-2] == [tuple(p.shape) for p in classifier.parameters()][:-2], "all but the last layer"
    assert ours[-2:] == [(2, 128), (2,)]


@pytest.mark.parametrize(("optimiser", "moved"), [("adam", 1e-3), ("rmsprop", 1e-3 / math.sqrt(0.1)), ("sgd", 1e-2 * 2 * 1.9)])
def test_a_first_step_is_as_long_as_its_optimiser_says(optimiser: Optimiser, moved: float) -> None:
    """Written out for a gradient of 2: Adam moves by its rate, RMSprop (.9 forgotten) by rate / sqrt(.1), SGD by 1.9 gradients."""
    settings = PaperCNN(blocks=((1, 1, 1),), dense=(), dropout=0.0, epochs=1, optimiser=optimiser)
    module = nn.Linear(1, 1, bias=False)
    start = float(module.weight.detach())
    settings.descend(module, lambda e: [torch.tensor([[2.0]])], lambda x: module(x).sum(), 1)
    assert start - float(module.weight.detach()) == pytest.approx(moved, rel=1e-3)


def test_every_image_is_seen_once_an_epoch_in_another_order_each_time() -> None:
    order = in_order(107, 50, 3)
    first, second = order(0), order(1)
    assert [len(b) for b in first] == [50, 50, 7]
    assert sorted(torch.cat(first).tolist()) == list(range(107)) and not torch.equal(torch.cat(first), torch.cat(second))
    assert all(torch.equal(a, b) for a, b in zip(first, in_order(107, 50, 3)(0), strict=True))


def test_it_learns_what_can_be_learnt() -> None:
    """Which half of the image is bright."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(240, 1, 8, 8, generator=g), torch.arange(240) % 2
    x[y == 0, :, :, :4] += 0.5
    x[y == 1, :, :, 4:] += 0.5
    x.clamp_(0, 1)
    settings = PaperCNN(blocks=((1, 8, 3),), dense=(16,), epochs=40)
    net = settings.fit(x, y, Shape(1, 8, 8, 2), seed=0)
    assert float((net(x).argmax(1) == y).float().mean()) > 0.97
    again = settings.fit(x, y, Shape(1, 8, 8, 2), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"blocks": ()}, "blocks"), ({"blocks": ((0, 4, 3),)}, "blocks"), ({"dropout": 1.0}, "dropout"), ({"batch": 1}, "batch")],
)
def test_settings_that_describe_no_net_are_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        PaperCNN(**changes)  # type: ignore[arg-type]


def test_more_poolings_than_pixels_are_refused() -> None:
    with pytest.raises(UsageError, match="leave nothing of 4 x 4"):
        PaperCNN().layers((3, 4, 4), 10)


def test_a_centred_net_is_the_other_net_on_centred_images() -> None:
    plain, centred = PaperCNN(blocks=((1, 4, 3),), dense=()), PaperCNN(blocks=((1, 4, 3),), dense=(), centred=True)
    torch.manual_seed(0)
    net = plain.layers((3, 8, 8), 2).eval()
    torch.manual_seed(0)
    other = centred.layers((3, 8, 8), 2).eval()
    x = torch.rand(5, 3, 8, 8)
    torch.testing.assert_close(other(x), net((x - 0.5) / 0.25))
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in other.parameters())


def test_a_net_that_dies_is_an_error_after_the_epoch_that_killed_it() -> None:
    """At a rate of 10 the first steps leave every ReLU at 0: one answer for all images."""
    x, y, seen = torch.rand(200, 1, 8, 8), torch.arange(200) % 2, list[int]()

    class Images:
        def __getitem__(self, at: torch.Tensor) -> torch.Tensor:
            seen.append(len(at))
            return x[at]

    settings = PaperCNN(blocks=((2, 8, 3), (2, 8, 3)), dense=(16,), epochs=30, lr=10.0)
    with pytest.raises(TrainingFailed, match=r"after 1 of 30 epochs the network gives the same answer .*centred=True"):
        settings.fit(Images(), y, Shape(1, 8, 8, 2), seed=0)  # type: ignore[arg-type]
    assert seen == [50, 50, 50, 50, 100], "one epoch, and the images on which it is asked"
