"""Auto-PGD in the Linf ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..store import one_of
from ._apgd import LOSSES, Loss, searched
from ._ball import Ball
from ._gradient import check_settings, noted, titled
from ._validation import validated


@dataclass(frozen=True)
class APGD:
    """Auto-PGD: steps with momentum whose size is halved, and which go back to the best point, where they no longer gain (Croce, Hein
    2020, algorithm 1).

    Momentum .75; checkpoints, conditions 1 and 2 and the first step of 2 ``eps`` are the paper's. Departures: for ``ce`` the log-odds
    against the label, which grow with the cross-entropy and do not underflow; an image that has left its label is done and leaves the
    batch; ``dlr`` divides by the gap to the third logit, and ``targeted`` by that to the mean of third and fourth, as far as there are as
    many classes; with two of them by nothing.

    Cost: a forward pass to begin with, and for each start (``targeted``: and each target class) at most ``steps`` + 1 forward and ``steps``
    backward passes.

    Attributes:
        eps: Linf budget in [0, 1] units.
        steps: of one start.
        loss: ``"ce"``, ``"dlr"``, or ``"targeted"``: DLR towards each of the ``candidates`` likeliest other classes in turn.
        restarts: more starts, for images that are still on their label.
        candidates: target classes; of ``targeted`` alone.
        start: whether it starts at a random point of the ball, from the image's own seed; otherwise at the image.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    eps: float = 8 / 255
    steps: int = 100
    loss: Loss = "ce"
    restarts: int = 0
    candidates: int = 9
    start: bool = True

    norm: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 0, 1), steps=(self.steps, 1, 100_000))
        check_settings(restarts=(self.restarts, 0, 1000), candidates=(self.candidates, 1, 10**6))
        one_of("loss", self.loss, LOSSES)

    @property
    def title(self) -> str:
        """As it stands in a table: ``APGD``, at another budget than the default ``APGD 4/255``, other settings in brackets."""
        return noted(titled("APGD", self.eps, type(self).eps), *notes(self.loss, self.steps))

    @property
    def passes(self) -> float:
        """What an image takes that is not fooled."""
        return float(self.steps * (1 + self.restarts) * (self.candidates if self.loss == "targeted" else 1))

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the starts."""
        ball = Ball("linf", self.eps)
        return searched(classifier, x, y, seeds, ball, self.loss, self.steps, self.restarts, self.candidates, self.start)[0]


def notes(loss: Loss, steps: int) -> tuple[str, str]:
    """What a title says of other settings than the defaults."""
    words = {"ce": "", "dlr": "DLR", "targeted": "targeted DLR"}
    return words[loss], f"{steps} steps" if steps != APGD.steps else ""
