"""Baseline: a second network's log-probability of the predicted class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..evidence import Evidence
from . import _logistic


@dataclass(frozen=True)
class SecondNet:
    """-log p of the predicted class by the saliency net's own encoder: an independent classifier that disagrees.

    So is PID (Han, Lin, Zhao, Wang et al. 2025), prediction inconsistency with an auxiliary model of another architecture or training,
    but that a slope and an offset, fitted to pairs, give it a 0.
    """

    needs = frozenset({"second_net_logprobs", "predicted"})
    group = "baseline"
    words = "second net"
    explained = "whether a second net calls the image something else"
    description = "the second network's disagreement"
    reads, seeded, candidate = "the second net", False, True
    build, fit = _logistic.build, _logistic.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1)."""
        return -evidence.second_net_logprobs.gather(1, evidence.predicted[:, None])
