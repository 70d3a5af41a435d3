"""Baseline: how the image's noise hangs together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evidence import Evidence
from . import _committee
from ._high_pass import laplacian

SIDE = 4  # pixels of the squares, of which the smoother half is looked at
OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 2))  # rows, columns
MOST = 0.25  # of a residual: an edge is no noise
LEAST, SMALL = 1e-7, 1e-4  # power, and size, of no noise
COLOURS = 3  # channels that are compared with each other


@dataclass(frozen=True)
class NoiseStructure:
    """How much a pixel's noise is like that of its neighbours, and that of one colour channel like another's, where the image is smooth.

    Noise that was drawn for each value is like nothing beside it. What an attack adds follows the gradient of a network: neighbours and
    channels move together, and so they do where it was made on another network (steganalysis looks for the same: Fridrich and Kodovsky
    2012; for adversarial images: Liu et al. 2019). By itself it takes another image's perturbation, which is harmless, for an attack; in a
    :class:`LearnedFusion` that has met such images the answer's changes tell the two apart.

    Three residuals of the image: its Laplacian, and its difference from the means over 3 x 3 and 5 x 5 pixels, each cut at .25. Of each,
    over the smoother half of the squares of 4 px: the correlation with the residual 1 or 2 px away (seven directions), that of the
    channels with each other, and the ratio of mean size to root mean square, which is low for noise of few pixels.

    Attributes:
        head: settings of the networks.
    """

    head: _committee.Committee = _committee.Committee()
    needs: ClassVar[frozenset[str]] = frozenset(_committee.BESIDE)
    group = "baseline"
    words = "noise structure"
    description = "how the image's noise hangs together"
    reads, seeded, candidate = "pixel statistics", True, False
    build, fit = _committee.build, _committee.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 33) of colour images, (N, 24) of grey ones."""
        x = evidence.image
        return torch.cat([_structure(r) for r in (laplacian(x), x - _mean(x, 3), x - _mean(x, 5))], 1)


def _mean(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) over squares of so many pixels; the border is repeated."""
    return F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="replicate"), side, 1)


def _smooth(r: Tensor) -> Tensor:
    """(N, 1, H, W) 1 in the smoother half of the squares, else 0."""
    h, w = r.shape[2:]
    size = F.avg_pool2d(r.abs().mean(1, keepdim=True), (min(SIDE, h), min(SIDE, w)), ceil_mode=True)
    chosen = (size <= size.flatten(1).median(1).values[:, None, None, None]).to(r.dtype)
    return chosen.repeat_interleave(min(SIDE, h), 2).repeat_interleave(min(SIDE, w), 3)[:, :, :h, :w]


def _structure(r: Tensor) -> Tensor:
    """(N, 11) or (N, 8) of a residual."""
    weight, s = _smooth(r), r.clamp(-MOST, MOST)
    power = (s.square() * weight).mean((1, 2, 3)) + LEAST
    found = [_shifted_product(s, weight, dy, dx) / power for dy, dx in OFFSETS]
    found += [(s[:, a] * s[:, b] * weight[:, 0]).mean((1, 2)) / power for a, b in combinations(range(min(s.shape[1], COLOURS)), 2)]
    size = (s.square() + SMALL**2).sqrt() - SMALL  # |s| without a kink at 0, where flat parts of an image are
    return torch.stack([*found, (size * weight).mean((1, 2, 3)) / power.sqrt()], 1)


def _shifted_product(s: Tensor, weight: Tensor, dy: int, dx: int) -> Tensor:
    """(N,) mean of the product of each value and the one ``dy`` rows and ``dx`` columns further; 0 where none is."""
    h, w = s.shape[2], s.shape[3]
    if h <= dy or w <= abs(dx):
        return s.new_zeros(len(s))
    near, far = slice(max(-dx, 0), w - max(dx, 0)), slice(max(dx, 0), w + min(dx, 0))
    both = s[:, :, : h - dy, near] * s[:, :, dy:, far] * weight[:, :, : h - dy, near]
    return both.sum((1, 2, 3)) / math.prod(s.shape[1:])
