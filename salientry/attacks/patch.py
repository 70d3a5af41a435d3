"""A square of the image that is painted to fool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..randomness import uniform
from ..rates import percent
from ._gradient import PLACE, check_settings, iterate, noted
from ._validation import validated


@dataclass(frozen=True)
class Patch:
    """Steps along the sign of the gradient inside a square at a random place, where any value in [0, 1] is allowed; nothing else moves.

    After the adversarial patch (Brown et al. 2017). Departures: theirs is one patch for all images, printed and turned; this one is
    painted for each image, starts at the image and stays at its place. The loss is the log-odds against the label.

    Cost: ``steps`` forward and ``steps`` backward passes an image.

    Attributes:
        share: of the pixels that the square covers, about: its side is a whole number of pixels, at least 1 and at most the image's
            shorter side.
        steps: how many.
        step_size: of one step, in [0, 1] units.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    share: float = 0.05
    steps: int = 20
    step_size: float = 0.1

    eps = None  # no bound but the square
    norm: ClassVar[str] = "l0"
    sparse: ClassVar[bool] = True
    must_fool: ClassVar[bool] = False  # a square that covers nothing that matters

    def __post_init__(self) -> None:
        check_settings(share=(self.share, 1e-6, 1), steps=(self.steps, 1, 100_000), step_size=(self.step_size, 0, 1))

    @property
    def title(self) -> str:
        """As it stands in a table: ``patch``, of another share of the pixels than 5 % ``patch (10 %)``."""
        return noted("patch", percent(self.share) if self.share != type(self).share else "")

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the places."""
        inside = self.placed(seeds, x.shape[2], x.shape[3])[:, None].to(x.dtype)
        return iterate(classifier, x, y, eps=inside, step_size=self.step_size, steps=self.steps, direction=lambda gradient: gradient)

    def placed(self, seeds: Tensor, height: int, width: int) -> Tensor:
        """(N, height, width) bool: each image's square, at any place of the image alike, from ``seeds`` int64 (N,)."""
        side = max(1, min(round(math.sqrt(self.share * height * width)), height, width))
        draw = uniform(seeds + PLACE, (2, 1, 1)).double()
        rows, columns = torch.arange(height, device=seeds.device)[:, None], torch.arange(width, device=seeds.device)
        top, left = (draw[:, 0] * (height - side + 1)).long(), (draw[:, 1] * (width - side + 1)).long()
        return (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
