"""Another image's perturbation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._validation import validated


@dataclass(frozen=True)
class Transplant:
    """The perturbation that an attack made for another image, laid over this one: an attack's texture without its aim.

    ``x_adv`` is here ``x`` plus that other image's perturbation, which may leave [0, 1]: whoever has all images borrows it
    (``experiment.steps.control_images``).
    """

    borrows = True

    @validated
    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W), clipped; on the 8-bit grid if the perturbation was."""
        return x_adv.clamp(0, 1)
