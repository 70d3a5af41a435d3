"""Storage as JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import UsageError
from ._validation import check_settings, validated

MODES = {1: "L", 3: "RGB"}  # Pillow's, by the number of channels


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
        if x.shape[1] not in MODES:
            raise UsageError(f"JPEG holds images of 1 or 3 channels; found {x.shape[1]}")
        levels = (x.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        stored = [self._stored(image[..., 0] if x.shape[1] == 1 else image) for image in levels]
        if not stored:
            return torch.empty_like(x)
        return torch.from_numpy(np.stack(stored)).view(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2).contiguous().to(x) / 255

    def _stored(self, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """One image uint8 (H, W) or (H, W, 3), there and back."""
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(file, format="JPEG", quality=self.quality)
        with Image.open(file) as read:
            return np.array(read)
