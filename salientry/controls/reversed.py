"""The same perturbation, backwards."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._validation import validated


@dataclass(frozen=True)
class Reversed:
    """The adversarial perturbation with its sign turned round: the same pixels moved as far, away from the other class."""

    @validated
    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W), clipped; on the 8-bit grid if both images are."""
        return (2 * x - x_adv).clamp(0, 1)
