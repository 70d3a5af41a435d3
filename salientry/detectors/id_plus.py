"""The image detector, given a fair chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..evidence import Evidence
from . import _cnn
from ._high_pass import laplacian


@dataclass(frozen=True)
class IDPlus:
    """ID+: the image without its smooth part, in a CNN whose first layer keeps the full resolution, trained on pairs.

    Not from the paper. Its image detector, trained the ordinary way, stays at chance on small perturbations for want of
    optimisation, not of information; a comparison with a baseline that did not train says nothing. This is that baseline,
    trained: one fixed recipe.

    Attributes:
        head: settings of the CNN.
    """

    head: _cnn.Head = _cnn.FULL_RESOLUTION
    needs: ClassVar[frozenset[str]] = frozenset()
    group = "image"
    title = "ID+"
    explained = "a net that sees the image's fine structure"
    description = "the pixels' fine structure"
    reads, seeded, candidate = "the image", True, True
    build, fit = _cnn.build, _cnn.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """The image's Laplacian (N, C, H, W)."""
        return laplacian(evidence.image)
