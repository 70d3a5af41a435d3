"""Of `python -m benchmarks.device`: time on a device, what is done in turn, and what a measurement says of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .attacks import ratio

FEWEST = 6  # rounds: an interval of the median with 95 % takes so many


@dataclass
class Clock:
    """Seconds on a device, whose work is over when they are read; on a processor those of this thread, whatever else runs there.

    Attributes:
        device: ``cpu`` or ``cuda``.
        seconds: that may be used in all, by the clock on the wall.
    """

    device: str
    seconds: float
    _began: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Seconds since some moment."""
        if self.device == "cpu":
            return time.thread_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.seconds - (time.monotonic() - self._began)

    def taken(self, work: Callable[[], Any]) -> float:
        """Seconds of one piece of work."""
        begin = self.now()
        work()
        return self.now() - begin


def in_turn(works: dict[str, Callable[[], float]], rounds: int, enough: Callable[[int], bool]) -> dict[str, list[float]]:
    """What each of some works says of itself, round after round, the order turned each time: ``rounds`` of them, fewer once ``enough`` have
    been, but not fewer than ``FEWEST``.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for k in range(rounds):
        if k >= FEWEST and enough(k):
            break
        for name in (names, names[::-1])[k % 2]:
            found[name].append(works[name]())
    return found


def described(seconds: list[float], today: list[float], images: int, operations: float | None, peak: float) -> dict[str, Any]:
    """Images a second by the median, the share of the peak, and how many times as fast as what runs today, with its interval.

    Args:
        seconds: of each round.
        today: of what runs today, in the same rounds.
        images: of a round.
        operations: of a round; None where they are not known.
        peak: operations a second at most.
    """
    each = sorted(seconds)[len(seconds) // 2]
    found: dict[str, Any] = {"images per second": round(images / each, 1), "times as fast as today": ratio(today, seconds)}
    return found | ({} if operations is None else {"share of peak": round(operations / each / peak, 4)})
