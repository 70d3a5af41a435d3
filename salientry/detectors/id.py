"""Image detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from ..evidence import Evidence
from . import _cnn


@dataclass(frozen=True)
class ID:
    """ID: the pixels themselves (Gong, Wang, Ku 2017; the paper's baseline).

    Attributes:
        head: settings of the CNN.
    """

    head: _cnn.Head = field(default_factory=_cnn.SmallCNN)
    needs: ClassVar[frozenset[str]] = frozenset()
    group = "image"
    explained = "a net that sees the image"
    description = "the pixels"
    reads, seeded, candidate = "the image", True, False
    build, fit = _cnn.build, _cnn.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """The image (N, C, H, W)."""
        return evidence.image
