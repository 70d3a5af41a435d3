"""Baseline: how noisy the image is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evidence import Evidence
from . import _committee
from ._high_pass import in_pieces, laplacian, median

SIDE = 4  # pixels of the squares whose noise is compared
SHARES = (0.1, 0.25, 0.5, 0.9)  # of the squares, least noisy first
LEAST = 1e-4  # of a grey level's range: less noise than this is none


@dataclass(frozen=True)
class NoiseLevel:
    """How strong the image's noise is where it is smooth and where it is not, and how many of its values are 0 or 1.

    By itself it takes harmless noise for an attack. In a :class:`LearnedFusion` it tells an answer that is wrong on a clean image, as
    the answer to some natural images is, from one that is wrong on a noisy one: without it, images made on another network are taken
    for natural errors.

    Three residuals of the image: the Laplacian of each channel, the difference of diagonal differences (J. Immerkaer, 1996, estimates
    noise from it), and the Laplacian of what a channel has beyond the channels' mean, which is small where edges are grey. Of each the
    logarithm of its mean size over squares of 4 px, at four shares of the squares; of the last two also of its median size. A grey
    image has no third one.

    Attributes:
        head: settings of the networks.
    """

    head: _committee.Committee = _committee.Committee()
    needs: ClassVar[frozenset[str]] = frozenset(_committee.BESIDE)
    group = "baseline"
    words = "noise level"
    description = "how noisy the image is"
    reads, seeded, candidate = "pixel statistics", True, False
    build, fit = _committee.build, _committee.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 15)."""
        return in_pieces(evidence, _numbers)


def _numbers(x: Tensor, second: Tensor) -> Tensor:
    """(N, 15) of images and their Laplacian."""
    wide = F.pad(x, (0, int(x.shape[3] == 1), 0, int(x.shape[2] == 1)), mode="replicate")  # a side of 1 px has no differences
    diagonal = wide[..., :-1, :-1] - wide[..., :-1, 1:] - wide[..., 1:, :-1] + wide[..., 1:, 1:]
    sizes = [r.abs() for r in (second, diagonal, laplacian(x - x.mean(1, keepdim=True)))]
    squares = [F.avg_pool2d(s.mean(1, keepdim=True), (min(SIDE, s.shape[2]), min(SIDE, s.shape[3]))).flatten(1) for s in sizes]
    levels = [_at_shares(s) for s in squares] + [median(s.flatten(1)) for s in sizes[1:]]
    extreme = ((x <= 0) | (x >= 1)).to(x.dtype).flatten(1).mean(1, keepdim=True)
    return torch.cat([torch.cat(levels, 1).clamp_min(LEAST).log(), extreme], 1)


def _at_shares(sizes: Tensor) -> Tensor:
    """(N, 4) of (N, squares): the sizes at the ``SHARES`` of them, in order, each the nearest one that there is."""
    last = sizes.shape[1] - 1
    return sizes.sort(1).values[:, [round(share * last) for share in SHARES]]
