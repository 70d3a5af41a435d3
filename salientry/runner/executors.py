"""Steps on somebody else's executor: any of ``concurrent.futures``, on one machine or many, whose workers see the same store."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import pickle
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from .. import __version__
from ..errors import CheckFailed, Error, UsageError, brief
from ..files import read_bytes, write_bytes
from ..machine import ALONE
from ..progress import Progress
from ..shared_disk import comes
from ..store import Store
from .graph import Computation, Schedule, widened
from .pool import KEPT, Computing, Noted, NotPicklable, plain_warnings, portable
from .step import Handle, handles_in

AHEAD = 2_000  # steps that are handed over and not finished
SEEN = 60.0  # seconds in which a result that a worker wrote must be seen by others: files that are far away take a while
SENT = 5.0  # and the graph by the workers
KEPT_RESULTS = "complete results are kept: the same call continues from there"
SHARED = "so the store is not shared: SALIENTRY_HOME, or --store, must name the same files for all workers"


class Keeping(Computing, Protocol):
    """A run, with its store."""

    @property
    def store(self) -> Store:
        """Where results lie."""

    def done(self, h: Handle) -> bool:
        """Whether the result is there."""

    def path(self, h: Handle) -> Path:
        """Where it lies."""

    def record(self, h: Handle) -> Any:
        """What stands beside it."""


@dataclass(frozen=True)
class Task:
    """What is sent to a worker: which step of which graph.

    Attributes:
        graph: file in the store that holds who computes and what.
        sha256: of it.
        step: its place in the graph.
        version: of the package here.
        torch: its version here.
    """

    graph: str
    sha256: str
    step: int
    version: str
    torch: str


def on_executor(maker: Keeping, work: Computation, executor: Executor, seconds: Mapping[str, float]) -> None:
    """Compute what is missing on an executor. A step that was finished stays finished, whatever becomes of the others.

    The graph is written once into the store, where each worker reads it. A worker uses one thread, as the local ones do, so the results are
    the same.

    Args:
        maker: who computes; it is sent to the workers.
        work: is brought up to date step by step.
        executor: whose workers have this version of the package, and see the store at the same path.
        seconds: how long a step is expected to take, by key.

    Raises:
        UsageError: when the graph cannot be sent, a worker has another version, or does not see the store.
        Error: whatever a step raised, but for a failed sanity check; or the executor failed.
    """
    maker.store.root = maker.store.root.resolve()  # workers stand in other folders
    try:
        content = pickle.dumps((maker, work.todo))
    except Exception as e:  # pickling runs code of whoever wrote the settings
        raise UsageError(f"the steps cannot be sent to other processes ({type(e).__name__}: {e}); classes must stand in modules") from e
    sha256 = hashlib.sha256(content).hexdigest()
    graph = maker.store.root / f".graph-{sha256[:16]}"
    write_bytes(graph, content)
    try:
        with _cancelled(running := dict[Future[Any], tuple[int, Progress | None]]()):
            _lead(maker, work, executor, Schedule(work, seconds), Task(str(graph), sha256, 0, __version__, torch.__version__), running)
    finally:
        graph.unlink(missing_ok=True)


@contextlib.contextmanager
def _cancelled(running: dict[Future[Any], tuple[int, Progress | None]]) -> Iterator[None]:
    """Nothing that waits is begun once this ends early."""
    try:
        yield
    finally:
        for future in running:
            future.cancel()


def _lead(
    maker: Keeping,
    work: Computation,
    executor: Executor,
    schedule: Schedule,
    task: Task,
    running: dict[Future[Any], tuple[int, Progress | None]],
) -> None:
    registry: dict[str | tuple[str, type[Warning], int], int] = {}
    while len(work.finished) < len(work.todo):
        while len(running) < AHEAD and (i := schedule.next()) is not None:
            on_progress = work.starts(work.todo[i])
            one = Task(task.graph, task.sha256, i, task.version, task.torch)
            try:
                running[executor.submit(compute, one)] = i, on_progress
            except Exception as e:
                raise executor_failed(e) from e
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            i, on_progress = running.pop(future)
            h = work.todo[i]
            took, failed, caught, where = result_of(future)
            for warned, filename, lineno in caught:  # in a process that computes in a thread they may come round once more
                warnings.warn_explicit(warned, type(warned), filename, lineno, registry=registry)
            if failed is None:
                _seen(maker, h, where)
            if on_progress:
                on_progress(1, 1)
            work.ends(h, took, failed)
            schedule.ends(i)


def result_of(future: Future[Any], kept: str = KEPT_RESULTS) -> Any:
    """What a worker gave.

    Args:
        future: of the work.
        kept: what is said of earlier work when the executor fails.

    Raises:
        UsageError: when what was sent did not arrive.
        Error: whatever the work raised; or the executor failed.
    """
    try:
        return future.result()
    except (Error, KeyboardInterrupt):
        raise
    except NotPicklable as e:
        raise UsageError(f"the steps did not arrive at a worker: {e}") from e
    except BaseException as e:
        if getattr(e, "of_a_step", False):
            raise
        raise executor_failed(e, kept) from e


def executor_failed(e: BaseException, kept: str = KEPT_RESULTS) -> Error:
    """What is said of an executor that raised this."""
    return Error(f"the executor failed ({brief(e)}); {kept}")


def _seen(maker: Keeping, h: Handle, where: str) -> None:
    """Wait until a result is here that a worker wrote.

    Raises:
        UsageError: when it does not come.
    """
    if not _comes(maker, h):
        raise UsageError(f"step {h.slug} was computed on {where}, but its result is not in {maker.store.root}, {SHARED}")


def _comes(maker: Keeping, h: Handle) -> bool:
    return comes(lambda: maker.done(h), maker.path(h).parent, SEEN)


# --- the worker's side -----------------------------------------------------------------------------------------


def same_versions(version: str, torch_version: str, where: str) -> None:
    """Raise unless this worker, on the machine ``where``, has these versions of the package and of torch, as whoever calls has.

    Raises:
        UsageError: names both.
    """
    if (version, torch_version) != (__version__, torch.__version__):
        here = f"salientry {__version__} with torch {torch.__version__}"
        raise UsageError(f"the worker on {where} has {here}; salientry {version} with torch {torch_version} expected, as whoever calls has")


_graphs: dict[str, tuple[Keeping, list[Handle]]] = {}  # of a worker: the last graph


def compute(task: Task) -> tuple[float, str | None, list[Noted], str]:
    """Compute a step on a worker: its seconds, why a sanity check failed, warnings, and the machine's name. Other threads of this process
    wait: one step at a time.

    Raises:
        UsageError: for another version of the package or of torch, or when the graph is not to be seen.
        NotPicklable: when it did not arrive.
    """
    where = socket.gethostname()
    same_versions(task.version, task.torch, where)
    with ALONE:
        maker, todo = _graph(task, where)
    _inputs_seen(maker, todo[task.step])
    with ALONE:
        began, failed = time.perf_counter(), None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                maker.get(todo[task.step])
            except CheckFailed as e:
                failed = str(e)
            except BaseException as e:
                found = portable(e, RuntimeError)
                if not isinstance(found, Error):
                    found.of_a_step = True
                raise found  # noqa: B904  # its traceback travels
        maker.forget(KEPT)
        return time.perf_counter() - began, failed, plain_warnings(caught), where


def _inputs_seen(maker: Keeping, h: Handle) -> None:
    """Wait until the results are here that a step reads, which other workers wrote. One that does not come was removed, and is computed
    again.
    """
    left, seen = list(h.inputs), set[str]()
    while left:
        u = left.pop()
        if u.step is None or u.fingerprint in seen:
            continue
        seen.add(u.fingerprint)
        if not u.step.stored:
            left += u.inputs
        elif not _comes(maker, u):
            return
        elif u.step.chooses:
            left += handles_in(u.args.get(maker.record(u).get("argument")))
        elif u.step.each_row:
            left += widened(u)


def _graph(task: Task, where: str) -> tuple[Keeping, list[Handle]]:
    if task.sha256 not in _graphs:
        path = Path(task.graph)
        try:
            if path.parent.is_dir():
                comes(path.exists, path.parent, SENT)
            content = read_bytes(path)
        except Error as e:
            raise UsageError(f"the worker on {where} does not see {task.graph} ({e}), {SHARED}") from None
        if hashlib.sha256(content).hexdigest() != task.sha256:
            raise UsageError(f"the worker on {where} sees something else at {task.graph}, {SHARED}")
        _graphs.clear()
        try:
            _graphs[task.sha256] = pickle.loads(content)
        except Exception as e:
            raise NotPicklable(f"{type(e).__name__}: {e}") from None
    return _graphs[task.sha256]


# --- by name ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def executor_called(name: str) -> Iterator[Executor]:
    """An executor for a while.

    Args:
        name: ``dask:ADDRESS`` of a scheduler, as ``dask:tcp://host:8786``; or ``module:callable``, which is called without arguments and
            gives an executor, or a context manager that does.

    Raises:
        UsageError: when there is none of that name, or what the name gives is none.
        Error: when the scheduler does not answer.
    """
    kind, _, rest = name.partition(":")
    if not rest:
        raise UsageError(f"an executor is dask:ADDRESS or module:callable; found {name!r}")
    if kind == "dask":
        with _dask(rest) as found:
            yield found
        return
    try:
        made = getattr(importlib.import_module(kind), rest)()
    except (ImportError, AttributeError) as e:
        raise UsageError(f"there is no executor {name!r}: {e}") from None
    except Exception as e:
        raise UsageError(f"{name} makes no executor: {brief(e)}") from e
    if not hasattr(made, "__enter__"):
        raise UsageError(f"{name} gives a {type(made).__name__}; a concurrent.futures.Executor expected")
    with made as found:
        if not hasattr(found, "submit"):
            raise UsageError(f"{name} gives a {type(found).__name__}; a concurrent.futures.Executor expected")
        yield found


@contextlib.contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("an executor of dask needs distributed, which is not installed: pip install 'salientry[cluster]'") from None
    try:
        client: Any = Client(address, timeout="20s")  # type: ignore[no-untyped-call]
    except Exception as e:
        raise Error(f"the scheduler at {address} does not answer: {brief(e)}") from e
    with client, client.get_executor(pure=False) as found:
        yield found
