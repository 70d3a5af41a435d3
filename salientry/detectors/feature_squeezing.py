"""How far the probabilities move when the image is squeezed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attacks._gradient import check_settings
from ..errors import UsageError
from ..evidence import Evidence
from . import _asking, _logistic
from ._asking import answers


@dataclass(frozen=True)
class FeatureSqueezing:
    """Feature squeezing, the joint detector (Xu, Evans, Qi 2018, NDSS): the largest L1 distance between the
    probabilities of the image and those of the image with fewer levels, after a median filter, after non-local means.

    The authors' settings: ``MNIST``, ``CIFAR10``, ``IMAGENET`` of this module. The default is that of CIFAR-10 and ImageNet without
    non-local means, which cost far more than the rest.

    Departures: non-local means as Buades, Coll, Morel 2005 define them, on the image's own channels; OpenCV's, which the authors
    call, works on lightness and colour apart. A slope above 0 and an offset, fitted to pairs, stand for the threshold that the authors
    take from naturals alone.

    Differentiable in the image: rounding to levels is passed straight through (its derivative is taken as 1), the median has that of
    the pixel that it picks. Cost: one pass of the classifier for the image, one for each squeezer.

    Attributes:
        bits: of a value, 1 to 8: it is rounded to 2^bits levels. 0: no such squeezer.
        median: side of the filter's window, 2 or 3; a window of four takes the larger of the two in the middle, and lies up and to the
            left of its pixel. 0: no such squeezer.
        means: (search window, patch, strength in levels of 255) of non-local means, odd sides; empty: no such squeezer.

    Raises:
        UsageError: for settings out of range, or no squeezer at all.
    """

    bits: int = 5
    median: int = 2
    means: tuple[float, ...] = ()
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "classifier"})
    group = "baseline"
    words = "feature squeezing"
    description = "the answer when the image is squeezed"
    reads, seeded, candidate = "changed images", False, False
    build, fit = _logistic.build, _asking.fit

    def __post_init__(self) -> None:
        object.__setattr__(self, "means", tuple(self.means))
        check_settings(bits=(self.bits, 0, 8), median=(self.median, 0, 3))
        if self.median == 1 or not float(self.bits).is_integer() or not float(self.median).is_integer():
            raise UsageError(f"bits is a whole number, and median 0, 2 or 3; found {self.bits!r} and {self.median!r}")
        if self.means and not (len(self.means) == 3 and all(s % 2 == 1 for s in self.means[:2]) and self.means[2] > 0):
            raise UsageError(f"means are an odd search window, an odd patch and a strength above 0, or nothing; found {self.means!r}")
        if not (self.bits or self.median or self.means):
            raise UsageError("at least one of bits, median and means is needed; found none")

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1) the largest distance, 0 to 2."""
        own = evidence.logits.softmax(1)
        apart = [(own - answers(evidence, x).softmax(1)).abs().sum(1) for x in self.squeezed(evidence.image)]
        largest: Tensor = torch.stack(apart, 1).amax(1, keepdim=True)
        return largest

    def squeezed(self, x: Tensor) -> Iterator[Tensor]:
        """Images (N, C, H, W) by each squeezer."""
        if self.bits:
            yield fewer_levels(x, self.bits)
        if self.median:
            yield median(x, self.median)
        if self.means:
            yield non_local_means(x, int(self.means[0]), int(self.means[1]), self.means[2] / 255)


MNIST = FeatureSqueezing(bits=1, median=2)
CIFAR10 = FeatureSqueezing(bits=5, median=2, means=(13, 3, 2))
IMAGENET = FeatureSqueezing(bits=5, median=2, means=(11, 3, 4))


def fewer_levels(x: Tensor, bits: int) -> Tensor:
    """The nearest of 2^bits levels from 0 to 1."""
    steps: int = 2**bits - 1
    return x + ((x * steps).round() / steps - x).detach()


def median(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) medians of windows of ``side`` x ``side`` pixels, 2 or 3; borders are repeated."""
    before, after = side // 2, side - 1 - side // 2
    wide = F.pad(x, (before, after, before, after), mode="replicate")
    h, w = x.shape[2:]
    seen = torch.stack([wide[..., i : i + h, j : j + w] for i in range(side) for j in range(side)])
    return seen.sort(0).values[side * side // 2]


def non_local_means(x: Tensor, search: int, patch: int, strength: float) -> Tensor:
    """(N, C, H, W) means of the pixels of a window, each weighted by exp(-d / strength^2), d the mean squared difference between the
    patches about it and about the pixel; borders are repeated.
    """
    reach, h, w = search // 2, x.shape[2], x.shape[3]
    wide = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for i in range(search):
        for j in range(search):
            there = wide[..., i : i + h, j : j + w]
            apart = F.pad((there - x).square().mean(1, keepdim=True), (patch // 2,) * 4, mode="replicate")
            weight = (-F.avg_pool2d(apart, patch, 1) / strength**2).exp()
            total, weights = total + weight * there, weights + weight
    return total / weights
