"""The encoder of the saliency U-Net: the ancestor's SimpleClassifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..learned import seeded, with_recipe
from ..training import Optimiser, Schedule, shuffled, train
from ..types import Encoder, Images, Shape


class ConvNormRelu(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class ScaledEncoder(Encoder):
    """Feature maps of base, 2 base, 4 base ... channels at full, half, quarter ... resolution, and class logits."""

    def __init__(self, base: int, scales: int, shape: Shape) -> None:
        super().__init__()
        self.widths = tuple(base * 2**i for i in range(scales + 1))
        before = (shape.channels, *self.widths[:-1])
        self.scales = nn.ModuleList(
            nn.Sequential(ConvNormRelu(b, w, 1 if i == 0 else 2), ConvNormRelu(w, w), ConvNormRelu(w, w))
            for i, (b, w) in enumerate(zip(before, self.widths, strict=True))
        )
        self.head = nn.Linear(self.widths[-1], shape.classes)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Image (N, C, H, W) in [0, 1] to (feature maps, logits (N, K)); the net itself works on [-1, 1]."""
        x, maps = 2 * image - 1, []
        for scale in self.scales:
            x = scale(x)
            maps.append(x)
        return maps, self.head(x.mean((2, 3)))


@dataclass(frozen=True)
class SimpleClassifier:
    """The SimpleClassifier of PiotrDabkowski/pytorch-saliency: scales of three 3x3 convolutions, halving, doubling.

    Departures: Adam with a one-cycle rate in place of SGD .1 over 33 epochs (``paper_settings`` has the ancestor's), and no
    augmentation (the ancestor crops and flips). It stays frozen and in eval mode while the decoder learns; the ancestor's batch norm
    drifts there by accident.

    Attributes:
        base: channels at full resolution (the ancestor: 24 to 64).
        scales: how often the image is halved: 2 at 28 x 28, 3 at 32 and at 112.
        epochs: passes over the training images.
        lr: peak learning rate.
        batch: images a step.
        optimiser: as in :func:`~salientry.training.train`.
        schedule: of the rate, likewise; a number: divided by ten every so many epochs.
        weight_decay: L2 term; SGD spares vectors.
    """

    base: int = 32
    scales: int = 3
    epochs: int = 15
    lr: float = 3e-3
    batch: int = 64
    optimiser: Optimiser = "adam"
    schedule: Schedule | int = "one_cycle"
    weight_decay: float = 0.0

    def build(self, shape: Shape) -> Encoder:
        """An untrained encoder."""
        return with_recipe(ScaledEncoder(self.base, self.scales, shape), self, shape)

    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int) -> Encoder:
        """Build and train to classify natural images."""
        with seeded(seed):
            encoder = self.build(shape).to(labels.device)
        order = shuffled(len(labels), self.batch, seed)
        train(
            encoder,
            order,
            lambda at: F.cross_entropy(encoder(images[at])[1], labels[at]),
            epochs=self.epochs,
            steps=len(order(0)),
            lr=self.lr,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            optimiser=self.optimiser,
            generators=(),
        )
        return encoder
