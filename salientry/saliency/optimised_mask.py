"""A mask optimised for each image: the smallest part whose removal takes the class away."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import NO_GRADIENT
from ..learned import with_recipe
from ..types import Images, Shape
from ._fill import _blur

CELLS = 28  # of a side, where the published weights were chosen


class OptimisedMaps(nn.Module):
    """(image, class index) to a map, which is searched for anew in each image; the classifier is a part of it."""

    def __init__(self, classifier: nn.Module, settings: OptimisedMask) -> None:
        super().__init__()
        self.classifier, self.settings = classifier, settings

    def forward(self, image: Tensor, k: Tensor) -> dict[str, Tensor]:
        """``map`` (N, 1, H, W) in [0, 1]. Of an image that requires a gradient all steps stay in the graph, and in memory."""
        alive, s = image.requires_grad, self.settings
        sizes = [max(2, math.ceil(side / s.cell)) for side in image.shape[2:]]
        down, across = (_hats(side, cells).to(image) for side, cells in zip(image.shape[2:], sizes, strict=True))
        draws = torch.Generator().manual_seed(s.seed)
        with torch.enable_grad():
            x = image if alive else image.detach()
            gone = torch.zeros_like(x) if s.removed == "black" else _blur(x, 6 * s.sigma, s.sigma)
            mask = x.new_ones(len(x), 1, *sizes).requires_grad_()
            first, second = torch.zeros_like(mask), torch.zeros_like(mask)
            for t in range(1, s.steps + 1):
                noise = s.noise * torch.randn((1, *x.shape[1:]), generator=draws).to(x)
                kept = down @ mask @ across.T
                logits = self.classifier(kept * x + (1 - kept) * gone + noise)
                if not logits.requires_grad:
                    raise UsageError(f"this map is found by the classifier's gradient, and {NO_GRADIENT}")
                value = logits.softmax(1).gather(1, k[:, None]).sum() + s.penalty(mask).sum()
                (slope,) = torch.autograd.grad(value, mask, create_graph=alive)
                first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope.square()
                step = first / (1 - 0.9**t) / (second / (1 - 0.999**t) + 1e-16).sqrt()
                mask = (mask - s.lr * step).clamp(0, 1)
                mask = mask if alive else mask.detach().requires_grad_()
            found = (1 - down @ mask @ across.T).clamp(0, 1)
        return {"map": found if alive else found.detach()}


def _hats(side: int, cells: int) -> Tensor:
    """(side, cells) weights of linear interpolation between cells, the outer ones at the borders; rows sum to 1."""
    return (1 - (torch.linspace(0, cells - 1, side)[:, None] - torch.arange(cells)).abs()).clamp_min(0)


@dataclass(frozen=True)
class OptimisedMask:
    """The mask of Fong & Vedaldi (ICCV 2017): in each image, the smallest and smoothest part without which the class is gone.

    Adam finds the coarse mask m in [0, 1] that makes

        p_k(m x + (1 - m) blur(x) + noise) + area * mean |1 - m| + smooth * (mean |dm|^power down + mean |dm|^power across)

    small, from m = 1 on; m is upsampled linearly, and the map is 1 - m. With ``SMD`` on it this is their detector.

    Weights are those of the port jacobgil/pytorch-explain-black-box. Its means are over the 28 x 28 cells of an image of 224 pixels; the
    paper writes sums with the weights 1e-4 and 1e-2, which are .078 and 7.6 as weights of these means. Of n cells, dm is the difference
    of neighbours times n / 28: a mask of one shape costs the same on every number of cells, and what it costs there on 28.

    Departures: blurred pixels are mixed in (as in the port), where the paper blurs by as much as the mask says; noise in place of the
    paper's jitter (as in the port), the same for every image, so that a map depends on its image alone; no image's map is stretched
    to [0, 1] (the port's is), which would throw its size away.

    Costs ``steps`` forward and backward passes an image: three hundred times a gradient map.

    Attributes:
        steps: of Adam (the paper: 300, the port: 500).
        lr: its learning rate.
        area: weight of what is removed.
        smooth: weight of differences between neighbouring cells.
        power: of these differences; at least 2.
        cell: side of a mask's cell in pixels: 28 cells at 224 pixels, 4 at 28 and 32; at least 2 cells a side.
        noise: standard deviation, in units of [0, 1] (the port: .2 after a division by the channels' deviation of about .226).
        sigma: standard deviation of the blur as a share of the image's side (the paper: 10 pixels of 224; the port: 5, in a window of 11).
        removed: what stands for removed pixels: ``"blur"``, or ``"black"``, which removes a digit where a blur leaves it readable.
        seed: of the noise.

    Raises:
        UsageError: for settings that cannot be.
    """

    steps: int = 300
    lr: float = 0.1
    area: float = 0.01
    smooth: float = 0.2
    power: float = 3.0
    cell: float = 8.0
    noise: float = 0.045
    sigma: float = 10 / 224
    removed: Literal["blur", "black"] = "blur"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("area", 0), ("smooth", 0), ("power", 2), ("cell", 1), ("noise", 0)):
            if not getattr(self, name) >= least:
                raise UsageError(f"{name} must be at least {least}; found {getattr(self, name)}")
        for name in ("lr", "sigma"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0; found {getattr(self, name)}")
        if self.removed not in ("blur", "black"):
            raise UsageError(f"removed must be 'blur' or 'black'; found {self.removed!r}")

    def penalty(self, mask: Tensor) -> Tensor:
        """(N,) what masks (N, 1, h, w) cost by themselves."""
        down, across = ((mask.diff(dim=d) * mask.shape[d] / CELLS).abs().pow(self.power).mean((1, 2, 3)) for d in (2, 3))
        return self.area * (1 - mask).abs().mean((1, 2, 3)) + self.smooth * (down + across)

    def build(self, shape: Shape, *parts: nn.Module) -> OptimisedMaps:
        """Maps of the classifier among the parts.

        Raises:
            UsageError: without a classifier.
        """
        if len(parts) != 1:
            raise UsageError(f"{type(self).__name__} maps are made of a classifier's answers; found {len(parts)} classifiers")
        module = OptimisedMaps(parts[0], self)
        return with_recipe(module, self, shape, *parts) if "recipe" in vars(parts[0]) else module.eval()

    def fit(self, images: Images, labels: Tensor, classifier: nn.Module, shape: Shape, *parts: nn.Module, seed: int) -> OptimisedMaps:
        """A copy of the classifier: nothing is learnt, and neither images, labels nor the seed are used."""
        return self.build(shape, copy.deepcopy(classifier).eval().requires_grad_(False))
