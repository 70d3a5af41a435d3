"""How often attacks make the host wait for a device: counted on a processor, and what the documentation says of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.host_reads import a_step, waits
from salientry.attacks import (
    APGD,
    BIM,
    DDN,
    FAB,
    FMN,
    JSMA,
    MIM,
    PGD,
    PGDL2,
    CarliniWagner,
    DeepFool,
    MarginDescent,
    Patch,
    Spatial,
    Square,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "cluster.md"
X, Y, SEEDS = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(1)), torch.zeros(5, dtype=torch.int64), torch.arange(5) + 1
LOOPS: dict[str, tuple[Any, str]] = {  # by their name in the document: an attack, and which of its settings is its number of steps
    "BIM": (BIM(), "steps"),
    "MIM": (MIM(), "steps"),
    "PGD": (PGD(), "steps"),
    "PGD L2": (PGDL2(), "steps"),
    "patch": (Patch(), "steps"),
    "DDN": (DDN(), "steps"),
    "FMN": (FMN(), "steps"),
    "rotation and shift": (Spatial(), "queries"),
    "C&W": (CarliniWagner(search_steps=1, abort_early=False), "steps"),
    "DeepFool": (DeepFool(), "steps"),
    "APGD": (APGD(), "steps"),
    "margin descent": (MarginDescent(), "steps"),
    "Square": (Square(), "queries"),
    "JSMA": (JSMA(theta=1e-3), "steps"),
    "JSMA by logits": (JSMA(theta=1e-3, score="logit"), "steps"),
    "FAB": (FAB(candidates=1), "steps"),
}


class Steady(nn.Module):
    """Never gives another answer than class 0, and has a gradient everywhere: nobody leaves a loop early."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return torch.cat([z[:, :1] + 50, z[:, 1:]], 1)


def counted(name: str) -> float:
    (attack, steps), net = LOOPS[name], Steady().eval()
    return a_step(lambda n: replace(attack, **{steps: n})(net, X, Y, seeds=SEEDS), "cpu", 10, 20)


def documented() -> dict[str, float]:
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \|", DOCUMENT.read_text(), re.M)
    return {name.strip(): float(n) for names, n in rows for name in names.split(",") if name.strip() in LOOPS}


@pytest.mark.parametrize("name", LOOPS)
def test_a_step_of_an_attack_waits_for_the_device_as_often_as_the_document_says(name: str) -> None:
    assert counted(name) == documented()[name]


def test_who_leaves_a_batch_is_looked_up_once_a_step() -> None:
    """APGD on images that leave one after another: beside the look at who left, one at who stays; not one for each tensor."""
    net = Steady().eval()
    with torch.no_grad():
        net.net[3].bias += torch.tensor([0.0, 49.9, 0.0, 0.0])  # class 1 is near
    attack = APGD(1.0, 40, start=False)
    assert bool((net(attack(net, X, Y, seeds=SEEDS)).argmax(1) != Y).all())
    alone = [waits(lambda k=k: attack(net, X[k : k + 1], Y[:1], seeds=SEEDS[k : k + 1]), "cpu") for k in range(len(X))]
    assert max(alone) <= waits(lambda: attack(net, X, Y, seeds=SEEDS), "cpu") <= max(alone) + len(set(alone)) - 1


WORKS: dict[str, tuple[int, Any]] = {
    "nothing": (0, lambda: (X + 1).clamp(0, 1).argmax(1)),
    "item": (1, lambda: X.sum().item()),
    "bool": (1, lambda: bool((X > 2).any())),
    "nonzero": (1, lambda: (X > 0.5).nonzero()),
    "index of bools": (1, lambda: X[Y == 0]),
    "written at bools": (1, lambda: X.clone().index_put_((Y == 0,), X)),
    "index of numbers": (0, lambda: X[Y]),
    "one_hot": (0, lambda: F.one_hot(Y, 3)),
    "one_hot, then a read": (1, lambda: F.one_hot(Y, 3).sum().item()),
    "equal": (1, lambda: torch.equal(X, X.clone())),
}


@pytest.mark.parametrize("name", WORKS)
def test_reads_are_counted(name: str) -> None:
    wanted, work = WORKS[name]
    assert waits(work, "cpu") == wanted
