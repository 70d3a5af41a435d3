"""The engine that computes independent steps side by side in worker processes.

The process that was called computes nothing then: it hands out steps, hears of progress and warnings, and keeps the books.
Each worker has one thread, gets the graph once and after that only the numbers of handles, and reads its inputs from the
store. So a result has the same bytes as one that was computed in one process. A worker whose line to the caller breaks ends
at once, in the middle of a step if it must be: nobody computes for a caller who is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import torch

from ..errors import CheckFailed, Error
from ..machine import THREADS, cores
from ..processes import no_interrupt, works_for
from ..progress import PROGRESS, Progress
from .graph import Computation, Schedule
from .step import Handle

KEPT = 64  # results that a worker keeps at hand
BETWEEN = 0.1  # seconds between two words of progress
MOST_THREADS = 4  # of a training: two are 1.3 times as fast as one, so that more gain less than another step would
WORTH = 30.0  # expected seconds from which worker processes gain more than it costs to start them


class NotPicklable(Exception):
    """The steps, or what they depend on, cannot be sent to another process."""


class Computing(Protocol):
    """Who computes: a run."""

    def get(self, h: Handle) -> Any:
        """The result."""

    def forget(self, kept: int) -> None:
        """Let go of the oldest results in memory."""


def worth(workers: int | None, device: str, seconds: Mapping[str, float]) -> int:
    """How many processes compute.

    Args:
        workers: as somebody asked for; None: one a core where that is worth starting them: on the processor, in no worker process itself,
            and when more than half a minute is expected.
        device: that is computed on.
        seconds: how long each missing step is expected to take.
    """
    if workers is not None:
        return workers
    able = device == "cpu" and multiprocessing.parent_process() is None
    return cores() if able and sum(seconds.values()) > WORTH else 1


# --- the caller's side -----------------------------------------------------------------------------------------


def side_by_side(maker: Computing, work: Computation, count: int, seconds: Mapping[str, float], spare: int = 0) -> None:
    """Compute what is missing in worker processes.

    Args:
        maker: who computes; it is sent to each worker.
        work: is brought up to date step by step.
        count: of workers.
        spare: threads that may run beside one a worker.
        seconds: how long a step is expected to take, by key.

    Raises:
        NotPicklable: when the graph cannot be sent; nothing that was finished is lost.
        Error: whatever a step raised, but for a failed sanity check; or a worker died.
    """
    try:
        payload = pickle.dumps((maker, work.todo))
    except Exception as e:  # pickling runs code of whoever wrote the settings
        raise NotPicklable(f"{type(e).__name__}: {e}") from e
    context, workers = multiprocessing.get_context("spawn"), _Workers()
    (theirs, line), said = context.Pipe(duplex=False), context.SimpleQueue()
    with theirs, line, ProcessPoolExecutor(count, context, _begin, (payload, os.getcwd(), theirs, said)) as pool:
        try:
            _lead(pool, workers, said, work, Schedule(work, seconds), (count, count + spare))
        except BrokenProcessPool:
            workers.terminate_all(pool)
            raise workers.died(work) from None
        except BaseException:
            workers.terminate_all(pool)
            raise


class _Workers:
    """The workers' processes, and what each was last heard to compute."""

    def __init__(self) -> None:
        self.others = multiprocessing.active_children()
        self.processes: dict[int | None, BaseProcess] = {}
        self.steps: dict[int | None, int] = {}

    def update(self) -> None:
        """Note who is there."""
        self.processes |= {p.pid: p for p in multiprocessing.active_children() if p not in self.others}

    def terminate_all(self, pool: ProcessPoolExecutor) -> None:
        """End them at once: what is half done takes no place in the store."""
        for process in self.processes.values():
            process.terminate()
        pool.shutdown(cancel_futures=True)

    def died(self, work: Computation) -> Error:
        """What to say of the one that ended by itself, after all are gone."""
        codes = {pid: process.exitcode for pid, process in self.processes.items()}
        pid, code = min(codes.items(), key=lambda item: item[1] in (None, 0, -signal.SIGTERM))  # not one that was sent home
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how += f", {signal.Signals(-code).name}"
            how += ": perhaps the memory was full" if code == -9 else ""
        h = work.todo[self.steps[pid]] if pid in self.steps else None
        at = f"while it computed step {h.step.name} ({h.slug})" if h and h.step else "before it computed anything"
        return Error(f"a worker process died ({how}) {at}; complete results are kept: the same call continues from there")


