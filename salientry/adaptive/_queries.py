"""What the attacks without a gradient share: questions to the defended classifier, each counted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import Tensor

from ..attacks._decisions import Questions, Searched
from ..errors import UsageError
from ..inputs import as_seeds, plainly
from ..learned import frozen
from ._defended import Defended
from ._descent import Bounds
from ._validation import given

MOST = 10_000_000  # questions about an image


class Oracle(Questions):
    """A defended classifier that is asked about images and tells its answer, with a count for each image that is attacked.

    Args:
        target: what is attacked.
        x: naturals (N, C, H, W).
        y: labels to leave (N,).
        ball: where images may lie, and that they are stored as 8-bit ones.
        queries: how often it may be asked for each.
    """

    def __init__(self, target: Defended, x: Tensor, y: Tensor, ball: Bounds, queries: int) -> None:
        def asked(rows: Tensor, stored: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            defended = target.take(rows)
            logits, scores = defended.seen(stored)
            return logits, scores, defended.succeeds(logits, scores, y[rows])

        super().__init__(x, queries, ball.stored, asked)


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
