"""Baseline: the logit margin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from . import _logistic


@dataclass(frozen=True)
class Margin:
    """Minus the gap between the two largest logits: an adversarial image that stops at the boundary has a small one. Its sign is
    fixed, so on confident adversarials it is worse than chance, and says so.
    """

    needs = frozenset({"logits"})
    group = "baseline"
    words = "linear margin"
    explained = "how far the classifier's two best classes lie apart"
    description = "the gap between the two best classes"
    reads, seeded, candidate = "logits", False, True
    build, fit = _logistic.build, _logistic.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1), second largest minus largest logit."""
        top = evidence.logits.topk(2, 1).values
        return top[:, 1:] - top[:, :1]
