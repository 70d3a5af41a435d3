"""A small residual CNN for pictures of a hundred pixels or more, of which there are few."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..learned import seeded, with_recipe
from ..training import shuffled
from ..types import Images, Shape
from .residual import ResidualBlock, StagedNet, convolution, descended


class PictureNet(StagedNet):
    """Strided stages, each half the size and twice as wide as the one before, all but the first with a residual block; the mean of each
    channel; one linear layer.
    """

    def __init__(self, width: int, stages: int, shape: Shape) -> None:
        widths = tuple(width * 2**i for i in range(stages))
        first = convolution(shape.channels, width, 4, 2)
        others = (nn.Sequential(convolution(a, b, 3, 2), ResidualBlock(b)) for a, b in pairwise(widths))
        super().__init__(widths, [first, *others], shape.classes)

    def pooled(self, deepest: Tensor) -> Tensor:
        """The mean of each channel."""
        return deepest.mean((2, 3))


@dataclass(frozen=True)
class PictureCNN:
    """Four strided stages, three of them with a residual block: 486,000 weights and 57 million multiplications at 3 x 112 x 112.

    Not from the paper, whose ASSIRA net (its Figure 3) costs 2,571 million and has 11 million weights. Trained from nothing on two
    thousand pictures: SGD (Nesterov .9), a triangular rate, first on pictures made smaller, then at full size; each is mirrored,
    turned, moved, magnified and lit by a draw of its own.

    Attributes:
        width: channels of the first stage.
        stages: how many.
        small_epochs: passes over the training images, ``small`` pixels wide and high.
        epochs: passes at full size after that.
        small: pixels.
        lr: peak learning rate, reached after a quarter of the steps.
        batch: images a step.
        weight_decay: L2, on convolutions and the linear layer only.
        zoom: magnified by up to this factor.
        turn: turned by up to so many degrees.
        shift: moved by up to this share of half the side, and as far as magnifying left room.
        light: contrast changed by up to this share, brightness by up to half of it.
    """

    width: int = 16
    stages: int = 4
    small_epochs: int = 40
    epochs: int = 12
    small: int = 64
    lr: float = 0.1
    batch: int = 64
    weight_decay: float = 5e-4
    zoom: float = 1.5
    turn: float = 10.0
    shift: float = 0.1
    light: float = 0.2

    def build(self, shape: Shape) -> nn.Module:
        """An untrained net for images of this shape; gives logits (N, K)."""
        return with_recipe(PictureNet(self.width, self.stages, shape), self, shape)

    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int) -> nn.Module:
        """Build and train; ``labels`` int64 (N,) on the device that the images come to. Training that was interrupted goes on from the last
        whole epoch.
        """
        draws = torch.Generator().manual_seed(seed)
        order = shuffled(len(labels), self.batch, seed)

        def sized(epoch: int) -> list[tuple[Tensor, bool]]:
            return [(at, epoch < self.small_epochs) for at in order(epoch)]

        with seeded(seed):
            module = self.build(shape).to(labels.device)

            def loss(batch: tuple[Tensor, bool]) -> Tensor:
                at, small = batch
                x = images[at]
                if small:
                    x = F.interpolate(x, size=(self.small, self.small), mode="bilinear", antialias=True)
                return F.cross_entropy(module(self.changed(x, draws)), labels[at])

            return descended(module, sized, loss, self, self.small_epochs + self.epochs, len(order(0)), (draws,))

    def changed(self, x: Tensor, draws: torch.Generator) -> Tensor:
        """Each image (N, C, H, W) magnified, turned, moved and perhaps mirrored in one resampling, its border reflected; then lit."""
        n = len(x)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(*shape, generator=draws).to(x.device)

        scale = torch.exp(-uniform(0, math.log(self.zoom), n))  # of what is seen
        angle, mirror = uniform(-1, 1, n) * math.radians(self.turn), torch.where(uniform(0, 1, n) < 0.5, 1.0, -1.0)
        room = 1 - scale + self.shift
        across, down = uniform(-1, 1, n) * room, uniform(-1, 1, n) * room
        c, s = torch.cos(angle) * scale, torch.sin(angle) * scale
        where = torch.stack([torch.stack([c * mirror, -s, across], 1), torch.stack([s * mirror, c, down], 1)], 1)
        grid = F.affine_grid(where, list(x.shape), align_corners=False)
        moved = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        contrast, brightness = 1 + self.light * uniform(-1, 1, n, 1, 1, 1), self.light / 2 * uniform(-1, 1, n, 1, 1, 1)
        mean = moved.mean((1, 2, 3), keepdim=True)
        return ((moved - mean) * contrast + mean + brightness).clamp(0, 1)
