"""An image turned by some degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ._sampling import middle, sampled, taps
from ._validation import check_settings, validated


@dataclass(frozen=True)
class Rotation:
    """The image turned about its centre, bilinear; what comes in at the corners is the image mirrored at its edges.

    Attributes:
        degrees: -180 to 180; positive is counter-clockwise.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    degrees: float = 6

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(degrees=(self.degrees, -180.0, 180.0))

    @property
    def title(self) -> str:
        """In a sentence: ``a rotation by 6 degrees clockwise``."""
        return f"a rotation by {abs(self.degrees):g} degrees {'counter-' if self.degrees > 0 else ''}clockwise"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        return sampled(x, self, mirror=True)

    def places(self, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Where each pixel (``down``, ``right``), (H, W) each, is read."""
        h, w = middle(down)
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        down, right = down - h, right - w
        return cos * down + sin * right + h, cos * right - sin * down + w

    def taps(self, h: int, w: int) -> tuple[Tensor, Tensor]:
        """(H W, 4) which pixels each becomes a sum of, and their weights."""
        return taps(self, h, w, mirror=True)
