"""Enhanced guided backpropagation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import _gradients


@dataclass(frozen=True)
class EnhancedGuidedBackprop:
    """Guided backpropagation of a class, less that of its strongest rival (Gu & Tresp 2019, arXiv 1908.08413).

    As in the first author's code (PrimozGodec/keras-explain, ``enhanced_guided_bp.py``; the paper's own text was not at hand): the
    positive part of each guided map is divided by its sum over the image, channel by channel; the rival's is subtracted, the rival
    being the likeliest class but this; then channels are added.

    Departures: what is negative, more the rival's than the class's, is 0, as maps lie in [0, 1]; the map is scaled by one constant
    for all images (theirs by its own maximum); gradients are of logits (theirs of whatever the network ends in).

    Reaches ``nn.ReLU`` modules only; a classifier without any is refused. Two backward passes.
    """

    build, fit = _gradients.build, _gradients.fit

    def draw(self, classifier: nn.Module, x: Tensor, k: Tensor, alive: bool) -> Tensor:
        """The raw map (N, 1, H, W)."""
        with torch.no_grad():
            rival = classifier(x).scatter(1, k[:, None], float("-inf")).argmax(1)
        with _gradients.guided(classifier):
            own, other = (_shares(_gradients.gradient(classifier, x, c, alive)) for c in (k, rival))
        return (own - other).sum(1, keepdim=True).clamp_min(0)


def _shares(signed: Tensor) -> Tensor:
    """(N, C, H, W): each pixel's share of what is positive in its channel; 0 in a channel without any."""
    positive = signed.clamp_min(0)
    total = positive.sum((2, 3), keepdim=True)
    return torch.where(total > 0, positive / torch.where(total > 0, total, 1.0), 0.0)
