"""What attacks do that are told decisions alone: questions about images, each counted, and HopSkipJump's search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from ..randomness import uniform
from ._apgd import AGAIN

AT_ONCE = 256  # images in one pass
LEVELS = 255
PROBE = 0.5  # root mean square of a probe, in 8-bit levels: a smaller one is lost in the rounding
NOISE = 100  # images of noise that are tried as a start, where none is given
EDGE = 0.05  # how near an edge bisection comes, in 8-bit levels
SPARE = 16  # questions that are kept for the step after an estimate
TOGETHER = 32  # probes of an image that are asked at once

Asked = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]  # rows (m,), images (m, C, H, W): logits, scores, success (m,)
Noise = Callable[[Tensor, tuple[int, ...], int], Tensor]


@dataclass(frozen=True, eq=False)
class Searched:
    """What an attack by questions found.

    Attributes:
        images: (N, C, H, W) 8-bit images.
        success: (N,) whether each is another class than its label and not detected.
        queries: (N,) int64, how many images the defended classifier was asked about for each of them.
    """

    images: Tensor
    success: Tensor
    queries: Tensor


class Reply(NamedTuple):
    """To one question each: the 8-bit images (m, C, H, W) as they were asked, logits (m, K), scores (m,), success (m,)."""

    images: Tensor
    logits: Tensor
    scores: Tensor
    success: Tensor


class Questions:
    """Something that is asked about images and tells its answer, with a count for each image that is attacked.

    Args:
        x: naturals (N, C, H, W).
        queries: how often it may be asked for each.
        stored: images and their naturals to the 8-bit images that are asked about and kept.
        asked: rows (m,) of the naturals and images to logits, scores and success.

    Attributes:
        left: (N,) int64, how many questions each has left.
        nearest: (N, C, H, W) of the images that succeeded the nearest in L2 to the natural, as it was asked; the natural where none did.
        size: (N,) how far it is; inf where none did.
    """

    def __init__(self, x: Tensor, queries: int, stored: Callable[[Tensor, Tensor], Tensor], asked: Asked) -> None:
        self.x, self.queries, self.stored, self.asked = x, queries, stored, asked
        self.left = torch.full((len(x),), queries, dtype=torch.int64, device=x.device)
        self.nearest, self.size = stored(x, x), x.new_full((len(x),), float("inf"))

    @property
    def success(self) -> Tensor:
        """(N,) whether an image succeeded."""
        return self.size.isfinite()

    @property
    def found(self) -> Searched:
        """So far."""
        return Searched(self.nearest, self.success, self.queries - self.left)

    def ask(self, rows: Tensor, images: Tensor) -> Reply:
        """Ask about images (m, C, H, W) in the ball of the naturals ``rows`` (m,), ascending; one may stand there several times."""
        self.left.index_add_(0, rows, torch.full_like(rows, -1))
        assert not len(rows) or int(self.left.min()) >= 0, "asked more often than the budget allows"
        stored = self.stored(images, self.x[rows])
        parts = [self.asked(rows[k : k + AT_ONCE], stored[k : k + AT_ONCE]) for k in range(0, max(len(rows), 1), AT_ONCE)]
        answer = Reply(stored, *(torch.cat(p) for p in zip(*parts, strict=True)))
        self._keep(rows, answer)
        return answer

    def _keep(self, rows: Tensor, answer: Reply) -> None:
        """The nearest success of each; of several as near the first."""
        size = length(answer.images - self.x[rows]).flatten().masked_fill(~answer.success, float("inf"))
        self.size.scatter_reduce_(0, rows, size, "amin")
        best = torch.nonzero(answer.success & (size == self.size[rows])).flatten()
        best = best[torch.diff(rows[best], prepend=rows.new_tensor([-1])) > 0]
        self.nearest[rows[best]] = answer.images[best]


def uniform_noise(seeds: Tensor, shape: tuple[int, ...], k: int) -> Tensor:
    """(N, C, H, W) the k-th images of noise, the paper's start."""
    return uniform(seeds - AGAIN * (k + 1), shape)


def hopped(oracle: Questions, seeds: Tensor, probes: int, starts: Tensor | None = None, noise: Noise = uniform_noise) -> Searched:
    """HopSkipJump's search (Chen, Jordan, Wainwright 2020, Algorithm 2): from an image that succeeds a bisection of the way to the natural
    one, an estimate of the edge's direction, a step along it; and again, until the questions are used up.

    Args:
        oracle: what is asked.
        seeds: (N,) draw the random changes, and the noise.
        probes: random changes in the first iteration.
        starts: (M, C, H, W) images from which each takes the nearest that succeeds; None: ``noise``.
        noise: seeds, shape and a number to images that are tried in turn.
    """
    every = torch.arange(len(oracle.x), device=oracle.x.device)
    oracle.ask(every, oracle.x)
    rows, here = started(oracle, every[~oracle.success], seeds, starts, noise)
    for t in count(1):
        here = bisected(oracle, rows, here)
        go = oracle.left[rows] >= 2 * SPARE
        rows, here = rows[go], here[go]
        if not len(rows):
            break
        way = direction(oracle, rows, here, seeds, round(probes * t**0.5))
        here = stepped(oracle, rows, here, way, t)
    return oracle.found


def started(oracle: Questions, rows: Tensor, seeds: Tensor, starts: Tensor | None, noise: Noise) -> tuple[Tensor, Tensor]:
    """Which of the images ``rows`` found a start, and their starts: the nearest that succeeds, one question each; of noise the first."""
    x, found, begun = oracle.x, torch.zeros_like(oracle.x), torch.zeros(len(oracle.x), dtype=torch.bool, device=rows.device)
    if starts is not None:
        order = torch.cdist(x.flatten(1), starts.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").argsort(dim=1, stable=True)
    for k in range(NOISE if starts is None else len(starts)):
        waits = rows[~begun[rows] & (oracle.left[rows] > 0)]
        if not len(waits):
            break
        tried = noise(seeds[waits], tuple(x.shape[1:]), k).to(x.dtype) if starts is None else starts[order[waits, k]]
        good = oracle.ask(waits, tried).success
        found[waits[good]], begun[waits[good]] = tried[good], True
    rows = rows[begun[rows]]
    return rows, found[rows]


def bisected(oracle: Questions, rows: Tensor, far: Tensor) -> Tensor:
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


def direction(oracle: Questions, rows: Tensor, here: Tensor, seeds: Tensor, probes: int) -> Tensor:
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


def stepped(oracle: Questions, rows: Tensor, here: Tensor, way: Tensor, t: int) -> Tensor:
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


def length(moved: Tensor) -> Tensor:
    """(N, 1, 1, 1) L2 norm of each image's values."""
    found: Tensor = torch.linalg.vector_norm(moved.flatten(1), dim=1).view(-1, 1, 1, 1)
    return found
