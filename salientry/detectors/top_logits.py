"""Baseline: the largest logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..evidence import Evidence
from . import _committee


@dataclass(frozen=True)
class TopLogits:
    """The ten largest logits, the gap between the first two and the log-sum-exp of all: what the answer alone gives away, with the same
    number of columns for ten classes and for a thousand.

    Attributes:
        head: settings of the networks.
        count: logits; fewer where there are fewer classes.
    """

    head: _committee.Committee = _committee.Committee()
    count: int = 10
    needs = frozenset({"logits", *_committee.BESIDE})
    group = "baseline"
    words = "top logits"
    description = "the classifier's largest logits"
    reads, seeded, candidate = "logits", True, False
    build, fit = _committee.build, _committee.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, min(count, K) + 2)."""
        z = evidence.logits
        top = z.topk(min(self.count, z.shape[1]), dim=1).values
        gap = top[:, :1] - top[:, 1:2] if z.shape[1] > 1 else torch.zeros_like(top[:, :1])
        return torch.cat([top, gap, z.logsumexp(1, keepdim=True)], 1)
