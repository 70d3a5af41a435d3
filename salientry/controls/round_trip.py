"""The tanh round trip of Carlini and Wagner's attack, without the attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._validation import validated


@dataclass(frozen=True)
class RoundTrip:
    """Naturals through atanh and tanh, as the C&W attack sends every image: it moves nearly every pixel by less than 1e-6. A detector
    that sees it has learnt a float trace. 8-bit storage undoes it, so it is measured on float images.
    """

    in_float = True

    @validated
    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W)."""
        return (((2 * x - 1) * 0.999999).atanh().tanh() + 1) / 2
