"""Baseline: the class selector's log-odds that the predicted class is in the image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from . import _logistic


@dataclass(frozen=True)
class ClassPresence:
    """Minus the selector's log-odds that the predicted class is in the image: the saliency net without its decoder."""

    needs = frozenset({"class_presence"})
    group = "baseline"
    words = "class presence"
    explained = "how unsure the saliency model is that the class is there"
    description = "the class selector's doubt"
    reads, seeded, candidate = "the second net", False, True
    build, fit = _logistic.build, _logistic.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1)."""
        return -evidence.class_presence[:, None]
