"""Pictures to pixels, ahead of who looks at them: in threads here, and in processes where decoding is what takes the time.

Threads of one interpreter decode small pictures no faster than one, and hold up whoever judges them. Processes do not, but each costs a
start, so that they are started when decoding has taken as long as that. They load no torch.
"""

from __future__ import annotations

import contextlib
import io
import math
import multiprocessing
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import Error, UsageError
from .pixels import FORMATS, MOST_PIXELS, Resize, brought, pixels_in, read_pixels, resized
from .processes import no_interrupt, works_for

START = 0.1  # seconds that starting a process takes of a processor: what decoding must have taken before,
WORTH = 0.03  # and its share of the time of judging
PACKET, LARGE, LONG = 50, 2**24, 0.1  # pictures that go to a process together: so many, or bytes of pixels, or seconds of decoding


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
class Wanted:
    """Which pixels are wanted: (channels, height, width), and how a picture of another size is brought to it; None: it is refused."""

    channels: int
    height: int
    width: int
    resize: Resize | None = None

    @property
    def to_size(self) -> Callable[[Image.Image], Image.Image] | None:
        """What is done to a picture of another size."""
        size, how = (self.height, self.width), self.resize
        return None if how is None else lambda p: p if p.size == size[::-1] else resized(p, size, how)


@dataclass(frozen=True)
class Decoded:
    """Some pictures.

    Attributes:
        pixels: (M, C, H, W) of those that could be read.
        faults: of the others, by their places.
        own: seconds of a processor.
        seconds: that it took.
    """

    pixels: NDArray[np.uint8]
    faults: dict[int, Error]
    own: float
    seconds: float


def decoded(sources: Sequence[Source], wanted: Wanted) -> Decoded:
    """Pixels of some pictures; one that cannot be read costs no other."""
    own, began = time.thread_time(), time.perf_counter()
    found, faults = list[NDArray[np.uint8]](), dict[int, Error]()
    for i, source in enumerate(sources):
        try:
            found.append(_decoded(source, wanted))
        except Error as e:
            faults[i] = e
    pixels = np.stack(found) if found else np.zeros((0, wanted.channels, wanted.height, wanted.width), np.uint8)
    return Decoded(pixels, faults, time.thread_time() - own, time.perf_counter() - began)


def _decoded(source: Source, wanted: Wanted) -> NDArray[np.uint8]:
    if source.fault is not None:
        raise source.fault
    return pixels_of(Path(source.name), wanted) if source.data is None else pixels_within(source.data, source.name, wanted, FORMATS)


def pixels_of(path: Path, wanted: Wanted) -> NDArray[np.uint8]:
    """A file's pixels (C, H, W).

    Raises:
        DataMissing: when there is no such file.
        DataDamaged: when it is no readable picture.
        UsageError: when its size is another and nobody said how to bring it there, it is colour and grey is wanted, or 8 bits of grey or
            RGB do not say what it says.
    """
    return _fitting(read_pixels(path, wanted.to_size), path, wanted)


def pixels_within(data: bytes, name: str, wanted: Wanted, formats: tuple[str, ...], most: int = MOST_PIXELS) -> NDArray[np.uint8]:
    """Pixels (C, H, W) of a picture in memory; errors call it ``name``; one with more than ``most`` pixels is refused.

    Raises:
        DataDamaged: when it is no readable picture of these formats.
        UsageError: as :func:`pixels_of` does.
    """
    return _fitting(pixels_in(io.BytesIO(data), name, wanted.to_size, formats, most), name, wanted)


def _fitting(pixels: NDArray[np.uint8], name: Path | str, wanted: Wanted) -> NDArray[np.uint8]:
    try:
        pixels = brought(pixels, wanted.channels)
    except UsageError:
        raise UsageError(f"{name} is a colour picture; the guard's images are grey") from None
    if pixels.shape[1:] != (wanted.height, wanted.width):
        raise UsageError(
            f"{name} is {pixels.shape[2]} x {pixels.shape[1]} pixels; the guard's images are {wanted.width} x {wanted.height}"
            " (one of fit_guard(..., resize='squash') or resize='crop' brings pictures to its size)"
        )
    return pixels