def _lead(pool: ProcessPoolExecutor, workers: _Workers, said: Any, work: Computation, schedule: Schedule, most: tuple[int, int]) -> None:
    """Hand out steps until all are finished, and pass on what the workers say; ``most``: steps, and threads, at a time."""
    registry: dict[str | tuple[str, type[Warning], int], int] = {}  # so that a warning is shown as often as in one process
    running: dict[Future[tuple[float, str | None]], tuple[int, Progress | None]] = {}
    used: dict[Future[tuple[float, str | None]], int] = {}  # threads
    while len(work.finished) < len(work.todo):
        while len(running) < most[0] and sum(used.values()) < most[1] and (i := schedule.next()) is not None:
            on_progress = work.starts(work.todo[i])
            threads = threads_of(work.todo[i], most[1] - sum(used.values()), len(schedule.ready))
            with no_interrupt():  # Ctrl-C is meant for the caller, who ends them
                future = pool.submit(_compute, i, threads)
            running[future], used[future] = (i, on_progress), threads
            workers.update()
        done, _ = wait(running, 2 * BETWEEN, FIRST_COMPLETED)
        listeners = dict(running.values())
        while not said.empty():
            pid, i, share, caught = said.get()
            workers.steps[pid] = i
            for warned, filename, lineno in caught:
                warnings.warn_explicit(warned, type(warned), filename, lineno, registry=registry)
            if share and (hears := listeners.get(i)):
                hears(*share)
        for future in done:
            (i, on_progress), _ = running.pop(future), used.pop(future)
            took, failed = future.result()
            if on_progress:
                on_progress(1, 1)
            work.ends(work.todo[i], took, failed)
            schedule.ends(i)


def threads_of(h: Handle, free: int, waiting: int) -> int:
    """The threads of a step: one; of a long training in the mode ``threads`` its part of those that are free, when no more steps wait."""
    able = h.step is not None and h.step.threads and h.numerics == "threads"
    return min(max(free // (1 + waiting), 1), MOST_THREADS) if able else 1


# --- the worker's side -----------------------------------------------------------------------------------------


Noted = tuple[Warning, str, int]
_here: dict[str, Any] = {}  # of a worker: the graph, packed and unpacked, and where its words go


def _begin(payload: bytes, folder: str, line: Connection, said: Any) -> None:
    """A worker begins."""
    works_for(line)
    os.chdir(folder)
    _keep_memory()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    _here.update(payload=payload, said=said)


def _keep_memory() -> None:
    """Keep freed memory instead of giving it back to the system page by page: a tenth of the time of small convolutions (glibc only)."""
    with contextlib.suppress(Exception):
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 2**25), (-1, 2**31 - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            libc.mallopt(option, value)


def _compute(i: int, threads: int) -> tuple[float, str | None]:
    """Compute a step: its seconds, and why a sanity check failed."""
    maker, todo = _graph()
    THREADS.set(threads)
    sent = 0.0

    def say(share: tuple[int, int] | None, caught: list[Noted]) -> None:
        _here["said"].put((os.getpid(), i, share, caught))

    def progress(done: int, of: int) -> None:
        nonlocal sent
        if time.monotonic() - sent > BETWEEN:
            sent = time.monotonic()
            say((done, of), [])

    say(None, [])
    PROGRESS.set(progress)
    began, failed = time.perf_counter(), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            maker.get(todo[i])
        except CheckFailed as e:
            failed = str(e)
        except BaseException as e:
            raise portable(e, RuntimeError)  # noqa: B904  # its traceback travels
        finally:
            say(None, plain_warnings(caught))
    maker.forget(KEPT)
    return time.perf_counter() - began, failed


def _graph() -> tuple[Computing, list[Handle]]:
    """Who computes, and everything there is to compute.

    Raises:
        NotPicklable: when it did not arrive.
    """
    if "graph" not in _here:
        try:
            _here["graph"] = pickle.loads(_here["payload"])
        except Exception as e:
            raise NotPicklable(f"{type(e).__name__}: {e}") from None
    found: tuple[Computing, list[Handle]] = _here["graph"]
    return found


def plain_warnings(caught: list[warnings.WarningMessage]) -> list[Noted]:
    """Warnings as they travel."""
    found = [w.message if isinstance(w.message, Warning) else w.category(w.message) for w in caught]
    return [(portable(m, UserWarning), w.filename, w.lineno) for m, w in zip(found, caught, strict=True)]


def portable(e: BaseException, otherwise: type[Exception]) -> Any:
    """The exception itself if it survives the journey with its notes, else its text."""
    try:
        pickle.loads(pickle.dumps(e))
        return e
    except Exception:
        plain = otherwise(f"{type(e).__name__}: {e}")
        for note in getattr(e, "__notes__", []):
            plain.add_note(note)
        return plain
