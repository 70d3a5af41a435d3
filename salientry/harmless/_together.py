"""Several changes of the same images at once, where each pixel becomes a weighted sum of a few others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import HarmlessChange
from ._sampling import LARGE
from ._validation import unchecked

PIECE = 16 * 3 * 32 * 32  # values of the images that are changed together: what is made of them stays in a processor's cache


def together(changes: Sequence[HarmlessChange], x: Tensor) -> list[Tensor]:
    """Images (N, C, H, W) in [0, 1] under each of :data:`~salientry.harmless.TRANSFORMS`, clipped to [0, 1].

    Those that only move or mix pixels (they have ``taps``) are one sum over a list of pixels and weights, up to rounding what each gives by
    itself; where a gradient goes through them, on a GPU, in a graph for ONNX and of very large images each is made by itself.
    """
    other = x.requires_grad or x.device.type != "cpu" or torch.compiler.is_exporting()
    alone = other or not x.numel() or x.shape[2] * x.shape[3] > LARGE
    mixing = [] if alone else [c for c in changes if hasattr(c, "taps")]
    mixed = _mixed(tuple(mixing), x).unbind() if mixing else ()
    of = {id(c): images for c, images in zip(mixing, mixed, strict=True)}
    return [of[id(c)] if id(c) in of else unchecked(c, x) for c in changes]


def _mixed(changes: tuple[Any, ...], x: Tensor) -> Tensor:
    """(T, N, C, H, W)."""
    n, c, h, w = x.shape
    x = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    at, weights, starts = _lists(changes, h, w, x.dtype)
    found = x.new_empty(len(changes), n, c, h, w)
    for images, out in zip(torch.split(x, (size := max(1, PIECE // (c * h * w)))), torch.split(found, size, 1), strict=True):
        pixels = images.permute(2, 3, 0, 1).reshape(h * w, -1).contiguous()  # a row each, of all images: with other strides it is slow
        summed = F.embedding_bag(at, pixels, starts, mode="sum", per_sample_weights=weights).clamp_(0, 1)
        out.copy_(summed.view(len(changes), h, w, len(images), c).permute(0, 3, 4, 1, 2))
    return found


@lru_cache(maxsize=8)
def _lists(changes: tuple[Any, ...], h: int, w: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the pixels that are summed, one new pixel after the other, their weights, and where each new pixel's begin. They are kept
    from call to call, so they are ordinary tensors in every mode.
    """
    with torch.inference_mode(False), torch.no_grad():
        at, weights, counts = list[Tensor](), list[Tensor](), list[Tensor]()
        for change in changes:
            places, shares = change.taps(h, w)
            used = shares != 0
            at, weights, counts = [*at, places[used]], [*weights, shares[used]], [*counts, used.sum(1)]
        ends = torch.cat(counts).cumsum(0)
        return torch.cat(at), torch.cat(weights).to(dtype), torch.cat([ends.new_zeros(1), ends[:-1]])
