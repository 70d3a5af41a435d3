"""Baseline: an MLP on the sorted logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from . import _mlp


@dataclass(frozen=True)
class SortedLogits:
    """All logits, sorted, without their classes, in a small MLP: what the classifier's answer alone gives away.

    Attributes:
        width: hidden units.
        epochs: passes.
        lr: peak of the one-cycle rate.
        batch: images a step.
    """

    width: int = 32
    epochs: int = 20
    lr: float = 1e-2
    batch: int = 200
    needs = frozenset({"logits"})
    group = "baseline"
    words = "sorted logits"
    explained = "a small net on the classifier's outputs"
    description = "the classifier's logits"
    reads, seeded, candidate = "logits", True, True
    build, fit = _mlp.build, _mlp.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, K), largest first."""
        return evidence.logits.sort(1, descending=True).values
