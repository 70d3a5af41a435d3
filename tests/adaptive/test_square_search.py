"""Does it find what a ball holds, and nothing that it does not?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.adaptive import Defended, SquareSearch
from salientry.errors import UsageError
from tests.adaptive.half_spaces import Planes, most, planes
from tests.examples import seeds

EPS, SHAPE = 8 / 255, (1, 4, 4)


def at_shares(p: Planes, shares: list[float], *, detected: bool) -> Planes:
    """The same with the classifier's plane at shares of what can be reached."""
    return replace(p, far=torch.from_numpy(most(p, EPS, detected=detected)) * torch.tensor(shares, dtype=torch.float64))


def test_without_a_detector_it_succeeds_exactly_where_the_ball_s_best_corner_does() -> None:
    p = at_shares(planes(8, SHAPE), [0.5, 0.7, 0.85, 0.95, 0.99, 1.01, 1.05, 1.2], detected=False)
    corner = p.x + EPS * p.w.sign().view(SHAPE)
    target = p.target(detected=False)
    reachable = target.succeeds(*target.seen(corner), p.y)
    assert reachable.tolist() == [True] * 5 + [False] * 3
    found = SquareSearch(EPS, 300).search(target, p.x, p.y, seeds=seeds(8))
    assert torch.equal(found.success, reachable)
    assert torch.equal(found.queries == 300, ~reachable), "who is done is left alone"
    levels = 255 * (found.images - p.x)
    assert float(levels.abs().max()) <= 8 + 1e-9
    assert torch.equal(found.images[5:], corner[5:].mul(255).round() / 255), "what is left is where the loss is least: the corner"


def test_with_a_detector_it_finds_most_of_what_a_linear_programme_allows_and_nothing_more() -> None:
    p = at_shares(planes(6, (3, 6, 6), room=0.05, cosine=0.7), [0.5, 0.6, 0.65, 0.7, 1.01, 1.1], detected=True)
    assert (most(p, EPS) < 0.9 * most(p, EPS, detected=False)).all(), "the detector costs something"
    found = SquareSearch(EPS, 400).search(p.target(), p.x, p.y, seeds=seeds(6))
    np.testing.assert_array_equal(p.succeeds(found.images), found.success.numpy())
    assert found.success.tolist() == [True] * 4 + [False] * 2
    flagged = replace(p, far=torch.full_like(p.far, -1.0), room=torch.full_like(p.room, -0.05))  # wrong already: the score alone must fall
    found = SquareSearch(EPS, 400).search(flagged.target(), p.x, p.y, seeds=seeds(6))
    assert found.success.all()
    assert flagged.succeeds(found.images).all()


class Times(nn.Module):
    """Another unit."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.inner(x)  # type: ignore[no-any-return]


def test_units_of_logits_and_scores_do_not_matter() -> None:
    p = at_shares(planes(5, SHAPE, room=0.02, cosine=0.7), [0.5, 0.7, 0.8, 0.9, 1.1], detected=True)
    plain = p.one_plane()
    scaled = Defended(Times(plain.classifier, 128), None, Times(plain.detector, 1 / 64), plain.threshold / 64)
    attack = SquareSearch(EPS, 80)
    found, again = (attack.search(t, p.x, p.y, seeds=seeds(5)) for t in (plain, scaled))
    assert torch.equal(found.images, again.images)
    assert torch.equal(found.queries, again.queries)
    assert not found.success.all(), "or the loss is not seen"
    other = replace(attack, weight=8.0).search(plain, p.x, p.y, seeds=seeds(5))
    assert not torch.equal(other.images, found.images)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 8, 12)])
def test_a_square_has_the_schedule_s_size_one_sign_a_channel_and_always_changes_something(shape: tuple[int, int, int]) -> None:
    attack, n = SquareSearch(EPS, share=0.5), 64
    x = (torch.rand((n, *shape), generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    here = ((x + EPS).clamp(0, 1) * 255).round() / 255  # all at one corner: half of all draws of one channel would change nothing
    for passed, share in ((0.0, 0.5), (0.0011, 0.25), (0.03, 0.0625), (0.9, 0.5 / 2**9)):
        side = max(1, round((share * shape[1] * shape[2]) ** 0.5))
        new = attack.squared(here, x, seeds(n), passed)
        changed = new != here
        assert changed.flatten(1).any(1).all()
        for one, moved in zip(changed, 255 * (new - x), strict=True):
            rows, columns = one.any(0).any(1).nonzero().flatten(), one.any(0).any(0).nonzero().flatten()
            assert int(rows.max() - rows.min()) < side
            assert int(columns.max() - columns.min()) < side
            assert (one.flatten(1).sum(1) <= side**2).all()
            assert float(moved.abs().max()) <= 8 + 1e-3
        assert int(changed.any(1).flatten(1).sum(1).max()) == side**2
    places = attack.squared(here, x, seeds(n), 0.9) != here
    assert len(torch.unique(places.any(1).flatten(1).int().argmax(1))) > n / 4, "anywhere"


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for wrong, message in (({"eps": 2}, "eps"), ({"share": 0}, "share"), ({"weight": -1}, "weight"), ({"queries": 9}, "from 10 to")):
        with pytest.raises(UsageError, match=message):
            SquareSearch(**wrong)
