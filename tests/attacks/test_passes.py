"""What an attack says of its cost, against passes that are counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from salientry.attacks import (
    APGD,
    APGDL2,
    BIM,
    DDN,
    FAB,
    FGSM,
    FMN,
    JSMA,
    MIM,
    PGD,
    PGDL2,
    CarliniWagner,
    DeepFool,
    HopSkipJumpL2,
    Mixture,
    Patch,
    Spatial,
    Square,
    SquareL2,
    Transfer,
)
from salientry.attacks._cost import passes_of

N = 6
TO_THE_END = [  # attacks that use all their steps
    FGSM(),
    BIM(steps=7),
    MIM(steps=7),
    PGD(steps=7),
    PGDL2(steps=7),
    DDN(steps=7),
    FMN(steps=7),
    Patch(steps=7),
    CarliniWagner(search_steps=2, steps=10, abort_early=False),
    Mixture((BIM(steps=7), PGD(steps=7))),
]
AT_MOST = [  # attacks whose images are done earlier, or that make no backward passes
    APGD(steps=7),
    APGD(steps=7, loss="targeted", restarts=1),
    APGDL2(steps=7),
    CarliniWagner(search_steps=2, steps=10),
    DeepFool(candidates=4),
    FAB(steps=7, candidates=3),
    HopSkipJumpL2(60),
    JSMA(),
    Spatial(),
    Square(queries=30),
    SquareL2(queries=30),
]


class Counted(nn.Module):
    """Four classes; counts the images that it sees, and that its copies see."""

    seen = 0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, x: torch.Tensor) -> Any:
        Counted.seen += len(x)
        return self.net(x)


def seen(attack: Any) -> float:
    """Forward passes of an image, on average."""
    net = Counted().eval()
    x = torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    y = net.net(x).argmax(1)
    Counted.seen = 0
    attack(net, x, y, seeds=torch.arange(N))
    return Counted.seen / N


@pytest.mark.parametrize("attack", TO_THE_END, ids=lambda a: type(a).__name__)
def test_an_attack_that_goes_to_the_end_takes_what_it_says(attack: Any) -> None:
    assert passes_of(attack) <= seen(attack) <= passes_of(attack) + 3


@pytest.mark.parametrize("attack", AT_MOST, ids=lambda a: type(a).__name__)
def test_no_attack_takes_many_times_what_it_says(attack: Any) -> None:
    assert seen(attack) <= 6 * passes_of(attack) + 6


def test_the_cost_of_attacks_that_stop_by_themselves_is_what_they_took() -> None:
    """In trials; and of others' attacks it is their steps."""
    assert (passes_of(CarliniWagner()), passes_of(DeepFool()), passes_of(JSMA())) == (600, 35, 200)
    assert passes_of(Transfer(DeepFool(), "another")) == 35

    class Own:
        steps = 12

    assert (passes_of(Own()), passes_of(object())) == (12, 1)
