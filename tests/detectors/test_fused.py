from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import ID, SMD, ClassPresence, Fused, HighFrequency, Margin
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.learned import fingerprint, rebuild, recipe_of

from ..examples import HEAD, ViewPairs, adversarial_evidence, fitted, natural_evidence

N = 96


@cache
def looks(seed: int = 0) -> tuple[Evidence, Evidence]:
    return natural_evidence(N, seed=2 * seed), adversarial_evidence(N, seed=2 * seed + 1)


@cache
def members() -> tuple[Any, ...]:
    """Three fitted detectors of three families."""
    return tuple(fitted(d, ViewPairs.of(d, *looks(5))) for d in (Margin(), ID(HEAD), HighFrequency()))


def fused(*parts: nn.Module, exchange: bool = False) -> Any:
    pairs = ViewPairs.of(Fused(), *looks(), *parts)
    return fitted(Fused(), pairs.exchanged() if exchange else pairs, *parts)


def all_scores(parts: tuple[Any, ...], look: Evidence) -> Tensor:
    return torch.stack([p(look) for p in parts], 1).detach().double()


def test_view_is_the_scores_of_its_parts_in_their_order() -> None:
    look = looks()[1]
    with torch.no_grad():
        view = Fused().view(look, *members())
        assert view.shape == (N, 3)
        for i, part in enumerate(members()):
            assert torch.equal(view[:, i], part(look))


def test_score_is_the_logistic_combination_computed_by_hand() -> None:
    detector = fused(*members())
    seen = torch.cat([all_scores(members(), look) for look in looks()])
    mean, std = seen.mean(0), seen.std(0)
    for look in looks(1):
        z = (all_scores(members(), look) - mean) / std
        expected = sum(float(s) * z[:, i] for i, s in enumerate(detector.head.slope.detach())) + float(detector.head.offset.detach())
        with torch.no_grad():
            found = detector(look)
            each = detector.head.each(detector.view(look))
        assert isinstance(expected, Tensor)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
        assert each.shape == (N, 3)
        torch.testing.assert_close(each.sum(1) + detector.head.offset.detach(), found, rtol=0, atol=1e-4)
        assert torch.equal(each.argmax(1), (z * detector.head.slope.detach()).argmax(1))


def test_what_each_adds_is_reported_by_the_slope_that_is_used() -> None:
    """A slope below the floor is the floor, in the sum and in its terms."""
    head = fused(*members()).head
    head.slope.data = torch.tensor([2.0, -3.0, 0.0])
    head.offset.data.fill_(0.25)
    view = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    z = (view - head.mean) / head.std
    with torch.no_grad():
        torch.testing.assert_close(head.each(view), z * torch.tensor([2.0, 1e-3, 1e-3]))
        torch.testing.assert_close(head(view), head.each(view).sum(1) + 0.25)


def test_order_of_the_members_moves_columns_and_nothing_else() -> None:
    one, other = fused(*members()), fused(*members()[::-1])
    for look in looks(1):
        with torch.no_grad():
            torch.testing.assert_close(one(look), other(look), rtol=1e-3, atol=1e-3)
            a, b = (d.head.each(d.view(look)) for d in (one, other))
        torch.testing.assert_close(a, b.flip(1), rtol=1e-2, atol=1e-2)


def test_no_member_is_ever_turned_round() -> None:
    detector = fused(*members(), exchange=True)  # naturals and adversarials exchanged: every slope wants to be negative
    view = detector.view(looks()[0]).detach()
    with torch.no_grad():
        for column in range(3):
            more = view.clone()
            more[:, column] += 1
            assert bool((detector.head.each(more)[:, column] > detector.head.each(view)[:, column]).all())
            assert bool((detector.head(more) > detector.head(view) - 1e-6).all())
    one = fused(members()[0], members()[2])
    assert bool((one.head.slope > 0.1).all())


def test_reads_what_its_parts_read_however_deep() -> None:
    given = [fitted(d, ViewPairs.of(d, *looks(5))) for d in (ClassPresence(), SMD(HEAD))]
    inner = fused(members()[0], given[0])
    outer = fused(inner, given[1])
    assert Fused.needs == frozenset()
    assert inner.needs == {"logits", "class_presence"} and outer.needs == {"logits", "class_presence", "map"}
    again: Any = rebuild(json.loads(json.dumps(recipe_of(outer))))
    assert fingerprint(again) != fingerprint(outer)
    again.load_state_dict(outer.state_dict())
    assert fingerprint(again) == fingerprint(outer) and recipe_of(again) == recipe_of(outer) and again.needs == outer.needs
    assert [type(p.settings) for p in again.parts[0].parts] == [Margin, ClassPresence]
    with torch.no_grad():
        assert torch.equal(again(looks(1)[0]), outer(looks(1)[0]))


def test_members_are_neither_moved_nor_trained() -> None:
    given = copy.deepcopy(members())
    before = [fingerprint(m) for m in given]
    detector = fused(*given)
    assert [fingerprint(m) for m in given] == before == [fingerprint(p) for p in detector.parts]
    assert all(p.grad is None for m in given for p in m.parameters())


def test_refuses_as_many_parts_as_there_are_not() -> None:
    for columns, parts in ((0, ()), (2, ()), (2, members()), (3, members()[:1])):
        with pytest.raises(UsageError, match=f"a fusion of {columns} scores needs as many fitted detectors; found {len(parts)}"):
            Fused().build((columns,), *parts)
