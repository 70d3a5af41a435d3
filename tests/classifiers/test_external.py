from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import JSMA, JSMA_STRICT
from salientry.classifiers import External
from salientry.errors import UsageError
from salientry.learned import fingerprint
from salientry.types import Shape

from .. import examples

SHAPE = Shape(3, 5, 4, 6)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
X = examples.images(SHAPE, 8)


class Says(nn.Module):
    """A network that gives whatever a function makes of its input; its one weight only moves the fingerprint."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer, self.weight = answer, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


def linear(seed: int = 0) -> nn.Sequential:
    return examples.affine(SHAPE, seed=seed, dtype=torch.float32)


def logits(x: Tensor) -> Tensor:
    return 10 * x.flatten(1)[:, :6] - 3


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_preprocessing_equals_the_computation_by_hand(channels: Any) -> None:
    net = linear()
    planes = [X[:, i].numpy() for i in ((0, 1, 2) if channels == "RGB" else (2, 1, 0))]
    seen = np.stack([(p - m) / s for p, m, s in zip(planes, MEAN, STD, strict=True)], 1)  # mean and std in the network's own order
    expected = seen.reshape(8, -1) @ net[1].weight.detach().numpy().T + net[1].bias.detach().numpy()
    found = External(net, mean=MEAN, std=STD, channels=channels)(X).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_one_number_serves_all_channels() -> None:
    net = linear()
    assert torch.allclose(External(net, mean=0.5, std=0.25)(X), net((X - 0.5) / 0.25), atol=1e-5)
    assert torch.equal(External(net)(X), net(X))


def test_gradients_flow_to_the_image() -> None:
    net = External(linear(), mean=MEAN, std=STD, channels="BGR").double()
    x = X.double().requires_grad_()
    (found,) = torch.autograd.grad(net(x)[:, 2].sum(), x)
    weights = net.module.get_submodule("1").weight[2].detach().view(3, 5, 4) / torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)
    assert torch.allclose(found, weights.flip(0).expand_as(x), atol=1e-6)


@pytest.mark.parametrize("make", [lambda x: x.flatten(1)[:, :1] * 9 - 4, lambda x: x.flatten(1)[:, 0] * 9 - 4], ids=["(N,1)", "(N,)"])
def test_one_output_is_the_log_odds_of_class_1(make: Any) -> None:
    z = External(Says(make))(X)
    assert z.shape == (8, 2)
    odds = 9 * X[:, 0, 0, 0] - 4
    assert torch.allclose(z.softmax(1)[:, 1], torch.sigmoid(odds), atol=1e-6)
    assert torch.equal(z, torch.stack([-z[:, 1], z[:, 1]], 1))  # each class has a gradient
    assert External(Says(make))(X[:1]).shape == (1, 2)


@pytest.mark.parametrize("name", sorted(examples.attacks()))
def test_every_attack_fools_a_network_with_one_output(name: str) -> None:
    """With logits 0 and z the first has no gradient, and a JSMA of logits fools nothing."""
    net = External(nn.Sequential(nn.Flatten(), nn.Linear(60, 1)).requires_grad_(False))
    linear = net.module.get_submodule("1")
    assert isinstance(linear, nn.Linear)
    linear.weight.copy_(examples.affine(SHAPE)[1].weight[:1].detach() / 4)
    x = 0.3 + 0.4 * X
    linear.bias.sub_(net.module(x).median())
    y, kinds = examples.predicted(net, x), [examples.attacks()[name]]
    assert sorted(set(y.tolist())) == [0, 1]
    if name == "jsma":
        kinds += [JSMA(score="logit"), JSMA_STRICT]
    for attack in kinds:
        found = attack(net, x, y, seeds=examples.seeds(8))
        assert bool((examples.predicted(net, found) != y).all()), attack


def test_one_output_that_lies_in_0_to_1_is_no_softmax() -> None:
    """Log-odds of 1 on two images: 0 and 1 sum to 1. On four images they would be taken for a sigmoid's."""
    net = External(Says(lambda x: torch.ones(len(x), 1)))
    assert net(X[:2]).shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "output"),
    [
        (lambda x: (logits(x), x), None),
        (lambda x: [x, logits(x)], 1),
        (lambda x: [x, logits(x)], -1),
        (lambda x: {"logits": logits(x), "features": x}, None),
        (lambda x: OrderedDict(out=logits(x)), None),
        (lambda x: {"a": x, "b": logits(x)}, "b"),
        (lambda x: {"logits": x, "b": logits(x)}, "b"),
        (lambda x: {0: x, 1: logits(x)}, 1),
    ],
)
def test_finds_the_logits(make: Any, output: Any) -> None:
    assert torch.equal(External(Says(make), output=output)(X), logits(X))


