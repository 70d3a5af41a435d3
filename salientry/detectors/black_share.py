"""Baseline: how many pixels are exactly black?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..evidence import Evidence
from . import _logistic


@dataclass(frozen=True)
class BlackShare:
    """The share of values that are not exactly 0. On digits, whose background is black, nearly every attack leaves 0: a detector
    that is not better than this one has learnt to see dirt.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    group = "baseline"
    words = "black pixels"
    explained = "the share of black pixels"
    description = "the share of pixels that are not black"
    reads, seeded, candidate = "pixel statistics", False, True
    build, fit = _logistic.build, _logistic.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1), share of non-black values."""
        return (evidence.image > 0).to(evidence.image.dtype).flatten(1).mean(1, keepdim=True)
