"""A joint loss of classifier and detector, in a ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..attacks._gradient import check_settings
from ._defended import Stop
from ._descent import Bounds, Norm, Point, Start, check_descent, decayed, length, margin, undetected, wide

BETA1, BETA2, TINY = 0.9, 0.99, 1e-12


@dataclass(frozen=True)
class Joint:
    """Carlini and Wagner's way to a detector (2017, "Adversarial examples are not easily detected"): both losses at once, by Adam.

    Descends max(k - margin, 0) / a + w max(score - threshold + k', 0) / b, where a and b are the two slopes' lengths and the weight w
    is each image's own: it grows while the image fools and is detected, and falls while it does not fool.

    Departures: a weight that follows the image in place of a search for constants; a ball and projection in place of a distance in
    the loss and of tanh; the score itself in place of a class of its own.

    Cost a step and image: one pass forward and two backward through classifier, map and detector.

    Attributes:
        eps: radius of the ball, in [0, 1] units; of L2 over all values of an image.
        steps: at most so many.
        step_size: of Adam's first step, for each value; None: eps / 4 (L2: eps / 4 over the root of the number of values).
        norm: of the ball.
        confidence: k and k', by how much each is to be beaten.
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
    confidence: float = 0.1
    gradient: Stop = "image"
    start: Start = "natural"
    restarts: int = 0

    score_all = True
    __call__ = undetected

    def __post_init__(self) -> None:
        check_descent(self.eps, self.steps, self.norm, self.gradient, self.step_size, self.start, self.restarts)
        check_settings(confidence=(self.confidence, 0, 1000))

    def rule(self, p: Point, t: int, ball: Bounds) -> Tensor:
        """(n, C, H, W) the step after t steps."""
        m, s, k = margin(p.look.logits, p.y), p.scores, self.confidence
        up, down = p.look.classifier_slope(lambda z: margin(z, p.y)), -p.detector_slope()
        up, down = up / length(up).clamp_min(TINY), down / length(down).clamp_min(TINY)
        w = p.state["weight"]
        slope = up * wide(m < k) + down * wide(s > p.target.threshold - k) * w.view(-1, 1, 1, 1)
        p.state["weight"] = torch.where(p.fooled & p.detected, 1.15 * w, torch.where(p.fooled, w, w / 1.15)).clamp(1e-3, 1e3)
        first = p.state["first"] = p.state["first"].lerp(slope, 1 - BETA1)
        second = p.state["second"] = p.state["second"] * BETA2 + (1 - BETA2) * slope.square()
        move = first / (1 - BETA1 ** (t + 1)) / ((second / (1 - BETA2 ** (t + 1))).sqrt() + TINY)
        size = self.step_size or self.eps / 4 / (p.x[0].numel() ** 0.5 if self.norm == "l2" else 1)
        return size * decayed(t, self.steps) * move

    def state(self, x: Tensor) -> dict[str, Tensor]:
        """What the rule keeps for each image: the weight w, and Adam's two sums."""
        zero = torch.zeros_like(x)
        return {"weight": x.new_ones(len(x)), "first": zero, "second": zero}
