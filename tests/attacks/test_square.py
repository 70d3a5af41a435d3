"""Square: balls, queries, and what a random search can be held to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from salientry.attacks import Square, SquareL2
from salientry.attacks._square import bump, halvings, margin
from salientry.errors import UsageError

from .. import examples
from .counting import passes

SHAPE = examples.SHAPES["colour"]
N = 30


@pytest.mark.parametrize(("attack", "norm"), [(Square(0.05, 60), "linf"), (SquareL2(0.8, 60), "l2")])
def test_lies_in_its_ball_and_fools_more_with_more_queries(attack: Any, norm: str) -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    y, s = examples.predicted(net, x), examples.seeds(N)
    size = attack.eps or attack.radius
    rates = []
    for queries in (3, 60, 400):
        found = type(attack)(size, queries)(net, x, y, seeds=s)
        moved = (found - x).flatten(1)
        far = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
        assert 0.5 * size < float(far.max()) <= size + 1e-6
        rates.append(float((examples.predicted(net, found) != y).float().mean()))
    assert rates[0] <= rates[1] <= rates[2] and rates[2] > rates[0]


def test_linf_moves_every_value_by_the_whole_budget_or_to_a_bound() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    y = examples.predicted(net, x)
    found = Square(0.01, 30)(net, x, y, seeds=examples.seeds(N))
    at_edge = ((found - x).abs() - 0.01).abs() < 1e-6
    assert bool((at_edge | (found == 0) | (found == 1)).all())


@pytest.mark.parametrize("kind", [Square, SquareL2])
def test_asks_as_often_as_its_docstring_says_and_takes_no_gradient(kind: Any) -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 5)
    y = examples.predicted(net, x)
    with passes(net) as found:
        kind(1e-6, 9)(net, x, y, seeds=examples.seeds(5))
    assert found == {"forward": 45, "backward": 0}


def test_squares_shrink_as_in_the_paper() -> None:
    """Of 10,000 queries: halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000."""
    assert [halvings(t / 10_000) for t in (0, 10, 11, 51, 600, 1_001, 9_999)] == [0, 0, 1, 2, 4, 5, 9]


def test_bumps_by_hand() -> None:
    """Height 3: n = 1; the rim is 1/4, the middle 1/4 + 1."""
    assert bump(3, 3, torch.zeros(1)).tolist() == [[0.25, 0.25, 0.25], [0.25, 1.25, 0.25], [0.25, 0.25, 0.25]]


@pytest.mark.parametrize("bad", [{"queries": 1}, {"share": 0.0}])
@pytest.mark.parametrize("kind", [Square, SquareL2])
def test_refuses_settings_that_cannot_be(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        kind(**bad)


def test_titles() -> None:
    assert [a.title for a in (Square(), Square(0.1, 10), SquareL2(1))] == ["Square", "Square 0.1 (10 queries)", "Square L2 1"]


@pytest.mark.parametrize("attack", [Square(1e-3, 40), SquareL2(0.02, 40)])
def test_what_does_not_give_way_ends_at_the_least_margin_that_was_seen(attack: Any) -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 1)
    y, seen = examples.predicted(net, x), list[float]()
    handle = net.register_forward_hook(lambda m, i, z: seen.append(float(margin(z.detach(), y)[0])))
    found = attack(net, x, y, seeds=examples.seeds(1))
    handle.remove()
    assert len(seen) == 40 and min(seen) > 0 and len(set(seen)) > 5
    assert float(margin(net(found).detach(), y)[0]) == pytest.approx(min(seen[1:]), rel=1e-5)
