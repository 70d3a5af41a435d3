"""Guided backpropagation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from . import _gradients


@dataclass(frozen=True)
class GuidedBackprop:
    """The gradient with every ReLU letting only positive signals back (Springenberg, Dosovitskiy, Brox, Riedmiller 2015).

    Reaches ``nn.ReLU`` modules only; a classifier without any is refused.

    """

    build, fit = _gradients.build, _gradients.fit

    def draw(self, classifier: nn.Module, x: Tensor, k: Tensor, alive: bool) -> Tensor:
        """The raw map (N, C, H, W)."""
        with _gradients.guided(classifier):
            return _gradients.gradient(classifier, x, k, alive)