# --- ahead -------------------------------------------------------------------------------------------------------


class Packet:
    """Pictures that are decoded together, now or later."""

    def __init__(self, sources: list[Source], future: Future[Decoded]) -> None:
        self.sources, self.future = sources, future


class Decoders:
    """Who decodes ahead. Used as a context, at whose end nobody decodes any more.

    Args:
        wanted: which pixels.
        threads: that decode at the beginning.
        processes: that decode from the beginning; 0: none at any time; None: where it is worth starting them, as many as it takes to decode
            as fast as pictures are judged, one a thread at most.
    """

    def __init__(self, wanted: Wanted, threads: int, processes: int | None = None) -> None:
        self.wanted, self.threads, self.last = wanted, threads, contextlib.ExitStack()
        self._may = processes is None and multiprocessing.parent_process() is None
        self._own = self._seconds = self._judging = 0.0
        self._known, self._handed, self._size, self._given = 0, 0, 1, deque[Packet]()
        self._here = self._pool = self.last.enter_context(_ended(ThreadPoolExecutor(threads, "salientry-decode")))
        if processes:
            self._start(processes, PACKET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for packet in self._given:
            packet.future.cancel()  # whoever stops early waits for nothing
        self.last.close()

    def begin(self, left: Iterator[Source], room: int, batch: int) -> Iterator[Packet]:
        """Begin to decode the next pictures, at most ``room`` of them, in packets none of which lies across the border of two batches."""
        while room > 0 and (some := [*islice(left, min(self._size, room, batch - self._handed % batch))]):
            self._handed += len(some)
            room -= len(some)
            packet = Packet(some, self._submit(some))
            self._given.append(packet)
            yield packet

    def _submit(self, some: list[Source]) -> Future[Decoded]:
        if self._pool is not self._here:
            try:
                with no_interrupt():
                    return self._pool.submit(decoded, some, self.wanted)
            except (OSError, RuntimeError) as e:  # no more processes can be started, or they ended
                self._stay(e)
        return self._here.submit(decoded, some, self.wanted)

    def of(self, packet: Packet) -> Decoded:
        """What became of a packet, in the order in which they were begun; where a process ended it is decoded here."""
        assert self._given.popleft() is packet
        try:
            found = packet.future.result()
        except BrokenProcessPool as e:
            self._stay(e)
            found = decoded(packet.sources, self.wanted)
        self._own, self._seconds, self._known = self._own + found.own, self._seconds + found.seconds, self._known + len(packet.sources)
        return found

    def _stay(self, e: Exception) -> None:
        if self._pool is not self._here:
            warnings.warn(f"pictures are decoded in threads from here on: a process for it failed ({type(e).__name__})", stacklevel=2)
        self._pool, self._size = self._here, 1

    def judged(self, seconds: float) -> None:
        """Pictures were judged, in so many seconds, and more are to come."""
        self._judging += seconds
        if self._may and self._own > max(START, WORTH * self._judging):
            self._may = False
            each = self._own / self._known
            most = LARGE // (self.wanted.channels * self.wanted.height * self.wanted.width)
            self._start(min(self.threads, math.ceil(self._seconds / self._judging)), max(1, min(PACKET, most, int(LONG / each))))

    def _start(self, count: int, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, line = context.Pipe(duplex=False)
        self.last.enter_context(theirs)
        self.last.enter_context(line)
        self._pool, self._size = self.last.enter_context(_ended(ProcessPoolExecutor(count, context, works_for, (theirs,)))), size


@contextlib.contextmanager
def _ended(pool: Any) -> Iterator[Executor]:
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
