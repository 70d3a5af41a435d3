"""Images through a file format that loses a little, in memory."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import UsageError
from ..inputs import as_uint8


def through_file(x: Tensor, kind: str, quality: int) -> Tensor:
    """(N, C, H, W) images in [0, 1], rounded to 8 bits, written by Pillow with its own settings and read back.

    Args:
        x: of 1 or 3 channels.
        kind: ``JPEG`` or ``WEBP``.
        quality: on the format's own scale.

    Raises:
        UsageError: for another number of channels.
    """
    if x.shape[1] not in (1, 3):
        raise UsageError(f"{kind} holds images of 1 or 3 channels; found {x.shape[1]}")
    if not len(x):
        return torch.empty_like(x)
    levels = as_uint8(x.detach()).permute(0, 2, 3, 1).cpu().numpy()
    stored = torch.from_numpy(np.stack([_stored(image, kind, quality) for image in levels]))
    return stored[..., : x.shape[1]].permute(0, 3, 1, 2).contiguous().to(x) / 255


def _stored(image: NDArray[np.uint8], kind: str, quality: int) -> NDArray[np.uint8]:
    """One image uint8 (H, W, C), there and back."""
    file, grey = io.BytesIO(), image.shape[2] == 1
    Image.fromarray(np.ascontiguousarray(image[..., 0] if grey else image)).save(file, format=kind, quality=quality)
    with Image.open(file) as read:
        return np.array(read.convert("L") if grey else read.convert("RGB")).reshape(image.shape)
