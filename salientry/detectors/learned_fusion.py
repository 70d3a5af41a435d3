"""Fusion of the numbers that detectors look at, rather than of their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from . import _committee
from ._fitted import Fitted
from .consistency import Consistency
from .top_logits import TopLogits


@dataclass(frozen=True)
class LearnedFusion:
    """Small networks on the numbers of several detectors together.

    Attributes:
        members: settings of detectors that look at numbers (N, D); what each looks at is put side by side.
        apart: likewise, for networks that are trained by themselves and whose score is added: where these are hundreds of numbers, those
            of the members are not drowned by them.
        weight: of their score.
        head: settings of the networks.

    Raises:
        UsageError: without members, or for one that does not look at numbers.
    """

    members: tuple[Any, ...] = (TopLogits(), Consistency())
    apart: tuple[Any, ...] = ()
    weight: float = 0.5
    head: _committee.Committee = _committee.Committee()
    group = "fusion"
    title = "learned fusion"
    reads, seeded, candidate = "numbers", True, False
    fit = _committee.fit

    def __post_init__(self) -> None:
        for name in ("members", "apart"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.members or any(not hasattr(m, "view") or m.group == "fusion" for m in self.each):
            raise UsageError(f"members are settings of detectors that look at numbers; found {self.each or 'none'}")

    @property
    def each(self) -> tuple[Any, ...]:
        """All members."""
        return (*self.members, *self.apart)

    @property
    def needs(self) -> frozenset[str]:
        """What its members need."""
        return _committee.BESIDE.union(*(m.needs for m in self.each))

    @property
    def description(self) -> str:
        """What its members look at."""
        return " and ".join(dict.fromkeys(m.description for m in self.each))

    def columns(self, evidence: Evidence) -> list[Tensor]:
        """(N, D) numbers of each member; of equal ones the same."""
        each, found = self.each, list[Tensor]()
        for i, member in enumerate(each):
            first = each.index(member)
            found.append(found[first] if first < i else member.view(evidence))
        return found

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, D), member by member."""
        return torch.cat(self.columns(evidence), 1)

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector.

        Args:
            view: columns of ``members``, and, where there are any, of ``apart``.
            parts: none.

        Raises:
            UsageError: for another number of numbers.
        """
        if len(view) != 1 + bool(self.apart):
            raise UsageError(f"columns of the members{' and of those apart' * bool(self.apart)} are expected; found {view}")
        return _committee.build(self, view, *parts)

    def widths(self, evidence: Evidence) -> tuple[int, ...]:
        """Columns of ``members``, and, where there are any, of ``apart``."""
        counts = [c.shape[1] for c in self.columns(evidence)]
        first = sum(counts[: len(self.members)])
        return (first, sum(counts) - first) if self.apart else (first,)
