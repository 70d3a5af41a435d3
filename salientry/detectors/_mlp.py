"""A small MLP on a few columns: the head of the trained baselines."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evidence_set import Fittable
from ..learned import seeded, with_facts
from ..training import shuffled, train
from ._fitted import Fitted, assembled
from ._logistic import columns_of, standardise


class MLP(nn.Module):
    """Standardised columns (N, D) through one hidden layer to scores (N,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))
        self.layers = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))

    def forward(self, view: Tensor) -> Tensor:
        """Scores (N,)."""
        scores: Tensor = self.layers((view - self.mean) / self.std)
        return scores


def build(settings: Any, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
    """An unfitted baseline for D = view[0] columns."""
    return assembled(settings, MLP(view[0], settings.width), view, parts)


def fit(settings: Any, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
    """Build and train with binary cross-entropy, naturals 0, adversarials 1."""
    pairs = evidence.pairs(labels, settings, *parts)
    x, y = columns_of(pairs)
    with seeded(seed):
        fitted: Fitted = settings.build(pairs.shape, *parts).to(x.device)
    standardise(fitted.head, x)
    order = shuffled(len(x), settings.batch, seed)
    curve = train(
        fitted.head,
        order,
        lambda at: F.binary_cross_entropy_with_logits(fitted.head(x[at]), y[at]),
        epochs=settings.epochs,
        steps=len(order(0)),
        lr=settings.lr,
    )
    return with_facts(fitted.eval(), learning_curve=curve)
