"""Floor: an MLP on the sorted logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Pairs, seeded, with_facts
from ..evidence import Evidence
from ..training import shuffled, train
from ._fitted import Fitted, assembled
from ._logistic import columns_of, standardise


class _MLP(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))
        self.layers = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))

    def forward(self, view: Tensor) -> Tensor:
        scores: Tensor = self.layers((view - self.mean) / self.std)
        return scores


@dataclass(frozen=True)
class SortedLogits:
    """All logits, sorted, without their classes, in a small MLP: what the classifier's answer alone gives away.

    Attributes:
        width: hidden units.
        epochs: passes.
        lr: peak of the one-cycle rate.
        batch: images a step.
    """

    width: int = 32
    epochs: int = 20
    lr: float = 1e-2
    batch: int = 200
    needs = frozenset({"logits"})
    family = "floor"

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, K), largest first."""
        return evidence.logits.sort(1, descending=True).values

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted floor for K = view[0] logits."""
        return assembled(self, _MLP(view[0], self.width), view, parts)

    def fit(self, pairs: Pairs, *parts: nn.Module, seed: int) -> Fitted:
        """Build and train with binary cross-entropy."""
        x, y = columns_of(pairs)
        with seeded(seed):
            fitted = self.build(pairs.shape, *parts).to(x.device)
        standardise(fitted.head, x)
        order = shuffled(len(x), self.batch, seed)
        curve = train(
            fitted.head,
            order,
            lambda at: F.binary_cross_entropy_with_logits(fitted.head(x[at]), y[at]),
            epochs=self.epochs,
            steps=len(order(0)),
            lr=self.lr,
        )
        return with_facts(fitted.eval(), learning_curve=curve)
