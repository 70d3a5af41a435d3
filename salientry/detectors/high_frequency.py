"""Baseline: high-frequency energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _logistic
from ._fitted import Fitted
from ._high_pass import laplacian


@dataclass(frozen=True)
class HighFrequency:
    """Root mean square of the image's Laplacian, which perturbations raise and most natural images keep low."""

    needs: ClassVar[frozenset[str]] = frozenset()
    group = "baseline"
    description = "the high frequencies"
    reads, seeded, candidate = "pixel statistics", False, True

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1)."""
        return laplacian(evidence.image).flatten(1).square().mean(1, keepdim=True).sqrt()

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted baseline."""
        return _logistic.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Slope and offset by logistic regression; the seed is not used."""
        return _logistic.fit(self, evidence.pairs(labels, self, *parts), parts)
