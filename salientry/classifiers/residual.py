"""A small residual CNN for colour images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..learned import seeded, with_recipe
from ..training import shuffled, train
from ..types import Images, Shape
from .compact import Change, unchanged


def convolution(i: int, o: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution without offset, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(i, o, kernel, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class ResidualBlock(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(width, width), convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        out: Tensor = x + self.body(x)
        return out


class StagedNet(nn.Module):
    """Stages, each half the size of the one before; one value of each channel of the last; one linear layer.

    Attributes:
        widths: channels of the stages.
    """

    def __init__(self, widths: tuple[int, ...], stages: list[nn.Module], classes: int) -> None:
        super().__init__()
        self.widths, self.stages = widths, nn.ModuleList(stages)
        self.head = nn.Linear(widths[-1], classes)

    def pooled(self, deepest: Tensor) -> Tensor:
        """One value a channel: (N, K) from (N, K, H, W)."""
        raise NotImplementedError

    def trunk(self, image: Tensor) -> list[Tensor]:
        """Image (N, C, H, W) in [0, 1] to what each stage gives: (N, widths[i], H / 2^(i+1), W / 2^(i+1))."""
        x, maps = (2 * image - 1).contiguous(memory_format=torch.channels_last), list[Tensor]()  # twice as fast on a CPU
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def answer(self, deepest: Tensor) -> Tensor:
        """Logits (N, K) from what the last stage gives."""
        logits: Tensor = self.head(self.pooled(deepest))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, K)."""
        return self.answer(self.trunk(image)[-1])


class ResidualNet(StagedNet):
    """Three stages, each half the size and twice as wide as the one before; the largest value of each channel; one linear layer."""

    def __init__(self, width: int, shape: Shape) -> None:
        a, b, c = width, 2 * width, 4 * width
        stages: list[nn.Module] = [
            nn.Sequential(convolution(shape.channels, a, 4, 2), convolution(a, a)),
            nn.Sequential(convolution(a, b, 3, 2), ResidualBlock(b)),
            nn.Sequential(convolution(b, c, 3, 2), ResidualBlock(c)),
        ]
        super().__init__((a, b, c), stages, shape.classes)

    def pooled(self, deepest: Tensor) -> Tensor:
        """The largest value of each channel."""
        return deepest.amax((2, 3))


@dataclass(frozen=True)
class ResidualCNN:
    """Three strided stages, two of them with a residual block: 267,000 weights and 8.2 million multiplications at 3 x 32 x 32.

    Not from the paper, whose CIFAR-10 net (its Figure 3) costs 95 million. Trained with SGD (Nesterov .9), a triangular rate,
    crops of the reflected border and flips; weight decay on convolutions and the linear layer only.

    Attributes:
        width: channels of the first stage.
        epochs: passes over the training images.
        lr: peak learning rate, reached after a quarter of the steps.
        batch: images a step.
        weight_decay: L2.
        crop: training images are moved by up to this many pixels in each direction, a draw for each image.
        flip: whether they are mirrored half of the time.
    """

    width: int = 24
    epochs: int = 14
    lr: float = 0.3
    batch: int = 256
    weight_decay: float = 5e-4
    crop: int = 4
    flip: bool = True

    def build(self, shape: Shape) -> nn.Module:
        """An untrained net for images of this shape; gives logits (N, K)."""
        return with_recipe(ResidualNet(self.width, shape), self, shape)

    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int, changed: Change = unchanged) -> nn.Module:
        """Build and train; ``labels`` int64 (N,) on the device that the images come to; a batch is ``changed`` after all. Training that was
        interrupted goes on from the last whole epoch.
        """
        draws = torch.Generator().manual_seed(seed)
        order = shuffled(len(labels), self.batch, seed)
        with seeded(seed):
            module = self.build(shape).to(labels.device)

            def loss(at: Tensor) -> Tensor:
                x, y = augmented(images[at], self.crop, self.flip, draws), labels[at]
                return F.cross_entropy(module(changed(module, x, y)), y)

            return descended(module, order, loss, self, self.epochs, len(order(0)), (draws,))


def descended(
    module: nn.Module,
    batches: Callable[[int], list[Any]],
    loss: Callable[[Any], Tensor],
    settings: Any,
    epochs: int,
    steps: int,
    generators: tuple[torch.Generator, ...],
) -> nn.Module:
    """The net trained by SGD with a triangular rate; ``settings`` say its peak and the weight decay; ``generators`` are those that the
    loss draws from, so that it can go on after an interruption.
    """
    how: dict[str, Any] = {"lr": settings.lr, "schedule": "triangle", "optimiser": "sgd", "weight_decay": settings.weight_decay}
    how |= {"generators": generators}
    train(module, batches, loss, epochs=epochs, steps=steps, **how)
    return module.to(memory_format=torch.contiguous_format)  # type: ignore[no-any-return, call-overload]


def augmented(x: Tensor, crop: int, flip: bool, draws: torch.Generator) -> Tensor:
    """Each image moved by up to ``crop`` pixels in each direction, its border reflected, and perhaps mirrored."""
    n, _, h, w = x.shape
    top, left = (torch.randint(0, 2 * crop + 1, (n,), generator=draws) for _ in range(2))
    mirror = (torch.rand(n, generator=draws) < 0.5) if flip else torch.zeros(n, dtype=torch.bool)
    columns = torch.arange(w).expand(n, w)
    columns = torch.where(mirror[:, None], columns.flip(1), columns) + left[:, None]
    rows = torch.arange(h)[None] + top[:, None]
    padded = F.pad(x, (crop, crop, crop, crop), mode="reflect") if crop else x
    at, rows, columns = torch.arange(n)[:, None, None].to(x.device), rows[:, :, None].to(x.device), columns[:, None, :].to(x.device)
    return padded.permute(0, 2, 3, 1)[at, rows, columns].permute(0, 3, 1, 2)
