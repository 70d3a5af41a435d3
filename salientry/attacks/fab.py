"""Fast adaptive boundary attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..store import one_of
from ._ball import Norm
from ._fab import searched
from ._gradient import check_settings, noted
from ._validation import validated
from .fmn import NORMS


@dataclass(frozen=True)
class FAB:
    """The smallest step that fools, in Linf or L2: projections onto the linearised boundary inside [0, 1], biased towards the image (Croce,
    Hein 2020, FAB, algorithm 1), towards one class after another (FAB-T).

    The share of the bias is at most .1, steps go 1.05 times as far as the boundary, an iterate that fools goes back a tenth of the way to
    the image, and three steps of a search on the line to the image end it, all as published. Departures: one start, at the image; the
    search is made once, for the nearest image over all target classes; the boundary lies some roundings further, so that an image that is
    on it leaves, too.

    Cost: 3 + 3 + candidates * steps * 2 forward and candidates * steps backward passes at most.

    Attributes:
        norm: what is kept small, ``"linf"`` or ``"l2"``.
        steps: towards one class.
        candidates: target classes, the likeliest others.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    norm: Norm = "linf"
    steps: int = 100
    candidates: int = 9

    eps = None  # minimal-norm: no budget

    def __post_init__(self) -> None:
        one_of("norm", self.norm, NORMS)
        check_settings(steps=(self.steps, 1, 100_000), candidates=(self.candidates, 1, 10**6))

    @property
    def title(self) -> str:
        """As it stands in a table: ``FAB``, ``FAB L2``; other steps than the default in brackets."""
        return noted("FAB L2" if self.norm == "l2" else "FAB", f"{self.steps} steps" if self.steps != type(self).steps else "")

    @property
    def passes(self) -> float:
        """What an image takes that has so many other classes."""
        return float(self.candidates * self.steps)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        return searched(classifier, x, y, self.norm, steps=self.steps, candidates=self.candidates)[0]
