"""How far must one go to fool the classifier undetected?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attacks._gradient import check_settings
from ._defended import Defended, Stop
from ._descent import Bounds, Point, check_descent, decayed, descend, length, margin, wide
from ._validation import validated


@dataclass(frozen=True)
class Minimal:
    """The smallest L2 perturbation found that is another class and not detected: decoupled direction and norm (Rony et al. 2019).

    The radius of each image shrinks by ``shrink`` while the image succeeds and grows while it does not; the direction descends both
    losses, each scaled to length 1, of which only the ones that are not beaten count. Without a detector it is the classifier's alone:
    the ratio of the two medians is what the detector makes an attacker pay.

    Departures: two losses; judged and differentiated as 8-bit images at every step.

    Cost a step and image: one pass forward and two backward through classifier, map and detector.

    Attributes:
        steps: how many.
        shrink: relative change of the radius in a step.
        start: radius at the start, L2 over all values of an image.
        gradient: where the slope of the score is taken.

    Raises:
        UsageError: for settings out of range or images outside the conventions.
    """

    steps: int = 100
    shrink: float = 0.05
    start: float = 0.5
    gradient: Stop = "image"

    eps, norm = None, "l2"

    def __post_init__(self) -> None:
        check_descent(None, self.steps, "l2", self.gradient)
        check_settings(shrink=(self.shrink, 0.001, 0.5), start=(self.start, 1e-3, 1e6))

    @validated
    def __call__(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) 8-bit images, the nearest that succeeded; where none did, the natural image. ``seeds`` are not used."""
        ball = Bounds(None, "l2")

        def rule(p: Point, t: int) -> Tensor:
            fooled, detected = p.fooled, p.detected
            up, down = p.look.classifier_slope(lambda z: margin(z, p.y)), -p.detector_slope()
            slope = ball.along(up) * wide(~fooled) + ball.along(down) * wide(detected)
            last = p.state["radius"]
            radius = torch.where(fooled & ~detected, last * (1 - self.shrink), last * (1 + self.shrink))
            r = radius.view(-1, 1, 1, 1)
            moved = p.state["here"] - p.x + r * decayed(t, self.steps) * ball.along(slope)
            moved = moved * (r / length(moved).clamp_min(1e-12))
            before, p.state["here"], p.state["radius"] = p.state["here"], (p.x + moved).clamp(0, 1), radius
            return p.state["here"] - before

        state = {"radius": x.new_full((len(x),), self.start), "here": x.clone()}
        out, smallest = x.clone(), x.new_full((len(x),), float("inf"))
        for p in descend(target, x, y, ball, rule, self.steps, self.gradient, state=state):
            size = length(p.image - p.x).flatten()
            better = p.fooled & ~p.detected & (size < smallest[p.rows])
            out[p.rows[better]], smallest[p.rows[better]] = p.image[better], size[better]
        return out
