"""A smaller copy of the image, brought back to its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from ._validation import check_settings, validated


@dataclass(frozen=True)
class Resized:
    """Bilinear and antialiased down to a share of the height and width (at least 1 px each), and bilinear back to the first size.

    Attributes:
        scale: the share, above 0 and at most 1; 1 leaves the image.

    Raises:
        UsageError: for settings out of range; images or seeds outside the conventions.
    """

    scale: float = 0.8

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(scale=(self.scale, 0.001, 1.0))

    @property
    def title(self) -> str:
        """In a sentence: ``a resizing to 0.8 of the size and back``."""
        return f"a resizing to {self.scale:g} of the size and back"

    @validated
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); ``seeds`` are not used."""
        if not x.numel():
            return x.clone()
        full = (x.shape[2], x.shape[3])
        small = (max(1, round(self.scale * full[0])), max(1, round(self.scale * full[1])))
        if small == full:
            return x
        x = F.interpolate(x, size=small, mode="bilinear", align_corners=False, antialias=True)
        return F.interpolate(x, size=full, mode="bilinear", align_corners=False)
