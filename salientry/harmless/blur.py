"""A blur of three by three pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
        h, w = x.shape[2:]
        wide = F.pad(x, (1, 1, 0, 0), mode="reflect" if w > 1 else "replicate")
        wide = F.pad(wide, (0, 0, 1, 1), mode="reflect" if h > 1 else "replicate")
        at = [[wide[:, :, i : i + h, j : j + w] for j in range(3)] for i in range(3)]
        sides, corners = at[0][1] + at[1][0] + at[1][2] + at[2][1], at[0][0] + at[0][2] + at[2][0] + at[2][2]
        side = (1 - self.centre) / (4 + 4 * self.corner)
        return self.centre * x + side * (sides + self.corner * corners)
