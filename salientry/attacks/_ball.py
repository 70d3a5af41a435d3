"""Where a perturbation of a given size may lie: the Linf or L2 ball about each image, inside [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..randomness import uniform
from ._gradient import START

Norm = Literal["linf", "l2"]
TINY = 1e-12  # a shorter vector is no direction


def length(v: Tensor) -> Tensor:
    """(N, 1, 1, 1) L2 norms of (N, C, H, W), at least ``TINY``."""
    norms: Tensor = v.flatten(1).norm(dim=1)
    return norms.clamp_min(TINY).view(-1, 1, 1, 1)


def size_of(v: Tensor, norm: Norm) -> Tensor:
    """(N,) norms of (N, C, H, W)."""
    sizes: Tensor = v.flatten(1).abs().amax(1) if norm == "linf" else v.flatten(1).norm(dim=1)
    return sizes


def normal(seeds: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """(N, *shape) normal draws, from each image's own seed."""
    return torch.erfinv(2 * uniform(seeds, shape).double() - 1 + 2.0**-24).to(like.dtype) * 2**0.5


@dataclass(frozen=True)
class Ball:
    """A ball of one radius about each image, in [0, 1].

    Attributes:
        norm: ``linf`` or ``l2``.
        radius: in [0, 1] units.
    """

    norm: Norm
    radius: float

    def projected(self, x: Tensor, here: Tensor) -> Tensor:
        """(N, C, H, W) ``here`` on the ball about ``x``, then clipped to [0, 1], which leaves no ball whose centre lies there."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(here, (x - self.radius).clamp_min(0)), (x + self.radius).clamp_max(1))
        moved = here - x
        return (x + moved * (self.radius / length(moved)).clamp(max=1)).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """(N, C, H, W) of norm 1: where a linear function of this gradient grows most."""
        return gradient.sign() if self.norm == "linf" else gradient / length(gradient)

    def random(self, x: Tensor, seeds: Tensor) -> Tensor:
        """(N, C, H, W) from each image's own seed: uniform in the Linf ball, or on the L2 sphere; clipped to [0, 1]."""
        shape = tuple(x.shape[1:])
        if self.norm == "linf":
            return self.projected(x, x + self.radius * (2 * uniform(seeds + START, shape).to(x.dtype) - 1))
        way = normal(seeds + START, shape, x)
        return (x + self.radius * way / length(way)).clamp(0, 1)
