"""What is left of an image without its smooth part."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..evidence import Evidence

PIECE = 8 * 3 * 32 * 32  # values of the images that are looked at together: their residuals stay in a processor's cache
FEW = 2**12  # values below which torch's own pooling is faster than a sum of shifted images


def laplacian(x: Tensor) -> Tensor:
    """(N, C, H, W): four times each value minus its four neighbours; the border is repeated."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return 4 * x - p[..., 1:-1, :-2] - p[..., 1:-1, 2:] - p[..., :-2, 1:-1] - p[..., 2:, 1:-1]


def in_pieces(evidence: Evidence, numbers: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(N, D) what a function gives of images and their Laplacian, a few at a time. The Laplacian is made once for all detectors that look
    at the same evidence.
    """
    x, residual = evidence.image, evidence.shared(laplacian)
    size = max(1, PIECE // max(1, math.prod(x.shape[1:])))
    if torch.compiler.is_exporting() or len(x) <= size:  # a graph for ONNX is of any number of images
        return numbers(x, residual)
    return torch.cat([numbers(a, b) for a, b in zip(torch.split(x, size), torch.split(residual, size), strict=True)])


def local_mean(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) means over squares of so many pixels (an odd number); the border is repeated. With many pixels and with few, values of a
    square are added in the same order, so that both agree to the bit. A graph for ONNX adds columns, then rows: the runtime's pooling takes
    time by the square's size.
    """
    wide = F.pad(x, (side // 2,) * 4, mode="replicate")
    if torch.compiler.is_exporting():
        return F.avg_pool2d(F.avg_pool2d(wide, (side, 1), 1), (1, side), 1)
    if x.requires_grad or x.numel() < FEW:
        return F.avg_pool2d(wide, side, 1)
    h, w = x.shape[2:]
    shifted = [wide[:, :, i : i + h, j : j + w] for i in range(side) for j in range(side)]
    total = shifted[0] + shifted[1]
    for other in shifted[2:]:
        total += other
    return total.div_(side * side)


def median(sizes: Tensor) -> Tensor:
    """(N, 1) the lower median of each row: torch's, by numpy's faster selection where no gradient goes through it."""
    if sizes.requires_grad or sizes.device.type != "cpu" or torch.compiler.is_exporting() or not sizes.numel():
        return sizes.median(1, keepdim=True).values
    middle = (sizes.shape[1] - 1) // 2
    return torch.from_numpy(np.partition(sizes.numpy(), middle, axis=1)[:, middle : middle + 1])
