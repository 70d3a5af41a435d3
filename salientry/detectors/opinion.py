"""Baseline: a second net's opinion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from ..evidence_set import Fittable
from . import _logistic
from ._fitted import Fitted


@dataclass(frozen=True)
class Opinion:
    """-log p of the predicted class by the saliency net's own encoder: an independent classifier that disagrees."""

    needs = frozenset({"second_net_logprobs", "predicted"})
    group = "baseline"
    description = "the second network's disagreement"
    reads, seeded, candidate = "the second net", False, True

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1)."""
        return -evidence.second_net_logprobs.gather(1, evidence.predicted[:, None])

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted baseline."""
        return _logistic.build(self, view, parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Slope and offset by logistic regression; the seed is not used."""
        return _logistic.fit(self, evidence.pairs(labels, self, *parts), parts)
