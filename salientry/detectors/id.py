"""Image detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _cnn
from ._fitted import Fitted


@dataclass(frozen=True)
class ID:
    """ID: the pixels themselves (Gong, Wang, Ku 2017; the paper's baseline).

    Attributes:
        head: settings of the CNN.
    """

    head: _cnn.SmallCNN = field(default_factory=_cnn.SmallCNN)
    needs: ClassVar[frozenset[str]] = frozenset()
    group = "image"
    description = "the pixels"
    reads, seeded, candidate = "the image", True, False

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """The image (N, C, H, W)."""
        return evidence.image

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector for views of this shape."""
        return _cnn.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Build and train on pairs of views."""
        return _cnn.fit(self, evidence.pairs(labels, self, *parts), parts, seed)
