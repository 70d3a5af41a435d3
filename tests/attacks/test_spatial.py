"""Spatial: whole pixels and quarter turns are exact; more tries are never milder."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from salientry.attacks import Spatial
from salientry.attacks._gradient import log_odds_against
from salientry.attacks.spatial import moved
from salientry.errors import UsageError

from .. import examples
from .counting import passes

SHAPE = examples.SHAPES["colour"]
N = 20


def by(*values: float) -> torch.Tensor:
    return torch.tensor([values] * 3, dtype=torch.float64)


def test_shifts_by_whole_pixels_are_exact() -> None:
    x = examples.images(SHAPE, 3, dtype=torch.float64)
    found = moved(x, by(2, -3, 0))
    expected = torch.zeros_like(x)
    expected[:, :, 2:, :-3] = x[:, :, :-2, 3:]
    assert float((found - expected).abs().max()) <= 1e-12
    assert float((moved(x, by(0, 0, 0)) - x).abs().max()) <= 1e-12


@pytest.mark.parametrize("shape", ["grey", "colour", "odd"])
def test_quarter_and_half_turns_are_exact(shape: str) -> None:
    """Of an image that is not square as far as it overlaps with itself turned."""
    x = examples.images(examples.SHAPES[shape], 3, dtype=torch.float64)
    assert float((moved(x, by(0, 0, math.pi)) - x.flip(2, 3)).abs().max()) <= 1e-9
    h, w = x.shape[2:]
    if (h - w) % 2 == 0:
        side, top, left = min(h, w), (h - min(h, w)) // 2, (w - min(h, w)) // 2
        inner = x[:, :, top : top + side, left : left + side]
        found = moved(x, by(0, 0, math.pi / 2))[:, :, top : top + side, left : left + side]
        assert min(float((found - inner.rot90(k, (2, 3))).abs().max()) for k in (1, -1)) <= 1e-9


def test_what_it_gives_is_one_of_the_transforms_and_the_worst_of_them() -> None:
    net, x = examples.conv(SHAPE, dtype=torch.float64), examples.images(SHAPE, N, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(N)
    a = Spatial(20, 2, queries=6)
    found = a(net, x, y, seeds=s)
    tried = torch.stack([x, *(moved(x, by) for by in a._parameters(s, x))])
    z = torch.stack([net(t).detach() for t in tried])
    rank = torch.stack([log_odds_against(v, y).detach() + 1e6 * (v.argmax(1) != y) for v in z])
    assert float((found - tried[rank.argmax(0), torch.arange(N)]).abs().max()) <= 1e-12


def test_more_tries_fool_no_fewer_and_cost_what_the_docstring_says() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    y, s = examples.predicted(net, x), examples.seeds(N)
    rates = []
    for a, cost in ((Spatial(10, 1, 2), 3), (Spatial(10, 1, 12), 13), (Spatial(10, 1, grid=True), 776)):
        with passes(net) as found:
            out = a(net, x, y, seeds=s)
        assert found == {"forward": cost * N, "backward": 0}
        rates.append(float((examples.predicted(net, out) != y).float().mean()))
    assert rates[0] <= rates[1] <= rates[2] and rates[2] > 0


@pytest.mark.parametrize("bad", [{"turn": 181}, {"shift": -1}, {"queries": 0}])
def test_refuses_settings_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        Spatial(**bad)


def test_titles() -> None:
    found = [a.title for a in (Spatial(), Spatial(grid=True), Spatial(10, 1, 5))]
    assert found == ["rotation and shift", "rotation and shift (grid)", "rotation and shift (10 degrees, 1 px, 5 tried)"]
