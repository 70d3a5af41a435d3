"""Projected descent on whichever of the two is not yet beaten."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._defended import Stop
from ._descent import Bounds, Norm, Point, Start, check_descent, decayed, margin, undetected, wide


@dataclass(frozen=True)
class Selective:
    """Selective projected gradient descent (Bryniarski, Hendrycks, Carlini, Tramer 2021, section 4.1).

    While the answer is ``y`` a step up the margin of the best other class, otherwise, while it is detected, a step down the score.
    Images are judged, and differentiated, as 8-bit images at every step; an image is done when it succeeds.

    Departures: in an Linf ball the slope over its 90 % quantile, cut to [-1, 1], in place of its sign, which dirties values that matter
    to nothing but the detector; a step that decays along a cosine to a tenth; the margin in place of a targeted cross-entropy.

    Cost a step and image: one pass forward and one backward through the classifier; where the answer is another, also through map and
    detector.

    Attributes:
        eps: radius of the ball, in [0, 1] units; of L2 over all values of an image.
        steps: at most so many.
        step_size: of the first one; None: eps / 4.
        norm: of the ball.
        start: ``"natural"``, or ``"random"``: uniform in half the ball, from each image's own seed.
        restarts: how often images that are left start again, from a random point of half the ball, of a quarter, an eighth ...
        gradient: where the slope of the score is taken; anything but ``"image"`` is blind to a part of the detector.

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

    score_all = False
    __call__ = undetected

    def __post_init__(self) -> None:
        check_descent(self.eps, self.steps, self.norm, self.gradient, self.step_size, self.start, self.restarts)

    def rule(self, p: Point, t: int, ball: Bounds) -> Tensor:
        """(n, C, H, W) the step after t steps."""
        fooled = wide(p.fooled)
        slope = p.look.classifier_slope(lambda z: margin(z, p.y)) * (1 - fooled) - p.detector_slope() * fooled
        return (self.step_size or self.eps / 4) * decayed(t, self.steps) * ball.mostly(slope)
