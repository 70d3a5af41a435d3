"""Baseline: does the class selector believe in the class?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _logistic
from ._fitted import Fitted


@dataclass(frozen=True)
class Exists:
    """Minus the selector's log-odds that the predicted class is in the image: the saliency net without its decoder."""

    needs = frozenset({"class_presence"})
    group = "baseline"
    description = "the class selector's doubt"
    reads, seeded, candidate = "the second net", False, True

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1)."""
        return -evidence.class_presence[:, None]

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted baseline."""
        return _logistic.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Slope and offset by logistic regression; the seed is not used."""
        return _logistic.fit(self, evidence.pairs(labels, self, *parts), parts)
