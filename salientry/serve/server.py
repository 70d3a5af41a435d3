"""What the routes of one service share: the guard at work, its worker, limits, keys, and what is watched and counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from numpy.typing import NDArray

from ..drift import FlagRate
from ..errors import UsageError, brief
from ..guard import Guard
from ..learned import fingerprint
from ..picture_check import PictureVerdict, picture_verdicts
from ..verdict import Verdict
from .access import Keys
from .journal import Kept, log
from .metrics import Metrics
from .refusals import Refused
from .settings import MODES, Batching, Limits
from .watch import Campaign, Monitor, RequestVerdicts, Watch
from .worker import Worker

T = TypeVar("T")
DECODERS = 4  # bodies that are decoded at the same time
SMALL = 2**15  # bytes of a body that is decoded at once


@dataclass
class Notes:
    """What is known of one request, for its line in the log.

    Attributes:
        request: its id.
        source: the name of its API key, or its address.
        trusted: whether it may be told more than that the service is there.
        images: how many it had.
        flagged: how many of them were flagged.
        waited: seconds that they waited.
        code: why there was no verdict; empty: there was one, or none was asked for.
    """

    request: str
    source: str
    trusted: bool = False
    images: int = 0
    flagged: int = 0
    waited: float | None = None
    code: str = ""


@dataclass
class Judged:
    """Images of one request and what was said of them.

    Attributes:
        guard: that judged them.
        verdict: of all.
        flagged: (N,).
        said: of the flagged ones, by their places.
    """

    guard: Guard
    verdict: Verdict
    flagged: list[bool]
    said: dict[int, PictureVerdict] = field(default_factory=dict)


class Server:
    """A guard at work. ``application.state.server`` is the one of an application.

    Attributes:
        guard: at work now.
        draining: whether new requests are refused.
        page: whether there is one.
        attack, examples: what was handed in for the page; not used here.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        name: str,
        mode: str,
        keys: Keys,
        limits: Limits,
        batching: Batching,
        monitor: Monitor | Literal[False] | None,
        campaign: Campaign | None,
        kept: Kept | None,
        page: bool,
        attack: Any,
        examples: Any,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"mode must be one of {', '.join(MODES)}; found {mode!r}")
        if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
            raise UsageError(f"the model's name stands in addresses: letters, digits, - _ and . expected; found {name!r}")
        self.name, self.mode, self.keys, self.limits, self.batching = name, mode, keys, limits, batching
        self.page, self.attack, self.examples = page or attack is not None or examples is not None, attack, examples
        self.metrics = Metrics()
        self._own_monitor = monitor is None
        self.watch = Watch(self.metrics, monitor or None, campaign, kept)
        self.worker = Worker(batching, self.metrics.batches.observe)
        self.metrics.queue.set_function(lambda: self.worker.waiting)
        self.metrics.under_way.set_function(lambda: self.under_way)
        self.draining, self.under_way, self.bytes_held = False, 0, 0
        self.started = time.time()
        self._decoders = ThreadPoolExecutor(DECODERS, "salientry-decode")
        self._take(guard)

    def _take(self, guard: Guard) -> None:
        self.guard, self.since = guard, time.time()
        self.identity = fingerprint(guard.detector)[:12]
        if self._own_monitor:
            self.watch.monitor = FlagRate(guard.level)
        self.metrics.level.set(guard.level)
        self.metrics.threshold.set(guard.threshold)

    def replace(self, guard: Guard) -> None:
        """Put another guard to work, from the next request on; those that wait are judged by the one that was there when they came.

        Args:
            guard: for images of the same shape and as many classes; on the device where it is to compute.

        Raises:
            UsageError: when it is for other images, or cannot judge one; then the old one stays.
        """
        try:
            if guard.shape != self.guard.shape:
                raise UsageError(f"the new guard is for images {guard.shape}; {self.guard.shape} expected, as before")
            s = guard.shape
            guard(torch.zeros(1, s.channels, s.height, s.width))  # what cannot judge is found out before it is at work
        except Exception as e:
            self.metrics.replaced.labels("failed").inc()
            log("guard_not_replaced", logging.ERROR, guard=self.identity, error=brief(e))
            raise
        old = self.identity
        self._take(guard)
        self.metrics.replaced.labels("done").inc()
        log("guard_replaced", guard=self.identity, before=old, threshold=guard.threshold)

    def drain(self) -> None:
        """Refuse new requests; those that are under way are answered."""
        if not self.draining:
            self.draining = True
            log("draining", under_way=self.under_way)

    def close(self) -> None:
        """Judge and note what waits, then end the threads."""
        self.drain()
        self.worker.close()
        self.watch.close()
        self._decoders.shutdown()

    async def decoded(self, size: int, read: Callable[[], T]) -> T:
        """What ``read`` gives; in a thread when the body has more than a few bytes, so that others are not kept waiting."""
        if size <= SMALL:
            return read()
        return await asyncio.get_running_loop().run_in_executor(self._decoders, read)

    async def judge(self, guard: Guard, images: NDArray[Any], notes: Notes, names: list[str] | None = None) -> Judged:
        """The guard's verdict, which is noted, too.

        Args:
            guard: that was at work when the request was read.
            images: (N, C, H, W), uint8, or float32 in [0, 1].
            notes: of the request; brought up to date.
            names: (N,) of the images; None: their numbers.

        Raises:
            Refused: when there are too many, or they would wait too long.
        """
        notes.images = len(images)
        verdict, waited = await self.worker.judge(guard, torch.from_numpy(images))
        notes.waited = waited
        self.metrics.waited.observe(waited)
        return self.noted(guard, verdict, images, notes, names)

    def noted(self, guard: Guard, verdict: Verdict, images: NDArray[Any], notes: Notes, names: list[str] | None = None) -> Judged:
        """A verdict that was given is counted, watched, logged and perhaps kept; see ``judge``."""
        flagged: list[bool] = verdict.flagged.tolist()
        notes.flagged = sum(flagged)
        at = [i for i, one in enumerate(flagged) if one]
        called = [names[i] if names else str(i) for i in at]
        said = dict(zip(at, picture_verdicts(guard, called, verdict[torch.tensor(at)]), strict=True)) if at else {}
        for verdict_, count in (("flagged", notes.flagged), ("clean", len(flagged) - notes.flagged)):
            if count:
                self.metrics.images.labels(verdict_).inc(count)
        if self.watch.monitor or self.watch.campaign or said:
            self.watch.note(RequestVerdicts(notes.request, notes.source, images, flagged, said))
        return Judged(guard, verdict, flagged, said)

    def refuse_many(self, count: int) -> None:
        """Raise when a request has more images than it may have."""
        if count > self.limits.images:
            raise Refused(413, "too_many_images", f"{count} images were sent; {self.limits.images} at most expected")
