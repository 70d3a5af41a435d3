"""What is done with verdicts after they were given: the flag rate and campaigns are watched, the log written, flagged images kept.

A thread of its own does it, in the order of the verdicts, so that no answer waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..picture_check import PictureVerdict
from .journal import Kept, log
from .metrics import Metrics

MOST = 1024  # verdicts of requests that wait to be noted


class Monitor(Protocol):
    """Watches the flag rate: is it what the threshold was calibrated for?"""

    @property
    def alarm(self) -> bool:
        """Whether it is not."""
        ...

    def update(self, flagged: Sequence[bool]) -> Any:
        """Hear of the next images, (N,)."""
        ...

    def summary(self) -> dict[str, Any]:
        """Its numbers."""
        ...


class Campaign(Protocol):
    """Watches each source for images that look like a search for a way past the guard."""

    @property
    def alarms(self) -> int:
        """How often one came to be reported."""
        ...

    @property
    def reported(self) -> list[str]:
        """Sources that are reported now."""
        ...

    def update(self, source: str, images: NDArray[Any], flagged: Sequence[bool]) -> list[bool]:
        """Hear of a source's next images, (N, C, H, W), uint8 or float in [0, 1] as they were judged; which of them belong to such a
        search.
        """
        ...


@dataclass(frozen=True)
class RequestVerdicts:
    """Of one request.

    Attributes:
        request: its id.
        source: who asked: the name of an API key, or an address.
        images: uint8 or float in [0, 1], (N, C, H, W), as they were judged.
        flagged: (N,).
        said: of the flagged images, by their places, the verdicts.
    """

    request: str
    source: str
    images: NDArray[Any]
    flagged: list[bool]
    said: dict[int, PictureVerdict]


class Watch:
    """Takes note of verdicts.

    Args:
        metrics: to bring up to date.
        monitor: of the flag rate; None: nobody watches it.
        campaign: of sources; None: nobody watches them.
        kept: where flagged images go; None: nowhere.
    """

    def __init__(self, metrics: Metrics, monitor: Monitor | None, campaign: Campaign | None, kept: Kept | None) -> None:
        self.metrics, self.monitor, self.campaign, self.kept = metrics, monitor, campaign, kept
        self._queue: queue.Queue[RequestVerdicts | None] = queue.Queue(MOST)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def note(self, verdicts: RequestVerdicts) -> None:
        """Take note soon; when too many wait, not at all, which is counted."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="salientry-watch", daemon=True)
                self._thread.start()
        try:
            self._queue.put_nowait(verdicts)
        except queue.Full:
            self.metrics.unnoted.inc()

    def settle(self) -> None:
        """Wait until all that was given is noted."""
        self._queue.join()

    def close(self) -> None:
        """Note what waits, and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    @property
    def alarms(self) -> list[str]:
        """What is not as it should be, in words."""
        found = []
        if self.monitor is not None and self.monitor.alarm:
            found.append("the flag rate is not what the threshold was calibrated for")
        if self.campaign is not None and (reported := self.campaign.reported):
            found.append(f"sources that look for a way past the guard: {len(reported)}")
        return found

    def _work(self) -> None:
        while (verdicts := self._queue.get()) is not None:
            try:
                self._noted(verdicts)
            except Exception as e:  # a monitor of somebody's; the service goes on
                log("not_noted", logging.ERROR, request_id=verdicts.request, error=f"{type(e).__name__}: {e}")
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _noted(self, v: RequestVerdicts) -> None:
        for at, said in v.said.items():
            facts = {k: getattr(said, k) for k in ("score", "threshold", "p_value", "predicted")}
            log("flagged", logging.WARNING, request_id=v.request, source=v.source, image=at, **facts, reason=said.why())
            if self.kept is not None:
                self.kept.keep(as_bytes(v.images[at]), said, v.request, v.source)
        if self.monitor is not None:
            before = self.monitor.alarm
            self.monitor.update(v.flagged)
            if self.monitor.alarm != before:
                log("flag_rate_alarm", logging.WARNING, on=self.monitor.alarm, **self.monitor.summary())
            self.metrics.flag_rate_alarm.set(self.monitor.alarm)
        if self.campaign is not None:
            known = self.campaign.alarms
            suspicious = self.campaign.update(v.source, v.images, v.flagged)
            if self.campaign.alarms > known:  # it begins; while it lasts, metrics and /health say so
                those = [i for i, one in enumerate(suspicious) if one]
                log("campaign", logging.WARNING, request_id=v.request, source=v.source, images=those, alarms=self.campaign.alarms)
            self.metrics.campaign_alarms.set(self.campaign.alarms)
            self.metrics.campaign_sources.set(len(self.campaign.reported))


def as_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8, from uint8 or floats in [0, 1]."""
    return image if image.dtype == np.uint8 else (image * 255).round().astype(np.uint8)
