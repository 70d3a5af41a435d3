"""Another gamma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ._validation import check_settings, validated

DARKEST = 1e-12  # values below it have the power of this one, that the slope stays finite under an exponent below 1


@dataclass(frozen=True)
class Gamma:
    """Every value to a power; black stays black, where the gradient is taken as 0.

    Attributes:
        exponent: 0.1 to 10; above 1 is darker, 1 leaves the image.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    exponent: float = 1.15

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(exponent=(self.exponent, 0.1, 10.0))

    @property
    def title(self) -> str:
        """In a sentence: ``a gamma of 1.15``."""
        return f"a gamma of {self.exponent:g}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        return torch.where(x > 0, x.clamp_min(DARKEST) ** self.exponent, 0.0)
