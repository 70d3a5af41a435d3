"""Saliency-map detector."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ..evidence import Evidence
from . import _cnn


@dataclass(frozen=True)
class SMD:
    """SMD: the map alone, drawn for the predicted class (paper section 3.4, algorithm 3).

    Attributes:
        head: settings of the CNN.
    """

    head: _cnn.Head = field(default_factory=_cnn.SmallCNN)
    needs = frozenset({"map"})
    group = "saliency"
    explained = "a net that sees only {map}"
    description = "the saliency map"
    reads, seeded, candidate = "the map", True, True
    build, fit = _cnn.build, _cnn.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """The map (N, 1, H, W)."""
        return evidence.map
