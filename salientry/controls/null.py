"""The null control: nothing is done."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._validation import validated


@dataclass(frozen=True)
class Null:
    """The natural image itself, sent down the whole adversarial path. With 8-bit storage every score must be the natural's."""

    @validated
    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W): a copy of ``x``."""
        return x.clone()
