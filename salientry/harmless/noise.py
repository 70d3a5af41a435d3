"""Noise of a fixed size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..errors import UsageError
from ..randomness import uniform
from ._validation import check_settings, in_levels, validated

KINDS = {"sign": "sign noise", "gaussian": "Gaussian noise", "uniform": "uniform noise"}
PATTERN = 0  # the seed of a fixed pattern


@dataclass(frozen=True)
class Noise:
    """Noise that is added to every value of the image, clipped to [0, 1].

    Attributes:
        size: in [0, 1] units. Of ``"sign"`` each value moves by so much up or down, of ``"uniform"`` by at most so much, of
            ``"gaussian"`` it is the standard deviation before clipping.
        kind: ``"sign"``, ``"gaussian"`` or ``"uniform"``.
        fixed: one pattern for all images of a shape, the same at every call, whatever the seeds.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    size: float = 8 / 255
    kind: Literal["sign", "gaussian", "uniform"] = "sign"
    fixed: bool = False

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(size=(self.size, 0.0, 1.0))
        if self.kind not in KINDS:
            raise UsageError(f"noise is {', '.join(map(repr, KINDS))}; found {self.kind!r}")
        if not isinstance(self.fixed, bool):
            raise UsageError(f"fixed must be True or False; found {self.fixed!r}")

    @property
    def title(self) -> str:
        """In a sentence: ``sign noise of 8/255``."""
        return f"{'a fixed pattern of ' if self.fixed else ''}{KINDS[self.kind]} of {in_levels(self.size)}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); each image's noise from its own seed. Gaussian draws are Box and Muller's (1958)."""
        if self.fixed:
            seeds = torch.tensor([PATTERN], device=seeds.device)
        draws = uniform(seeds, (2 if self.kind == "gaussian" else 1, *x.shape[1:])).to(device=x.device, dtype=x.dtype)
        if self.kind == "sign":
            noise = torch.where(draws[:, 0] < 0.5, -1.0, 1.0).to(x.dtype)
        elif self.kind == "uniform":
            noise = 2 * draws[:, 0] - 1
        else:
            noise = (-2 * (1 - draws[:, 0]).log()).sqrt() * (2 * math.pi * draws[:, 1]).cos()
        return x + self.size * noise
