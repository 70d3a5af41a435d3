"""A guard attacked by someone who knows it: counts are those of the guard itself, and a guard that cannot be passed is not passed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import Margin, SecondOpinion
from salientry.detectors._committee import Committee
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.experiment.attack_guard import attack_guard
from salientry.guard import Guard
from salientry.types import Shape

SHAPE = Shape(1, 4, 4, 2)


def net(offset: float = 0.0) -> nn.Module:
    """Two classes: is the mean above one half? Its logits are +-8 (mean - .5): the distance to the boundary is known."""
    flat = nn.Linear(16, 2)
    with torch.no_grad():
        flat.weight.copy_(torch.stack([-torch.ones(16), torch.ones(16)]) / 2)
        flat.bias.copy_(torch.tensor([4.0 + offset, -4.0 - offset]))
    return nn.Sequential(nn.Flatten(), flat).eval()


def guard_of(threshold: float, detector: Any = None, second: nn.Module | None = None) -> Guard:
    fitted = Margin().build((1,)) if detector is None else detector
    return Guard(net(), None, fitted, threshold, 0.05, torch.linspace(-20, 20, 41), SHAPE, second=second)


X = torch.cat([torch.full((3, 1, 4, 4), 0.4), torch.full((3, 1, 4, 4), 0.6)]).mul(255).round() / 255
Y = torch.tensor([0, 0, 0, 1, 1, 1])
LEVELS = int((0.5 - X[0, 0, 0, 0]) * 255 + 1)  # grey levels to the other side


def test_a_guard_that_flags_nothing_is_passed_where_the_classifier_is_fooled() -> None:
    found = attack_guard(guard_of(float("inf")), X, Y, budgets=[5 / 255, (LEVELS + 3) / 255], steps=20)
    small, large = found.budgets
    assert found.images == 6 and (small["fooled"], small["passed"]) == (0, 0)
    assert (large["fooled"], large["passed"]) == (6, 6), "the boundary is so far"
    assert found.median_l2["of"] == 6 and found.median_l2["ratio"] == pytest.approx(1, abs=0.02)
    assert found.median_l2["bare"] == pytest.approx(4 * LEVELS / 255, rel=0.1)
    assert "1.000" in str(found) and "6 of 6" in str(found)


def test_a_margin_that_must_be_large_costs_the_attacker_that_much() -> None:
    """Flagged below a margin of .8: the mean must go as far beyond one half as the natural is before it."""
    natural = float(abs(16 * (X[0, 0, 0, 0] - 0.5)))
    g = guard_of(-0.9 * natural)
    assert not g(X).flagged.any()
    found = attack_guard(g, X, Y, budgets=[(LEVELS + 3) / 255, 2.2 * LEVELS / 255], steps=60)
    near, far = found.budgets
    assert near["fooled"] == 6 and near["passed"] == 0, "it fools and is flagged"
    assert far["passed"] == 6
    assert found.median_l2["ratio"] == pytest.approx(1.9, abs=0.2)


class Far(nn.Module):
    """Scores how far an image is from the naturals: nothing else passes."""

    needs = frozenset({"logits"})
    settings = Margin()
    parts = nn.ModuleList()

    def forward(self, evidence: Evidence) -> Tensor:
        away = [(evidence.image - x).abs().flatten(1).amax(1) for x in (X[0], X[3])]
        return torch.minimum(*away)


def test_a_guard_that_flags_whatever_is_no_natural_is_not_passed() -> None:
    found = attack_guard(guard_of(1 / 510, Far()), X, Y, budgets=[30 / 255], steps=10)
    assert found.budgets[0]["fooled"] == 6 and found.budgets[0]["passed"] == 0
    assert found.median_l2["ratio"] is None and found.median_l2["of"] == 0


def test_a_second_network_is_attacked_too() -> None:
    second = net(offset=-0.4)
    fitted = SecondOpinion(head=Committee(members=2, width=4, steps=1)).build((5,))
    g = guard_of(float("inf"), fitted, second)
    found = attack_guard(g, X, Y, budgets=[(LEVELS + 3) / 255], steps=10, restarts=0)
    assert found.budgets[0]["passed"] == 6


def test_only_images_that_are_right_and_pass_are_attacked() -> None:
    assert attack_guard(guard_of(float("inf")), X, 1 - Y.clone().index_fill(0, torch.tensor([0]), 1), budgets=[0.01], steps=1).images == 1
    with pytest.raises(UsageError, match="of 6 images the classifier has none right that the guard does not flag"):
        attack_guard(guard_of(float("-inf")), X, Y)
    with pytest.raises(UsageError, match="at least one image and one budget"):
        attack_guard(guard_of(0.0), X, Y, budgets=[])
