"""One step against classifier and detector at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ..attacks._gradient import check_settings, log_odds_against
from ._defended import Defended, Stop
from ._descent import Ball, Point, check_descent, descend, step_of
from ._validation import last_pass, step_by_step


@dataclass(frozen=True)
class Simultaneous:
    """Metzen et al. 2017, equation 5 of the paper: x + step (w sign of the classifier's loss + (1 - w) sign of the detector's).

    Departures: the paper's ``gradient`` is taken at the view, as in its algorithms; Metzen et al. differentiate to the image
    (``gradient="image"``) and project onto the ball (``project=True``).

    Cost a step and image: one pass forward and one backward through the classifier, the map and the detector.

    Attributes:
        eps: of the ball; where ``project`` is False of the step alone.
        steps: how many.
        step_size: of one; None: eps at the view, eps / 4 at the image.
        weight: w, of the classifier's part; the paper has .5.
        gradient: where the slope of the score is taken.
        project: onto the Linf ball about the natural image.

    Raises:
        UsageError: for settings out of range.
    """

    eps: float = 0.2
    steps: int = 5
    step_size: float | None = None
    weight: float = 0.5
    gradient: Stop = "view"
    project: bool = False

    REVISION = 2

    norm = "linf"
    __call__ = last_pass

    def __post_init__(self) -> None:
        check_descent(self.eps, self.steps, "linf", self.gradient, self.step_size)
        check_settings(weight=(self.weight, 0, 1))

    @property
    def step(self) -> float:
        """Size of one step."""
        return step_of(self.eps, self.step_size, self.gradient)

    @step_by_step
    def passes(self, target: Defended, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """(N, C, H, W) images after each step, float32."""
        ball = Ball(self.eps if self.project else None, bits=None)

        def rule(p: Point, t: int) -> Tensor:
            up = ball.along(p.look.classifier_slope(lambda z: log_odds_against(z, p.y)))
            down = ball.along(p.detector_slope())
            return self.step * (self.weight * up - (1 - self.weight) * down)

        for t, p in enumerate(descend(target, x, y, ball, rule, self.steps, self.gradient)):
            if t:
                yield p.image
