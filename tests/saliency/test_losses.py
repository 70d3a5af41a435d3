from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from salientry.saliency import Eq2, MarginLoss

Floats = NDArray[np.float64]
N, K = 12, 5


def batch(seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    maps = torch.rand(N, 1, 6, 7, generator=g, dtype=torch.float64)
    kept, destroyed = (scale * torch.randn(N, K, generator=g, dtype=torch.float64) for _ in range(2))
    return maps, kept, destroyed, torch.randint(0, K, (N,), generator=g)


SELECTORS = {"real": torch.ones(N, dtype=torch.bool), "fake": torch.zeros(N, dtype=torch.bool), "mixed": torch.arange(N) % 3 > 0}


def eq2(m: Floats, kept: Floats, destroyed: Floats, y: int, real: bool, area: float, destroyer: float, power: float) -> float:
    """Spec 1.5, one image."""

    def p(z: Floats) -> float:
        e = np.exp(z - z.max())
        return float((e / e.sum())[y])

    shown, hidden = (kept, destroyed) if real else (destroyed, kept)
    return float(area * m.mean() - np.log(p(shown)) + destroyer * max(p(hidden), 1e-6) ** power)


def margin(m: Floats, kept: Floats, destroyed: Floats, y: int, real: bool, smooth: float) -> float:
    """Spec 1.4, one image."""

    def others(z: Floats) -> float:
        return float(max(v for k, v in enumerate(z) if k != y))

    def t(z: Floats, conf: float) -> float:
        return max(others(z) - z[y] + conf, 0.0)

    def nt(z: Floats, conf: float) -> float:
        return max(z[y] - others(z) + conf, 0.0)

    preserver, destroyer = (t(kept, 1), nt(destroyed, 5)) if real else (nt(kept, 1), t(destroyed, 1))
    rough = (np.diff(m, axis=0) ** 2).sum() + (np.diff(m, axis=1) ** 2).sum()
    border = (m[0] ** 2).sum() + (m[-1] ** 2).sum() + (m[:, 0] ** 2).sum() + (m[:, -1] ** 2).sum()
    return float(destroyer + 8 * ((m + 0.0005) ** 0.3).mean() + smooth * (rough + 0.3 * border) / 2 + 0.3 * preserver)


@pytest.mark.parametrize("which", SELECTORS)
@pytest.mark.parametrize("scale", [3.0, 60.0])
@pytest.mark.parametrize("settings", [{}, {"area": 2.0, "destroyer": 0.5, "power": 1.0}], ids=["default", "other"])
def test_eq2_is_the_papers_formula(which: str, scale: float, settings: dict[str, float]) -> None:
    maps, kept, destroyed, y = batch(scale=scale)
    real = SELECTORS[which]
    weights = {"area": 10.0, "destroyer": 5.0, "power": 0.3} | settings  # Dabkowski & Gal
    rows = zip(maps[:, 0].numpy(), kept.numpy(), destroyed.numpy(), y.tolist(), real.tolist(), strict=True)
    expected = np.mean([eq2(*row, **weights) for row in rows])
    assert float(Eq2(**settings)(maps, kept, destroyed, y, real)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("which", SELECTORS)
@pytest.mark.parametrize("smooth", [0.0, 0.5])
@pytest.mark.parametrize("shift", [0.0, -100.0])
def test_margin_loss_is_what_the_code_computes(which: str, smooth: float, shift: float) -> None:
    maps, kept, destroyed, y = batch()
    kept, destroyed = kept + shift, destroyed + shift  # all-negative logits are logits
    real = SELECTORS[which]
    rows = zip(maps[:, 0].numpy(), kept.numpy(), destroyed.numpy(), y.tolist(), real.tolist(), strict=True)
    expected = np.mean([margin(*row, smooth=smooth) for row in rows])
    assert float(MarginLoss(smooth=smooth)(maps, kept, destroyed, y, real)) == pytest.approx(expected, rel=1e-9)


def test_paper_drops_the_smoothness() -> None:
    assert MarginLoss().smooth == 0


@pytest.mark.parametrize("which", SELECTORS)
@pytest.mark.parametrize("loss", [Eq2(), MarginLoss(smooth=0.5)], ids=["eq2", "margin"])
def test_gradients_match_finite_differences(loss: Any, which: str) -> None:
    maps, kept, destroyed, y = batch(1)
    inputs = tuple(v.requires_grad_() for v in (maps, kept, destroyed))
    torch.autograd.gradcheck(lambda *v: loss(*v, y, SELECTORS[which]), inputs, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("which", SELECTORS)
@pytest.mark.parametrize("loss", [Eq2(), MarginLoss(smooth=0.5)], ids=["eq2", "margin"])
def test_gradients_stay_finite_where_probabilities_and_maps_vanish(loss: Any, which: str) -> None:
    """p^0.3 and M^0.3 have an infinite slope at 0."""
    for level in (0.0, 1.0):
        for z in (2000.0, -2000.0, 0.0):
            maps = torch.full((N, 1, 4, 4), level, requires_grad=True)
            y = torch.zeros(N, dtype=torch.int64)
            kept = torch.tensor([z, 0.0, 0.0]).repeat(N, 1).requires_grad_()
            destroyed = (-kept.detach()).requires_grad_()
            value = loss(maps, kept, destroyed, y, SELECTORS[which])
            found = torch.autograd.grad(value, (maps, kept, destroyed))
            assert bool(torch.isfinite(value)) and all(bool(torch.isfinite(g).all()) for g in found)
            assert float(found[0].abs().max()) > 0


def test_eq2_pushes_the_right_way() -> None:
    """More of the class in what is kept, less in what is destroyed, a smaller map; with a fake selector the images swap."""
    maps, kept, destroyed, y = batch(2)
    more = torch.nn.functional.one_hot(y, K)
    for loss in (Eq2(), MarginLoss()):
        for real, sign in ((SELECTORS["real"], -1), (SELECTORS["fake"], 1)):
            base = float(loss(maps, kept, destroyed, y, real))
            assert sign * (float(loss(maps, kept + more, destroyed, y, real)) - base) > 0
            assert sign * (float(loss(maps, kept, destroyed - more, y, real)) - base) > 0
            assert float(loss(maps * 0.9, kept, destroyed, y, real)) < base
