"""A brighter or a darker image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._validation import check_settings, validated


@dataclass(frozen=True)
class Brightness:
    """Every value times a factor, clipped to [0, 1].

    Attributes:
        factor: 0 to 10; above 1 is brighter, 1 leaves the image.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    factor: float = 1.1

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(factor=(self.factor, 0.0, 10.0))

    @property
    def title(self) -> str:
        """In a sentence: ``brightness times 1.1``."""
        return f"brightness times {self.factor:g}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        return x * self.factor
