"""The paper's networks (its Figure 3), as classifiers and as heads of detectors: one description for both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import TrainingFailed, UsageError
from .learned import seeded, with_facts, with_recipe
from .training import Optimiser, train
from .types import Images, Shape

B = TypeVar("B")
Blocks = tuple[tuple[int, int, int], ...]
Initial = Literal["glorot", "he"]
INITIAL: dict[str, Callable[[Tensor], Tensor]] = {
    "glorot": nn.init.xavier_uniform_,
    "he": functools.partial(nn.init.kaiming_normal_, nonlinearity="relu"),
}
RATES: dict[str, float] = {"adam": 1e-3, "rmsprop": 1e-3, "sgd": 1e-2}  # what Keras takes where nobody says
CENTRE, SPREAD = 0.5, 0.25  # about the mean and the deviation of natural images in [0, 1]
PROBED, SAME = 100, 1e-6  # training images; logits of a net that has died differ by no more between them


@dataclass(frozen=True)
class PaperCNN:
    """Blocks of convolutions, a pooling after each, dense layers with drop-out before each; ReLU after all but the last.

    Source: Appendix A, Figure 3 and its text. Stride 1, 2 x 2 pooling, no batch norm, no augmentation, no weight decay, a constant
    rate, the last weights. The defaults are the CIFAR-10 net; ``MNIST_NET`` and ``ASSIRA_NET`` are the other two. Weights at C x H x W:

    ========  ===========  ==========  ======================================
    data      input        weights     multiplications of one forward pass
    ========  ===========  ==========  ======================================
    MNIST     1 x 28 x 28  2,450,058   1,135 million
    CIFAR-10  3 x 32 x 32  933,217     95 million
    ASSIRA    3 x 112^2    11,174,466  2,572 million
    ========  ===========  ==========  ======================================

    What the paper leaves open, and what stands here: padding keeps the size ("valid" leaves nothing of a CIFAR-10 image); initial
    weights are Glorot's, uniform, and Adam's epsilon is 1e-7, both Keras' defaults of the time; .6 is the share that drop-out takes
    away; the 63 filters of the CIFAR-10 net are taken literally. The softmax is part of the loss: the net gives logits. On images in
    [0, 1] the CIFAR-10 net died while it was trained; ``centred`` ones it learns from, and a net that has died is an error.

    Attributes:
        blocks: of each block the number of convolutions, their filters, their kernel's side.
        pool: whether 2 x 2 maximum pooling follows each block.
        dense: units of the hidden dense layers; the last one, with an output a class, follows.
        dropout: share of values set to 0 before each dense layer while training; 0: none.
        epochs: passes over the training images.
        optimiser: ``adam``, ``rmsprop``, or ``sgd`` (which has Nesterov's momentum of .9 here, and none in Keras).
        lr: its constant rate; None: Keras' default, .001, of SGD .01.
        batch: images a step; the last batch of an epoch may be smaller.
        centred: whether the net's first layer takes values in [0, 1] to (x - .5) / .25; the paper says nothing about it.
        initial: weights: ``glorot``, uniform, Keras' default; or ``he``, normal, made for ReLUs (He, Zhang, Ren, Sun 2015).

    Raises:
        UsageError: for settings that describe no network.
    """

    blocks: Blocks = ((4, 32, 3), (4, 63, 3), (4, 128, 3))
    pool: bool = True
    dense: tuple[int, ...] = (128,)
    dropout: float = 0.6
    epochs: int = 10
    optimiser: Optimiser = "adam"
    lr: float | None = None
    batch: int = 50
    centred: bool = False
    initial: Initial = "glorot"

    def __post_init__(self) -> None:
        if not self.blocks or any(len(b) != 3 or min(b) < 1 for b in self.blocks):
            raise UsageError(f"blocks are (convolutions, filters, kernel), each number 1 or more; found {self.blocks!r}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must lie in [0, 1); found {self.dropout}")
        if self.initial not in INITIAL:
            raise UsageError(f"initial weights are {' or '.join(INITIAL)}; found {self.initial!r}")
        if self.batch < 2 or self.epochs < 1:
            raise UsageError(f"batch must be 2 or more and epochs 1 or more; found batch={self.batch}, epochs={self.epochs}")

    def layers(self, view: tuple[int, int, int], outputs: int) -> nn.Sequential:
        """An untrained net: (N, C, H, W) of this view to (N, outputs).

        Raises:
            UsageError: where pooling leaves nothing of the image.
        """
        (width, height, breadth), found = view, list[nn.Module]([_Centred()] if self.centred else [])
        for count, filters, kernel in self.blocks:
            for _ in range(count):
                before, after = (kernel - 1) // 2, kernel // 2  # an even kernel has one zero more after the image, as in TensorFlow
                found += [nn.ZeroPad2d((before, after, before, after))] if before != after else []
                found += [nn.Conv2d(width, filters, kernel, padding=before if before == after else 0), nn.ReLU()]
                width = filters
            if self.pool:
                found.append(nn.MaxPool2d(2))
                height, breadth = height // 2, breadth // 2
        if not height or not breadth:
            raise UsageError(f"{len(self.blocks)} poolings leave nothing of {view[1]} x {view[2]} pixels")
        found.append(nn.Flatten())
        width *= height * breadth
        for units in (*self.dense, outputs):
            found += [*([nn.Dropout(self.dropout)] if self.dropout else []), nn.Linear(width, units), nn.ReLU()]
            width = units
        net = nn.Sequential(*found[:-1])  # no ReLU after the last
        for layer in net:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                INITIAL[self.initial](layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        return net

    def build(self, shape: Shape) -> nn.Module:
        """An untrained classifier for images of this shape; gives logits (N, K)."""
        return with_recipe(self.layers((shape.channels, shape.height, shape.width), shape.classes), self, shape)

    def head(self, view: tuple[int, ...]) -> nn.Sequential:
        """An untrained detector's head with the paper's two outputs: views (N, C, H, W) to scores (N,), the adversarial output less
        the natural one, whose sigmoid is the softmax of the two.
        """
        channels, height, width = view
        return nn.Sequential(self.layers((channels, height, width), 2), _Lead())

    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int) -> nn.Module:
        """Build and train; ``labels`` int64 (N,) on the device that the images come to. Training that was interrupted goes on from the
        last whole epoch.

        Raises:
            TrainingFailed: after the first epoch that leaves a net which gives the same answer for every image: its ReLUs pass nothing
                on, nor do gradients come back.
        """
        order, probe = in_order(len(labels), self.batch, seed), torch.arange(min(PROBED, len(labels)))
        with seeded(seed):
            module = self.build(shape).to(labels.device)
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU

            def loss(at: Tensor) -> Tensor:
                return F.cross_entropy(module(images[at].contiguous(memory_format=torch.channels_last)), labels[at])

            def alive(epochs: int) -> None:
                module.eval()
                with torch.no_grad():
                    spread = float(module(images[probe]).std(0).max())
                module.train()
                if not spread > SAME:
                    raise TrainingFailed(
                        f"after {epochs} of {self.epochs} epochs the network gives the same answer for every image: it has died and "
                        "learns no more; give it centred inputs (centred=True) or another seed"
                    )

            def batches(epoch: int) -> Iterable[Tensor]:
                if epoch:
                    alive(epoch)
                return order(epoch)

            curve = self.descend(module, batches, loss, -(-len(labels) // self.batch))
            alive(self.epochs)
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return with_facts(module.eval(), learning_curve=curve)

    def descend(
        self, module: nn.Module, batches: Callable[[int], Iterable[B]], loss: Callable[[B], Tensor], steps: int | None = None
    ) -> list[float]:
        """Train a net of this description on any batches, so many an epoch; the mean loss of each epoch."""
        count = steps or sum(1 for _ in batches(0))
        how: dict[str, Any] = {"optimiser": self.optimiser, "schedule": "constant", "eps": 1e-7, "generators": ()}
        return train(
            module, batches, loss, epochs=self.epochs, steps=count, lr=RATES[self.optimiser] if self.lr is None else self.lr, **how
        )


class _Centred(nn.Module):
    """Values in [0, 1] to [-2, 2]."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return (x - CENTRE) / SPREAD


class _Lead(nn.Module):
    """(N, 2) to (N,): the second less the first."""

    def forward(self, outputs: Tensor) -> Tensor:
        """Differences (N,)."""
        return outputs[:, 1] - outputs[:, 0]


def in_order(n: int, size: int, seed: int) -> Callable[[int], list[Tensor]]:
    """Epoch number to shuffled index batches of ``size``; the last one may be smaller."""

    def epoch(number: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        return list(torch.split(torch.randperm(n, generator=generator), size))

    return epoch


CIFAR10_NET = PaperCNN()
MNIST_NET = PaperCNN(blocks=((2, 64, 8), (2, 128, 6), (2, 128, 3)), pool=False, dense=())
ASSIRA_NET = PaperCNN(blocks=((2, 64, 3), (2, 128, 3), (2, 256, 3), (2, 512, 3)), dense=(256, 256))
