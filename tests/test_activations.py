"""What layers give, by name: pooled as a direct computation pools it, in one pass, in the image's graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.evidence import LAYER, Evidence, layers_in, parts_in
from salientry.layers import pooled, usual_layers
from salientry.types import Shape

from . import examples

SHAPE = Shape(2, 10, 12, 5)


class Blocks(nn.Module):
    """Stages with names, a block that gives a tuple, tokens, and a layer that is never passed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh())
        self.layer2 = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Tanh())
        self.tokens, self.norm, self.pair = nn.Linear(4, 6), nn.LayerNorm(6), Pair()
        self.head, self.unused = nn.Linear(6, 5), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        t = self.layer2(self.layer1(x)).flatten(2).transpose(1, 2)  # (N, T, 4)
        t, _ = self.pair(self.norm(self.tokens(t)))
        out: Tensor = self.head(t.mean(1))
        return out


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return 2 * x, 3


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Blocks().double().eval().requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return examples.images(SHAPE, 6, dtype=torch.float64)


def calls_of(net: nn.Module) -> list[int]:
    calls: list[int] = []
    net.register_forward_hook(lambda m, i, o: calls.append(len(i[0])))
    return calls


def test_a_block_of_layers_is_pooled_over_places_and_tokens_over_tokens(net: Any, x: Tensor) -> None:
    look = Evidence(net, None, x)
    stage = net.layer1(x)
    found = look.activations["layer1"]
    assert torch.allclose(found.mean, stage.mean((2, 3))) and torch.allclose(found.maximum, stage.amax((2, 3)))
    assert torch.allclose(found.deviation, stage.flatten(2).std(2, unbiased=False))
    tokens = net.norm(net.tokens(net.layer2(stage).flatten(2).transpose(1, 2)))
    for name, value in (("norm", tokens), ("pair", 2 * tokens)):
        found = look.activations[name]
        assert found.mean.shape == (6, 6)
        assert torch.allclose(found.mean, value.mean(1)) and torch.allclose(found.maximum, value.amax(1))
        assert torch.allclose(found.deviation, value.std(1, unbiased=False))
    last = look.activations["head"]
    assert torch.equal(last.mean, net(x)) and torch.equal(last.maximum, net(x)) and not bool(last.deviation.any())


def test_the_places_of_every_kind_of_output() -> None:
    g = torch.Generator().manual_seed(0)
    maps, tokens, wide = (torch.rand(s, generator=g) for s in ((2, 3, 4, 5), (2, 7, 3), (2, 4, 5, 3)))
    assert torch.allclose(pooled(nn.Conv2d(1, 1, 1), maps)[:, 0], maps.mean((2, 3)))
    assert torch.allclose(pooled(nn.Linear(3, 3), wide)[:, 2], wide.amax((1, 2)))
    assert torch.allclose(pooled(nn.Identity(), tokens)[:, 0], tokens.mean(1))
    assert torch.allclose(pooled(nn.Conv1d(1, 1, 1), tokens)[:, 0], tokens.mean(2))
    assert pooled(nn.Identity(), torch.ones(4)).shape == (4, 3, 1)


def test_as_a_mapping_its_keys_are_the_usual_layers_and_all_come_in_one_pass(net: Any, x: Tensor) -> None:
    calls = calls_of(net)
    look = Evidence(net, None, x, frozenset({"activations", "logits"}))
    assert look.logits.shape == (6, 5)
    passed = ["layer1.0", "layer1.1", "layer2.0", "tokens", "head"]
    assert usual_layers(net) == [*passed, "unused"]
    assert list(look.activations) == sorted(passed), "in the names' order, and of those that take part"
    assert [len(look.activations[n].mean[0]) for n in passed] == [3, 3, 4, 6, 5]
    assert calls == [6] and LAYER + "layer1.0" in look
    assert torch.allclose(look.activations["layer1.0"].mean, look.features[:, :3])
    with pytest.raises(UsageError, match="'unused' takes no part"):
        _ = look.activations["unused"]


def test_a_named_layer_comes_along_with_what_is_needed(net: Any, x: Tensor) -> None:
    calls = calls_of(net)
    look = Evidence(net, None, x, frozenset({"activations/layer2", "gradient"}))
    assert look.gradient.shape == x.shape and look.activations["layer2"].mean.shape == (6, 4)
    assert calls == [6]


