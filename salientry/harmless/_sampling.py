"""Images read between their pixels, at places that are the same for all of them."""

from __future__ import annotations

import torch
from torch import Tensor


def sampled(x: Tensor, down: Tensor, right: Tensor, *, mirror: bool) -> Tensor:
    """(N, C, h, w) images ``x`` (N, C, H, W) read at (``down``, ``right``), each float64 (h, w), in pixels from the first pixel's centre.

    Bilinear, with weights from float64. Outside: the border's pixels, or with ``mirror`` the image mirrored at its edges, the
    outermost pixels twice. It is linear in ``x`` and can be differentiated twice, which ``grid_sample`` cannot; each image is
    computed by itself to the bit.
    """
    (top, bottom, low), (left, end, side) = (_neighbours(at, n, mirror) for at, n in zip((down, right), x.shape[2:], strict=True))
    flat, w = x.flatten(2), x.shape[3]

    def read(rows: Tensor, columns: Tensor) -> Tensor:
        at = (rows * w + columns).flatten()
        return flat.gather(2, at.expand(*x.shape[:2], -1)).view(*x.shape[:2], *down.shape)

    low, side = low.to(x.dtype), side.to(x.dtype)
    upper = read(top, left) * (1 - side) + read(top, end) * side
    lower = read(bottom, left) * (1 - side) + read(bottom, end) * side
    return upper * (1 - low) + lower * low


def _neighbours(at: Tensor, n: int, mirror: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The pixel before and the pixel behind each place along a side of ``n`` pixels, and the weight of the latter, in [0, 1)."""
    first = at.floor()
    before, behind = first.to(torch.int64), first.to(torch.int64) + 1
    return _inside(before, n, mirror), _inside(behind, n, mirror), at - first


def _inside(at: Tensor, n: int, mirror: bool) -> Tensor:
    """Pixel numbers of an endless row as those of the ``n`` that there are."""
    if not mirror:
        return at.clamp(0, n - 1)
    at = at % (2 * n)
    return torch.minimum(at, 2 * n - 1 - at)


def pixels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel of the images (N, C, H, W), float64 (H, W) each."""
    rows, columns = (torch.arange(n, dtype=torch.float64, device=x.device) for n in x.shape[2:])
    down, right = torch.meshgrid(rows, columns, indexing="ij")
    return down, right
