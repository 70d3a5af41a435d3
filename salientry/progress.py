"""Progress: the library never prints, it calls whoever listens."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]
PROGRESS: contextvars.ContextVar[Progress] = contextvars.ContextVar("progress")


def ticking(items: Iterable[T], total: int, done: int = 0) -> Iterator[T]:
    """Hand the items on and call whoever listens with how far it is: ``PROGRESS.get()(done, total)``; ``done`` were there before."""
    report: Progress = PROGRESS.get(lambda done, total: None)
    for i, item in enumerate(items, done):
        report(i, total)
        yield item
