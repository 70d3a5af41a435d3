"""Against the closed form: the boundaries of an affine classifier are hyperplanes, and their distances are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import ATTACKS, AutoAttack
from salientry.types import Shape

from .. import examples

N = 40
OTHER = [
    "apgd_l2",
    "autoattack_l2",
    "fab",
    "jsma",
    "margin_descent",
    "patch",
    "pgd_l2",
    "spatial",
    "square_l2",
]  # no Linf budget, and none looks
# for the nearest boundary in L2: see their own tests
RANDOM = ["square", "hop_skip_jump"]  # random searches, the second by decisions alone: how near they come is no matter of algebra
MINIMAL = [name for name, kind in ATTACKS.items() if kind().eps is None and name not in OTHER + RANDOM]
BUDGET = [name for name, kind in ATTACKS.items() if kind().eps is not None and name not in RANDOM]


def gaps(net: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Own labels (N,), and for each other class the logit gap (N, K) and the gap's weights (N, K, D); own class: infinite gap."""
    w, b = net[1].weight.detach(), net[1].bias.detach()
    z = x.flatten(1) @ w.T + b
    y = z.argmax(1)
    gap = z.gather(1, y[:, None]) - z
    return y, gap.scatter(1, y[:, None], float("inf")), w[y][:, None] - w[None]


def inside(classes: int) -> tuple[nn.Sequential, Tensor]:
    """An affine classifier and points so far inside the box, and so near to a boundary, that clipping never comes in."""
    shape = Shape(1, 8, 8, classes)
    net = examples.affine(shape)
    x = 0.4 + 0.2 * torch.rand(20 * N, 1, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    _, gap, w = gaps(net, x)
    near = (gap / w.abs().sum(2)).amin(1)
    x = x[(near > 1e-3) & (near < 0.15)][:N]
    assert len(x) == N
    return net, x


@pytest.mark.parametrize("name", MINIMAL)
@pytest.mark.parametrize("classes", [2, 10])
def test_minimal_norm_attacks_reach_the_nearest_hyperplane(name: str, classes: int) -> None:
    net, x = inside(classes)
    y, gap, w = gaps(net, x)
    optimum = (gap / w.norm(dim=2)).amin(1)
    out = ATTACKS[name]()(net, x, y, seeds=examples.seeds(N))
    assert float(out.min()) > 0 and float(out.max()) < 1  # no clipping: the optimum is the optimum
    found = (out - x).flatten(1).norm(dim=1)
    assert bool((examples.predicted(net, out) != y).all())
    assert bool((found >= optimum * (1 - 1e-9)).all())
    assert float((found / optimum).max()) <= 1.05


@pytest.mark.parametrize("name", BUDGET)
def test_budget_attacks_succeed_just_above_the_optimum_and_not_below(name: str) -> None:
    net, x = inside(2)
    y, gap, w = gaps(net, x)
    optimum = (gap / w.abs().sum(2)).amin(1)
    default: Any = AutoAttack(queries=20) if name == "autoattack" else ATTACKS[name]()
    for i in range(N if name not in ("apgd", "autoattack") else 5):  # where there is no way they try for long
        for share, succeeds in ((1.25, True), (0.8, False)):
            a = replace(default, eps=float(share * optimum[i]))
            out = a(net, x[i : i + 1], y[i : i + 1], seeds=examples.seeds(1))
            assert bool(examples.predicted(net, out)[0] != y[i]) == succeeds


def test_every_attack_is_one_of_these() -> None:
    assert sorted(MINIMAL + BUDGET + OTHER + RANDOM) == sorted(ATTACKS)
