"""Salient-pixel detector."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from ..evidence import Evidence
from . import _cnn


@dataclass(frozen=True)
class SPD:
    """SPD: the map times the image, removed pixels black (paper section 3.4, algorithm 2).

    Attributes:
        head: settings of the CNN.
    """

    head: _cnn.Head = field(default_factory=_cnn.SmallCNN)
    needs = frozenset({"map"})
    group = "saliency"
    explained = "a net that sees the image weighted by {map}"
    description = "the salient pixels"
    reads, seeded, candidate = "the map", True, True
    build, fit = _cnn.build, _cnn.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """Map times image (N, C, H, W)."""
        return evidence.map * evidence.image
