"""Fusion of fitted detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _logistic
from ._fitted import Fitted


@dataclass(frozen=True)
class Fused:
    """A logistic combination of the scores of fitted detectors, its parts. A slope is never below .001: a member that is turned
    round to fit the select images would be another detector. Revision 2: the best slopes within that bound; the first one left a
    slope that once went below it there for good.
    """

    REVISION = 2
    needs: ClassVar[frozenset[str]] = frozenset()
    group = "fusion"
    title = "fusion"
    explained = "the scores of all detectors combined"
    description = "all detectors together"
    reads, seeded, candidate = "scores", False, False

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, D) scores of the D parts."""
        return torch.stack([part(evidence) for part in parts], 1)

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted fusion of these parts.

        Raises:
            UsageError: without parts.
        """
        if not parts or len(parts) != view[0]:
            raise UsageError(f"a fusion of {view[0]} scores needs as many fitted detectors; found {len(parts)}")
        return _logistic.build(self, view, *parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Slopes and offset by logistic regression within the slopes' bound; the seed is not used."""
        return _logistic.fit(self, evidence, labels, *parts, seed=seed, bounded=True)
