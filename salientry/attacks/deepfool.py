"""DeepFool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ._gradient import check_settings, columns, labelled
from ._validation import validated


@dataclass(frozen=True)
class DeepFool:
    """Steps to the nearest linearised class boundary in L2 (Moosavi-Dezfooli, Fawzi, Frossard 2016), clipped to [0, 1].

    As in cleverhans 3.0.1, which the paper used: the candidates are the classes with the largest logits *at the current
    point*; the step is (abs f_k + 1e-5) / ||w_k|| along w_k / ||w_k|| for the candidate k with the smallest; the steps add
    up to r and each iterate is clip(x + r); the result is clip(x + (1 + overshoot) r). An image stops once its prediction
    is no longer ``y``.

    Departures: none in the arithmetic. Finished images leave the batch, so their cost ends.

    Cost: with S the steps that an image needs and J = min(candidates, K), J S backward passes and S + 1 forward passes (S when S is
    ``steps``); one forward pass more at each step at which a neighbour is done, for then who stays is looked at again, so that no backward
    pass is spent on who does not.

    Attributes:
        steps: iterations at most. The paper prints 2, with which most images are not fooled; 50 converges.
        overshoot: how far beyond the boundary the result goes.
        candidates: classes considered at each step.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    eps = None  # minimal-norm: no budget
    norm: ClassVar[str] = "l2"
    strength: ClassVar[str] = "strong"

    def __post_init__(self) -> None:
        check_settings(steps=(self.steps, 0, 10_000), overshoot=(self.overshoot, 0, 10), candidates=(self.candidates, 2, 10**6))

    @property
    def title(self) -> str:
        """As it stands in a table: ``DeepFool``, with another number of steps than 50 ``DeepFool 2``."""
        return "DeepFool" if self.steps == DeepFool.steps else f"DeepFool {self.steps}"

    @property
    def passes(self) -> float:
        """What an image takes: some five steps, each of as many gradients as candidates, of one forward pass."""
        return float(min(self.steps, 5) * self.candidates * 0.7)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        r, active = torch.zeros_like(x), torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            here, z = _looked(classifier, (x[active] + r[active]).clamp(0, 1))
            stay = (z.argmax(1) == y[active]).nonzero()[:, 0]
            if len(stay) < len(active):
                active = active[stay]
                if not len(active):
                    break
                here, z = _looked(classifier, here.detach()[stay])
            r[active] += self._step(here, z, y[active])
        return (x + (1 + self.overshoot) * r).clamp(0, 1)

    def _step(self, here: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """(n, C, H, W) step of images that are still on their label, from their logits, which are in the graph of ``here``."""
        order = z.masked_fill(labelled(z, y), float("-inf")).topk(min(self.candidates, z.shape[1]) - 1, 1).indices
        order = torch.cat([y[:, None], order], 1)
        of_label, *of_others = columns(z, order, here)
        w = here.new_empty((len(here), len(of_others), *here.shape[1:]))
        for k, gradient in enumerate(of_others):
            torch.sub(gradient, of_label, out=w[:, k])
        f = (z.gather(1, order[:, 1:]) - z.gather(1, order[:, :1])).detach()
        norm = w.flatten(2).norm(dim=2).clamp_min(1e-12)
        distance = (f.abs() + 1e-5) / norm
        rows, k = torch.arange(len(w), device=w.device), distance.argmin(1)
        length = (distance[rows, k] / norm[rows, k]).view(-1, 1, 1, 1)
        step: Tensor = length * w[rows, k]
        return step


def _looked(classifier: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The images, and their logits (N, K) in their graph."""
    here = x.requires_grad_()
    with torch.enable_grad():
        return here, classifier(here)
