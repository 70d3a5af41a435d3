"""A classifier of three templates and images of them: attacks, scores and verdicts in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salientry.attacks import FGSM, PGDL2

N = 330
ATTACKS: dict[str, Any] = {"one step": FGSM(30 / 255), "L2": PGDL2(1.0)}


def images() -> tuple[Tensor, Tensor, nn.Module]:
    """uint8 images (N, 1, 8, 8), labels (N,), and the net that is best on them."""
    rng = np.random.default_rng(0)
    templates, labels = rng.integers(105, 151, (3, 1, 8, 8)), np.arange(N) % 3
    pixels = (templates[labels] + rng.normal(0, 30, (N, 1, 8, 8))).clip(0, 255).astype(np.uint8)
    centred = torch.tensor((templates.reshape(3, 64) - templates.mean()) / 255, dtype=torch.float32)
    flat = nn.Linear(64, 3)
    with torch.no_grad():
        flat.weight.copy_(8 * centred)
        flat.bias.copy_(-8 * (centred.square().sum(1) / 2 + centred.sum(1) * float(templates.mean()) / 255))
    return torch.from_numpy(pixels), torch.from_numpy(labels), nn.Sequential(nn.Flatten(), flat).eval()


def wrong_way(x: Tensor) -> Tensor:
    """The contrast, with the slope of its opposite."""
    found = x.flatten(1).std(1)
    return -found + (2 * found).detach()


def steps(x: Tensor) -> Tensor:
    """The contrast in hundredths: a slope nowhere."""
    return (x.flatten(1).std(1) * 100).round()


def make() -> Any:
    """A detector, made without arguments."""
    return lambda x: x.flatten(1).std(1)
