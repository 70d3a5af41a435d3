"""DDN, FMN and FAB: closed forms on affine nets, and the projection inside a box against a solver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from salientry.attacks import DDN, FAB, FMN
from salientry.attacks._fab import projected
from salientry.attacks.fmn import inward
from salientry.errors import UsageError

from .. import examples
from .counting import passes
from .test_optimum import N, gaps, inside

SHAPE = examples.SHAPES["colour"]


def boxes(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points in [0, 1], some of their values 0 or 1; gradients with zeros in them; gaps of both signs, most of which can be closed."""
    g = torch.Generator().manual_seed(seed)
    x = (1.4 * torch.rand(60, 1, 3, 4, generator=g, dtype=torch.float64) - 0.2).clamp(0, 1)
    w = torch.randn(60, 1, 3, 4, generator=g, dtype=torch.float64) * (torch.rand(60, 1, 3, 4, generator=g) > 0.2)
    return x, w, 3 * torch.randn(60, generator=g, dtype=torch.float64)


def test_projection_in_linf_is_the_linear_program_s() -> None:
    """Smallest t with |step| <= t, x + step in [0, 1] and gap + <w, step> = 0."""
    x, w, gap = boxes(0)
    found, solved = projected(x, w, gap, "linf"), 0
    for i in range(40):
        p, v = x[i].flatten().numpy(), w[i].flatten().numpy()
        d = len(p)
        eye, one = np.eye(d), -np.ones((d, 1))
        answer = linprog(
            np.r_[np.zeros(d), 1],
            A_ub=np.block([[eye, one], [-eye, one]]),
            b_ub=np.zeros(2 * d),
            A_eq=np.r_[v, 0][None],
            b_eq=[-float(gap[i])],
            bounds=[*zip(-p, 1 - p, strict=True), (0, None)],
        )
        if answer.status == 0:
            solved += 1
            assert float(found[i].abs().max()) == pytest.approx(answer.fun, abs=1e-9)
    assert solved >= 25


def test_projection_in_l2_meets_the_conditions_of_the_optimum() -> None:
    """It lies on the plane and in the box; where no bound is met it is parallel to w; where one is, w alone would go further."""
    x, w, gap = boxes(1)
    found = projected(x, w, gap, "l2")
    there = (gap + (w * found).flatten(1).sum(1)).abs() < 1e-9
    assert int(there.sum()) >= 40
    landed = x + found
    assert float(landed.min()) >= -1e-12 and float(landed.max()) <= 1 + 1e-12
    for i in there.nonzero()[:, 0].tolist():
        v, s, p = w[i].flatten(), found[i].flatten(), landed[i].flatten()
        free = (p > 1e-9) & (p < 1 - 1e-9) & (v != 0)
        if not bool(free.any()):
            continue
        rate = (s / v)[free]
        assert float((rate - rate[0]).abs().max()) < 1e-9  # one multiplier
        held = ~free & (v != 0)
        assert bool(((v * rate[0] - s)[held] * torch.where(p[held] > 0.5, 1.0, -1.0) >= -1e-9).all())
        assert float(s[v == 0].abs().sum()) == 0


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_planes_that_cannot_be_reached_end_in_the_nearest_corner(norm: Any) -> None:
    x, w = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64), torch.tensor([[[[1.0, -1.0], [2.0, 0.0]]]], dtype=torch.float64)
    found = projected(x, w, torch.tensor([-100.0], dtype=torch.float64), norm)
    assert (x + found).flatten().tolist() == [1, 0, 1, 0.5]


@pytest.mark.parametrize("attack", [FMN("linf"), FAB("linf"), FMN("l2"), FAB("l2"), DDN()], ids=lambda a: a.title)
@pytest.mark.parametrize("classes", [2, 4])
def test_they_reach_the_nearest_hyperplane_in_their_norm(attack: Any, classes: int) -> None:
    """Of two classes it is the only one; of more DDN and FMN may follow a boundary that is not the nearest."""
    net, x = inside(classes)
    y, gap, w = gaps(net, x)
    optimum = (gap / (w.abs().sum(2) if attack.norm == "linf" else w.norm(dim=2))).amin(1)
    out = attack(net, x, y, seeds=examples.seeds(N))
    moved = (out - x).flatten(1)
    found = moved.abs().amax(1) if attack.norm == "linf" else moved.norm(dim=1)
    assert bool((examples.predicted(net, out) != y).all())
    assert bool((found >= optimum * (1 - 1e-9)).all())
    assert float((found / optimum).max()) <= (1.01 if classes == 2 or isinstance(attack, FAB) else 1.25)
    assert float((found / optimum).mean()) <= 1.04


def test_they_cost_what_their_docstrings_say() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 5)
    y, s = examples.predicted(net, x), examples.seeds(5)
    for kind in (DDN, FMN):
        with passes(net) as found:
            kind(steps=7)(net, x, y, seeds=s)
        assert found == {"forward": 35, "backward": 30}
    with passes(net) as found:
        FAB(steps=4, candidates=3)(net, x, y, seeds=s)
    assert found["backward"] == 5 * 3 * 4 and found["forward"] == 5 * (6 + 2 * 3 * 4)


def test_fab_over_more_classes_is_never_farther() -> None:
    net, x = examples.conv(SHAPE, dtype=torch.float64), examples.images(SHAPE, 30, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(30)
    far = [(FAB("l2", 20, k)(net, x, y, seeds=s) - x).flatten(1).norm(dim=1) for k in (1, 4)]
    assert bool((far[1] <= far[0] + 1e-3).all()) and bool((far[1] < far[0] - 1e-3).any())


@pytest.mark.parametrize(("kind", "bad"), [(DDN, {"steps": 0}), (DDN, {"gamma": 1.0}), (FMN, {"step_size": 0.0}), (FAB, {"candidates": 0})])
def test_refuses_settings_that_cannot_be(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        kind(**bad)


def test_refuses_other_norms() -> None:
    for kind in (FMN, FAB):
        with pytest.raises(UsageError, match="norm"):
            kind("l1")


def test_titles() -> None:
    found = [a.title for a in (DDN(), DDN(50), FMN(), FMN("linf"), FAB(), FAB("l2", 20))]
    assert found == ["DDN", "DDN (50 steps)", "FMN", "FMN Linf", "FAB", "FAB L2 (20 steps)"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_points_inward_is_what_two_masks_leave(dtype: torch.dtype) -> None:
    """Of points inside, on both bounds and a rounding beyond them; of gradients of both signs, 0 and without end."""
    inf = float("inf")
    here = torch.tensor([0, 1e-45, 1e-9, 0.3, 1 - 6e-8, 1, 1 + 1.2e-7, -1e-9], dtype=dtype)[:, None].expand(8, 9)
    gradient = torch.tensor([-inf, -1e30, -2, -1e-45, 0, 1e-45, 2, 1e30, inf], dtype=dtype).expand(8, 9)
    left = ((here > 0) | (gradient > 0)) & ((here < 1) | (gradient < 0))
    assert torch.equal(inward(gradient, here), torch.where(left, gradient, 0)) and bool(left.any(1).all()) and not left.all()
