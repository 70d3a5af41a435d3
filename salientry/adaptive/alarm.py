"""A natural image that raises an alarm: the detector turned against its owner."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ._defended import Defended, Stop
from ._descent import Bounds, Norm, Point, check_descent, cross_entropy, decayed, descend, wide
from ._validation import validated


@dataclass(frozen=True)
class Alarm:
    """Raises the score above the threshold while the answer stays ``y``: every image that it is run on is refused though the
    classifier is right. Selective descent with the aims turned round: a step up the score while the answer is ``y``, otherwise a step
    back to ``y``.

    Cost a step and image: one pass forward and one backward through classifier, map and detector.

    Attributes:
        eps: radius of the ball, in [0, 1] units.
        steps: at most so many.
        step_size: of the first one; None: eps / 4.
        norm: of the ball.
        gradient: where the slope of the score is taken.

    Raises:
        UsageError: for settings out of range or images outside the conventions.
    """

    eps: float = 2 / 255
    steps: int = 50
    step_size: float | None = None
    norm: Norm = "linf"
    gradient: Stop = "image"

    def __post_init__(self) -> None:
        check_descent(self.eps, self.steps, self.norm, self.gradient, self.step_size)

    @validated
    def __call__(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) 8-bit images in the ball: still ``y`` and detected where the attack succeeded, else the last one. ``seeds``
        are not used.
        """
        ball, size = Bounds(self.eps, self.norm), self.step_size or self.eps / 4

        def rule(p: Point, t: int) -> Tensor:
            fooled = wide(p.fooled)
            slope = p.detector_slope() * (1 - fooled) - p.look.classifier_slope(lambda z: cross_entropy(z, p.y)) * fooled
            return size * decayed(t, self.steps) * ball.mostly(slope)

        out = x.clone()
        for p in descend(target, x, y, ball, rule, self.steps, self.gradient):
            out[p.rows] = p.image
            p.done = ~p.fooled & p.detected & ball.inside(p.image, p.x)
        return out
