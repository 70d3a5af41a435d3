"""Momentum iterative method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ._gradient import check_settings, iterate, titled
from ._validation import validated


@dataclass(frozen=True)
class MIM:
    """BIM along a running sum of gradients (Dong et al. 2018, algorithm 1), each projected onto [0, 1] and the Linf ball.

    As in cleverhans 3.0.1: the sum is m <- decay m + g / max(1e-12, mean |g|), the mean over the features of an image, with g the
    gradient of the log-odds against the label: the cross-entropy's over 1 - p_y, which does not underflow where logits are steep.
    (The publication divides by the sum of |g|: the sign of m is the same but where the floor of 1e-12 comes in.) Default: the
    paper's setting for MNIST and CIFAR-10 (its Figure 4); ASSIRA has .025 in steps of .0025.

    Cost: ``steps`` forward and ``steps`` backward passes an image.

    Attributes:
        eps: Linf budget in [0, 1] units.
        step_size: of one step, in [0, 1] units.
        steps: how many.
        decay: what is kept of the sum at each step; 0 is BIM.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    eps: float = 0.15
    step_size: float = 0.015
    steps: int = 10
    decay: float = 1.0

    norm: ClassVar[str] = "linf"
    strength: ClassVar[str] = "weak"

    REVISION = 2

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 0, 1), step_size=(self.step_size, 0, 1), steps=(self.steps, 1, 100_000), decay=(self.decay, 0, 10))

    @property
    def title(self) -> str:
        """As it stands in a table: ``MIM``, at another budget than the paper's ``MIM 8/255``."""
        return titled("MIM", self.eps, type(self).eps)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        total = torch.zeros_like(x)

        def momentum(gradient: Tensor) -> Tensor:
            size = gradient.abs().flatten(1).mean(1).clamp_min(1e-12)
            return total.mul_(self.decay).add_(gradient / size.view(-1, 1, 1, 1))

        return iterate(classifier, x, y, eps=self.eps, step_size=self.step_size, steps=self.steps, direction=momentum)
