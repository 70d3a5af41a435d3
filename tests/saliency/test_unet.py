from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry.classifiers import CompactCNN
from salientry.errors import UsageError
from salientry.learned import fingerprint
from salientry.saliency import Fill, SimpleClassifier, UNet
from salientry.types import Shape

from .. import examples

ENCODER = SimpleClassifier(base=4, scales=2, epochs=1, batch=16)
CHEAP = UNet(encoder=ENCODER, epochs=1, selector_epochs=1, batch=16, selector_batch=16)


def untrained(shape: Shape, **settings: Any) -> Any:
    """A random U-Net in float64 whose batch norm has statistics as if trained, without parameter gradients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = replace(CHEAP, **settings).build(shape).double().requires_grad_(False)
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean, m.running_var = 0.1 * torch.randn_like(m.running_mean), 0.5 + torch.rand_like(m.running_var)
                m.weight.data, m.bias.data = 0.5 + torch.rand_like(m.weight), 0.1 * torch.randn_like(m.bias)
    return net


def some(shape: Shape, n: int = 6) -> tuple[Tensor, Tensor]:
    return examples.images(shape, n, dtype=torch.float64), (torch.arange(n) * 2 + 1) % shape.classes


def norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


# --- what it computes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.0, 2.5])
def test_exists_gate_and_opinion_equal_the_computation_by_hand(shape: Shape, confidence: float) -> None:
    net, (x, k) = untrained(shape, model_confidence=confidence), some(shape)
    seen: dict[str, Tensor] = {}
    hook = net.decoder.register_forward_pre_hook(lambda m, given: seen.update(gated=given[0]))
    said = net(x, k)
    hook.remove()
    deepest, own = net.encoder(net.pad(x))
    features, vectors = deepest[-1].numpy(), net.selector.weight.numpy()
    act = np.einsum("nchw,nc->nhw", features, vectors[k.numpy()])
    np.testing.assert_allclose(said["class_presence"].numpy(), act.reshape(len(x), -1).mean(1), atol=1e-12)
    gate = 1 / (1 + np.exp(-(act - confidence)))
    np.testing.assert_allclose(seen["gated"].numpy(), features * gate[:, None], atol=1e-12)
    z = own.numpy()
    np.testing.assert_allclose(said["second_net_logprobs"].numpy(), z - np.log(np.exp(z).sum(1, keepdims=True)), atol=1e-12)
    assert np.abs(act).max() > 0.05


def test_map_is_the_share_of_the_first_of_two_channels(shape: Shape) -> None:
    net, (x, k) = untrained(shape), some(shape)
    seen: dict[str, Tensor] = {}
    hook = net.decoder.head.register_forward_hook(lambda m, given, out: seen.update(out=out))
    found = net(x, k)["map"].numpy()
    hook.remove()
    a, b = np.abs(seen["out"].numpy()).transpose(1, 0, 2, 3)
    expected = (a / (a + b))[:, None, : shape.height, : shape.width]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.min() >= 0 and found.max() <= 1 and found.shape == (6, 1, shape.height, shape.width)


def test_a_map_without_any_evidence_is_finite() -> None:
    net = untrained(examples.SHAPES["grey"])
    net.decoder.head.weight.zero_(), net.decoder.head.bias.zero_()
    x, k = some(examples.SHAPES["grey"])
    assert torch.equal(net(x, k)["map"], torch.zeros(6, 1, 12, 12, dtype=torch.float64))


def test_sizes_that_do_not_halve_are_padded_by_repetition_and_cropped() -> None:
    net, (x, k) = untrained(examples.SHAPES["odd"]), some(examples.SHAPES["odd"])
    by_hand = torch.cat([x, x[:, :, -1:]], 2)
    by_hand = torch.cat([by_hand, *[by_hand[..., -1:]] * 3], 3)
    assert by_hand.shape[2:] == (12, 16)
    assert torch.equal(net.pad(x), by_hand)
    small, large = net(x, k), net(by_hand, k)
    assert torch.equal(small["map"], large["map"][..., :11, :13])
    assert torch.equal(small["class_presence"], large["class_presence"])


def test_decoder_is_the_ancestors() -> None:
    """Spec 1.3: sub-pixel upsampling without bias, a bottleneck to a quarter, a skip with bias where channels differ."""
    net: Any = replace(CHEAP, encoder=SimpleClassifier(base=8, scales=3)).build(Shape(3, 32, 32, 10))
    assert net.encoder.widths == (8, 16, 32, 64)
    first = [(c.in_channels, c.out_channels, c.kernel_size, c.bias is None) for c, *_ in net.decoder.up]
    assert first == [(16, 32, (3, 3), True), (32, 64, (3, 3), True), (64, 128, (3, 3), True)]
    for width, block in zip((8, 16, 32), net.decoder.mix, strict=True):
        shapes = [tuple(c.weight.shape) for c in block.body if isinstance(c, nn.Conv2d)]
        assert shapes == [(width // 4, 2 * width, 1, 1), (width // 4, width // 4, 3, 3), (width, width // 4, 1, 1)]
        assert block.skip.weight.shape == (width, 2 * width, 1, 1) and block.skip.bias is not None
    assert net.decoder.head.weight.shape == (2, 8, 1, 1)
    assert net.selector.weight.shape == (10, 64)
    assert abs(float(net.selector.weight.detach().std()) / 64**-0.5 - 1) < 0.15


def test_encoder_is_the_ancestors() -> None:
    net: Any = SimpleClassifier(base=8, scales=2).build(Shape(3, 20, 12, 10))
    maps, z = net(torch.rand(2, 3, 20, 12))
    assert [tuple(m.shape) for m in maps] == [(2, 8, 20, 12), (2, 16, 10, 6), (2, 32, 5, 3)]
    assert torch.allclose(z, net.head(maps[-1].mean((2, 3))))
    seen: list[Tensor] = []
    hook = net.scales[0].register_forward_pre_hook(lambda m, given: seen.append(given[0]))
    net(torch.zeros(1, 3, 20, 12)), net(torch.ones(1, 3, 20, 12))
    hook.remove()
    assert bool((seen[0] == -1).all()) and bool((seen[1] == 1).all())  # it works on [-1, 1]


@pytest.mark.parametrize("batch_norm", ["eval", "instance"])
@pytest.mark.parametrize("part", ["map", "class_presence", "second_net_logprobs"])
def test_gradients_in_the_image_match_finite_differences(part: str, batch_norm: str) -> None:
    shape = examples.SHAPES["odd"]
    net, (x, k) = untrained(shape, batch_norm=batch_norm), some(shape, 3)
    g = torch.Generator().manual_seed(1)
    weights = torch.randn(net(x, k)[part].shape, generator=g, dtype=torch.float64)
    here = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((net(here, k)[part] * weights).sum(), here)
    for _ in range(4):
        d, h = torch.randn(x.shape, generator=g, dtype=torch.float64), 1e-7
        slope = float(((net(x + h * d, k)[part] - net(x - h * d, k)[part]) * weights).sum()) / (2 * h)
        assert slope == pytest.approx(float((gradient * d).sum()), rel=1e-4, abs=1e-6)
    assert bool((gradient.flatten(1).norm(dim=1) > 1e-6).all())


# --- batch norm ------------------------------------------------------------------------------------------------------


def test_eval_maps_do_not_depend_on_neighbours_and_instance_maps_neither(shape: Shape) -> None:
    for batch_norm in ("eval", "instance"):
        net, (x, k) = untrained(shape, batch_norm=batch_norm), some(shape)
        alone = torch.cat([net(x[i : i + 1], k[i : i + 1])["map"] for i in range(len(x))])
        assert float((net(x, k)["map"] - alone).abs().max()) < 1e-10


def test_instance_is_what_train_mode_does_with_one_image_at_a_time(shape: Shape) -> None:
    net, (x, k) = untrained(shape, batch_norm="instance"), some(shape)
    found = net(x, k)
    for i in range(len(x)):
        one = copy.deepcopy(net).train()(x[i : i + 1], k[i : i + 1])
        for part in ("map", "class_presence", "second_net_logprobs"):
            assert float((found[part][i] - one[part][0]).abs().max()) < 1e-9
    plain = untrained(shape)
    assert fingerprint(plain) == fingerprint(net)
    assert float((plain(x, k)["map"] - found["map"]).abs().max()) > 1e-2


def test_instance_leaves_the_layers_as_found_also_after_an_exception() -> None:
    shape = examples.SHAPES["grey"]
    net, (x, k) = untrained(shape, batch_norm="instance"), some(shape)
    before = fingerprint(net)
    net(x, k)
    with pytest.raises(RuntimeError):
        net(torch.cat([x, x], 1), k)
    with pytest.raises(IndexError):
        net(x, k + 100)
    assert not any("forward" in vars(m) for m in norms(net))
    assert fingerprint(net) == before


def test_instance_is_a_switch_at_use_and_moves_no_trained_weight() -> None:
    shape = examples.SHAPES["grey"]
    x, y = examples.images(shape, 48), torch.arange(48) % shape.classes
    classifier = examples.conv(shape)
    nets = [replace(CHEAP, batch_norm=b).fit(x, y, classifier, shape, seed=0) for b in ("eval", "instance")]  # type: ignore[arg-type]
    assert fingerprint(nets[0]) == fingerprint(nets[1])


# --- training --------------------------------------------------------------------------------------------------------


def test_fakes_are_never_the_true_class_and_cover_all_others() -> None:
    classes, n = 5, 20_000
    y = torch.arange(n) % classes
    k, real = CHEAP._selectors(y, 0.3, classes, torch.Generator().manual_seed(0))
    assert torch.equal(k == y, real)
    assert abs(float(real.float().mean()) - 0.7) < 4 * (0.21 / n) ** 0.5
    counts = np.zeros((classes, classes))
    np.add.at(counts, (y[~real].numpy(), k[~real].numpy()), 1)
    share = counts / counts.sum(1, keepdims=True)
    assert np.abs(share - (1 - np.eye(classes)) / (classes - 1)).max() < 5 * (0.19 / (0.3 * n / classes)) ** 0.5
    for fakes, expected in ((0.0, 1.0), (1.0, 0.0)):
        assert float(CHEAP._selectors(y, fakes, classes, torch.Generator().manual_seed(0))[1].float().mean()) == expected
    k, real = CHEAP._selectors(y % 2, 1.0, 2, torch.Generator().manual_seed(0))
    assert torch.equal(k, 1 - y % 2)


@dataclass(frozen=True)
class Spy:
    """A loss that keeps what it was given."""

    seen: Any

    def __call__(self, map_: Tensor, kept: Tensor, destroyed: Tensor, y: Tensor, real: Tensor) -> Tensor:
        self.seen.append({k: v.detach().clone() for k, v in locals().items() if isinstance(v, Tensor)})
        return map_.mean()


@pytest.mark.parametrize("black_box", ["classifier", "encoder"])
def test_decoder_is_trained_on_what_the_black_box_says_of_kept_and_destroyed_images(
    black_box: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, n = examples.SHAPES["odd"], 64
    x, y = examples.images(shape, n), torch.arange(n) % shape.classes
    classifier, steps, selected, asked = examples.conv(shape), list[dict[str, Tensor]](), list[Tensor](), list[Tensor]()
    original = Fill.__call__

    def fill(self: Fill, image: Tensor, map_: Tensor, generator: torch.Generator) -> Tensor:
        asked.append(map_.detach().clone())
        return original(self, image, map_, generator)

    monkeypatch.setattr(Fill, "__call__", fill)
    embedding = nn.Embedding.forward
    monkeypatch.setattr(nn.Embedding, "forward", lambda self, k: (selected.append(k), embedding(self, k))[1])
    calls: list[bool] = []
    classifier.register_forward_hook(lambda m, i, o: calls.append(m.training))
    spec = replace(CHEAP, loss=Spy(steps), fill=Fill("black", noise=0), black_box=black_box, epochs=2, fakes=0.5)  # type: ignore[arg-type]
    net = spec.fit(x, y, classifier, shape, seed=0)
    assert len(steps) == 2 * (n // 16)
    assert calls == ([False] * 2 * len(steps) if black_box == "classifier" else [])
    reals = 0
    for step, k in zip(steps, selected[-len(steps) :], strict=True):
        assert torch.equal(k == step["y"], step["real"])
        reals += int(step["real"].sum())
    assert 0.3 < reals / (2 * n) < 0.7
    for step, kept, destroyed in zip(steps, asked[::2], asked[1::2], strict=True):
        assert torch.equal(step["map_"], kept) and torch.allclose(kept + destroyed, torch.ones_like(kept))
    # what the loss was given is the black box's answer: of the last step, with the final encoder (frozen) or classifier
    box: Any = (lambda v: net.encoder(net.pad(v))[1]) if black_box == "encoder" else classifier
    with torch.no_grad():
        at = next(
            i for i in torch.randperm(n, generator=torch.Generator().manual_seed(1 * 1_000_003 + 1)).split(16)
        )  # 1: seed + 1, epoch 1
        step = steps[n // 16]
        assert torch.equal(y[at], step["y"])
        for name, m in (("kept", step["map_"]), ("destroyed", 1 - step["map_"])):
            assert torch.allclose(box(m * x[at]), step[name], atol=1e-4)


def test_encoder_is_frozen_while_the_decoder_learns() -> None:
    shape = examples.SHAPES["grey"]
    x, y = examples.images(shape, 48), torch.arange(48) % shape.classes
    net: Any = replace(CHEAP, epochs=2).fit(x, y, examples.conv(shape), shape, seed=3)
    alone = ENCODER.fit(x, y, shape, seed=3)
    assert fingerprint(net.encoder) == fingerprint(alone)  # weights and batch-norm buffers, bit for bit
    fresh: Any = CHEAP.build(shape)
    assert all(int(m.num_batches_tracked) == 2 * 3 for m in norms(net.decoder))  # the decoder's own do move
    assert all(not torch.equal(m.running_mean, f.running_mean) for m, f in zip(norms(net.decoder), norms(fresh.decoder), strict=True))
    assert all(p.requires_grad for p in net.parameters())


def test_selector_learns_whether_the_class_is_there() -> None:
    """``class_presence`` is a logit: its logistic loss on true and other classes falls below log 2."""
    x, y = squares(200)
    shape = Shape(1, 16, 16, 4)
    spec = replace(CHEAP, encoder=SimpleClassifier(base=4, scales=2, epochs=8, batch=25), selector_epochs=30, selector_lr=1e-2)
    net = spec.fit(x, y, examples.conv(shape), shape, seed=0)
    with torch.no_grad():
        true, other = (net(x, k)["class_presence"] for k in (y, (y + 2) % 4))
    loss = float(F.softplus(-true).mean() + F.softplus(other).mean()) / 2
    assert loss < 0.4
    assert float(((true > 0).float().mean() + (other < 0).float().mean()) / 2) > 0.85


def squares(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(n, 1, 16, 16) images with a bright 4 x 4 square under faint noise; its quadrant is the class."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (n,), generator=g)
    x = 0.15 * torch.rand(n, 1, 16, 16, generator=g)
    for i, quadrant in enumerate(y.tolist()):
        row, column = (torch.randint(1, 4, (2,), generator=g)).tolist()
        row, column = row + 8 * (quadrant // 2), column + 8 * (quadrant % 2)
        x[i, :, row : row + 4, column : column + 4] = 0.9
    return x, y


def test_maps_localise_on_a_task_where_the_place_is_known() -> None:
    shape = Shape(1, 16, 16, 4)
    x, y = squares(400)
    classifier = CompactCNN(width=8, epochs=6, shift=0).fit(x, y, shape, seed=0)
    spec = UNet(encoder=SimpleClassifier(base=8, scales=2, epochs=5, batch=32), fill=Fill("black"), epochs=10, lr=3e-3, batch=32)
    net = spec.fit(x, y, classifier, shape, seed=0)
    new, label = squares(200, seed=9)
    assert float((examples.predicted(classifier, new) == label).float().mean()) > 0.95
    with torch.no_grad():
        maps, fake = net(new, label)["map"], net(new, (label + 1) % 4)["map"]
    bright = new > 0.5
    on, off = float(maps[bright].mean()), float(maps[~bright].mean())
    assert on > 0.5 > 0.1 > off
    keep = Fill("black", noise=0)
    other = torch.stack([maps[(label != c).nonzero()[i % 50, 0]] for i, c in enumerate(label.tolist())])
    shown, hidden, foreign = (
        float((examples.predicted(classifier, keep(new, m, torch.Generator())) == label).float().mean()) for m in (maps, 1 - maps, other)
    )
    assert shown > 0.9 and hidden < 0.6 and foreign < 0.6
    assert float(fake.mean()) < 0.7 * float(maps.mean())


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="black_box must be one of classifier, encoder; found 'other'"):
        replace(CHEAP, black_box="other")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch_norm must be one of eval, instance; found 'group'"):
        replace(CHEAP, batch_norm="group")  # type: ignore[arg-type]
    shape = Shape(1, 12, 12, 1)
    with pytest.raises(UsageError, match="at least 2 classes; found 1"):
        CHEAP.fit(examples.images(shape, 16), torch.zeros(16, dtype=torch.int64), examples.conv(shape), shape, seed=0)