@pytest.mark.parametrize(
    ("make", "output", "words"),
    [
        (lambda x: {"a": x, "b": logits(x)}, None, "dict with a, b.*output="),
        (lambda x: {"a": x, "b": logits(x)}, "c", "dict with a, b"),
        (lambda x: (logits(x), x), 2, "2 outputs; output=2"),
        (lambda x: (logits(x), x), "logits", "2 outputs; output='logits'"),
        (lambda x: x, None, r"\(8, 3, 5, 4\) for 8 images"),
        (lambda x: logits(x)[:4], None, r"\(4, 6\) for 8 images"),
        (lambda x: logits(x).sum(), None, "for 8 images"),
        (lambda x: "cat", None, "it gave str"),
    ],
)
def test_refuses_what_it_cannot_read_and_says_what_it_found(make: Any, output: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        External(Says(make), output=output)(X)


def test_refuses_softmax_and_says_why() -> None:
    net = External(Says(lambda x: logits(x).softmax(1)))
    for _ in range(2):  # the second time as well
        with pytest.raises(UsageError, match=r"softmax probabilities.*logits are needed.*last activation.*trust_output"):
            net(X)


@pytest.mark.parametrize("make", [lambda x: torch.sigmoid(logits(x)[:, :1]), lambda x: torch.sigmoid(logits(x)[:, 0])])
def test_refuses_sigmoid_and_says_why(make: Any) -> None:
    with pytest.raises(UsageError, match=r"sigmoid probabilities.*logits are needed"):
        External(Says(make))(X)


def test_a_small_first_batch_does_not_let_probabilities_through() -> None:
    for make in (lambda x: torch.sigmoid(logits(x)[:, :1]), lambda x: logits(x).softmax(1)):
        net = External(Says(make))
        with pytest.raises(UsageError, match="probabilities"):
            net(X[:0]), net(X[:2]), net(X)


def test_no_images_prove_nothing() -> None:
    assert External(linear())(X[:0]).shape == (0, 6)


def test_trust_output_takes_probabilities() -> None:
    assert torch.equal(External(Says(lambda x: logits(x).softmax(1)), trust_output=True)(X), logits(X).softmax(1))


def test_log_probabilities_and_large_logits_are_logits() -> None:
    for make in (lambda x: logits(x).log_softmax(1), lambda x: 100 * logits(x)):
        assert External(Says(make))(X).shape == (8, 6)


def test_fingerprint_changes_with_everything_that_moves_an_answer() -> None:
    class Other(Says):
        pass

    def plain() -> Says:
        return Says(logits)

    heavier = plain()
    heavier.weight.data += 1e-7
    found = {
        "plain": External(plain()),
        "weights": External(heavier),
        "mean": External(plain(), mean=0.5),
        "mean a channel": External(plain(), mean=(0.0, 0.0, 0.1)),
        "std": External(plain(), std=0.5),
        "channels": External(plain(), channels="BGR"),
        "class": External(Other(logits)),
        "output": External(plain(), output=1),
    }
    assert len({net.fingerprint for net in found.values()}) == len(found)


def test_fingerprint_is_stable_otherwise() -> None:
    net = External(linear(), mean=MEAN, std=STD)
    before = net.fingerprint
    assert before == fingerprint(net) == External(linear(), mean=MEAN, std=STD).fingerprint
    net(X)
    net.train().requires_grad_(False)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    assert net.fingerprint == before
    again = External(linear(seed=1), mean=MEAN, std=STD)
    assert again.fingerprint != before
    again.load_state_dict(net.state_dict())
    assert again.fingerprint == before


def test_puts_the_network_into_eval_mode() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(60, 2)).train()
    wrapped = External(net)
    assert not any(m.training for m in net.modules())
    assert torch.equal(wrapped(X), wrapped(X))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": "HSV"}, "'RGB' or 'BGR'; found 'HSV'"),
        ({"std": 0.0}, "std must be above 0"),
        ({"std": (1, -1, 1)}, "std must be above 0"),
        ({"mean": 127.5, "std": 127.5}, r"found mean 127.5 .*divide both by 255, External\(..., mean=0.5, std=0.5\)"),
        ({"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}, r"mean=\(0.485, 0.456, 0.406\), std=\(0.229, 0.224, 0.225\)"),
        ({"mean": 127.5}, r"mean=0.5, std=0.003922"),
        ({"std": 255}, r"mean=0, std=1\)"),
        ({"size": (5,)}, "size must be"),
        ({"size": (5.0, 4)}, "size must be"),
    ],
)
def test_refuses_settings_that_cannot_be_meant(settings: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        External(linear(), **settings)


def test_refuses_what_is_no_network_and_images_of_other_channels() -> None:
    no_network: Any = lambda x: x
    with pytest.raises(UsageError, match="found function"):
        External(no_network)
    with pytest.raises(UsageError, match="have 3 and 1 channels, the images 1"):
        External(linear(), mean=MEAN)(X[:, :1])


def test_sigmoids_of_several_classes_are_refused_when_there_were_enough_images() -> None:
    """Small logits of an untrained network lie in [0, 1] on a few images, too."""
    net = External(Says(lambda x: torch.sigmoid(logits(x))))
    for _ in range(9):
        assert net(X).shape == (8, 6), "the same few images prove no more the ninth time"
    with pytest.raises(UsageError, match=r"sigmoid probabilities.*trust_output"):
        net(X.repeat(4, 1, 1, 1))


def test_images_of_another_size_are_refused_when_the_size_is_known() -> None:
    net = External(linear(), size=(5, 4))
    assert net(X).shape == (8, 6)
    with pytest.raises(
        UsageError, match=r"made for images of 5 x 4 pixels .*these are 4 x 5.*Folder\(path, roles, size=\(5, 4\).*size=\(4, 5\)"
    ):
        net(X.transpose(2, 3))
    assert net.fingerprint == External(linear()).fingerprint, "a check is no part of who a network is"
