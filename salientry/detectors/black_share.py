"""Baseline: how many pixels are exactly black?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _logistic
from ._fitted import Fitted


@dataclass(frozen=True)
class BlackShare:
    """The share of values that are not exactly 0. On digits, whose background is black, nearly every attack leaves 0: a detector
    that is not better than this one has learnt to see dirt.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    group = "baseline"
    description = "the share of pixels that are not black"
    reads, seeded, candidate = "pixel statistics", False, True

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1), share of non-black values."""
        return (evidence.image > 0).to(evidence.image.dtype).flatten(1).mean(1, keepdim=True)

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted baseline."""
        return _logistic.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Slope and offset by logistic regression; the seed is not used."""
        return _logistic.fit(self, evidence.pairs(labels, self, *parts), parts)
