"""The small CNN that SMD, SPD, ID, ID+ and JSD share: each is this head on another view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence_set import Fittable
from ..learned import seeded, with_facts
from ..paper_cnn import PaperCNN
from ..training import Schedule, train
from ..types import Pairs
from ._fitted import Fitted, assembled

B = TypeVar("B")


@dataclass(frozen=True)
class SmallCNN:
    """Three 3x3 convolutions (two of them with stride 2), a 4x4 mean pool, one linear unit.

    A compact stand-in for "the classifier's own net with two outputs" of the paper. Batch norm and a one-cycle rate are what
    lets it learn small perturbations at all; ``REPLICA`` is the paper's manner, which often stays at chance.

    Attributes:
        width: channels of the first convolution; the others have twice as many.
        norm: ``"batch"`` or ``"none"``.
        epochs: passes.
        lr: learning rate; the peak for ``one_cycle``.
        schedule: of that rate.
        batch: images a step, half of them natural.
        dropout: before the linear unit.
        strides: of the three convolutions; (1, 2, 2) keeps the first one at full resolution.
    """

    width: int = 16
    norm: Literal["batch", "none"] = "batch"
    epochs: int = 5
    lr: float = 3e-3
    schedule: Schedule = "one_cycle"
    batch: int = 100
    dropout: float = 0.0
    strides: tuple[int, ...] = (2, 2, 1)

    def __post_init__(self) -> None:
        if self.norm not in ("batch", "none"):
            raise UsageError(f"norm must be 'batch' or 'none'; found {self.norm!r}")
        if len(self.strides) != 3 or not all(s in (1, 2) for s in self.strides):
            raise UsageError(f"strides are three numbers, each 1 or 2; found {self.strides!r}")
        if self.batch < 2:
            raise UsageError(f"a batch holds at least one natural and one adversarial; found batch={self.batch}")

    def build(self, channels: int) -> nn.Sequential:
        """An untrained head for views (N, channels, H, W)."""
        plain = self.norm == "none"

        def block(i: int, o: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=plain), nn.Identity() if plain else nn.BatchNorm2d(o), nn.ReLU())

        w, (a, b, c) = self.width, self.strides
        body = [block(channels, w, a), block(w, 2 * w, b), block(2 * w, 2 * w, c), nn.AdaptiveAvgPool2d(4), nn.Flatten()]
        return nn.Sequential(*body, nn.Dropout(self.dropout), nn.Linear(32 * w, 1), nn.Flatten(0))

    def head(self, view: tuple[int, ...]) -> nn.Sequential:
        """An untrained head for views of this shape (C, H, W): to scores (N,)."""
        return self.build(view[0])

    def descend(self, module: nn.Module, batches: Callable[[int], Iterable[B]], loss: Callable[[B], Tensor], steps: int) -> list[float]:
        """Train a head of this description on any batches, so many an epoch; the mean loss of each epoch."""
        how: dict[str, Any] = {"schedule": self.schedule, "generators": ()}
        return train(module, batches, loss, epochs=self.epochs, steps=steps, lr=self.lr, **how)


Head = SmallCNN | PaperCNN


FULL_RESOLUTION = SmallCNN(strides=(1, 2, 2), epochs=6)
REPLICA = SmallCNN(norm="none", epochs=10, lr=1e-3, schedule="constant", batch=50, dropout=0.6)


def build(settings: Any, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
    """An unfitted detector with a CNN head for views of this shape."""
    return assembled(settings, settings.head.head(view), view, parts)


def fit(settings: Any, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
    """Build and train on pairs of views with binary cross-entropy, naturals 0, adversarials 1."""
    pairs = evidence.pairs(labels, settings, *parts)
    with seeded(seed):
        return improve(settings.build(pairs.shape, *parts), pairs, settings.head, seed)


def improve(fitted: Fitted, pairs: Pairs, head: Head, seed: int) -> Fitted:
    """Train a detector with a CNN head from where it is; ``head`` says how. The caller seeds torch."""
    half = min(head.batch // 2, len(pairs))
    device = next(iter(pairs.batches(1, None)))[0].device
    fitted.to(device).head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    def loss(views: tuple[Tensor, Tensor]) -> Tensor:
        natural, adversarial = views
        scores = fitted.head(torch.cat(views).contiguous(memory_format=torch.channels_last))
        return F.binary_cross_entropy_with_logits(scores, torch.cat([scores.new_zeros(len(natural)), scores.new_ones(len(adversarial))]))

    steps = len(pairs) // half
    curve = head.descend(fitted.head, lambda e: pairs.batches(half, seed * 1_000_003 + e), loss, steps)
    fitted.head.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return with_facts(fitted.eval(), learning_curve=curve)
