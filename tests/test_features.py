"""Which layers of a strange network are features: those whose rows are the images."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.guard import Guard
from salientry.layers import choose_layers, has_features
from salientry.modules import private
from salientry.types import Shape

from . import examples
from .examples import ViewPairs

SHAPE = Shape(1, 8, 8, 4)
IMAGE = (1, 8, 8)
T, C = 4, 6  # an 8 x 8 image is four patches of 4 x 4


def patches(x: Tensor) -> Tensor:
    """(N, T, 16)."""
    return F.unfold(x, 4, stride=4).transpose(1, 2)


class Net(nn.Module):
    """Layers of which some see rows that are not the images; ``good`` names those that do."""

    good: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.embed, self.mix, self.out = nn.Linear(16, C), nn.Linear(C, C), nn.Linear(C, 4)
            self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)


class Tokens(Net):
    """As a vision transformer: (N, T, C)."""

    good = ("embed", "mix", "out")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.mix(torch.tanh(self.embed(patches(x))))).mean(1))  # type: ignore[no-any-return]


class ChannelsLast(Net):
    """As Swin's blocks: (N, H, W, C)."""

    good = ("embed", "mix", "out")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.embed(patches(x)).view(-1, 2, 2, C)).mean((1, 2)))  # type: ignore[no-any-return]


class TokensFirst(Net):
    """``batch_first=False``: (T, N, C)."""

    good = ("embed", "out")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.mix(self.embed(patches(x)).transpose(0, 1))).mean(0))  # type: ignore[no-any-return]


class TokensFirstAndDead(TokensFirst):
    """The same, and what the layer gives does not depend on the images: no order of rows can be recovered."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(patches(x))
        self.mix(tokens.transpose(0, 1))
        return self.out(tokens.mean(1))  # type: ignore[no-any-return]


class Flattened(Net):
    """(N T, C)."""

    good = ("embed", "out")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.embed(patches(x)).flatten(0, 1)).view(-1, T, C).mean(1))  # type: ignore[no-any-return]


class Windows(Net):
    """Windows among the images: (2 N, T / 2, C)."""

    good = ("embed", "out")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.embed(patches(x)).reshape(-1, T // 2, C)).reshape(-1, T, C).mean(1))  # type: ignore[no-any-return]


class Flipped(Net):
    """Test-time augmentation in one batch."""

    good = ("out",)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(self.conv(torch.cat([x, x.flip(3)]))).mean((2, 3)).repeat(1, 2)
        return self.out((seen[: len(x)] + seen[len(x) :]) / 2)  # type: ignore[no-any-return]


class FlippedInTurn(Net):
    """The same in two passes: each layer speaks twice, each time of every image."""

    good = ("conv", "norm", "out")

    def forward(self, x: Tensor) -> Tensor:
        seen = sum(self.norm(self.conv(v)).mean((2, 3)).repeat(1, 2) for v in (x, x.flip(3)))
        return self.out(seen)  # type: ignore[no-any-return]


class ImageByImage(Net):
    good = ("out",)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.norm(self.conv(v[None])).mean((2, 3)) for v in x]
        return self.out((torch.cat(seen) if seen else x.new_zeros(0, 3)).repeat(1, 2))  # type: ignore[no-any-return]


class Across(Net):
    """One row of it is made of all images."""

    good = ("conv", "norm", "out")

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(self.conv(x)).mean((2, 3)).repeat(1, 2)
        self.mix(torch.cat([seen[:1] + seen[-1:], seen[1:]]))
        return self.out(seen)  # type: ignore[no-any-return]


NETS: dict[str, Callable[[], Net]] = {c.__name__: c for c in (*Net.__subclasses__(), TokensFirstAndDead)}
EVERY = pytest.mark.parametrize("name", sorted(NETS))


@EVERY
def test_layers_whose_rows_are_not_the_images_are_left_out_and_named(name: str) -> None:
    net = private(NETS[name]())
    note = choose_layers(net, IMAGE)
    called = {"embed", "mix", "out"} if "embed" in NETS[name].good else {"conv", "norm", "out"}
    called |= {"mix"} if name == "Across" else set()
    bad = sorted(called - set(NETS[name].good))
    assert vars(net)["layers"] == tuple(n for n, _ in net.named_children() if n in NETS[name].good or n not in called)
    assert all(f"{b} (" in note for b in bad) and note.startswith(f"{len(bad)} of 5 layers") == bool(bad)
    assert (note == "") == (not bad)


@EVERY
@pytest.mark.parametrize("count", [0, 1, T, 9])
def test_features_have_a_row_for_each_image_and_no_row_moves_with_another_image(name: str, count: int) -> None:
    """Also where there are as many images as tokens."""
    net = private(NETS[name]())
    choose_layers(net, IMAGE)
    x = examples.images(SHAPE, max(count, 1), seed=3)[:count]
    found = Evidence(net, None, x).features
    assert len(found) == count and has_features(net)
    if count > 1:
        other = x.clone()
        other[0] = 1 - other[0]
        moved = Evidence(net, None, other).features
        assert torch.equal(moved[1:], found[1:]) and not torch.equal(moved[0], found[0])


def test_tokens_are_averaged_not_channels() -> None:
    net, x = private(Tokens()), examples.images(SHAPE, 5, seed=3)
    a = net.embed(patches(x))  # type: ignore[operator]
    b = net.mix(torch.tanh(a))  # type: ignore[operator]
    expected = torch.cat([a.mean(1), b.mean(1), net(x)], 1)
    assert torch.allclose(Evidence(net, None, x).features, expected, atol=1e-6)
    net = private(ChannelsLast())
    assert Evidence(net, None, x).features.shape == (5, C + C + 4)


def test_without_a_choice_rows_that_are_not_the_images_are_an_error() -> None:
    for name in ("Flattened", "Flipped"):
        with pytest.raises(UsageError, match=r"a layer of the classifier gives \d+ rows for 5 images"):
            _ = Evidence(private(NETS[name]()), None, examples.images(SHAPE, 5)).features


@EVERY
def test_a_guard_of_such_a_network_gives_a_verdict_for_each_image(name: str) -> None:
    net, spec = NETS[name](), examples.detectors()["pooled_activations"]
    twin = private(net)
    choose_layers(twin, IMAGE)
    with torch.no_grad():
        looks = [Evidence(twin, None, examples.images(SHAPE, 40, seed=s)) for s in (0, 1)]
        detector = examples.fitted(spec, ViewPairs.of(spec, *looks))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard = Guard(net, None, detector, 0.0, 0.1, torch.linspace(-3, 3, 50), SHAPE)
    for count in (1, T, 16):
        x = examples.images(SHAPE, count, seed=7)
        verdict = guard(x)
        assert len(verdict) == count == len(verdict.score)
        for i in range(count):
            assert torch.allclose(guard(x[i : i + 1]).score, verdict.score[i : i + 1], atol=1e-3)
