"""Detectors as somebody else would write them: nothing of ours but the shape of what they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def contrast(images: Tensor) -> Tensor:
    """In torch: it has a gradient of its own."""
    return images.flatten(1).std(1)


def roughness(images: Tensor) -> Any:
    """In numpy: it has none."""
    x = np.asarray(images)
    return np.abs(np.diff(x, axis=3)).mean((1, 2, 3)) + np.abs(np.diff(x, axis=2)).mean((1, 2, 3))


def smooth_roughness(images: Tensor) -> Tensor:
    """The same, differentiable."""
    return images.diff(dim=3).abs().mean((1, 2, 3)) + images.diff(dim=2).abs().mean((1, 2, 3))


class NearestMean:
    """Learns the naturals' features, of the detectors' images and of the classifier's own, and scores the distance to them."""

    needs = frozenset({"features", "logits", "training", "copies"})
    group = "mine"
    description = "the distance to what naturals look like inside"

    def __init__(self, power: float = 2.0) -> None:
        self.power = power

    def fit(self, evidence: Any, labels: Tensor) -> NearestMean:
        natural = torch.cat([evidence.features[labels == 0], evidence.training.features]).numpy()
        assert len(evidence.copies) % int((labels == 0).sum()) >= 0
        self.mean, self.width = natural.mean(0), natural.std(0) + 1e-3
        self.seen = {"pairs": len(labels) // 2, "classes": sorted(set(evidence.training.classes.tolist()))}
        return self

    def score(self, evidence: Any) -> Any:
        apart = np.abs((evidence.features.detach().numpy() - self.mean) / self.width)
        return (apart**self.power).mean(1)


class FeatureSqueezing:
    """Xu, Evans, Qi 2018: how far the answer moves when the image has fewer grey levels. It asks the classifier again."""

    needs = frozenset({"logits", "classifier"})

    def score(self, evidence: Any) -> Tensor:
        squeezed = (evidence.image * 3).round() / 3
        apart: Tensor = evidence.logits.softmax(1) - evidence.classifier(squeezed).softmax(1)
        return apart.abs().sum(1)


class Network(nn.Module):
    """A callable with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return self.weight[0] * flat.mean(1) + self.weight[1] * flat.amax(1)


def network() -> nn.Module:
    return Network()
