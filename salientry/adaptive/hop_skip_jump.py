"""How far must one go to fool the classifier undetected, when it tells its decisions alone?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..attacks._decisions import Searched, hopped
from ..attacks._gradient import check_settings
from ..inputs import as_images
from ._defended import Defended
from ._descent import Bounds
from ._queries import Oracle, check_queries, counted


@dataclass(frozen=True)
class HopSkipJump:
    """The smallest L2 perturbation found from decisions alone (Chen, Jordan, Wainwright 2020, Algorithm 2): one bit a question, whether an
    8-bit image is another class than ``y`` and not detected. No gradient, logit or score is read.

    From an image that succeeds: a bisection of the way to the natural image; at the edge, the direction in which more of many small random
    changes succeed than do not; a step along it of the distance over the root of the number of the iteration, halved until it succeeds;
    and again.

    Departures: an image begins at the nearest of ``starts`` (as a rule, natural images of other classes) that succeeds; at the paper's
    noise only where none are given, for a detector may flag all noise. The random changes are half a level of 8 bits a value, where the
    paper's shrink with the distance, for rounding would swallow those; the estimate weighs what rounding left of them. The bisection ends
    within a twentieth of a level, not at a share of the way. The number of iterations follows from the budget. What is given back is the
    nearest of all images that succeeded.

    Cost: one question about the natural, one for each start that is tried, and in iteration t ``probes`` times the root of t and some 10
    to 20; no more than ``queries`` in all. The last estimate takes what is left.

    Attributes:
        queries: how many images may be asked about, for each image.
        probes: random changes in the first iteration.

    Raises:
        UsageError: for settings out of range or images outside the conventions.
    """

    queries: int = 2000
    probes: int = 100

    eps, norm = None, "l2"

    def __post_init__(self) -> None:
        check_queries(self.queries)
        check_settings(probes=(self.probes, 2, 1_000_000))

    def __call__(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor, starts: Tensor | None = None) -> Tensor:
        """The images of :meth:`search`."""
        return self.search(target, x, y, seeds=seeds, starts=starts).images

    @counted
    def search(self, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor, starts: Tensor | None = None) -> Searched:
        """The nearest 8-bit images that succeeded; where none did (no start passes, or the budget ended before one), the natural images.

        Args:
            target: what is attacked.
            x: (N, C, H, W).
            y: (N,) labels to leave.
            seeds: (N,) draw the random changes, and the noise.
            starts: (M, C, H, W) images from which each takes the nearest that succeeds; None: uniform noise, 100 images at most.
        """
        given = None if starts is None else as_images(starts, tuple(x.shape[1:]), dtype=x.dtype)  # type: ignore[arg-type]
        return hopped(Oracle(target, x, y, Bounds(None, "l2"), self.queries), seeds, self.probes, given)
