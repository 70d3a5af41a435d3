"""What the attacks without a gradient share: questions to the defended classifier, each counted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from ..errors import UsageError
from ..inputs import as_seeds, plainly
from ..learned import frozen
from ._defended import Defended
from ._descent import Bounds, length
from ._validation import given

AT_ONCE = 256  # images in one pass
MOST = 10_000_000  # questions about an image


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


class Oracle:
    """A defended classifier that is asked about images and tells its answer, with a count for each image that is attacked.

    Args:
        target: what is attacked.
        x: naturals (N, C, H, W).
        y: labels to leave (N,).
        ball: where images may lie, and that they are stored as 8-bit ones.
        queries: how often it may be asked for each.

    Attributes:
        left: (N,) int64, how many questions each has left.
        nearest: (N, C, H, W) of the images that succeeded the nearest in L2 to the natural, as it was asked; the natural where none did.
        size: (N,) how far it is; inf where none did.
    """

    def __init__(self, target: Defended, x: Tensor, y: Tensor, ball: Bounds, queries: int) -> None:
        self.target, self.x, self.y, self.ball, self.queries = target, x, y, ball, queries
        self.left = torch.full((len(x),), queries, dtype=torch.int64, device=x.device)
        self.nearest, self.size = ball.stored(x, x), x.new_full((len(x),), float("inf"))

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
        stored = self.ball.stored(images, self.x[rows])
        parts = [self._asked(rows[k : k + AT_ONCE], stored[k : k + AT_ONCE]) for k in range(0, max(len(rows), 1), AT_ONCE)]
        answer = Reply(stored, *(torch.cat(p) for p in zip(*parts, strict=True)))
        self._keep(rows, answer)
        return answer

    def _asked(self, rows: Tensor, stored: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        target = self.target.take(rows)
        logits, scores = target.seen(stored)
        return logits, scores, target.succeeds(logits, scores, self.y[rows])

    def _keep(self, rows: Tensor, answer: Reply) -> None:
        """The nearest success of each; of several as near the first."""
        size = length(answer.images - self.x[rows]).flatten().masked_fill(~answer.success, float("inf"))
        self.size.scatter_reduce_(0, rows, size, "amin")
        best = torch.nonzero(answer.success & (size == self.size[rows])).flatten()
        best = best[torch.diff(rows[best], prepend=rows.new_tensor([-1])) > 0]
        self.nearest[rows[best]] = answer.images[best]


Search = TypeVar("Search", bound=Callable[..., Searched])


def counted(search: Search) -> Search:
    """An attack's ``search`` that is handed ordinary images, labels and seeds, and private copies of what is attacked, in eval mode;
    what else it takes is handed on. Modes and graphs around it are as they were.

    Raises:
        UsageError: for images, labels or seeds outside the conventions.
    """

    @functools.wraps(search)
    def call(self: Any, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor, **more: Any) -> Searched:
        x, y = given(target, x, y)
        seeds = as_seeds(seeds, len(x))
        with plainly(grad=False):
            target = target.apart()
            with frozen(*target.modules):
                return search(self, target, x, y, seeds=seeds, **more)

    return cast(Search, call)


def check_queries(queries: int, least: int = 1) -> None:
    """Raise for a budget that is no number of questions, or too small for an attack to begin.

    Raises:
        UsageError: says what was found and what was expected.
    """
    if not isinstance(queries, int) or isinstance(queries, bool) or not least <= queries <= MOST:
        raise UsageError(f"queries must be a whole number from {least} to {MOST}; found {queries!r}")
