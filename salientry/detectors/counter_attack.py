"""How long an attack takes to change the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..attacks._gradient import check_settings, loss_gradient
from ..errors import UsageError
from ..evidence import Evidence
from . import _asking, _logistic
from ._asking import answers
from .consistency import margin


@dataclass(frozen=True)
class CounterAttack:
    """Attack cost (Zhao, Chen, Wang, Song et al. 2021, ISSTA, "Attack as Defense"; Hu, Yu, Guo, Chao, Weinberger 2019, NeurIPS, criterion
    2): the steps that the basic iterative method (Kurakin, Goodfellow, Bengio 2017) needs to make the classifier change its answer.
    Images that were attacked need fewer.

    Departures: the method climbs the log-odds against the answer, which do not underflow where the classifier is sure, and has no
    budget; the number of steps is made continuous between the last two, where a straight line through the logits' gap is 0; a slope above 0
    and an offset, fitted to pairs, stand for the k nearest neighbours or z-scores of the first paper.

    Differentiable in the image along the path of signs that was taken; an image that keeps its answer for all steps has no gradient.
    Cost: one forward and one backward pass a step until the answer changes, and two forward passes.

    Attributes:
        steps: at most, at least 1.
        step_size: of each value, in [0, 1] units.

    Raises:
        UsageError: for a setting out of range; evidence without a classifier.
    """

    steps: int = 20
    step_size: float = 1 / 255
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "classifier"})
    group = "baseline"
    words = "counter-attack"
    description = "the steps of an attack on it"
    reads, seeded, candidate = "changed images", False, False
    build, fit = _logistic.build, _asking.fit

    def __post_init__(self) -> None:
        check_settings(steps=(self.steps, 1, 10_000), step_size=(self.step_size, 1e-6, 1))

    @property
    def passes(self) -> int:
        """Forward passes that take as long as judging an image does, where half of the steps are enough."""
        return 3 + 4 * -(-self.steps // 2)

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1) minus the steps, ``-steps`` to 0."""
        if evidence.classifier is None:
            raise UsageError("an attack needs a classifier, and none was given")
        x, y = evidence.image.detach(), evidence.predicted
        moved, before, taken = torch.zeros_like(x), torch.zeros_like(x), torch.full_like(x[:, 0, 0, 0], self.steps)
        active = torch.arange(len(x), device=x.device)
        for step in range(1, self.steps + 1):
            if not len(active):
                break
            before[active] = moved[active]
            towards = loss_gradient(evidence.classifier, (x + moved)[active].clamp(0, 1), y[active]).sign()
            moved[active] += self.step_size * towards
            with torch.no_grad():
                kept = margin(evidence.classifier((x + moved)[active].clamp(0, 1)), y[active][:, None])[:, 0] > 0
            taken[active[~kept]] = step
            active = active[kept]
        flipped = torch.ones_like(y, dtype=torch.bool)
        flipped[active] = False
        here, there = (margin(answers(evidence, (evidence.image + m).clamp(0, 1)), y[:, None])[:, 0] for m in (before, moved))
        share = here.clamp_min(0) / torch.where(flipped, here - there, 1).clamp_min(1e-12)
        return -torch.where(flipped, taken - 1 + share.clamp_max(1), taken)[:, None]
