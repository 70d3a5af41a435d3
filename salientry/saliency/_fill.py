"""What replaces the pixels that a map removes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageError


@dataclass(frozen=True)
class Fill:
    """Phi(x, M) = M (x + n) + (1 - M) A, on [-1, 1] (paper equation 2; constants from the ancestor's code).

    Attributes:
        kind: ``"paper"``: A is, by a fair coin an image, a Gaussian blur of x + n, or a constant colour an image and
            channel with noise on it. ``"black"``: A is black. On digits the blur leaves the digit readable and grey
            breaks the contrast, so only black makes "removed" mean removed there.
        noise: standard deviation of n, drawn for every pixel.
        kernel: side of the blur as a share of the image's side (55 / 224).
        sigma: of the blur, likewise (11 / 224).
        colour: the constant colour is uniform in [-colour, colour].
        colour_noise: standard deviation of the noise on it.

    Departure: the blur pads by reflection; zero padding would paint a grey border on images with a black one.
    """

    kind: Literal["paper", "black"] = "paper"
    noise: float = 0.03
    kernel: float = 55 / 224
    sigma: float = 11 / 224
    colour: float = 0.33
    colour_noise: float = 0.11

    def __post_init__(self) -> None:
        if self.kind not in ("paper", "black"):
            raise UsageError(f"fill must be 'paper' or 'black'; found {self.kind!r}")

    def __call__(self, image: Tensor, map_: Tensor, generator: torch.Generator) -> Tensor:
        """Keep what the map (N, 1, H, W) marks of the images (N, C, H, W) in [0, 1]; back in [0, 1], but for the noise."""
        x = 2 * image - 1
        x = x + self.noise * _normal(x.shape, x, generator)
        with torch.no_grad():
            replacement = torch.full_like(x, -1.0) if self.kind == "black" else self._paper(x.detach(), generator)
        return (map_ * x + (1 - map_) * replacement + 1) / 2

    def _paper(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n, c = x.shape[:2]
        colour = (2 * _uniform((n, c, 1, 1), x, generator) - 1) * self.colour
        flat = colour + self.colour_noise * _normal(x.shape, x, generator)
        blurred = _blur(x, self.kernel, self.sigma)
        return torch.where(_uniform((n, 1, 1, 1), x, generator) < 0.5, blurred, flat)


def _normal(shape: torch.Size | tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device).to(like)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(like)


def _blur(x: Tensor, kernel: float, sigma: float) -> Tensor:
    """Separable Gaussian blur whose size is a share of the image's side, reflected at the borders."""
    for dim in (2, 3):
        side = x.shape[dim]
        radius = min(max(int(kernel * side) // 2, 1), side - 1)  # 7 taps at 28 and 32, 27 at 112
        taps = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
        weights = torch.exp(-taps.square() / (2 * (sigma * side) ** 2))
        weights = (weights / weights.sum()).repeat(x.shape[1], 1)
        shape = (x.shape[1], 1, -1, 1) if dim == 2 else (x.shape[1], 1, 1, -1)
        pad = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        x = F.conv2d(F.pad(x, pad, mode="reflect"), weights.view(shape), groups=x.shape[1])
    return x
