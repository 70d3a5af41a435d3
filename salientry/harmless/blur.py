"""A blur of three by three pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ._validation import check_settings, validated


@dataclass(frozen=True)
class Blur:
    """Each value becomes a weighted mean of itself and its eight neighbours; borders are mirrored (replicated where a side is 1 px).

    The default is the kernel [[1, 2, 1], [2, 12, 2], [1, 2, 1]] / 24; ``Blur(centre=1 / 9, corner=1)`` is the 3x3 box mean.

    Attributes:
        centre: weight of the value itself, 0 to 1; the neighbours share the rest. 1 leaves the image.
        corner: how much a neighbour at a corner weighs, where one at a side weighs 1.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    centre: float = 0.5
    corner: float = 0.5

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(centre=(self.centre, 0.0, 1.0), corner=(self.corner, 0.0, 1.0))

    @property
    def title(self) -> str:
        """In a sentence: ``a blur of 3x3 px that keeps 0.50 of each value``."""
        return f"a blur of 3x3 px that keeps {self.centre:.2f} of each value"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        if not x.numel():
            return x.clone()
        at = _neighbours(x)
        sides, corners = at[1] + at[3] + at[5] + at[7], at[0] + at[2] + at[6] + at[8]
        return self.centre * x + self._side * (sides + self.corner * corners)

    def taps(self, h: int, w: int) -> tuple[Tensor, Tensor]:
        """(H W, 9) which pixels each becomes a sum of, and their weights."""
        pixels = torch.arange(h * w, dtype=torch.float64).view(1, 1, h, w)
        side, corner = self._side, self._side * self.corner
        weights = torch.tensor([corner, side, corner, side, self.centre, side, corner, side, corner], dtype=torch.float64)
        return torch.stack(_neighbours(pixels)).flatten(1).T.to(torch.int64), weights.expand(h * w, -1)

    @property
    def _side(self) -> float:
        """Weight of a neighbour at a side."""
        return (1 - self.centre) / (4 + 4 * self.corner)


def _neighbours(x: Tensor) -> list[Tensor]:
    """The nine images (N, C, H, W) of each value's square of 3 x 3, row by row."""
    h, w = x.shape[2:]
    wide = F.pad(x, (1, 1, 0, 0), mode="reflect" if w > 1 else "replicate")
    wide = F.pad(wide, (0, 0, 1, 1), mode="reflect" if h > 1 else "replicate")
    return [wide[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)]
