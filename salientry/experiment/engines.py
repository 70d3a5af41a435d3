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
import queue
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import torch

from ..errors import Error, GateFailed
from ..progress import PROGRESS, Progress
from .handles import Handle
from .schedule import Computation, Schedule

KEPT = 64  # results that a worker keeps at hand
BETWEEN = 0.1  # seconds between two words of progress
PATIENCE = 5.0  # seconds that a worker has to end by itself


class Unsendable(Exception):
    """The steps, or what they stand on, cannot be sent to another process."""


class Maker(Protocol):
    """Who computes: a run."""

    def get(self, h: Handle) -> Any:
        """The result."""

    def forget(self, kept: int) -> None:
        """Let go of the oldest results in memory."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- the caller's side -----------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """A worker process as its caller sees it."""

    process: BaseProcess
    line: Connection
    loaded: bool = False
    step: int | None = None
    heard: Progress | None = None

    def died(self, work: Computation) -> Error:
        """What to say of it when its line broke."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how += f", {signal.Signals(-code).name}"
            how += ": perhaps the memory was full" if code == -9 else ""
        h = None if self.step is None else work.todo[self.step]
        at = f"while it computed step {h.step.name} ({h.slug})" if h and h.step else "before it computed anything"
        return Error(f"a worker process died ({how}) {at}; what was complete is kept: the same call goes on from there")


def side_by_side(maker: Maker, work: Computation, count: int, seconds: Mapping[str, float]) -> None:
    """Compute what is missing in worker processes.

    Args:
        maker: who computes; it is sent to each worker.
        work: is brought up to date step by step.
        count: of workers.
        seconds: how long a step is expected to take, by key.

    Raises:
        Unsendable: when the graph cannot be sent; nothing that was settled is lost.
        Error: whatever a step raised, but for a failed sanity check; or a worker died.
    """
    try:
        payload = pickle.dumps((maker, work.todo))
    except Exception as e:  # pickling runs code of whoever wrote the settings
        raise Unsendable(f"{type(e).__name__}: {e}") from e
    crew: list[_Worker] = []
    try:
        _hire(crew, count)
        _lead(crew, work, Schedule(work, seconds), payload)
    finally:
        _dismiss(crew)


def _hire(crew: list[_Worker], count: int) -> None:
    """Start the workers. They hear no Ctrl-C: it is meant for the caller, who ends them."""
    context = multiprocessing.get_context("spawn")
    for _ in range(count):
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, os.getcwd()), daemon=True, name="salientry-worker")
        with _no_interrupt():
            process.start()
        theirs.close()
        crew.append(_Worker(process, mine))


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """SIGINT waits until afterwards; a process that is started inside never gets it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dismiss(crew: list[_Worker]) -> None:
    """Break the lines, whereupon the workers end at once; wait until they are gone."""
    for worker in crew:
        worker.line.close()
    for worker in crew:
        worker.process.join(PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _lead(crew: list[_Worker], work: Computation, schedule: Schedule, payload: bytes) -> None:
    """Hand out steps until all are settled."""
    by_line: dict[Any, _Worker] = {worker.line: worker for worker in crew}
    registry: dict[str | tuple[str, type[Warning], int], int] = {}  # so that a warning is shown as often as in one process
    while len(work.settled) < len(work.todo):
        for worker in crew:
            if worker.loaded and worker.step is None and (i := schedule.next()) is not None:
                worker.step, worker.heard = i, work.begins(work.todo[i])
                with contextlib.suppress(OSError):  # it died: its line says so below
                    worker.line.send_bytes(str(i).encode())
        for line in wait(list(by_line)):
            worker = by_line[line]
            try:
                kind, *said = worker.line.recv()
                if kind == "here":
                    worker.line.send_bytes(payload)
            except (EOFError, OSError):
                raise worker.died(work) from None
            if kind == "progress" and worker.heard:
                worker.heard(*said)
            elif kind == "loaded":
                worker.loaded = True
            elif kind == "unfit":
                raise Unsendable(*said)
            elif kind in ("made", "broke"):
                for warned, filename, lineno in said[-1]:
                    warnings.warn_explicit(warned, type(warned), filename, lineno, registry=registry)
                if kind == "broke":
                    raise said[0] from _Elsewhere(said[1])
                _settle(worker, work, schedule, *said[:2])


def _settle(worker: _Worker, work: Computation, schedule: Schedule, seconds: float, failed: str | None) -> None:
    assert worker.step is not None
    if worker.heard:
        worker.heard(1, 1)
    work.ends(work.todo[worker.step], seconds, failed)
    schedule.ends(worker.step)
    worker.step = worker.heard = None


class _Elsewhere(Exception):
    """The traceback of an exception that was raised in a worker, for people."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


# --- the worker's side -----------------------------------------------------------------------------------------


def _work(line: Connection, folder: str) -> None:
    """A worker's life: get the graph, then compute the steps whose numbers come."""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(line, orders), daemon=True).start()
    os.chdir(folder)
    _keep_memory()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    _say(line, "here")
    try:
        maker, handles = pickle.loads(orders.get())
    except Exception as e:
        _say(line, "unfit", f"{type(e).__name__}: {e}")
        return
    _say(line, "loaded")
    PROGRESS.set(_Teller(line))
    while True:
        _say(line, *_computed(maker, handles[int(orders.get())]))
        maker.forget(KEPT)


def _keep_memory() -> None:
    """Keep freed memory instead of giving it back to the system page by page: a tenth of the time of small convolutions (glibc only)."""
    with contextlib.suppress(Exception):
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 2**25), (-1, 2**31 - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            libc.mallopt(option, value)


def _listen(line: Connection, orders: queue.SimpleQueue[bytes]) -> None:
    """Pass on what the caller says; end this process when the caller is gone."""
    try:
        while True:
            orders.put(line.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)


def _say(line: Connection, *words: Any) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller is gone, and so are we
        line.send(words)


class _Teller:
    """Sends progress on, now and then."""

    def __init__(self, line: Connection) -> None:
        self.line, self.spoke = line, 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.spoke > BETWEEN:
            self.spoke = time.monotonic()
            _say(self.line, "progress", done, total)


def _computed(maker: Maker, h: Handle) -> tuple[Any, ...]:
    """Compute a step: ``made``, seconds, why a sanity check failed, warnings; or ``broke``, exception, traceback, warnings."""
    began, failed = time.perf_counter(), None
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            maker.get(h)
        except GateFailed as e:
            failed = str(e)
        except BaseException as e:
            return "broke", _portable(e, RuntimeError), traceback.format_exc(), _plain(noted)
    return "made", time.perf_counter() - began, failed, _plain(noted)


def _plain(noted: list[warnings.WarningMessage]) -> list[tuple[BaseException, str, int]]:
    found = [w.message if isinstance(w.message, Warning) else w.category(w.message) for w in noted]
    return [(_portable(m, UserWarning), w.filename, w.lineno) for m, w in zip(found, noted, strict=True)]


def _portable(e: BaseException, otherwise: type[Exception]) -> BaseException:
    """The exception itself if it survives the journey with its notes, else its text."""
    try:
        pickle.loads(pickle.dumps(e))
        return e
    except Exception:
        plain = otherwise(f"{type(e).__name__}: {e}")
        for note in getattr(e, "__notes__", []):
            plain.add_note(note)
        return plain
