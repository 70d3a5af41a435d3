"""Auto-PGD in the L2 ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..store import one_of
from ._apgd import LOSSES, Loss, searched
from ._ball import Ball
from ._gradient import check_settings, noted
from ._validation import validated
from .apgd import notes


@dataclass(frozen=True)
class APGDL2:
    """Auto-PGD along the gradient itself in an L2 ball (Croce, Hein 2020, algorithm 1); otherwise as ``APGD``.

    Each point is projected onto the ball and then clipped to [0, 1]. It has no Linf budget, so the strict protocol stores it as it does
    minimal-norm attacks: along its own perturbation it takes the smallest 8-bit image that fools, which may be shorter than ``radius``, or
    longer.

    Cost: as ``APGD``.

    Attributes:
        radius: L2 norm of the perturbation at most, over all values of an image, in [0, 1] units.
        steps: of one start.
        loss: as in ``APGD``.
        restarts: more starts, for images that are still on their label.
        candidates: target classes; of ``targeted`` alone.
        start: whether it starts at a random point of the sphere, from the image's own seed; otherwise at the image.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    radius: float = 0.5
    steps: int = 100
    loss: Loss = "ce"
    restarts: int = 0
    candidates: int = 9
    start: bool = True

    eps = None  # no Linf budget
    norm: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        check_settings(radius=(self.radius, 0, 10_000), steps=(self.steps, 1, 100_000))
        check_settings(restarts=(self.restarts, 0, 1000), candidates=(self.candidates, 1, 10**6))
        one_of("loss", self.loss, LOSSES)

    @property
    def title(self) -> str:
        """As it stands in a table: ``APGD L2``, of another radius than the default ``APGD L2 1``, other settings in brackets."""
        name = "APGD L2" if self.radius == type(self).radius else f"APGD L2 {self.radius:.3g}"
        return noted(name, *notes(self.loss, self.steps))

    @property
    def passes(self) -> float:
        """What an image takes that is not fooled."""
        return float(self.steps * (1 + self.restarts) * (self.candidates if self.loss == "targeted" else 1))

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the starts."""
        ball = Ball("l2", self.radius)
        return searched(classifier, x, y, seeds, ball, self.loss, self.steps, self.restarts, self.candidates, self.start)[0]
