"""Rotations and shifts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..randomness import uniform
from ._apgd import AGAIN
from ._gradient import PLACE, check_settings, log_odds_against, noted
from ._validation import validated

GRID = (5, 5, 31)  # shifts down, shifts to the right and turns of the published grid


@dataclass(frozen=True)
class Spatial:
    """The worst of some rotations with shifts (Engstrom, Tran, Tsipras, Schmidt, Madry 2019, section 3): random ones, or a grid of 775.

    Bilinear; what comes in from outside is black. Worst is what has left the label with the largest log-odds against it, else the largest
    log-odds alone; the image itself is among those tried. It reads logits and no gradient, and has no budget in a norm.

    Cost: ``queries`` + 1 forward passes an image, 776 with ``grid``.

    Attributes:
        turn: degrees at most, either way.
        shift: pixels at most, in each direction.
        queries: random transforms that are tried, from the image's own seed.
        grid: try 31 turns by 5 by 5 shifts in their place.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    turn: float = 30.0
    shift: float = 3.0
    queries: int = 10
    grid: bool = False

    eps = None  # no bound in a norm
    must_fool: ClassVar[bool] = False  # a net that learnt to be turned stands it

    def __post_init__(self) -> None:
        check_settings(turn=(self.turn, 0, 180), shift=(self.shift, 0, 10_000), queries=(self.queries, 1, 10_000_000))

    @property
    def title(self) -> str:
        """As it stands in a table: ``rotation and shift``, other settings in brackets."""
        kind = type(self)
        size = f"{self.turn:g} degrees, {self.shift:g} px" if (self.turn, self.shift) != (kind.turn, kind.shift) else ""
        tried = "grid" if self.grid else f"{self.queries} tried" if self.queries != kind.queries else ""
        return noted("rotation and shift", size, tried)

    @property
    def passes(self) -> float:
        """What an image takes: forward passes, a third of the cost."""
        return (776 if self.grid else self.queries + 1) / 3

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the transforms."""
        out, worst = x.clone(), self._rank(classifier(x), y)
        for by in self._parameters(seeds, x):
            tried = moved(x, by)
            rank = self._rank(classifier(tried), y)
            better = rank > worst
            out, worst = torch.where(better.view(-1, 1, 1, 1), tried, out), torch.where(better, rank, worst)
        return out

    def _rank(self, z: Tensor, y: Tensor) -> Tensor:
        """(N,) log-odds against the label; who has left it is above all who have not."""
        odds = log_odds_against(z, y)
        return odds.atan() + math.pi * (z.argmax(1) != y)

    def _parameters(self, seeds: Tensor, x: Tensor) -> Iterator[Tensor]:
        """(N, 3) pixels down, pixels to the right and radians of each transform that is tried."""
        most = x.new_tensor([self.shift, self.shift, math.radians(self.turn)])
        if self.grid:
            yield from (x.new_tensor(_places()) * most)[:, None].expand(-1, len(x), 3)
            return
        for k in range(self.queries):
            yield (2 * uniform(seeds + PLACE + AGAIN * k, (3,)).to(x.dtype) - 1) * most


def _places() -> list[list[float]]:
    """The grid's transforms: pixels down, pixels to the right and the turn, each from -1 to 1."""
    ks = range(math.prod(GRID))
    each = ((k % GRID[0], k // GRID[0] % GRID[1], k // (GRID[0] * GRID[1])) for k in ks)
    return [[2 * i / (n - 1) - 1 for i, n in zip(at, GRID, strict=True)] for at in each]


def moved(x: Tensor, by: Tensor) -> Tensor:
    """(N, C, H, W) images, each turned about its middle and then shifted by its row of ``by`` (N, 3): down, right, radians."""
    if not len(x):
        return x.clone()
    h, w = x.shape[2:]
    down, right, turn = by.T
    cos, sin = turn.cos(), turn.sin()
    # where each pixel of the result is read: shifted back, then turned back; in halves of the image's sides
    back_right, back_down = -(cos * right + sin * down), sin * right - cos * down
    rows = torch.stack([cos, sin * h / w, 2 * back_right / w, -sin * w / h, cos, 2 * back_down / h], 1).view(-1, 2, 3)
    places = F.affine_grid(rows, list(x.shape), align_corners=False)
    return F.grid_sample(x, places, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)
