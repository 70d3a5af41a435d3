"""Steps that bring the margin to a chosen confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ._gradient import budgets, check_settings, labelled, noted
from ._validation import validated

SHORTEST = 1e-4  # L2 length of a step at least, so that an image that is nearly there arrives


@dataclass(frozen=True)
class MarginDescent:
    """Steps along the gradient of the margin, z_y minus the largest other logit, until it is at most minus ``confidence``.

    Each step is as long as a linear net would need, times 1 + ``overshoot``, and at least 1e-4: DeepFool's step (Moosavi-Dezfooli,
    Fawzi, Frossard 2016, algorithm 2). Departures from DeepFool: towards the runner-up alone, so one gradient a step, and not always to
    the nearest boundary; a confidence; the overshoot is in each step; values that stand at 0 or 1 and would be clipped are left out of
    the step; each iterate is clipped to [0, 1] and the next step starts there. An image that has arrived leaves the batch.

    As for all attacks without a budget, the strict protocol stores the smallest 8-bit image along the perturbation that fools; one
    that is to keep its confidence needs ``EvaluationProtocol(shrink=False)``.

    Cost: with S the steps that an image needs, at most S + 1 forward and S + 1 backward passes, S of each when S is ``steps``.

    Attributes:
        steps: at most.
        confidence: how far below 0 the margin is to come, in logits.
        highest: each image has a confidence of its own, uniform in [confidence, highest] from its seed; None: ``confidence``.
        overshoot: how much longer each step is than a linear net would need.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    steps: int = 20
    confidence: float = 0.0
    highest: float | None = None
    overshoot: float = 0.05

    eps = None  # no budget
    norm: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        check_settings(steps=(self.steps, 1, 10_000), confidence=(self.confidence, 0, 1e6), overshoot=(self.overshoot, 0, 10))
        if self.highest is not None:
            check_settings(highest=(self.highest, self.confidence, 1e6))

    @property
    def title(self) -> str:
        """As it stands in a table: ``margin descent``, a confidence in brackets."""
        upto = f" to {self.highest:g}" if self.highest is not None else ""
        return noted("margin descent", f"confidence {self.confidence:g}{upto}" if upto or self.confidence else "")

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the confidence."""
        wanted = budgets(seeds, self.confidence, self.confidence if self.highest is None else self.highest, x)
        assert isinstance(wanted, Tensor)
        out, active, confidence = x.clone(), torch.arange(len(x), device=x.device), wanted.flatten()
        for _ in range(self.steps):
            here = out[active].requires_grad_()
            with torch.enable_grad():
                z = classifier(here)
                own = labelled(z, y[active])
                margin = z.gather(1, y[active][:, None])[:, 0] - z.masked_fill(own, float("-inf")).amax(1)
                total = margin.sum()
            left = margin.detach() + confidence[active]
            stay = ((left > 0) | (margin.detach() >= 0)).nonzero()[:, 0]  # an image on the boundary itself does not fool
            if not len(stay):
                break
            (gradient,) = torch.autograd.grad(total, here)
            active, left = active[stay], left[stay]
            out[active] = self._stepped(here.detach()[stay], gradient[stay], left)
        return out

    def _stepped(self, x: Tensor, gradient: Tensor, left: Tensor) -> Tensor:
        """(n, C, H, W) images a step further against the margin's gradient; ``left`` (n,) is how far the margin has to fall."""
        free = ((x > 0) | (gradient < 0)) & ((x < 1) | (gradient > 0))
        gradient = torch.where(free, gradient, 0)
        norm: Tensor = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        length = ((1 + self.overshoot) * left / norm).clamp_min(SHORTEST)
        stepped: Tensor = (x - (length / norm).view(-1, 1, 1, 1) * gradient).clamp(0, 1)
        return stepped
