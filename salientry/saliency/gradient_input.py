"""Gradient times input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from . import _gradients


@dataclass(frozen=True)
class GradientInput:
    """The magnitude of gradient times image: what each pixel adds to the logit, to first order; black pixels have none."""

    build, fit = _gradients.build, _gradients.fit

    def draw(self, classifier: nn.Module, x: Tensor, k: Tensor, alive: bool) -> Tensor:
        """The raw map (N, C, H, W)."""
        return x * _gradients.gradient(classifier, x, k, alive)
