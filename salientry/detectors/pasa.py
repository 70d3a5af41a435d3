"""How far answer and attribution move with a little noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..attacks._gradient import check_settings
from ..evidence import Evidence
from ..randomness import uniform
from . import _asking, _logistic
from ._asking import answers
from ._fitted import Fitted


@dataclass(frozen=True)
class PASA:
    """Prediction and attribution sensitivity (Bhusal, Alam, Veerabhadran, Clifford, Rampazzi, Rastogi 2024, EuroS&P): the L1 distance
    between the logits of the image and of the image with Gaussian noise, and that between their integrated gradients (Sundararajan, Taly,
    Yan 2017) of the answer's logit, from black.

    Departures: the two numbers' logarithms and the squares of these go into a logistic regression, so that too little counts as well as too
    much, where the paper flags what lies outside an interval of either number on naturals; the noise is the same for every image; fewer
    steps of the integral.

    Differentiable in the image where the classifier is twice; the size of the noise is taken as fixed. Cost: 2 ``steps`` forward and
    backward passes of the classifier and one forward pass. It is fitted on attacked images.

    Attributes:
        spread: deviation of the noise, as a share of the distance between the image's largest and least value; the noise is clipped
            with the image to [0, 1].
        steps: of the integral, at the middle of as many equal pieces.

    Raises:
        UsageError: for a setting out of range; evidence without a classifier.
    """

    spread: float = 0.01
    steps: int = 10
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "classifier"})
    group = "baseline"
    description = "the sensitivity to noise"
    reads, seeded, candidate = "changed images", False, False
    fit = _asking.fit

    def __post_init__(self) -> None:
        check_settings(spread=(self.spread, 1e-6, 1), steps=(self.steps, 1, 10_000))

    @property
    def passes(self) -> int:
        """Forward passes that take as long as judging an image does."""
        return 2 + 3 * 2 * self.steps

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 4): logarithms of both distances, and their squares."""
        x, y = evidence.image, evidence.predicted
        noisy = (x + self._noise(x)).clamp(0, 1)
        moved = (answers(evidence, noisy) - evidence.logits).abs().sum(1)
        turned = (self.attribution(evidence, noisy, y) - self.attribution(evidence, x, y)).abs().flatten(1).sum(1)
        logs = torch.stack([moved, turned], 1).clamp_min(1e-12).log()
        return torch.cat([logs, logs.square()], 1)

    def _noise(self, x: Tensor) -> Tensor:
        """(N, C, H, W) noise as large as these images ask for, out of their graph."""
        x = x.detach()
        width = x.flatten(1).amax(1) - x.flatten(1).amin(1)
        draws = uniform(torch.zeros(1, dtype=torch.int64, device=x.device), (2, *x.shape[1:])).to(x.dtype)
        gaussian = (-2 * (1 - draws[:, 0]).log()).sqrt() * (2 * math.pi * draws[:, 1]).cos()
        return self.spread * width.view(-1, 1, 1, 1) * gaussian

    def attribution(self, evidence: Evidence, x: Tensor, y: Tensor) -> Tensor:
        """(N, C, H, W) integrated gradients of the logit of ``y`` at images ``x``, in their graph."""
        alive, total = evidence.image.requires_grad, torch.zeros_like(x)
        for k in range(self.steps):
            with torch.enable_grad():
                here = (k + 0.5) / self.steps * (x if alive else x.detach().requires_grad_())
                own = evidence.classifier(here).gather(1, y[:, None]).sum()  # type: ignore[misc]
            (gradient,) = torch.autograd.grad(own, here, create_graph=alive)
            total = total + gradient / self.steps
        return total * x

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector."""
        return _logistic.build(self, view, *parts, monotone=False)
