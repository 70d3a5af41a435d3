"""Guided backpropagation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..types import Images, Shape
from . import _gradients


@dataclass(frozen=True)
class GuidedBackprop:
    """The gradient with every ReLU letting only positive signals back (Springenberg, Dosovitskiy, Brox, Riedmiller 2015).

    Reaches ``nn.ReLU`` modules only; a classifier without any is refused.

    """

    def build(self, shape: Shape, *parts: nn.Module) -> _gradients.GradientMaps:
        """Maps of one classifier, its scale still 1."""
        return _gradients.build(self, shape, parts, self._draw)

    def fit(
        self, images: Images, labels: Tensor, classifier: nn.Module, shape: Shape, *parts: nn.Module, seed: int
    ) -> _gradients.GradientMaps:
        """Set the scale on naturals; neither labels nor the seed are used."""
        return _gradients.fit(self, images, classifier, shape)

    def _draw(self, classifier: nn.Module, x: Tensor, k: Tensor, alive: bool) -> Tensor:
        with _gradients.guided(classifier):
            return _gradients.gradient(classifier, x, k, alive)
