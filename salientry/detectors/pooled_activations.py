"""Baseline: an MLP on the classifier's own layer means."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from . import _mlp


@dataclass(frozen=True)
class PooledActivations:
    """The spatial mean of every channel of every layer of the classifier, in a small MLP: what its inside gives away, without a map.

    Attributes:
        width: hidden units.
        epochs: passes.
        lr: peak of the one-cycle rate.
        batch: images a step.
    """

    width: int = 32
    epochs: int = 20
    lr: float = 1e-2
    batch: int = 200
    needs = frozenset({"features"})
    group = "baseline"
    words = "activations"
    explained = "a small net on the classifier's inner layers"
    description = "the classifier's inner activations"
    reads, seeded, candidate = "activations", True, True
    build, fit = _mlp.build, _mlp.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, F), layer by layer."""
        return evidence.features
