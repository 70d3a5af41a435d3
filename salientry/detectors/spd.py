"""Salient-pixel detector."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _cnn
from ._fitted import Fitted


@dataclass(frozen=True)
class SPD:
    """SPD: the map times the image, removed pixels black (paper section 3.4, algorithm 2).

    Attributes:
        head: settings of the CNN.
    """

    head: _cnn.SmallCNN = field(default_factory=_cnn.SmallCNN)
    needs = frozenset({"map"})
    group = "saliency"
    description = "the salient pixels"
    reads, seeded, candidate = "the map", True, True

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """Map times image (N, C, H, W)."""
        return evidence.map * evidence.image

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector for views of this shape."""
        return _cnn.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Build and train on pairs of views."""
        return _cnn.fit(self, evidence.pairs(labels, self, *parts), parts, seed)
