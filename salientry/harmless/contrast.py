"""More or less contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._validation import check_settings, validated


@dataclass(frozen=True)
class Contrast:
    """Every value's distance from the mean of its image (over all channels) times a factor, clipped to [0, 1].

    Attributes:
        factor: 0 to 10; below 1 is less contrast, 1 leaves the image.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    factor: float = 0.8

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(factor=(self.factor, 0.0, 10.0))

    @property
    def title(self) -> str:
        """In a sentence: ``contrast times 0.8``."""
        return f"contrast times {self.factor:g}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        mean = x.flatten(1).mean(1).view(-1, 1, 1, 1)
        return mean + self.factor * (x - mean)
