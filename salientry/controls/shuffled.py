"""The attack's own values at other pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..randomness import uniform
from ._validation import validated


@dataclass(frozen=True)
class Shuffled:
    """Each image's own perturbation with its pixels in a random order, all channels of a pixel together: as large, as sparse and of
    the same values as the attack, aimed at nothing. What leaves [0, 1] is clipped.
    """

    @validated
    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W); on the 8-bit grid if both images are."""
        n, c, h, w = x.shape
        order = uniform(seeds, (1, h * w)).argsort(2).expand(n, c, h * w)
        return (x + (x_adv - x).flatten(2).gather(2, order).view_as(x)).clamp(0, 1)
