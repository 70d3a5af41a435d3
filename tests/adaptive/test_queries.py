"""What the attacks without a gradient share: every question is counted, no success is imagined, no image sees another's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from salientry.adaptive import HopSkipJump, SquareSearch
from salientry.adaptive._descent import Bounds, length
from salientry.adaptive._queries import Oracle
from salientry.errors import UsageError
from tests.adaptive.half_spaces import Planes, planes
from tests.examples import seeds
from tests.surroundings import MODES

SHAPE, QUERIES = (1, 4, 4), 100
BOTH = pytest.mark.parametrize("name", ["hop_skip_jump", "square_search"])


def subjects(name: str, n: int = 6) -> tuple[Planes, Any, dict[str, Any]]:
    """Planes of which some can be crossed undetected, an attack, and what it is given."""
    if name == "hop_skip_jump":
        p = planes(n, SHAPE, far=0.4, room=0.1)
        return p, HopSkipJump(QUERIES, probes=30), {"seeds": seeds(n), "starts": p.starts()}
    return planes(n, SHAPE, far=0.08, room=0.1), SquareSearch(8 / 255, QUERIES), {"seeds": seeds(n)}


@BOTH
def test_every_question_is_counted_and_the_budget_is_kept(name: str) -> None:
    p, attack, given = subjects(name)
    target, asked = p.one_plane(), []
    target.classifier.register_forward_hook(lambda m, i, o: asked.append(i[0].clone()))
    for queries in (10, 37, QUERIES):
        asked.clear()
        found = replace(attack, queries=queries).search(target, p.x, p.y, **given)
        assert int(found.queries.sum()) == sum(map(len, asked)), "nobody was asked twice for one count"
        assert int(found.queries.max()) <= queries
        assert int(found.queries.min()) >= 1
    every = torch.cat(asked)
    assert float((255 * every - (255 * every).round()).abs().max()) < 1e-9, "nothing but 8-bit images is asked about"


@BOTH
def test_a_success_is_one_by_other_means_and_the_rest_are_told_apart(name: str) -> None:
    p, attack, given = subjects(name)
    hard = replace(p, far=torch.where(torch.arange(6) < 4, p.far, 50.0))  # two cannot be had
    found = attack.search(hard.target(), p.x, p.y, **given)
    np.testing.assert_array_equal(hard.succeeds(found.images), found.success.numpy())
    assert 2 <= int(found.success.sum()) <= 4
    assert not found.success[4:].any()
    assert torch.equal(attack(hard.target(), p.x, p.y, **given), found.images)
    assert float((255 * found.images - (255 * found.images).round()).abs().max()) < 1e-9
    assert (found.queries[found.success] > 1).all()


@BOTH
def test_an_image_neither_sees_its_neighbours_nor_another_s_seed(name: str) -> None:
    p, attack, given = subjects(name)
    whole, order = attack.search(p.target(), p.x, p.y, **given), torch.tensor([4, 0, 5, 2, 1, 3])

    def again(rows: Tensor, more: int = 0) -> Any:
        some = Planes(p.x[rows], p.w, p.v, p.far[rows], p.room[rows])
        return attack.search(some.target(), some.x, some.y, **(given | {"seeds": seeds(6)[rows] + more}))

    for rows in (order, torch.tensor([3]), torch.tensor([1, 2])):
        found = again(rows)
        assert torch.equal(found.images, whole.images[rows])
        assert torch.equal(found.queries, whole.queries[rows])
    assert not torch.equal(again(torch.arange(6), more=1).images, whole.images)


@BOTH
def test_modes_around_it_do_not_matter(name: str) -> None:
    p, attack, given = subjects(name)
    plain = attack.search(p.target(), p.x, p.y, **given)
    for mode, around in MODES.items():
        with around():
            found = attack.search(p.target(), p.x.clone(), p.y.clone(), **given)
        assert torch.equal(found.images, plain.images), mode
        assert torch.equal(found.queries, plain.queries), mode
        assert not found.images.is_inference(), mode


@BOTH
def test_an_image_that_succeeds_as_it_is_costs_one_question(name: str) -> None:
    p, attack, given = subjects(name)
    wrong = replace(p, far=torch.where(torch.arange(6) % 2 == 0, -0.01, p.far))
    found = attack.search(wrong.target(), p.x, p.y, **given)
    assert torch.equal(found.images[::2], p.x[::2])
    assert found.success[::2].all()
    assert found.queries[::2].tolist() == [1, 1, 1]
    assert (found.queries[1::2] > 1).all()
    flagged = replace(wrong, room=torch.full_like(p.room, -0.01))  # wrong already, and flagged: it must move
    found = attack.search(flagged.target(), p.x, p.y, **given)
    assert (found.queries > 1).all()
    np.testing.assert_array_equal(flagged.succeeds(found.images), found.success.numpy())
    assert found.success.any()


def test_the_nearest_success_is_kept_of_several_questions_about_one_image() -> None:
    p = planes(3, SHAPE)
    way, ball = p.w.view(1, *SHAPE), Bounds(None, "l2")
    oracle = Oracle(p.target(detected=False), p.x, p.y, ball, 5)
    rows, size = torch.tensor([0, 0, 0, 2, 2]), torch.tensor([2.0, 1.5, 0.1, 0.1, 0.1]).view(-1, 1, 1, 1)
    answer = oracle.ask(rows, p.x[rows] + size * way)
    assert answer.success.tolist() == [True, True, False, False, False]
    assert oracle.found.success.tolist() == [True, False, False]
    assert torch.equal(oracle.found.images, torch.stack([answer.images[1], p.x[1], p.x[2]]))
    assert oracle.found.queries.tolist() == [3, 0, 2]
    assert float(oracle.size[0]) == pytest.approx(float(length(answer.images[1] - p.x[0])))
    oracle.ask(torch.tensor([0]), p.x[:1] + 1.8 * way)
    assert torch.equal(oracle.found.images[0], answer.images[1])
    with pytest.raises(AssertionError, match="more often than the budget"):
        oracle.ask(torch.tensor([0, 0]), p.x[[0, 0]])


@pytest.mark.parametrize("queries", [0, -3, 2.5, True, "many", 10**8])
def test_a_budget_that_is_none_is_refused(queries: Any) -> None:
    for kind in (HopSkipJump, SquareSearch):
        with pytest.raises(UsageError, match=r"queries must be a whole number from 10? to 10000000; found|from 1 to 10000000; found"):
            kind(queries=queries)
