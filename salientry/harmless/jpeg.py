"""Storage as JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._file import through_file
from ._validation import check_settings, validated


@dataclass(frozen=True)
class JPEG:
    """The image rounded to 8 bits, written as JPEG and read back, by Pillow with its own settings: of colour images the two colour
    channels are stored at half the size. Bytes may differ between versions of libjpeg by a grey level.

    Attributes:
        quality: 1 to 95, libjpeg's scale.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions; images that have neither 1 nor 3 channels.
    """

    quality: int = 75

    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(quality=(self.quality, 1, 95))

    @property
    def title(self) -> str:
        """In a sentence: ``JPEG of quality 75``."""
        return f"JPEG of quality {self.quality}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) 8-bit images, in no graph; ``seeds`` are not used."""
        return through_file(x, "JPEG", self.quality)
