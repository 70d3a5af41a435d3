"""Storage as WebP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._file import through_file
from ._validation import check_settings, validated


@dataclass(frozen=True)
class WebP:
    """The image rounded to 8 bits, written as lossy WebP and read back, by Pillow with its own settings. Grey images are stored as colour
    ones and read back as grey.

    Attributes:
        quality: 1 to 100.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions; images that have neither 1 nor 3 channels.
    """

    quality: int = 80

    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(quality=(self.quality, 1, 100))

    @property
    def title(self) -> str:
        """In a sentence: ``WebP of quality 80``."""
        return f"WebP of quality {self.quality}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) 8-bit images, in no graph; ``seeds`` are not used."""
        return through_file(x, "WEBP", self.quality)
