"""The logistic head against scikit-learn, and its own promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from salientry.detectors import Fused, Margin, Margin2, _logistic

from ..examples import ViewPairs, fitted


def overlapping(n: int, columns: int, shift: float) -> ViewPairs:
    g = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 1000.0, 1e-3])[:columns]
    return ViewPairs(torch.randn(n, columns, generator=g) * scale + 7, (torch.randn(n, columns, generator=g) + shift) * scale + 7)


@pytest.mark.parametrize(("settings", "columns"), [(Margin(), 1), (Margin2(), 2)])
@pytest.mark.parametrize("shift", [0.3, 1.5])
def test_equals_scikit_learn(settings: Any, columns: int, shift: float) -> None:
    """Mean cross-entropy + 1e-3 |slope|^2 on standardised columns; scikit-learn weighs the sum of losses against half the square."""
    pairs = overlapping(300, columns, shift)
    x = torch.cat([pairs.natural, pairs.adversarial]).double().numpy()
    y = np.repeat([0, 1], 300)
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    theirs = LogisticRegression(C=1 / (2 * 1e-3 * len(x)), tol=1e-10, max_iter=10_000).fit(z, y)
    ours: Any = settings.fit(pairs, pairs.labels, seed=0).head
    np.testing.assert_allclose(ours.slope.detach().numpy(), theirs.coef_[0], rtol=1e-3)
    np.testing.assert_allclose(float(ours.offset.detach()), theirs.intercept_[0], atol=1e-3)
    with torch.no_grad():
        np.testing.assert_allclose(ours(pairs.natural).numpy(), theirs.decision_function(z)[:300], atol=5e-3)


def test_a_slope_that_wants_to_be_negative_stays_just_above_zero() -> None:
    head: Any = fitted(Margin(), overlapping(200, 1, -1.0)).head
    with torch.no_grad():
        rise = float(head(torch.tensor([[8.0]])) - head(torch.tensor([[7.0]])))
        middle = float(head(torch.cat([overlapping(200, 1, -1.0).natural, overlapping(200, 1, -1.0).adversarial])).mean())
    assert 0 < rise < 0.01
    assert abs(middle) < 0.01  # the offset is still the best one: half and half


def test_a_column_that_never_changes_is_finite() -> None:
    pairs = ViewPairs(torch.full((50, 1), 3.0), torch.full((50, 1), 3.0))
    head: Any = Margin().fit(pairs, pairs.labels, seed=0).head
    with torch.no_grad():
        assert bool(torch.isfinite(head(torch.tensor([[3.0], [4.0]]))).all())
        assert abs(float(head(torch.tensor([[3.0]])))) < 1e-3


def test_separable_data_end_finite() -> None:
    """Without the penalty the slope would run away."""
    head: Any = fitted(Margin(), ViewPairs(torch.linspace(-2, -1, 80)[:, None], torch.linspace(1, 2, 80)[:, None])).head
    assert 1 < float(head.slope.detach()) < 20
    assert head.slope.dtype == torch.float32


# --- slopes within their bound -----------------------------------------------------------------------------------


def correlated(seed: int) -> ViewPairs:
    """Five columns that overlap, of which some help only to correct others."""
    g = torch.Generator().manual_seed(seed)
    mixing, shift = torch.randn(5, 5, generator=g), torch.rand(5, generator=g) * 2
    return ViewPairs(torch.randn(200, 5, generator=g) @ mixing, torch.randn(200, 5, generator=g) @ mixing + shift)


def loss_and_gradient(head: Any, pairs: ViewPairs) -> tuple[float, torch.Tensor]:
    """Of the slopes that are used, which are free here."""
    x = torch.cat([pairs.natural, pairs.adversarial]).double()
    y = torch.cat([torch.zeros(200), torch.ones(200)]).double()
    weights = head.weights.detach().double().requires_grad_()
    scores = ((x - head.mean.double()) / head.std.double()) @ weights + head.offset.detach().double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, y) + 1e-3 * weights.square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    return float(loss.detach()), gradient


@pytest.mark.parametrize("seed", range(6))
def test_no_slope_of_a_fusion_could_be_better(seed: int) -> None:
    """The conditions of a bounded optimum (Karush, Kuhn, Tucker): free slopes have no gradient, bound ones want to go further down."""
    pairs, parts = correlated(seed), [torch.nn.Identity() for _ in range(5)]
    head: Any = fitted(Fused(), pairs, *parts).head
    loss, gradient = loss_and_gradient(head, pairs)
    free = head.weights.detach() > 1.001e-3
    assert float(gradient[free].abs().max()) < 1e-5
    assert bool((gradient[~free] > -1e-5).all())
    clamped, _ = loss_and_gradient(_logistic.fit(Fused(), pairs, pairs.labels, *parts, seed=0).head, pairs)
    assert loss <= clamped + 1e-6


def test_a_slope_that_went_below_the_bound_comes_back() -> None:
    pairs, parts = correlated(0), [torch.nn.Identity() for _ in range(5)]
    clamped, bounded = (_logistic.fit(Fused(), pairs, pairs.labels, *parts, seed=0, bounded=b).head for b in (False, True))
    assert loss_and_gradient(clamped, pairs)[1].min() < -1e-3, "a slope at the bound wants to rise, and cannot"
    assert [h.weights.detach()[3].item() for h in (clamped, bounded)] == pytest.approx([1e-3, 0.149], abs=2e-3)
    assert loss_and_gradient(bounded, pairs)[0] < loss_and_gradient(clamped, pairs)[0] - 5e-4
