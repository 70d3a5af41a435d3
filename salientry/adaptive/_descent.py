"""The one loop of all white-box attacks: look, judge, step, project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attacks._decisions import length as length
from ..attacks._gradient import check_settings
from ..errors import UsageError
from ..learned import frozen
from ..randomness import uniform
from ._defended import STOPS, Defended, Look, Stop
from ._validation import validated

Norm = Literal["linf", "l2"]
Start = Literal["natural", "random"]
NORMS, STARTS = ("linf", "l2"), ("natural", "random")
LEVELS = 255
AGAIN = 7_368_787  # between the random numbers of two starts; not what the binarization test draws its corners with


@dataclass(frozen=True)
class Bounds:
    """Where an attack may go, and what is stored of it.

    Attributes:
        eps: radius about the natural image; None: all of [0, 1].
        norm: ``"linf"`` or ``"l2"`` (over all values of an image).
        bits: 8: the image that is looked at and judged is the 8-bit one (its slope is taken there and carried over, straight
            through), of an Linf ball no further than floor(255 eps) / 255; None: as it is.
    """

    eps: float | None
    norm: Norm = "linf"
    bits: int | None = 8

    def project(self, here: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the ball and of [0, 1] (for L2: first of the one, then of the other). Where 8 bits are stored the L2
        radius is smaller by what rounding adds to it on average.
        """
        if self.eps is None:
            return here.clamp(0, 1)
        if self.norm == "linf":
            return torch.minimum(torch.maximum(here, x - self.eps), x + self.eps).clamp(0, 1)
        added = x[0].numel() / 12 / LEVELS**2 if self.bits else 0.0
        radius = max(self.eps**2 - added, (self.eps / 2) ** 2) ** 0.5
        moved = here - x
        shrunk: Tensor = x + moved * (radius / length(moved).clamp_min(1e-12)).clamp_max(1)
        return shrunk.clamp(0, 1)

    def stored(self, here: Tensor, x: Tensor) -> Tensor:
        """The image as it is kept."""
        if self.bits is None:
            return here
        moved = ((here - x) * LEVELS).round()
        if self.eps is not None and self.norm == "linf":
            most = int(LEVELS * self.eps + 1e-6)
            moved = moved.clamp(-most, most)
        return ((x * LEVELS).round() + moved).clamp(0, LEVELS) / LEVELS

    def inside(self, stored: Tensor, x: Tensor) -> Tensor:
        """(N,) whether a stored image is within the budget."""
        if self.eps is None or self.norm == "linf":
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        return length(stored - x).flatten() <= self.eps + 1e-6

    def along(self, slope: Tensor) -> Tensor:
        """A step of size 1 along a slope: its signs, or its direction."""
        return slope.sign() if self.norm == "linf" else slope / length(slope).clamp_min(1e-12)

    def mostly(self, slope: Tensor) -> Tensor:
        """The same, but for Linf the steepest tenth of an image's values alone moves by a whole step, the others as far as theirs
        say: signs put dirt where nothing is to be gained, and a detector sees it.
        """
        if self.norm == "l2":
            return self.along(slope)
        steep = slope.abs().flatten(1).quantile(0.9, dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        return (slope / steep).clamp(-1, 1)


@dataclass(eq=False)
class Point:
    """Where the images are after some steps.

    Attributes:
        rows: (n,) which images these are; those that are done have left.
        x: naturals.
        y: labels to leave.
        image: as stored.
        look: at it.
        target: for these rows.
        stop: where the slope of the score ends.
        score_all: whether the detector is run on every image, or only on those whose class has changed.
        state: whatever a rule keeps for each image, (n, ...).
        done: the consumer's word: (n,) which images need not go on.
    """

    rows: Tensor
    x: Tensor
    y: Tensor
    image: Tensor
    look: Look
    target: Defended
    stop: Stop
    score_all: bool
    state: dict[str, Tensor] = field(default_factory=dict)
    done: Tensor | None = None

    @cached_property
    def fooled(self) -> Tensor:
        """(n,) whether the answer is another."""
        return self.look.logits.argmax(1) != self.y

    @cached_property
    def _asked(self) -> tuple[Tensor, Look]:
        """The rows on which the detector is asked, and the look at them."""
        every = torch.arange(len(self.x), device=self.x.device)
        rows = every if self.score_all else every[self.fooled]
        return rows, self.look if len(rows) == len(every) else Look(self.target.take(rows), self.image[rows], self.stop)

    @cached_property
    def scores(self) -> Tensor:
        """(n,) what the detector says; above every threshold where it was not asked."""
        rows, look = self._asked
        found = self.image.new_full((len(self.x),), float("inf"))
        if len(rows):
            found[rows] = look.scores
        return found

    @property
    def detected(self) -> Tensor:
        """(n,) whether the detector flags it."""
        return self.scores > self.target.threshold

    def detector_slope(self) -> Tensor:
        """(n, C, H, W) slope of the score; 0 where it was not asked."""
        rows, look = self._asked
        found = torch.zeros_like(self.image)
        if len(rows):
            found[rows] = look.detector_slope()
        return found


Rule = Callable[[Point, int], Tensor]  # a point and the number of steps before it -> the step (n, C, H, W)


def descend(
    target: Defended,
    x: Tensor,
    y: Tensor,
    ball: Bounds,
    rule: Rule,
    steps: int,
    stop: Stop,
    start: Tensor | None = None,
    score_all: bool = True,
    state: dict[str, Tensor] | None = None,
) -> Iterator[Point]:
    """Every point of the way, the start (the natural images) first; images that the consumer marks as done stay behind."""
    rows, state = torch.arange(len(x), device=x.device), state or {}
    here = x if start is None else start
    with frozen(*target.modules):
        for t in range(steps + 1):
            image = ball.stored(here, x)
            p = Point(rows, x, y, image, Look(target, image, stop), target, stop, score_all, state)
            yield p
            if t == steps:
                return
            here = ball.project(here.detach() + rule(p, t), x)
            state = p.state
            if p.done is not None and bool(p.done.any()):
                go = torch.nonzero(~p.done).flatten()
                if not len(go):
                    return
                rows, x, y, here, target = rows[go], x[go], y[go], here[go], target.take(go)
                state = {k: v[go] for k, v in state.items()}


@validated
def undetected(attack: Any, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
    """(N, C, H, W) 8-bit images: of each the first point that is another class than ``y``, in the ball and not detected; where there is
    none, the one of another class with the lowest score; where there is none, the last (which in an L2 ball may be rounded out of it).

    Images that are left start again, up to ``attack.restarts`` times: from a random point of half the ball, of a quarter, an
    eighth ... On a black background a start far out is all noise, and ends as badly each time.

    It is the ``__call__`` of attacks with a ``rule(point, t, ball)``; ``score_all`` as in :class:`Point`, ``state(x)`` what the rule keeps.
    """
    ball, out, lowest = Bounds(attack.eps, attack.norm), x.clone(), x.new_full((len(x),), float("inf"))
    rows = torch.arange(len(x), device=x.device)
    for again in range(attack.restarts + 1):
        begin = started("random" if again else attack.start, x[rows], seeds[rows] + AGAIN * again, ball, 0.5 ** max(again, 1))
        won = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        kept = attack.state(x[rows]) if hasattr(attack, "state") else None
        rule, where = partial(attack.rule, ball=ball), (target.take(rows), x[rows], y[rows], ball)
        for p in descend(*where, rule, attack.steps, attack.gradient, begin, attack.score_all, kept):
            at = rows[p.rows]
            rank = torch.where(p.fooled & ball.inside(p.image, p.x), p.scores, float("inf"))
            better = (rank < lowest[at]) | lowest[at].isinf()
            out[at[better]], lowest[at[better]] = p.image[better], rank[better]
            p.done = rank <= p.target.threshold
            won[at] = p.done
        rows = rows[~won[rows]]
        if not len(rows):
            break
    return out


def margin(z: Tensor, y: Tensor) -> Tensor:
    """(N,) the best other logit minus that of ``y``: above 0 where the answer is another. A loss to ascend."""
    own = F.one_hot(y, z.shape[1]).bool()
    return z.masked_fill(own, float("-inf")).amax(1) - z.gather(1, y[:, None])[:, 0]


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """(N,) a loss to descend: back to ``y``. Its slope vanishes where the answer is ``y`` with certainty, so it is none to ascend."""
    return F.cross_entropy(z, y, reduction="none")


def started(start: Start, x: Tensor, seeds: Tensor, ball: Bounds, share: float = 0.5) -> Tensor:
    """(N, C, H, W) where a descent begins: at the images, or uniform in a share of the ball, from each image's own seed."""
    if start == "natural" or ball.eps is None:
        return x
    moved = (2 * uniform(seeds, tuple(x.shape[1:])) - 1).to(x.dtype)
    moved = moved * (ball.eps * share) if ball.norm == "linf" else moved / length(moved).clamp_min(1e-12) * (ball.eps * share)
    return ball.project(x + moved, x)


def step_of(eps: float, step_size: float | None, gradient: Stop) -> float:
    """Size of one step of the paper's attacks where none is given: eps where the slope is taken at the view, eps / 4 at the image."""
    return step_size if step_size is not None else eps if gradient == "view" else eps / 4


def wide(rows: Tensor) -> Tensor:
    """(n,) as (n, 1, 1, 1) floats."""
    return rows.to(torch.float32).view(-1, 1, 1, 1)


def decayed(t: int, steps: int) -> float:
    """From 1 to .1 along a cosine: late steps are small, so that an image does not swing about the edge of what is not detected."""
    return 0.1 + 0.45 * (1 + float(torch.tensor(torch.pi * t / max(steps, 1), dtype=torch.float32).cos()))


def check_descent(
    eps: float | None, steps: int, norm: str, gradient: str, step_size: float | None = None, start: str = "natural", restarts: int = 0
) -> None:
    """Raise for settings that no descent has.

    Raises:
        UsageError: says what was found and what was expected.
    """
    check_settings(steps=(steps, 1, 100_000), restarts=(restarts, 0, 1000))
    most = 1.0 if norm == "linf" else 1e6
    if eps is not None:
        check_settings(eps=(eps, 0, most))
    if step_size is not None:
        check_settings(step_size=(step_size, 0, most))
    for name, value, known in (("norm", norm, NORMS), ("gradient", gradient, STOPS), ("start", start, STARTS)):
        if value not in known:
            raise UsageError(f"{name} must be one of {', '.join(known)}; found {value!r}")
