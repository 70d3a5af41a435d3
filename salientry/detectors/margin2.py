"""Baseline: the logit margin and its square."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from . import _logistic
from ._fitted import Fitted


@dataclass(frozen=True)
class Margin2:
    """Logistic regression on the margin and its square: too sure and too unsure both count. Mandatory beside every number: two
    numbers that need no saliency and no second net.
    """

    needs = frozenset({"logits"})
    group = "baseline"
    words = "logit margin"
    explained = "how far the classifier's two best classes lie apart, and the square of that"
    description = "the gap between the two best classes"
    reads, seeded, candidate = "logits", False, True
    fit = _logistic.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 2): margin and its square."""
        top = evidence.logits.topk(2, 1).values
        margin = top[:, :1] - top[:, 1:]
        return torch.cat([margin, margin.square()], 1)

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted baseline."""
        return _logistic.build(self, view, *parts, monotone=False)
