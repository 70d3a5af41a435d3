"""Fast minimum norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..store import one_of
from ._ball import TINY as LEAST
from ._ball import Norm, length, size_of
from ._gradient import check_settings, labelled, margin_slope, noted
from ._validation import validated

NORMS = ("l2", "linf")
BEYOND, TINY = 0.01, 1e-6  # how much farther than the boundary of a linear net: on it nothing fools


@dataclass(frozen=True)
class FMN:
    """The smallest step that fools, in L2 or Linf: steps along the gradient, each into a ball whose radius is adapted (Pintor, Roli,
    Brendel, Biggio 2021, algorithm 1).

    Until an image has fooled, the radius is the distance to the boundary as a linear net would have it; then it shrinks while the image
    fools, and grows while it does not, by a share that falls from ``gamma`` to .001 as a cosine. The step size, an L2 length, falls from
    ``step_size`` to a hundredth of it. The loss is the margin; the start is the image. The nearest image that fooled is the result; the
    input itself when none did. Departure: values that stand at 0 or 1 and would be clipped are left out of the step and of the distance to
    the boundary, which else is never reached where many values are black; that distance is taken 1 % and 1e-6 longer, for
    on the boundary itself nothing fools.

    Cost: ``steps`` forward and ``steps`` - 1 backward passes an image.

    Attributes:
        norm: what is kept small, ``"l2"`` or ``"linf"``.
        steps: how many.
        step_size: L2 length of the first step.
        gamma: by which share the radius grows or shrinks at first.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    norm: Norm = "l2"
    steps: int = 100
    step_size: float = 1.0
    gamma: float = 0.05

    eps = None  # minimal-norm: no budget

    def __post_init__(self) -> None:
        one_of("norm", self.norm, NORMS)
        check_settings(steps=(self.steps, 1, 100_000), step_size=(self.step_size, 1e-9, 10_000), gamma=(self.gamma, 1e-6, 0.999))

    @property
    def title(self) -> str:
        """As it stands in a table: ``FMN``, ``FMN Linf``; other steps than the default in brackets."""
        return noted("FMN Linf" if self.norm == "linf" else "FMN", f"{self.steps} steps" if self.steps != type(self).steps else "")

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        farthest = size_of(torch.maximum(x, 1 - x), self.norm)
        best, nearest, moved, radius = x.clone(), farthest.clone(), torch.zeros_like(x), torch.full_like(farthest, float("inf"))
        ever, one = torch.zeros_like(y, dtype=torch.bool), torch.ones_like(farthest)
        for i in range(self.steps if len(x) else 0):
            here = (x + moved).requires_grad_()
            with torch.enable_grad():
                z = classifier(here)
            if i == 0:
                own = labelled(z, y)
            logits = z.detach()
            others = logits.masked_fill(own, float("-inf"))
            most = others.amax(1)
            against = most - logits.gather(1, y[:, None])[:, 0]
            fooled, size = logits.argmax(1) != y, size_of(moved, self.norm)
            nearer, ever = fooled & (size <= nearest), ever | fooled
            best, nearest = torch.where(nearer.view(-1, 1, 1, 1), here.detach(), best), torch.where(nearer, size, nearest)
            if i == self.steps - 1:
                break
            (gradient,) = torch.autograd.grad(z, here, margin_slope(one, own, others, most))
            here = here.detach()
            gradient = inward(gradient, here)
            falls, steep = (1 + math.cos(math.pi * i / self.steps)) / 2, length(gradient)
            gamma = 0.001 + (self.gamma - 0.001) * falls
            grows = gradient.flatten(1).abs().sum(1).clamp_min(LEAST) if self.norm == "linf" else steep[:, 0, 0, 0]
            away = size + (1 + BEYOND) * against.abs() / grows + TINY
            radius = torch.where(fooled, torch.minimum(radius * (1 - gamma), nearest), torch.where(ever, radius * (1 + gamma), away))
            radius = torch.minimum(radius, farthest)
            moved = (gradient * (self.step_size * (0.01 + 0.99 * falls))).div_(steep).add_(moved)
            moved = self._projected(moved, radius.view(-1, 1, 1, 1)).add_(x).clamp_(0, 1).sub_(x)
        return best

    def _projected(self, moved: Tensor, radius: Tensor) -> Tensor:
        """In place."""
        if self.norm == "linf":
            return torch.minimum(torch.maximum(moved, -radius), radius)  # clamp is three times as slow where bounds are broadcast
        return moved.mul_((radius / length(moved)).clamp(max=1))


def inward(gradient: Tensor, here: Tensor) -> Tensor:
    """(N, C, H, W) the gradient, and 0 where a step along it would leave [0, 1]: what falls where there is room below, and what rises where
    there is room above. Two masks and a choice are the same and ten times as slow.
    """
    gate = torch.ops.aten.threshold_backward  # its first argument where the second is above the third, else 0
    falls: Tensor = gate(gradient.clamp_max(0), here, 0)
    return falls.add_(gate(gradient.clamp_min(0), -here, -1))
