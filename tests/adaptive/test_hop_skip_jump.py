"""Does it find the distance that geometry says, from decisions alone?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from salientry.adaptive import HopSkipJump
from salientry.adaptive._descent import Bounds, length
from salientry.adaptive._queries import Oracle
from salientry.attacks._decisions import direction
from salientry.errors import UsageError
from tests.adaptive.half_spaces import planes
from tests.examples import seeds


@pytest.mark.parametrize("detected", [False, True], ids=["no detector", "detector"])
def test_the_distance_is_the_closed_form_s(detected: bool) -> None:
    """To a plane its distance; to where two planes leave room the optimum of a quadratic programme."""
    p = planes(4, room=0.05, cosine=0.7)
    least = p.least() if detected else p.far.numpy()
    assert not detected or (least > 1.2 * p.far.numpy()).all(), "the detector costs something"
    ratio = {}
    for queries in (300, 2000):
        found = HopSkipJump(queries).search(p.target(detected=detected), p.x, p.y, seeds=seeds(4), starts=p.starts())
        assert found.success.all()
        ratio[queries] = length(found.images - p.x).flatten().numpy() / least
    assert ratio[2000].min() >= 1
    assert ratio[2000].max() <= (1.1 if detected else 1.06)
    assert ratio[2000].mean() < ratio[300].mean()


def test_the_estimate_is_as_near_the_normal_as_so_many_decisions_allow() -> None:
    """The mean of n signed directions of length 1 in d dimensions has the cosine 1 / sqrt(1 + (pi d / 2 - 1) / n) to the plane's normal."""
    n, count = 4, 1000
    p = planes(n)
    d = p.x[0].numel()
    oracle = Oracle(p.target(detected=False), p.x, p.y, Bounds(None, "l2"), 2000)
    edge = p.x + p.far.view(-1, 1, 1, 1) * p.w.view(1, 1, 8, 8)
    for shift in (0.0, 0.5 / 255):  # at the edge, and where five in six succeed: weights less their mean
        way = direction(oracle, torch.arange(n), edge + shift * p.w.view(1, 1, 8, 8), seeds(n), count if shift == 0 else 500)
        cosines = way.flatten(1) @ p.w
        torch.testing.assert_close(length(way).flatten(), torch.ones(n, dtype=torch.float64))
        if shift == 0:
            expected = 1 / math.sqrt(1 + (math.pi * d / 2 - 1) / count)
            assert float(cosines.mean()) == pytest.approx(expected, abs=0.02)
        assert float(cosines.min()) > 0.85
    assert oracle.found.queries.tolist() == [1500] * n


def test_it_begins_at_the_nearest_image_that_passes() -> None:
    p = planes(1)
    way, along = p.w.view(1, 1, 8, 8), p.v.view(1, 1, 8, 8)
    short, flagged, passes, farther = p.x + 0.3 * way, p.x + 0.9 * way + 0.5 * along, p.x + 2.0 * (way - along), p.x + 2.5 * (way - along)
    starts = ((torch.cat([farther, passes, flagged, short]) * 255).round() / 255).clamp(0, 1)
    order = length(starts - p.x).flatten().argsort().tolist()
    assert order == [3, 2, 1, 0]
    ends: list[Any] = [HopSkipJump(q).search(p.target(), p.x, p.y, seeds=seeds(1), starts=starts) for q in (3, 4)]
    assert not ends[0].success[0]
    assert torch.equal(ends[0].images, p.x)
    assert torch.equal(ends[1].images[0], starts[1])
    assert ends[1].queries.tolist() == [4]


def test_where_no_start_passes_the_natural_image_comes_back() -> None:
    p = planes(3)
    closed = replace(p, room=torch.full((3,), -9.0, dtype=torch.float64))
    for starts, asked in ((p.starts(5), 6), (None, 101)):
        found = HopSkipJump(500).search(closed.target(), p.x, p.y, seeds=seeds(3), starts=starts)
        assert torch.equal(found.images, p.x)
        assert not found.success.any()
        assert found.queries.tolist() == [asked] * 3


def test_without_starts_it_begins_at_noise() -> None:
    p = planes(3, (1, 4, 4), far=0.2)
    found = HopSkipJump(400).search(p.target(detected=False), p.x, p.y, seeds=seeds(3))
    assert found.success.all()
    assert (length(found.images - p.x).flatten().numpy() <= 1.2 * p.far.numpy()).all()
    np.testing.assert_array_equal((length(found.images - p.x).flatten() >= p.far).numpy(), True)


def test_starts_of_another_shape_and_settings_that_cannot_be_meant_are_refused() -> None:
    p = planes(2)
    with pytest.raises(UsageError, match=r"images must have \(C, H, W\) = \(1, 8, 8\); found \(1, 4, 4\)"):
        HopSkipJump()(p.target(), p.x, p.y, seeds=seeds(2), starts=p.x[..., :4, :4])
    with pytest.raises(UsageError, match=r"probes must lie in \[2, 1e\+06\]; found 1"):
        HopSkipJump(probes=1)
