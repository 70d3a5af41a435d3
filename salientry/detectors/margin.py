"""Baseline: the logit margin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _logistic
from ._fitted import Fitted


@dataclass(frozen=True)
class Margin:
    """Minus the gap between the two largest logits: an adversarial image that stops at the boundary has a small one. Its sign is
    fixed, so on confident adversarials it is worse than chance, and says so.
    """

    needs = frozenset({"logits"})
    group = "baseline"
    description = "the gap between the two best classes"
    reads, seeded, candidate = "logits", False, True

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1), second largest minus largest logit."""
        top = evidence.logits.topk(2, 1).values
        return top[:, 1:] - top[:, :1]

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted baseline."""
        return _logistic.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Slope and offset by logistic regression; the seed is not used."""
        return _logistic.fit(self, evidence.pairs(labels, self, *parts), parts)