def test_changed_images_in_the_same_pass_have_no_part_in_them(net: Any, x: Tensor) -> None:
    calls = calls_of(net)
    beside = Evidence(net, None, x, frozenset({"activations/layer2", "features", "logits_under/blur", "logits_under/shift"}))
    alone = Evidence(net, None, x, frozenset({"activations/layer2", "features"}))
    for name in ("features", "activations/layer2"):
        assert torch.allclose(getattr(beside, name), getattr(alone, name), atol=1e-12)
    assert calls == [18, 6]


def test_a_layer_that_has_as_many_rows_as_there_are_images_without_changed_ones_is_refused(x: Tensor) -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(240, 3), nn.Linear(240, 5)

        def forward(self, x: Tensor) -> Tensor:
            self.layer(x.flatten(1)[::2])
            out: Tensor = self.head(x.flatten(1))
            return out

    look = Evidence(Windows().double(), None, x, frozenset({"features", "logits_under/blur"}))
    with pytest.raises(UsageError, match="gives 6 rows for 12 images"):
        _ = look.features


def test_stored_activations_are_taken_as_they_are(x: Tensor) -> None:
    look = Evidence(None, None, x, **{"activations/layer3": torch.arange(36.0).view(6, 3, 2)})
    assert list(look.activations) == ["layer3"] and "layer3" in look.activations and "layer1" not in look.activations
    assert look.activations["layer3"].deviation.tolist() == [[6.0 * i + 2, 6.0 * i + 3] for i in range(6)]
    with pytest.raises(UsageError, match="activations/layer1 needs a classifier"):
        _ = look.activations["layer1"]


def test_what_is_no_layer_is_said(net: Any, x: Tensor) -> None:
    with pytest.raises(UsageError, match=r"no layer 'layer9'; there are: layer1, layer1\.0"):
        _ = Evidence(net, None, x).activations["layer9"]

    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = nn.Conv2d(2, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.twice(torch.cat([x, x]).float())[: len(x)].mean((2, 3))
            return out

    with pytest.raises(UsageError, match=r"layer 'twice' gives shape \(12, 5, 10, 12\) for 6 images"):
        _ = Evidence(Doubling(), None, x).activations["twice"]


def test_they_are_in_the_graph_of_the_image(net: Any, x: Tensor) -> None:
    def total(v: Tensor) -> Tensor:
        return torch.cat(Evidence(net, None, v).activations["layer2"], 1).square().sum()

    here = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(total(here), here)
    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    assert float((slope * d).sum()) == pytest.approx(float(total(x + 1e-6 * d) - total(x - 1e-6 * d)) / 2e-6, rel=1e-6)
    flat = torch.ones(2, 3, 4, 4).requires_grad_()  # every place of a map is alike: its deviation is a root at 0
    (slope,) = torch.autograd.grad(pooled(nn.Conv2d(1, 1, 1), flat)[:, 1].sum(), flat)
    assert bool(torch.isfinite(slope).all())
    assert not Evidence(net, None, x).activations["layer2"].mean.requires_grad


def test_needs_are_read_as_parts_and_layers() -> None:
    needs = frozenset({"logits", "classifier", "training", "copies", "activations/b", "activations/a"})
    assert parts_in(needs) == {"logits", "activations/b", "activations/a"}
    assert layers_in(needs) == ["a", "b"] and layers_in(frozenset({"activations", "activations/a"})) is None
    assert layers_in(frozenset({"logits"})) == []


def test_a_network_of_one_layer_type_twice_keeps_both_calls() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.one(F.relu(self.one(x.flatten(1))))
            return out

    net, x = Shared(), torch.rand(3, 1, 2, 2)
    found = Evidence(net, None, x).activations["one"].mean
    first = net.one(x.flatten(1))
    assert torch.allclose(found, torch.cat([first, net.one(first.relu())], 1))


@pytest.mark.parametrize("count", [1, 300])
def test_what_is_written_over_later_and_maps_of_any_layout_are_pooled_as_they_were(count: int) -> None:
    """Of one image layers of one shape are pooled together after the pass, when a ReLU has long written over what they gave."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)]
        net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(192, 4)).requires_grad_(False)
    x = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        look = Evidence(net, None, images, frozenset({"activations", "logits"}))
        first = net[0](images)
        for name, out in (("0", first), ("2", net[2](first.relu()))):
            found = look.activations[name]
            torch.testing.assert_close(found.mean, out.mean((2, 3)))
            torch.testing.assert_close(found.maximum, out.amax((2, 3)))
            torch.testing.assert_close(found.deviation, out.flatten(2).std(2, unbiased=False))
