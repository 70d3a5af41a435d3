"""Identity and randomness of an image: an id by its pixels, a seed by its id, uniforms by its seed."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .rows import Sliceable, slices

ATTACK_STREAM, CONTROL_STREAM = 1, 2  # stream numbers of the per-image randomness


def image_ids(images: Sliceable) -> NDArray[np.str_]:
    """(N,) ids: the first 16 hex digits of the sha256 of each image's uint8 pixels."""
    return np.array([hashlib.sha256(np.ascontiguousarray(i).tobytes()).hexdigest()[:16] for p in slices(images) for i in p], "<U16")


def image_seeds(ids: NDArray[np.str_], seed: int, stream: int) -> Tensor:
    """(N,) int64 seeds from run seed, image id and stream number, never from settings: two budgets of one attack start alike."""
    found = [hashlib.sha256(f"{seed}/{stream}/{i}".encode()).digest()[:8] for i in ids]
    return torch.tensor([int.from_bytes(b, "little", signed=True) for b in found], dtype=torch.int64)


def uniform(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniforms in [0, 1), (N, *shape) float32: row i depends on ``seeds[i]`` alone, in every batch and on every device.

    Counter-based: splitmix64 (Steele, Lea, Flood 2014) at seed + counter, upper 24 bits.
    """

    def right(v: Tensor, k: int) -> Tensor:  # logical, not arithmetic
        return (v >> k).bitwise_and_((1 << (64 - k)) - 1)

    n = math.prod(shape)
    z = seeds[:, None] + (torch.arange(n, device=seeds.device) + 1) * -7046029254386353131
    z.bitwise_xor_(right(z, 30)).mul_(-4658895280553007687)
    z.bitwise_xor_(right(z, 27)).mul_(-7723592293110705685)
    z.bitwise_xor_(right(z, 31))
    return right(z, 40).to(torch.float32).mul_(2.0**-24).reshape(len(seeds), *shape)  # 24 bits: exact
