"""How far must one go to fool the classifier undetected, when it tells its decisions alone?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from ..attacks._gradient import check_settings
from ..inputs import as_images
from ..randomness import uniform
from ._defended import Defended
from ._descent import AGAIN, LEVELS, Bounds, length
from ._queries import Oracle, Searched, check_queries, counted

PROBE = 0.5  # root mean square of a probe, in 8-bit levels: a smaller one is lost in the rounding
NOISE = 100  # images of noise that are tried as a start, where none is given
EDGE = 0.05  # how near an edge bisection comes, in 8-bit levels
SPARE = 16  # questions that are kept for the step after an estimate
TOGETHER = 32  # probes of an image that are asked at once


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
        (c, h, w), every = x.shape[1:], torch.arange(len(x), device=x.device)
        oracle = Oracle(target, x, y, Bounds(None, "l2"), self.queries)
        oracle.ask(every, x)
        rows, here = started(oracle, every[~oracle.success], seeds, None if starts is None else as_images(starts, (c, h, w), dtype=x.dtype))
        for t in count(1):
            here = bisected(oracle, rows, here)
            go = oracle.left[rows] >= 2 * SPARE
            rows, here = rows[go], here[go]
            if not len(rows):
                break
            way = direction(oracle, rows, here, seeds, round(self.probes * t**0.5))
            here = stepped(oracle, rows, here, way, t)
        return oracle.found


def started(oracle: Oracle, rows: Tensor, seeds: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which of the images ``rows`` found a start, and their starts: the nearest that succeeds, one question each; of noise the first."""
    x, found, begun = oracle.x, torch.zeros_like(oracle.x), torch.zeros(len(oracle.x), dtype=torch.bool, device=rows.device)
    if starts is not None:
        order = torch.cdist(x.flatten(1), starts.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").argsort(dim=1, stable=True)
    for k in range(NOISE if starts is None else len(starts)):
        waits = rows[~begun[rows] & (oracle.left[rows] > 0)]
        if not len(waits):
            break
        tried = uniform(seeds[waits] - AGAIN * (k + 1), tuple(x.shape[1:])).to(x.dtype) if starts is None else starts[order[waits, k]]
        good = oracle.ask(waits, tried).success
        found[waits[good]], begun[waits[good]] = tried[good], True
    rows = rows[begun[rows]]
    return rows, found[rows]


def bisected(oracle: Oracle, rows: Tensor, far: Tensor) -> Tensor:
    """(n, C, H, W) points between the naturals and points that succeed: as near as bisection finds one that succeeds too."""
    x, low, high = oracle.x[rows], far.new_zeros(len(far)), far.new_ones(len(far))
    reach = length(far - x).flatten()
    while True:
        live = torch.nonzero(((high - low) * reach > EDGE / LEVELS) & (oracle.left[rows] > 0)).flatten()
        if not len(live):
            return x + high.view(-1, 1, 1, 1) * (far - x)
        middle = (low[live] + high[live]) / 2
        good = oracle.ask(rows[live], x[live] + middle.view(-1, 1, 1, 1) * (far - x)[live]).success
        high[live[good]], low[live[~good]] = middle[good], middle[~good]


def direction(oracle: Oracle, rows: Tensor, here: Tensor, seeds: Tensor, probes: int) -> Tensor:
    """(n, C, H, W) of length 1, into where images succeed: the mean of random changes, each weighed by 1 where it succeeds, else by -1,
    less the mean weight (the paper's equations 15 and 16).
    """
    shape, size = tuple(here.shape[1:]), PROBE / LEVELS * here[0].numel() ** 0.5
    counts = (oracle.left[rows] - SPARE).clamp(0, probes)
    plain, weighed, weight = torch.zeros_like(here), torch.zeros_like(here), here.new_zeros(len(here))
    for first in range(0, int(counts.max()), TOGETHER):
        asked = torch.arange(first, first + TOGETHER, device=rows.device) < counts[:, None]
        draw = 2 * uniform(seeds[rows] + AGAIN * (oracle.queries - oracle.left[rows]), (TOGETHER, *shape))[asked].double() - 1
        change = torch.erfinv((draw + 2.0**-24).to(here.dtype))  # normal, so that every direction is as likely
        at = asked.nonzero()[:, 0]
        answer = oracle.ask(rows[at], here[at] + size * change / length(change).clamp_min(1e-12))
        moved, sign = answer.images - here[at], 2 * answer.success.to(here.dtype) - 1
        plain.index_add_(0, at, moved)
        weighed.index_add_(0, at, moved * sign.view(-1, 1, 1, 1))
        weight.index_add_(0, at, sign)
    mean = weight / counts.clamp_min(1)
    against = torch.where(mean.abs() < 1, mean, 0.0)  # where all answers agree their mean says nothing
    way = weighed - against.view(-1, 1, 1, 1) * plain
    return way / length(way).clamp_min(1e-12)


def stepped(oracle: Oracle, rows: Tensor, here: Tensor, way: Tensor, t: int) -> Tensor:
    """(n, C, H, W) after a step that succeeds, of the distance over the root of t, halved until it does; where none did, as before."""
    size, out = length(here - oracle.x[rows]).flatten() / t**0.5, here.clone()
    waits = torch.arange(len(rows), device=rows.device)
    while len(waits := waits[(size[waits] > PROBE / LEVELS) & (oracle.left[rows[waits]] > 0)]):
        tried = (here[waits] + size[waits].view(-1, 1, 1, 1) * way[waits]).clamp(0, 1)
        good = oracle.ask(rows[waits], tried).success
        out[waits[good]] = tried[good]
        waits = waits[~good]
        size[waits] /= 2
    return out
