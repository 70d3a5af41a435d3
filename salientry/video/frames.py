"""Frames of a video file, or of a folder of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets._folder import SUFFIXES
from ..errors import DataDamaged, DataMissing, Error, UsageError, brief
from ..files import opened
from ..pixels import MOST_PIXELS, read_pixels


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        index: its number, from 0, counting those that were left out.
        seconds: when it is shown.
        pixels: uint8 (H, W, 3).
    """

    index: int
    seconds: float
    pixels: NDArray[np.uint8]


def needs_av() -> Any:
    """PyAV, or an error that says what to install.

    Raises:
        UsageError: when it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise UsageError("videos need PyAV, which is not installed: pip install 'salientry[video]'") from None
    return av


def frames(source: Path | str, every: int = 1, rate: float = 25.0) -> Iterator[Frame]:
    """The frames of a video, one at a time.

    Args:
        source: a file that FFmpeg reads; or a folder of pictures of one size, which are shown in the order of their names.
        every: take every N-th frame alone.
        rate: frames a second of a folder; of a file where it says nothing.

    Raises:
        DataMissing: when there is nothing there, or no picture in the folder.
        DataDamaged: for a file that is no video, has no pictures, ends in the middle, or changes its size, which no frame of one video
            does by itself.
        UsageError: for other arguments, or when PyAV is not installed.
    """
    source = Path(source)
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise UsageError(f"every must be a whole number from 1; found {every!r}")
    if not 0 < rate < 1e6:
        raise UsageError(f"rate must be a number of frames a second; found {rate!r}")
    if not source.exists():
        raise DataMissing(f"no video at {source}: a file or a folder of pictures expected")
    size = None
    for frame in (_pictures if source.is_dir() else _decoded)(source, every, rate):
        shape = frame.pixels.shape[1::-1]
        if size is not None and shape != size:
            raise DataDamaged(
                f"{source} changes its size at frame {frame.index}: {size[0]} x {size[1]} before, {shape[0]} x {shape[1]} there"
            )
        size = shape
        yield frame
    if size is None:
        raise DataDamaged(f"{source} has no frames")


def _pictures(folder: Path, every: int, rate: float) -> Iterator[Frame]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    if not found:
        raise DataMissing(f"there are no pictures in {folder}")
    for i, path in enumerate(found):
        if i % every == 0:
            pixels = read_pixels(path).transpose(1, 2, 0)
            yield Frame(i, i / rate, np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))


def _decoded(path: Path, every: int, rate: float) -> Iterator[Frame]:
    av, i = needs_av(), 0
    try:
        with opened(path) as file, av.open(file) as container:
            if not container.streams.video:
                raise DataDamaged(f"{path} has no pictures: there is no video stream in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.width * stream.height > MOST_PIXELS:
                raise UsageError(f"{path} has frames of {stream.width} x {stream.height} pixels; {MOST_PIXELS} at most are read")
            rate, promised = float(stream.average_rate or rate), _promised(container, stream, rate)
            for found in container.decode(stream):
                if found.is_corrupt:
                    raise DataDamaged(f"{path} is damaged at frame {i}")
                if i % every == 0:
                    yield Frame(i, float(found.time) if found.time is not None else i / rate, found.to_ndarray(format="rgb24"))
                i += 1
    except Error:
        raise
    except (av.FFmpegError, OSError, ValueError) as e:
        where = f"after frame {i - 1} of it" if i else "as a video"
        raise DataDamaged(f"{path} cannot be read {where}: {reason(e)}") from None
    if i < promised:
        raise DataDamaged(f"{path} ends after {i} of {promised} frames: it is not whole")


def reason(e: Exception) -> str:
    """Why a file cannot be read or written: what FFmpeg or the system says of it, where it says something."""
    return str(getattr(e, "strerror", None) or brief(e))


def _promised(container: Any, stream: Any, rate: float) -> int:
    """How many frames a file says that it holds; of a Matroska file, which says how long it is, almost as many as that makes."""
    if stream.frames or "matroska" not in container.format.name or len(container.streams) > 1 or not container.duration:
        return int(stream.frames)
    return int(container.duration / 1e6 * float(stream.average_rate or rate)) - 2


__all__ = ["Frame", "frames", "needs_av", "reason"]
