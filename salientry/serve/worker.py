"""One thread owns the device: requests wait in a queue of bounded length and are judged together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..guard import Guard
from ..verdict import Verdict
from .refusals import Refused, overloaded
from .settings import Batching

T = TypeVar("T")


@dataclass(eq=False)
class Job:
    """The images of one request.

    Attributes:
        guard: that judges them: the one that was there when they came.
        images: (N, C, H, W), float32 in [0, 1] or uint8.
        loop: that waits for the answer.
        answer: what it waits for: the verdict, and the seconds that the images waited.
        since: when they came, as ``time.monotonic`` says it.
    """

    guard: Guard
    images: Tensor
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[tuple[Verdict, float]]
    since: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(eq=False)
class OtherWork:
    """Work on the device that is no pass of the guard: it has its turn, alone, and counts as one image in the queue.

    Attributes:
        work: what is done.
        loop: that waits for the answer.
        answer: what it waits for: what the work gives.
        since: when it came.
    """

    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return 1


class Worker:
    """Judges images of many requests, several requests at once, in the order in which they came; does other work on the device in between.

    Its thread starts with the first request, so it needs no lifespan of an application, and ends when it is closed.

    Args:
        batching: how many images at once, how long they wait.
        heard: hears of each pass: how many images it had.
    """

    def __init__(self, batching: Batching, heard: Callable[[int], Any] = lambda count: None) -> None:
        self.batching, self._heard = batching, heard
        self._jobs: deque[Job | OtherWork] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._waiting

    async def judge(self, guard: Guard, images: Tensor) -> tuple[Verdict, float]:
        """The guard's verdict on one request's images, and the seconds that they waited for it.

        Raises:
            Refused: 503 when the queue is full, the images waited longer than the deadline, or the worker is closed.
            Exception: what the guard raises.
        """
        loop = asyncio.get_running_loop()
        job = Job(guard, images, loop, loop.create_future())
        self._put(job)
        return await job.answer

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, which has its turn on the device as images have.

        Raises:
            Refused: as ``judge``.
            Exception: what the work raises.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._put(OtherWork(work, loop, answer))
        return await answer

    def _put(self, job: Job | OtherWork) -> None:
        """Let it wait for its turn, or refuse it."""
        with self._changed:
            if self._closed:
                raise closing()
            if self._jobs and self._waiting + len(job) > self.batching.queue:
                raise overloaded(f"{self._waiting} images wait already; come again")
            self._jobs.append(job)
            self._waiting += len(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="salientry-serve", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Judge what waits, take nothing more, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return
                self._fill()
                late, jobs = self._taken()
            _give([(job, overloaded("the images waited too long; come again", "too_late")) for job in late])
            if isinstance(jobs, OtherWork):
                _do(jobs)
            elif jobs:
                self._judge(jobs)

    def _fill(self) -> None:
        """Wait until there are images for a whole pass, or the first one has waited for others long enough; other work waits for nobody."""
        if isinstance(self._jobs[0], OtherWork):
            return
        end = self._jobs[0].since + self.batching.wait
        while self._waiting < self.batching.size and not self._closed and (left := end - time.monotonic()) > 0:
            self._changed.wait(left)

    def _taken(self) -> tuple[list[Job | OtherWork], list[Job] | OtherWork]:
        """Requests that waited too long, and those of the next pass, or the next other work, both out of the queue."""
        now, late, jobs, count = time.monotonic(), list[Job | OtherWork](), list[Job](), 0
        task: OtherWork | None = None
        while self._jobs:
            job = self._jobs[0]
            if now - job.since > self.batching.deadline:
                late.append(job)
            elif isinstance(job, OtherWork):
                if jobs:
                    break
                task = job
            elif not jobs or (job.guard is jobs[0].guard and count + len(job) <= self.batching.size):
                jobs.append(job)
                count += len(job)
            else:
                break
            self._jobs.popleft()
            if task is not None:
                break
        self._waiting -= count + sum(map(len, late)) + (task is not None)
        return late, jobs if task is None else task

    def _judge(self, jobs: list[Job]) -> None:
        """One pass; where it fails each request by itself, so that none pays for another."""
        began = time.monotonic()
        try:
            images = jobs[0].images if len(jobs) == 1 else torch.cat([_floats(job.images) for job in jobs])
            verdict = on_cpu(jobs[0].guard(images, batch=self.batching.size))
        except Exception as e:
            if len(jobs) == 1:
                _give([(jobs[0], e)])
            else:
                for job in jobs:
                    self._judge([job])
            return
        self._heard(len(verdict))
        ends = torch.tensor([len(job) for job in jobs]).cumsum(0).tolist()
        parts = [verdict[end - len(job) : end] for job, end in zip(jobs, ends, strict=True)]
        _give([(job, (part, began - job.since)) for job, part in zip(jobs, parts, strict=True)])


def _do(task: OtherWork) -> None:
    """Other work, unless whoever asked has gone."""
    if task.answer.cancelled():
        return
    answer: Any
    try:
        answer = task.work()
    except Exception as e:
        answer = e
    _give([(task, answer)])


def closing() -> Refused:
    """What a request is answered that comes after the end."""
    return overloaded("the service is shutting down", "shutting_down")


def on_cpu(verdict: Verdict) -> Verdict:
    """The same verdict in plain memory; without the map, which no answer has."""
    kept: dict[str, Any] = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in vars(verdict).items()}
    return Verdict(**kept | {"map": None, "answers": {k: v.cpu() for k, v in verdict.answers.items()}})


def _floats(images: Tensor) -> Tensor:
    """As a guard reads them."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images


def _give(answers: Sequence[tuple[Job | OtherWork, Any]]) -> None:
    """Hand results and errors to the loops that wait for them."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job | OtherWork, Any]]] = {}
    for job, answer in answers:
        by_loop.setdefault(job.loop, []).append((job, answer))
    for loop, found in by_loop.items():
        with contextlib.suppress(RuntimeError):  # a loop that is closed waits for nothing
            loop.call_soon_threadsafe(_set, found)


def _set(answers: list[tuple[Job | OtherWork, Any]]) -> None:
    for job, answer in answers:
        if job.answer.done():  # whoever asked has gone
            continue
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
