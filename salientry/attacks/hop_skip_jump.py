"""HopSkipJump."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..randomness import uniform
from ._apgd import AGAIN
from ._decisions import LEVELS, SPARE, Questions, hopped
from ._gradient import check_settings, noted
from ._validation import validated


@dataclass(frozen=True)
class HopSkipJumpL2:
    """The smallest L2 perturbation found from decisions alone (Chen, Jordan, Wainwright 2020, Algorithm 2): a question is whether an 8-bit
    image is another class than ``y``, and no gradient or logit is read.

    From an image of another class: a bisection of the way to the natural image; at the boundary, the direction in which more of many
    small random changes fool than do not; a step along it of the distance over the root of the number of the iteration, halved until it
    fools; and again.

    Departures: the paper's start, uniform noise, is one class to many a network, so noise in cells of 1, 2, 4 and more pixels is tried in
    turn, every other time in black and white; the random changes are half a level of 8 bits a value, where the paper's shrink with the
    distance, for rounding would swallow those; the bisection ends within a twentieth of a level, not at a share of the way; the number of
    iterations follows from the budget. The result is the nearest of all images that fooled; the image itself, rounded to 8 bits, where none
    of 100 images of noise did. ``adaptive.HopSkipJump`` is the same search against a classifier with a detector.

    Cost: at most ``queries`` forward passes and no backward pass.

    Attributes:
        queries: how often the classifier is asked, at most, about an image.
        probes: random changes in the first iteration.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    queries: int = 2000
    probes: int = 100

    eps = None  # minimal-norm: no budget
    norm: ClassVar[str] = "l2"
    must_fool: ClassVar[bool] = False  # noise may be of no other class

    def __post_init__(self) -> None:
        check_settings(queries=(self.queries, 2 * SPARE, 10_000_000), probes=(self.probes, 2, 1_000_000))

    @property
    def title(self) -> str:
        """As it stands in a table: ``HopSkipJump``, with other queries than the default ``HopSkipJump (500 queries)``."""
        return noted("HopSkipJump", f"{self.queries} queries" if self.queries != type(self).queries else "")

    @property
    def passes(self) -> float:
        """What an image takes: forward passes, a third of the cost."""
        return self.queries / 3

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the noise and the random changes."""

        def asked(rows: Tensor, stored: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            z = classifier(stored)
            return z, torch.zeros_like(z[:, 0]), z.argmax(1) != y[rows]

        return hopped(Questions(x, self.queries, in_levels, asked), seeds, self.probes, noise=in_cells).images


def in_cells(seeds: Tensor, shape: tuple[int, ...], k: int) -> Tensor:
    """(N, C, H, W) the k-th images of noise: in cells of 1, 2, 4 and more pixels, up to half of the shorter side, in turn; first in any
    colour, then in colours of 0 and 1.
    """
    c, h, w = shape
    sides = max(min(h, w) // 2, 1).bit_length()
    side, cornered = 2 ** (k % sides), k // sides % 2 == 1
    draw = uniform(seeds - AGAIN * (k + 1), (c, -(-h // side), -(-w // side)))
    return (draw.round() if cornered else draw).repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :h, :w]


def in_levels(here: Tensor, x: Tensor) -> Tensor:
    """(N, C, H, W) 8-bit images that are as far from the 8-bit naturals as ``here`` from ``x``, to a level."""
    return ((x * LEVELS).round() + ((here - x) * LEVELS).round()).clamp(0, LEVELS) / LEVELS
