"""Baseline: the largest probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..attacks._gradient import log_odds_against
from ..evidence import Evidence
from . import _logistic


@dataclass(frozen=True)
class MSP:
    """Maximum softmax probability (Hendrycks, Gimpel 2017, ICLR): an image is suspicious where the classifier is not sure.

    Departures: the log-odds ln((1 - p) / p) of the largest probability p stand for p itself. They rise as p falls, so that no image
    changes its place among others and every detection rate is the paper's, but do not round to one number where p is nearly 1; and a
    slope above 0 and an offset, fitted to pairs, give the score a 0.

    Differentiable in the image. Cost: nothing but the classifier's own pass.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    group = "baseline"
    description = "the largest probability"
    reads, seeded, candidate = "logits", False, False
    build, fit = _logistic.build, _logistic.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1) log-odds that the answer is wrong."""
        return log_odds_against(evidence.logits, evidence.predicted)[:, None]
