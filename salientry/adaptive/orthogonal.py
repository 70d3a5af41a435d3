"""Projected descent that does not undo what it has of the other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._defended import Stop
from ._descent import Bounds, Norm, Point, Start, check_descent, decayed, length, margin, undetected, wide


@dataclass(frozen=True)
class Orthogonal:
    """Orthogonal projected gradient descent (Bryniarski, Hendrycks, Carlini, Tramer 2021, section 4.2).

    As :class:`~salientry.adaptive.Selective`, but each slope loses its part along the other's: a step up the margin does not raise
    the score, a step down the score does not lower the margin (to first order, before signs are taken).

    Departures: those of :class:`~salientry.adaptive.Selective`. The public code clamps to an Linf ball in its L2 mode too; here the
    L2 ball is one.

    Cost a step and image: one pass forward and two backward through classifier, map and detector.

    Attributes:
        eps: radius of the ball, in [0, 1] units; of L2 over all values of an image.
        steps: at most so many.
        step_size: of the first one; None: eps / 4.
        norm: of the ball.
        start: ``"natural"``, or ``"random"``: uniform in half the ball, from each image's own seed.
        restarts: how often images that are left start again, from a random point of half the ball, of a quarter, an eighth ...
        gradient: where the slope of the score is taken.

    Raises:
        UsageError: for settings out of range or images outside the conventions.
    """

    eps: float = 8 / 255
    steps: int = 100
    step_size: float | None = None
    norm: Norm = "linf"
    gradient: Stop = "image"
    start: Start = "natural"
    restarts: int = 0

    score_all = True
    __call__ = undetected

    def __post_init__(self) -> None:
        check_descent(self.eps, self.steps, self.norm, self.gradient, self.step_size, self.start, self.restarts)

    def rule(self, p: Point, t: int, ball: Bounds) -> Tensor:
        """(n, C, H, W) the step after t steps."""
        up, down = p.look.classifier_slope(lambda z: margin(z, p.y)), -p.detector_slope()
        slope = without(up, down) * wide(~p.fooled) + without(down, up) * wide(p.fooled)
        return (self.step_size or self.eps / 4) * decayed(t, self.steps) * ball.mostly(slope)


def without(slope: Tensor, other: Tensor) -> Tensor:
    """(N, C, H, W) each slope without its part along the other; a slope that is parallel stays as it is, for nothing would be left."""
    unit = other / length(other).clamp_min(1e-12)
    rest = slope - (slope * unit).flatten(1).sum(1).view(-1, 1, 1, 1) * unit
    return rest.where(length(rest) > 1e-4 * length(slope), slope)
