"""Saliency-map detector."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _cnn
from ._fitted import Fitted


@dataclass(frozen=True)
class SMD:
    """SMD: the map alone, drawn for the predicted class (paper section 3.4, algorithm 3).

    Attributes:
        head: settings of the CNN.
    """

    head: _cnn.SmallCNN = field(default_factory=_cnn.SmallCNN)
    needs = frozenset({"map"})
    group = "saliency"
    description = "the saliency map"
    reads, seeded, candidate = "the map", True, True

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """The map (N, 1, H, W)."""
        return evidence.map

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector for views of this shape."""
        return _cnn.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Build and train on pairs of views."""
        return _cnn.fit(self, evidence.pairs(labels, self, *parts), parts, seed)
