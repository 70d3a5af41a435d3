"""One of several changes, drawn for each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UsageError
from ..randomness import uniform
from ..types import HarmlessChange
from ._validation import check_settings, validated

DRAW = 0x4F6E654F66  # makes the seed of the draw another one than that of the changes' own draws


@dataclass(frozen=True)
class OneOf:
    """Each image gets one of the changes: which one is drawn from its seed and moved on by ``turn``, so that over as many turns as
    there are changes each image gets each of them once. Images of one change are changed together.

    Attributes:
        changes: of this package or your own, at least one.
        turn: 0 or more.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    changes: tuple[HarmlessChange, ...]
    turn: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.changes, tuple) or not self.changes:
            raise UsageError(f"changes must be a tuple of at least one harmless change; found {self.changes!r}")
        for change in self.changes:
            if not isinstance(change, HarmlessChange) or isinstance(change, type):
                raise UsageError(f"a harmless change is called with images and seeds, and has a title; found {change!r}")
        check_settings(turn=(self.turn, 0, 2**31))

    @property
    def differentiable(self) -> bool:
        """Whether all of them are."""
        return all(change.differentiable for change in self.changes)

    @property
    def title(self) -> str:
        """In a sentence: ``one of these: a gamma of 1.15; a zoom by 1.1``."""
        return f"one of these: {'; '.join(change.title for change in self.changes)}"

    def drawn(self, seeds: Tensor) -> Tensor:
        """(N,) int64: the number of the change that each image gets, from ``seeds`` int64 (N,)."""
        count = len(self.changes)
        return ((uniform(seeds ^ DRAW, (1,))[:, 0].double() * count).long() + self.turn) % count

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W)."""
        which, rows, made = self.drawn(seeds), [], []
        for number, change in enumerate(self.changes):
            at = (which == number).nonzero()[:, 0]
            if len(at):
                rows.append(at)
                made.append(change(x[at], seeds=seeds[at]))
        return torch.cat(made)[torch.cat(rows).argsort()] if made else x.clone()
