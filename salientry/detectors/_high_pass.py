"""What is left of an image without its smooth part."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def laplacian(x: Tensor) -> Tensor:
    """(N, C, H, W): four times each value minus its four neighbours; the border is repeated."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return 4 * x - p[..., 1:-1, :-2] - p[..., 1:-1, 2:] - p[..., :-2, 1:-1] - p[..., 2:, 1:-1]
