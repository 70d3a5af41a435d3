"""The paper's white-box attacks: a step against the classifier, a step against the detector, by turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..attacks._gradient import log_odds_against
from ._defended import Defended, Stop
from ._descent import Bounds, Point, check_descent, descend, step_of, wide
from ._validation import last_pass, step_by_step


@dataclass(frozen=True)
class Alternating:
    """Algorithms 1 (JSD), 2 (SPD), 3 (SMD) of the paper and the one for ID in its text: they differ in the view alone.

    One pass: where the classifier still says ``y``, a step up its log-odds against ``y`` (the signs of the
    cross-entropy's slope, which underflows where logits are steep); then, where the detector flags the image, a step down the
    detector's score, at the image that the first step made. Steps are along signs.

    ``gradient="view"`` is the paper's: the score's slope is taken in what the detector reads and stepped along in the image. With
    ``project=False`` it is never brought back to a ball ("literal"): up to 2 ``steps`` ``step_size`` from the natural image.
    ``gradient="image"`` is the same loop with the true gradient.

    Departures: clipped to [0, 1] after both steps (the paper clips the second one alone); images stay float32. The sign of the
    paper's gradients is that of losses (its text has the functions themselves).

    A step of eps inside a ball of eps undoes the step before it and looks like robustness: compare at equal ball and equal step.

    Cost a pass and image: two passes forward and two backward through the classifier, and the same through map and detector.

    Attributes:
        eps: of the ball, in [0, 1] units; where ``project`` is False of the step alone.
        steps: passes, the paper's T.
        step_size: of one step; None: eps where the gradient is taken at the view (the paper's), eps / 4 where at the image.
        gradient: where the slope of the score is taken.
        project: onto the Linf ball about the natural image.

    Raises:
        UsageError: for settings out of range.
    """

    eps: float = 0.2
    steps: int = 5
    step_size: float | None = None
    gradient: Stop = "view"
    project: bool = False

    REVISION = 2

    norm = "linf"
    __call__ = last_pass

    def __post_init__(self) -> None:
        check_descent(self.eps, self.steps, "linf", self.gradient, self.step_size)

    @property
    def step(self) -> float:
        """Size of one step."""
        return step_of(self.eps, self.step_size, self.gradient)

    @step_by_step
    def passes(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor | None = None) -> Iterator[Tensor]:
        """(N, C, H, W) images after each pass, float32: those after T passes are what ``steps=T`` gives; ``seeds`` are not used."""
        ball = Bounds(self.eps if self.project else None, bits=None)

        def rule(p: Point, t: int) -> Tensor:
            if t % 2 == 0:
                up = ball.along(p.look.classifier_slope(lambda z: log_odds_against(z, p.y)))
                return self.step * up * wide(~p.fooled)
            return -self.step * ball.along(p.detector_slope()) * wide(p.detected)

        for t, p in enumerate(descend(target, x, y, ball, rule, 2 * self.steps, self.gradient)):
            if t and t % 2 == 0:
                yield p.image


@dataclass(frozen=True)
class SingleStep:
    """One step of size eps on the classifier alone (the paper's Eq. 3) or on the detector alone (Eq. 4).

    Attributes:
        eps: size of the step.
        on: whose loss.
        gradient: where the slope of the score is taken.

    Raises:
        UsageError: for settings out of range.
    """

    eps: float = 0.2
    on: Literal["classifier", "detector"] = "classifier"
    gradient: Stop = "view"

    REVISION = 2

    norm, steps, project = "linf", 1, True
    __call__ = last_pass

    def __post_init__(self) -> None:
        check_descent(self.eps, 1, "linf", self.gradient)

    @step_by_step
    def passes(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor | None = None) -> Iterator[Tensor]:
        """(N, C, H, W) images, once; ``seeds`` are not used."""
        ball = Bounds(self.eps, bits=None)

        def rule(p: Point, t: int) -> Tensor:
            if self.on == "classifier":
                return self.eps * ball.along(p.look.classifier_slope(lambda z: log_odds_against(z, p.y)))
            return -self.eps * ball.along(p.detector_slope())

        *_, last = descend(target, x, y, ball, rule, 1, self.gradient)
        yield last.image
