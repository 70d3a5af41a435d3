"""Patch: a square, and nothing outside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from salientry.attacks import BIM, Patch
from salientry.errors import UsageError

from .. import examples
from .counting import passes

SHAPE = examples.SHAPES["colour"]
N = 30


@pytest.mark.parametrize(("share", "side"), [(0.05, 3), (0.3, 6), (1.0, 10), (1e-6, 1)])
def test_changes_only_a_square_of_that_share(share: float, side: int) -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    y, s, attack = examples.predicted(net, x), examples.seeds(N), Patch(share)
    moved = (attack(net, x, y, seeds=s) != x).any(1)
    square = attack.placed(s, SHAPE.height, SHAPE.width)
    assert not bool((moved & ~square).any())
    assert float(moved.sum() / square.sum()) > 0.9
    for mask in square:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        assert int(mask.sum()) == side**2 == len(rows) * len(columns)
        assert rows.tolist() == list(range(int(rows[0]), int(rows[0]) + side))
        assert columns.tolist() == list(range(int(columns[0]), int(columns[0]) + side))


def test_every_place_is_as_likely() -> None:
    squares = Patch(0.05).placed(examples.seeds(6000), 6, 7)  # of 1 px
    counts = squares.sum(0).flatten()
    assert int(squares.sum()) == 6000 and int(counts.min()) > 95 and int(counts.max()) < 200  # 143 each, deviation 12
    big = Patch(0.4).placed(examples.seeds(4000), 6, 7)  # 4 px: 3 x 4 places
    tops, lefts = big.any(2).int().argmax(1), big.any(1).int().argmax(1)
    places = (4 * tops + lefts).bincount(minlength=12)
    assert len(places) == 12 and int(places.min()) > 260 and int(places.max()) < 410  # 333 each, deviation 17


def test_of_the_whole_image_it_is_bim_without_a_budget() -> None:
    shape = examples.Shape(3, 10, 10, 4)
    net, x = examples.conv(shape, dtype=torch.float64), examples.images(shape, N, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(N)
    assert torch.equal(Patch(1.0, 7, 0.05)(net, x, y, seeds=s), BIM(1.0, 0.05, 7)(net, x, y, seeds=s))


def test_a_larger_square_fools_more() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 200)
    y, s = examples.predicted(net, x), examples.seeds(200)
    shares = [float((examples.predicted(net, Patch(share)(net, x, y, seeds=s)) != y).float().mean()) for share in (0.01, 0.05, 0.2)]
    assert shares[0] + 0.1 < shares[1] < shares[2] - 0.05


def test_costs_what_its_docstring_says() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 5)
    with passes(net) as found:
        Patch(steps=4)(net, x, torch.zeros(5, dtype=torch.int64), seeds=examples.seeds(5))
    assert found == {"forward": 20, "backward": 20}


@pytest.mark.parametrize("bad", [{"share": 0.0}, {"share": 1.1}, {"steps": 0}, {"step_size": 2.0}])
def test_refuses_settings_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        Patch(**bad)


def test_titles() -> None:
    assert (Patch().title, Patch(0.1).title) == ("patch", "patch (10 %)")
