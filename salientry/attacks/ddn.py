"""Decoupled direction and norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ._ball import length, size_of
from ._gradient import check_settings, labelled, log_odds_slope, noted
from ._validation import validated


@dataclass(frozen=True)
class DDN:
    """The smallest L2 step that fools: steps along the gradient, each onto a sphere that shrinks while the image fools and grows while it
    does not (Rony, Hafemann, Oliveira, Ben Ayed, Sabourin, Granger 2019, algorithm 1).

    The step size falls from 1 to .01 as a cosine; the sphere's first radius is 1, and at most what a corner of [0, 1] is away. The nearest
    image that fooled is the result; the input itself when none did. Departures: the loss is the log-odds against the label, whose gradient
    has the direction of the cross-entropy's and does not underflow; images are not rounded to 8 bits at each step.

    Cost: ``steps`` forward and ``steps`` - 1 backward passes an image.

    Attributes:
        steps: how many.
        gamma: by which share the radius grows or shrinks.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    steps: int = 100
    gamma: float = 0.05

    eps = None  # minimal-norm: no budget
    norm: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        check_settings(steps=(self.steps, 1, 100_000), gamma=(self.gamma, 1e-6, 0.999))

    @property
    def title(self) -> str:
        """As it stands in a table: ``DDN``, with other steps than the default ``DDN (50 steps)``."""
        return noted("DDN", f"{self.steps} steps" if self.steps != type(self).steps else "")

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        farthest = size_of(torch.maximum(x, 1 - x), "l2")
        best, nearest, moved, radius = x.clone(), farthest.clone(), torch.zeros_like(x), torch.ones_like(farthest)
        less, more = 1 - self.gamma * radius, 1 + self.gamma * radius
        for i in range(self.steps if len(x) else 0):
            here = (x + moved).requires_grad_()
            with torch.enable_grad():
                z = classifier(here)
            if i == 0:
                own = labelled(z, y)
            fooled, size = z.detach().argmax(1) != y, size_of(moved, "l2")
            nearer = fooled & (size <= nearest)
            best, nearest = torch.where(nearer.view(-1, 1, 1, 1), here.detach(), best), torch.where(nearer, size, nearest)
            if i == self.steps - 1:
                break
            (gradient,) = torch.autograd.grad(z, here, log_odds_slope(z.detach(), own))
            step = 0.01 + 0.99 * (1 + math.cos(math.pi * i / self.steps)) / 2
            moved = (gradient * step).div_(length(gradient)).add_(moved)
            radius = torch.minimum(radius * torch.where(fooled, less, more), farthest)
            moved = moved.mul_(radius.view(-1, 1, 1, 1) / length(moved)).add_(x).clamp_(0, 1).sub_(x)
        return best
