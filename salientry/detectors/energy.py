"""Baseline: the free energy of the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from . import _logistic


@dataclass(frozen=True)
class Energy:
    """Free energy of the logits (Liu, Wang, Owens, Li 2020, NeurIPS): E(x) = -T ln sum_k exp(z_k / T), high for images unlike
    those of the training set.

    Departures: none in the energy; a slope above 0 and an offset, fitted to pairs, give it a 0. The paper's fine-tuning of the
    classifier is left out.

    Differentiable in the image. Cost: nothing but the classifier's own pass.

    Attributes:
        temperature: T, above 0; the paper's 1.

    Raises:
        UsageError: for a temperature that is not above 0.
    """

    temperature: float = 1.0
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    group = "baseline"
    words = "energy"
    description = "the energy of the logits"
    reads, seeded, candidate = "logits", False, False
    build, fit = _logistic.build, _logistic.fit

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"temperature is a number above 0; found {self.temperature!r}")

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1) energies."""
        return -self.temperature * (evidence.logits / self.temperature).logsumexp(1, keepdim=True)
