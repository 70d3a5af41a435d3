"""A compact strided classifier: good accuracy on small images in seconds on one core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..learned import seeded, with_recipe
from ..training import shuffled, train
from ..types import Images, Shape

Change = Callable[[nn.Module, Tensor, Tensor], Tensor]  # the net as it is, images (N, C, H, W), labels (N,) -> what is trained on


def unchanged(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The images themselves."""
    return x


@dataclass(frozen=True)
class CompactCNN:
    """Three convolutions (5x5 stride 2, 3x3 stride 2, 3x3), batch norm, ReLU, one linear layer.

    Not from the paper, whose own nets (its Figure 3) take hours on a laptop. Takes any (C, H, W) and any K.

    Attributes:
        width: channels of the first convolution; the others have twice as many.
        epochs: passes over the training images.
        lr: peak of the one-cycle learning rate.
        batch: images a step.
        shift: training images are moved by up to this many pixels in each direction, one draw per batch, zero-padded.
    """

    width: int = 16
    epochs: int = 12
    lr: float = 3e-3
    batch: int = 50
    shift: int = 2

    def build(self, shape: Shape) -> nn.Module:
        """An untrained net for images of this shape; gives logits (N, K)."""

        def block(i: int, o: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU())

        w = self.width
        body = [block(shape.channels, w, 5, 2), block(w, 2 * w, 3, 2), block(2 * w, 2 * w, 3, 1), nn.Flatten()]
        head = nn.Linear(2 * w * -(-shape.height // 4) * -(-shape.width // 4), shape.classes)
        return with_recipe(nn.Sequential(*body, head), self, shape)

    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int, changed: Change = unchanged) -> nn.Module:
        """Build and train; ``labels`` int64 (N,) on the device that the images come to; a batch is ``changed`` after all. Training that was
        interrupted goes on from the last whole epoch.
        """
        draws = torch.Generator().manual_seed(seed)
        order, s = shuffled(len(labels), self.batch, seed), self.shift
        with seeded(seed):
            module = self.build(shape).to(labels.device)

            def loss(at: Tensor) -> Tensor:
                top, left = torch.randint(0, 2 * s + 1, (2,), generator=draws).tolist()
                x = F.pad(images[at], (s, s, s, s))[:, :, top : top + shape.height, left : left + shape.width]
                return F.cross_entropy(module(changed(module, x, labels[at])), labels[at])

            train(module, order, loss, epochs=self.epochs, steps=len(order(0)), lr=self.lr, generators=(draws,))
        return module
