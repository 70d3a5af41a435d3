"""An image moved by some pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._sampling import sampled, taps
from ._validation import check_settings, validated


@dataclass(frozen=True)
class Shift:
    """The image moved down and right; what comes in repeats the border's pixels. Parts of pixels are bilinear.

    Attributes:
        down: pixels, -1000 to 1000; negative is up.
        right: pixels, -1000 to 1000; negative is left.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    down: float = 2
    right: float = 0

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(down=(self.down, -1000.0, 1000.0), right=(self.right, -1000.0, 1000.0))

    @property
    def title(self) -> str:
        """In a sentence: ``a shift by 2 px down and 0.5 px left``."""
        moves = ((self.down, "down", "up"), (self.right, "right", "left"))
        words = [f"{abs(by):g} px {ahead if by > 0 else back}" for by, ahead, back in moves if by]
        return f"a shift by {' and '.join(words) or '0 px'}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        return sampled(x, self, mirror=False)

    def places(self, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Where each pixel (``down``, ``right``), (H, W) each, is read."""
        return down - self.down, right - self.right

    def taps(self, h: int, w: int) -> tuple[Tensor, Tensor]:
        """(H W, 4) which pixels each becomes a sum of, and their weights."""
        return taps(self, h, w, mirror=False)
