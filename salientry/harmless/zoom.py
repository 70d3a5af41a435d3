"""An image drawn larger or smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._sampling import middle, sampled, taps
from ._validation import check_settings, validated


@dataclass(frozen=True)
class Zoom:
    """What the image shows, drawn larger or smaller about its centre in as many pixels, bilinear without antialiasing: a factor above
    1 crops, one below 1 shrinks, and what comes in is the image mirrored at its edges.

    Attributes:
        factor: 0.1 to 10; 1 leaves the image.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    factor: float = 1.1

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(factor=(self.factor, 0.1, 10.0))

    @property
    def title(self) -> str:
        """In a sentence: ``a zoom by 1.1``."""
        return f"a zoom by {self.factor:g}"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        return sampled(x, self, mirror=True)

    def places(self, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Where each pixel (``down``, ``right``), (H, W) each, is read."""
        h, w = middle(down)
        return (down - h) / self.factor + h, (right - w) / self.factor + w

    def taps(self, h: int, w: int) -> tuple[Tensor, Tensor]:
        """(H W, 4) which pixels each becomes a sum of, and their weights."""
        return taps(self, h, w, mirror=True)
