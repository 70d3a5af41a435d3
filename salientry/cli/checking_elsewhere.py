"""Pictures to verdicts on somebody else's executor: the pictures travel, the guard's folder must be seen by all."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..errors import DataDamaged, Error, UsageError
from ..files import opened
from ..guard import Guard
from ..learned import fingerprint
from ..machine import ALONE
from ..picture_check import PictureVerdict
from ..picture_stream import BATCH, LARGEST, Source
from ..pixels import read_pixels
from ..runner.executors import executor_failed, result_of, same_versions
from .checking import each, loaded

SOME = BATCH  # pictures that travel together: those that are judged together here, so that the last digits are the same,
HEAVY = 2**26  # or as many as have so many bytes
MOST = 400  # such packets that are under way,
ROOM = 2**29  # and bytes of them
KEPT = "a call with --out FILE goes on where the file ends"


@dataclass(frozen=True)
class Asked:
    """What a worker loads: a guard, and what :func:`~salientry.cli.checking.loaded` is to be given beside its folder.

    Attributes:
        folder: of the guard, an absolute path.
        classifier: as in :func:`~salientry.cli.checking.loaded`; so are ``weights``, ``device`` and ``beside``.
        detector: fingerprint of the guard's detector, as it is here.
        threshold: of the guard, as it is here.
        version: of the package here.
        torch: its version here.
    """

    folder: Path
    classifier: str | None
    weights: Path | None
    device: str
    beside: tuple[tuple[str, Any], ...]
    detector: str
    threshold: float
    version: str = __version__
    torch: str = torch.__version__

    @classmethod
    def of(cls, guard: Guard, folder: Path, classifier: str | None, weights: Path | None, device: str, **beside: Any) -> Asked:
        """Of a guard that was loaded here."""
        kept = tuple(sorted((k, _from_anywhere(v)) for k, v in beside.items()))
        own = fingerprint(guard.detector), float(guard.threshold)
        return cls(folder.resolve(), _from_anywhere(classifier), _from_anywhere(weights), device, kept, *own)


def _from_anywhere(named: Any) -> Any:
    """A file, or what may be a folder, as a worker in another folder finds it."""
    if isinstance(named, Path):
        return named.resolve()
    return str(Path(named).resolve()) if isinstance(named, str) and Path(named).is_dir() else named


Said = tuple[str, PictureVerdict | Error]


def each_on(executor: Executor, asked: Asked, sources: Iterable[Source]) -> Iterator[Said]:
    """What a guard says of one picture after another, as :func:`~salientry.cli.checking.each` gives it, judged by workers.

    Args:
        executor: whose workers have this version of the package and see the guard's folder at the same path.
        asked: the guard.
        sources: of the pictures, which are read here, about half a gigabyte ahead at most. Where they end with an error, those before it
            are judged first.

    Raises:
        UsageError: when a worker has another version, or does not see this guard.
        Error: when the executor failed.
    """
    running: deque[tuple[Future[Any], int]] = deque()
    with contextlib.ExitStack() as last:
        last.callback(lambda: [f.cancel() for f, _ in running])
        packets, under_way = _packets(map(_read, sources)), 0
        end: Error | None = None
        while True:
            while end is None and len(running) < MOST and under_way < ROOM:
                some = next(packets, ())
                if not isinstance(some, tuple):
                    end = some  # what was found before it is judged
                elif some:
                    running.append((_handed(executor, asked, some), _size(some)))
                    under_way += _size(some)
                else:
                    break
            if not running:
                break
            future, size = running.popleft()
            under_way -= size
            yield from result_of(future, KEPT)
        if end is not None:
            raise end


def _packets(sources: Iterator[Source]) -> Iterator[tuple[Source, ...] | Error]:
    """So many pictures, or so many bytes; at last, where the sources end with an error, that."""
    some = list[Source]()
    try:
        for source in sources:
            some.append(source)
            if len(some) == SOME or _size(some) >= HEAVY:
                yield tuple(some)
                some.clear()
    except Error as e:
        if some:
            yield tuple(some)
        yield e
        return
    if some:
        yield tuple(some)


def _size(some: Iterable[Source]) -> int:
    return sum(len(s.data or b"") for s in some)


def _handed(executor: Executor, asked: Asked, some: tuple[Source, ...]) -> Future[Any]:
    try:
        return executor.submit(judged_there, asked, some)
    except Exception as e:  # each executor has its own
        raise executor_failed(e, KEPT) from e


def _read(source: Source) -> Source:
    """With its bytes, or with why there are none, as whoever judges here would say."""
    if source.data is not None or source.fault is not None:
        return source
    try:
        with opened(Path(source.name)) as f:
            data = f.read(LARGEST + 1)
    except Exception:  # a name that no file can have
        return replace(source, fault=_fault(source))
    too_large = UsageError(f"{source.name} has over {LARGEST} bytes; {LARGEST} at most are read") if len(data) > LARGEST else None
    return replace(source, data=b"" if too_large else data, fault=too_large)


def _fault(source: Source) -> Error:
    try:
        read_pixels(Path(source.name))
    except Error as e:
        return e
    return DataDamaged(f"{source.name} cannot be read")  # it came back meanwhile


# --- the worker's side -----------------------------------------------------------------------------------------

_guards: dict[Asked, Guard] = {}  # of a worker: the last guard


def judged_there(asked: Asked, sources: Sequence[Source]) -> list[Said]:
    """What the guard says of some pictures, on a worker, with one thread.

    Raises:
        UsageError: for another version of the package or of torch, or when the guard is not to be seen, or another one.
    """
    where = socket.gethostname()
    same_versions(asked.version, asked.torch, where)
    torch.set_num_threads(1)
    if (guard := _guards.get(asked)) is None:
        with ALONE:  # a network that is built draws weights, as a step that another thread computes may
            guard = _guard(asked, where)
    return [*each(guard, sources)]


def _guard(asked: Asked, where: str) -> Guard:
    if asked not in _guards:
        if not asked.folder.is_dir():
            raise UsageError(
                f"the worker on {where} does not see {asked.folder}: the guard's folder must be the same files for all workers"
            )
        guard = loaded(asked.folder, asked.classifier, asked.weights, asked.device, **dict(asked.beside))
        if (fingerprint(guard.detector), float(guard.threshold)) != (asked.detector, asked.threshold):
            raise UsageError(f"the worker on {where} sees another guard in {asked.folder}: it must be the same files for all workers")
        _guards.clear()
        _guards[asked] = guard
    return _guards[asked]
