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
from ._high_pass import in_pieces, local_mean

SIDE = 4  # pixels of the squares, of which the smoother half is looked at
OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 2))  # rows, columns
FURTHEST = 2  # of them
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
        return in_pieces(evidence, _numbers)


def _numbers(x: Tensor, second: Tensor) -> Tensor:
    """(N, 33) or (N, 24) of images and their Laplacian."""
    three = torch.stack([second, x - local_mean(x, 3), x - local_mean(x, 5)], 1)
    found = _structure(three.flatten(0, 1))
    return found.view(x.shape[0], 3, found.shape[1]).flatten(1)


def _smooth(r: Tensor) -> Tensor:
    """(N, 1, H, W) 1 in the smoother half of the squares, else 0."""
    h, w = r.shape[2:]
    a, b = min(SIDE, h), min(SIDE, w)
    size = F.avg_pool2d(r.abs().mean(1, keepdim=True), (a, b), ceil_mode=True)
    chosen = (size <= size.flatten(1).median(1).values[:, None, None, None]).to(r.dtype)
    n, _, down, right = chosen.shape
    return chosen[:, :, :, None, :, None].expand(n, 1, down, a, right, b).reshape(n, 1, down * a, right * b)[:, :, :h, :w]


def _structure(r: Tensor) -> Tensor:
    """(N, 11) or (N, 8) of residuals (N, C, H, W)."""
    weight, s = _smooth(r), r.clamp(-MOST, MOST)
    places, values = math.prod(s.shape[2:]), math.prod(s.shape[1:])
    wide, weighted = (F.pad(v, (0, FURTHEST, 0, FURTHEST)) for v in (s, s * weight))
    products = _with_neighbours(wide.flatten(1), weighted.flatten(1), wide.shape[3])
    channels = weighted.flatten(2) @ wide.flatten(2).transpose(1, 2)  # (N, C, C) sums of products
    power = (channels.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) / values) + LEAST
    pairs = [channels[:, a, b] for a, b in combinations(range(min(s.shape[1], COLOURS)), 2)]
    size = (s.square() + SMALL**2).sqrt() - SMALL  # |s| without a kink at 0, where flat parts of an image are
    level = (size * weight).mean((1, 2, 3))[:, None] / power.sqrt()
    beside = [torch.stack(pairs, 1) / (places * power)] if pairs else []
    return torch.cat([products / (values * power), *beside, level], 1)


def _with_neighbours(s: Tensor, weighted: Tensor, row: int) -> Tensor:
    """(N, 7) sums of the products of each weighted value and the one some rows and columns further.

    Both (N, L) hold images whose rows, of ``row`` values, end in zeros, and whose channels do: a value beyond the border, on either side,
    is one of these.
    """
    steps = [dy * row + dx for dy, dx in OFFSETS]
    last = s.shape[1] - max(steps)  # the weights behind are those of a channel's zeros
    return torch.stack([torch.linalg.vecdot(weighted[:, :last], s[:, k : k + last]) for k in steps], 1)
