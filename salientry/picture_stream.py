"""Many pictures, one after another: found in folders, tar files and lists, decoded beside the guard, judged in batches."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .datasets._folder import SUFFIXES
from .datasets._picture import FORMATS
from .errors import DataDamaged, DataMissing, Error, UsageError, brief
from .files import opened, read_text
from .guard import Guard
from .machine import cores
from .picture_check import picture_in, read_pixels_for
from .verdict import Verdict

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LARGEST = 2**28  # bytes of a picture in a tar file
BATCH = 250
AHEAD = 2  # batches that are decoded before their turn


@dataclass(frozen=True)
class Source:
    """A picture that was found.

    Attributes:
        name: the file's path; of one in a tar file that file's path, a slash and the name there.
        data: its bytes, of one in a tar file; None: it lies at ``name``.
        fault: why it cannot be read, if that is known already.
    """

    name: str
    data: bytes | None = None
    fault: Error | None = None


@dataclass(frozen=True)
class Batch:
    """Some pictures and what a guard says of them.

    Attributes:
        sources: (N,) in the order in which they were found.
        images: (M, C, H, W) uint8 of those that could be read.
        verdict: of those; None where there are none.
        faults: of the others, by their places in ``sources``.
    """

    sources: list[Source]
    images: Tensor
    verdict: Verdict | None
    faults: dict[int, Error]


def found_in(paths: Iterable[Path]) -> Iterator[Source]:
    """Pictures, in an order that is the same at every call; nothing is read before its turn.

    Args:
        paths: of pictures; of folders, where all pictures at any depth count, in the order of their names; of tar files, packed or not, in
            their own order (WebDataset's shards are such); of text files (``.txt``) with one path a line.

    Raises:
        DataMissing: for a folder, tar file or list that holds no picture.
        DataDamaged: for a tar file that cannot be read to its end.
    """
    for path in paths:
        name = path.name.lower()
        if path.is_dir():
            within: Iterator[Source] = (Source(str(p)) for p in _walked(path))
        elif name.endswith(TARS):
            within = _packed(path)
        elif name.endswith(".txt"):
            within = found_in(Path(line) for line in read_text(path).splitlines() if line.strip())
        else:
            yield Source(str(path))
            continue
        first = next(within, None)
        if first is None:
            raise DataMissing(f"there is no picture in {path}: files that end in {', '.join(SUFFIXES)} expected")
        yield first
        yield from within


def _walked(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(at) / n for n in sorted(names) if n.lower().endswith(SUFFIXES))


class _Member(tarfile.TarInfo):
    """What stands before a file in a tar file. Where none can be read Python takes that for the end; here only the end's mark is."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """The next one."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as e:
            raise tarfile.ReadError(f"it has no end mark, {e}") from None


def _packed(path: Path) -> Iterator[Source]:
    """The pictures in a tar file, which is read once from front to back."""
    with opened(path) as f:
        try:
            with tarfile.open(fileobj=f, mode="r|*", tarinfo=_Member) as tar:
                for member in tar:
                    if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                        continue
                    name = f"{path}/{member.name}"
                    if member.size > LARGEST:
                        yield Source(name, b"", UsageError(f"{name} has {member.size} bytes; {LARGEST} at most are read"))
                        continue
                    content = tar.extractfile(member)
                    assert content is not None
                    yield Source(name, content.read())
        except (tarfile.TarError, EOFError, OSError) as e:
            raise DataDamaged(f"{path} cannot be read as a tar file to its end: {brief(e)}") from None


def judged(guard: Guard, sources: Iterable[Source], *, batch: int = BATCH, threads: int | None = None) -> Iterator[Batch]:
    """What a guard says of pictures, batch by batch; the next ones are decoded meanwhile, and no more are in memory.

    Args:
        guard: that judges.
        sources: of the pictures.
        batch: pictures of one pass.
        threads: that decode; None: one a core.
    """
    ahead: deque[tuple[Source, Future[NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(threads or cores(), "salientry-decode") as pool, contextlib.ExitStack() as last:
        last.callback(lambda: [f.cancel() for _, f in ahead])  # whoever stops early waits for nothing
        left = iter(sources)
        while True:
            ahead.extend((s, pool.submit(_decoded, s, guard)) for s in islice(left, (1 + AHEAD) * batch - len(ahead)))
            if not ahead:
                return
            yield _batch(guard, [ahead.popleft() for _ in range(min(batch, len(ahead)))])


def _batch(guard: Guard, some: list[tuple[Source, Future[NDArray[np.uint8]]]]) -> Batch:
    pixels, faults = list[NDArray[np.uint8]](), dict[int, Error]()
    for i, (_, decoded) in enumerate(some):
        try:
            pixels.append(decoded.result())
        except Error as e:
            faults[i] = e
    shape = (0, guard.shape.channels, guard.shape.height, guard.shape.width)
    images = torch.from_numpy(np.stack(pixels) if pixels else np.zeros(shape, np.uint8))
    return Batch([s for s, _ in some], images, guard(images, batch=len(images)) if pixels else None, faults)


def _decoded(source: Source, guard: Guard) -> NDArray[np.uint8]:
    if source.fault is not None:
        raise source.fault
    if source.data is None:
        return read_pixels_for(Path(source.name), guard.shape, guard.resize)
    return picture_in(source.data, source.name, guard.shape, guard.resize, FORMATS)
