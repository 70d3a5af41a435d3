"""Matched noise: as large as the attack, but aimed at nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import UsageError
from ..randomness import uniform
from ._validation import validated


@dataclass(frozen=True)
class MatchedNoise:
    """Random signs (or a Gaussian), as large as each image's own adversarial perturbation.

    With signs, value i moves by +-(a or a - 1) grey levels, the sign fair and the share of the two levels such that their mean is the
    amplitude. The amplitude is searched, image by image, until the root mean square of what is *left after clipping and
    rounding to 8 bits* is that of the adversarial perturbation, so on a black background, where half of all signs are
    clipped away, the noise is not half as large as the attack. For a sign attack that is the attack's own Linf.

    Attributes:
        halvings: bisection steps of the search.
        kind: ``"sign"``, or ``"gaussian"``: normal draws times the amplitude, rounded.

    Raises:
        UsageError: for another kind.
    """

    halvings: int = 20
    kind: Literal["sign", "gaussian"] = "sign"

    def __post_init__(self) -> None:
        if self.kind not in ("sign", "gaussian"):
            raise UsageError(f"noise is 'sign' or 'gaussian'; found {self.kind!r}")

    @validated
    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) 8-bit images; an image whose adversarial is unchanged is unchanged too."""
        draws = uniform(seeds, (2, *x.shape[1:])).to(x.dtype)
        start = (x * 255).round()
        if self.kind == "sign":
            sign, dither = torch.where(draws[:, 0] < 0.5, -1.0, 1.0).to(x.dtype), draws[:, 1]
        else:  # Box and Muller (1958)
            normal = (-2 * (1 - draws[:, 0]).log()).sqrt() * (2 * math.pi * draws[:, 1]).cos()

        def noisy(amplitude: Tensor) -> Tensor:
            a = amplitude.view(-1, 1, 1, 1)
            moved = sign * (a + dither).floor() if self.kind == "sign" else a * normal
            return (start + moved).round().clamp(0, 255) / 255

        target = _rms(x_adv - x)
        lo, hi = torch.zeros_like(target), torch.full_like(target, 255.0)
        for _ in range(self.halvings):
            middle = (lo + hi) / 2
            small = _rms(noisy(middle) - x) < target
            lo, hi = torch.where(small, middle, lo), torch.where(small, hi, middle)
        return noisy(torch.where(target > 0, hi, torch.zeros_like(hi)))


def _rms(delta: Tensor) -> Tensor:
    """(N,) root mean square of (N, C, H, W)."""
    return delta.flatten(1).square().mean(1).sqrt()
