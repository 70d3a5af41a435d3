"""Many pictures, one after another: found in folders, tar files and lists, decoded beside the guard, judged in batches."""

from __future__ import annotations

import os
import tarfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .datasets._folder import SUFFIXES
from .errors import DataDamaged, DataMissing, Error, UsageError, brief
from .files import opened, read_text
from .guard import Guard
from .machine import cores
from .picture_check import wanted_of
from .picture_decoding import Decoders, Packet, Source
from .verdict import Verdict

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LARGEST = 2**28  # bytes of a picture in a tar file
BATCH = 250
AHEAD = 2  # batches that are decoded before their turn


@dataclass(frozen=True)
class JudgedPictures:
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
                    tar.members = []  # type: ignore[attr-defined]  # which it would keep
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


def judged(
    guard: Guard, sources: Iterable[Source], *, batch: int = BATCH, threads: int | None = None, processes: int | None = None
) -> Iterator[JudgedPictures]:
    """What a guard says of pictures, batch by batch; the next ones are decoded meanwhile, and no more are in memory.

    Args:
        guard: that judges.
        sources: of the pictures.
        batch: pictures of one pass.
        threads: that decode; None: one a core.
        processes: that decode in place of them; None: where many pictures follow and decoding is what takes the time; 0: never.
    """
    left, ahead = iter(sources), deque[Packet]()
    with Decoders(wanted_of(guard.shape, guard.resize), threads or cores(), processes) as decoders:
        while True:
            room = (1 + AHEAD) * batch - sum(len(p.sources) for p in ahead)
            ahead.extend(decoders.begin(left, room, batch))
            if not ahead:
                return
            some, count = list[Packet](), 0
            while ahead and count < batch:
                some.append(ahead.popleft())
                count += len(some[-1].sources)
            found = _decoded(some, decoders)
            began = time.perf_counter()
            done = replace(found, verdict=guard(found.images, batch=len(found.images)) if len(found.images) else None)
            if len(ahead) and count == batch:
                decoders.judged(time.perf_counter() - began)
            yield done


def _decoded(some: Iterable[Packet], decoders: Decoders) -> JudgedPictures:
    sources, pixels, faults = list[Source](), list[NDArray[np.uint8]](), dict[int, Error]()
    for packet in some:
        found = decoders.of(packet)
        pixels.append(found.pixels)
        faults |= {len(sources) + i: e for i, e in found.faults.items()}
        sources += packet.sources
    return JudgedPictures(sources, torch.from_numpy(np.concatenate(pixels)), None, faults)


__all__ = ["AHEAD", "BATCH", "LARGEST", "JudgedPictures", "Source", "found_in", "judged"]
