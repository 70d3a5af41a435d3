"""One step against classifier and detector at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ..attacks._gradient import check_settings, log_odds_against
from ..errors import UsageError
from ..randomness import uniform
from ._defended import Defended, Stop
from ._descent import Bounds, Point, check_descent, descend, step_of
from ._validation import last_pass, step_by_step


@dataclass(frozen=True)
class Simultaneous:
    """Metzen et al. 2017, equation 5 of the paper: x + step (w sign of the classifier's loss + (1 - w) sign of the detector's).

    Departures: the paper's ``gradient`` is taken at the view, as in its algorithms; Metzen et al. differentiate to the image
    (``gradient="image"``) and project onto the ball (``project=True``), and draw the weight uniformly from [0, 1] for each batch that a
    detector is hardened on: ``weight="random"`` draws one for each image from its seed, for all its steps, so that no image's depends
    on its neighbours.

    Cost a step and image: one pass forward and one backward through the classifier, the map and the detector.

    Attributes:
        eps: of the ball; where ``project`` is False of the step alone.
        steps: how many.
        step_size: of one; None: eps at the view, eps / 4 at the image.
        weight: w, of the classifier's part; the paper has .5. ``"random"``: uniform in [0, 1), drawn for each image.
        gradient: where the slope of the score is taken.
        project: onto the Linf ball about the natural image.

    Raises:
        UsageError: for settings out of range; where passes of a random weight are asked for without seeds.
    """

    eps: float = 0.2
    steps: int = 5
    step_size: float | None = None
    weight: float | Literal["random"] = 0.5
    gradient: Stop = "view"
    project: bool = False

    REVISION = 2

    norm = "linf"
    __call__ = last_pass

    def __post_init__(self) -> None:
        check_descent(self.eps, self.steps, "linf", self.gradient, self.step_size)
        weight: Any = self.weight
        if weight != "random":
            if isinstance(weight, str):
                raise UsageError(f"weight must be a number in [0, 1], or 'random'; found {weight!r}")
            check_settings(weight=(weight, 0, 1))

    @property
    def step(self) -> float:
        """Size of one step."""
        return step_of(self.eps, self.step_size, self.gradient)

    def weights(self, seeds: Tensor) -> Tensor:
        """(N,) each image's draw, float32 in [0, 1), where the weight is random."""
        return uniform(seeds, (1,))[:, 0]

    @step_by_step
    def passes(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor | None = None) -> Iterator[Tensor]:
        """(N, C, H, W) images after each step, float32; ``seeds`` (N,) are used where the weight is random."""
        ball, drawn = Bounds(self.eps if self.project else None, bits=None), None
        if self.weight == "random":
            if seeds is None:
                raise UsageError("a random weight is drawn from the images' seeds; found none, expected passes(..., seeds=seeds)")
            drawn = self.weights(seeds).to(x).view(-1, 1, 1, 1)

        def rule(p: Point, t: int) -> Tensor:
            up = ball.along(p.look.classifier_slope(lambda z: log_odds_against(z, p.y)))
            down = ball.along(p.detector_slope())
            w: Any = self.weight if drawn is None else drawn[p.rows]
            moved: Tensor = w * up - (1 - w) * down
            return self.step * moved

        for t, p in enumerate(descend(target, x, y, ball, rule, self.steps, self.gradient)):
            if t:
                yield p.image
