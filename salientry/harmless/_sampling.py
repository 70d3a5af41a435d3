"""Images read between their pixels, at places that are the same for all of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

LARGE = 2**17  # pixels: of larger images the places are made anew each time


class Moving(Protocol):
    """A frozen dataclass that says where each pixel is read; of equal ones the places are the same."""

    def __hash__(self) -> int: ...
    def places(self, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]: ...


def sampled(x: Tensor, change: Moving, *, mirror: bool) -> Tensor:
    """(N, C, H, W) images ``x`` (N, C, H, W) read at ``change.places(down, right)``, both float64 (H, W), in pixels from the first
    pixel's centre.

    Bilinear, with weights from float64. Outside: the border's pixels, or with ``mirror`` the image mirrored at its edges, the
    outermost pixels twice. It is linear in ``x`` and can be differentiated twice, which ``grid_sample`` cannot; each image is
    computed by itself to the bit.
    """
    kept = x.shape[2] * x.shape[3] <= LARGE and not torch.compiler.is_exporting()  # what is made while a graph is traced is no tensor
    look = _table if kept else _table.__wrapped__
    at, low, side = look(change, mirror, x.shape[2], x.shape[3], x.device, x.dtype)
    flat = x.flatten(2)
    corners = [flat.gather(2, i.expand(*x.shape[:2], -1)).view(x.shape) for i in at]  # much faster than index_select here
    upper = corners[0] * (1 - side) + corners[1] * side
    lower = corners[2] * (1 - side) + corners[3] * side
    return upper * (1 - low) + lower * low


def taps(change: Moving, h: int, w: int, *, mirror: bool) -> tuple[Tensor, Tensor]:
    """(H W, 4) numbers of the four pixels around each place, and their weights, float64."""
    at, low, side = _table.__wrapped__(change, mirror, h, w, torch.device("cpu"), torch.float64)
    upper, lower = torch.stack([1 - side, side]) * (1 - low), torch.stack([1 - side, side]) * low
    return at.T, torch.cat([upper, lower]).flatten(1).T


@lru_cache(maxsize=32)
def _table(change: Moving, mirror: bool, h: int, w: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers (4, H W) of the four pixels around each place, row by row of the image, and the weights (H, W) of the lower two and of
    the right two. They are kept from call to call, so they are ordinary tensors in every mode.
    """
    with torch.inference_mode(False), torch.no_grad():
        rows, columns = (torch.arange(n, dtype=torch.float64, device=device) for n in (h, w))
        down, right = change.places(*torch.meshgrid(rows, columns, indexing="ij"))
        (top, bottom, low), (left, end, side) = _neighbours(down, h, mirror), _neighbours(right, w, mirror)
        at = torch.stack([top * w + left, top * w + end, bottom * w + left, bottom * w + end]).flatten(1)
        return at, low.to(dtype), side.to(dtype)


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


def middle(down: Tensor) -> tuple[float, float]:
    """The centre of an image of as many pixels (H, W), in pixels from the first one's centre."""
    return (down.shape[0] - 1) / 2, (down.shape[1] - 1) / 2
