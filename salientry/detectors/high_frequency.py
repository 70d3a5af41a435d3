"""Baseline: high-frequency energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..evidence import Evidence
from . import _logistic
from ._high_pass import laplacian


@dataclass(frozen=True)
class HighFrequency:
    """Root mean square of the image's Laplacian, which perturbations raise and most natural images keep low."""

    needs: ClassVar[frozenset[str]] = frozenset()
    group = "baseline"
    words = "fine structure"
    explained = "how much fine structure the image has"
    description = "the high frequencies"
    reads, seeded, candidate = "pixel statistics", False, True
    build, fit = _logistic.build, _logistic.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1)."""
        return laplacian(evidence.image).flatten(1).square().mean(1, keepdim=True).sqrt()
