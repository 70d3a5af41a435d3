"""Arrays larger than memory: whatever is read by slices of its first axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

ROOM = 250 * 3 * 32 * 32  # values of the images that a step sees at once
PIECE = 2**22  # bytes in memory at once of what is read or written piece by piece


class Sliceable(Protocol):
    """What is read by slices of its first axis: an array, a memory-mapped file, pictures that are decoded as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


def slices(source: Sliceable) -> Iterator[NDArray[Any]]:
    """The rows of a source in order, some megabytes at a time.

    Raises:
        UsageError: when it gives other rows than its shape and dtype say.
    """
    size = max(1, PIECE // max(1, source.dtype.itemsize * math.prod(source.shape[1:])))
    for start in range(0, len(source), size):
        found, count = source[start : start + size], min(size, len(source) - start)
        if found.dtype != source.dtype or found.shape != (count, *source.shape[1:]):
            raise UsageError(
                f"{type(source).__name__}[{start}:{start + count}] gave {found.dtype} {found.shape}; "
                f"{source.dtype} {(count, *source.shape[1:])} expected"
            )
        yield found


def at_once(wanted: int, values: int) -> int:
    """How many images a step sees at once: ``wanted``, or as many as hold no more values than 250 of CIFAR-10 where one has ``values``.
    Memory stays bounded, and larger images are faster a few at a time.
    """
    return max(1, min(wanted, ROOM // max(1, values)))


class Joined:
    """Sources one after another as one."""

    def __init__(self, parts: Sequence[Sliceable]) -> None:
        if len({(p.dtype, p.shape[1:]) for p in parts}) != 1:
            raise UsageError(f"parts of one array must be alike; found {', '.join(f'{p.dtype} {p.shape}' for p in parts)}")
        self.parts, self.dtype = parts, parts[0].dtype
        self.shape = (sum(len(p) for p in parts), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        start, stop, step = rows.indices(len(self))
        assert step == 1, "read in order"
        found, first = [], 0
        for part in self.parts:
            if start < first + len(part) and stop > first:
                found.append(part[max(start - first, 0) : stop - first])
            first += len(part)
        return found[0] if len(found) == 1 else np.concatenate(found) if found else self.parts[0][0:0]


__all__ = ["Joined", "Sliceable", "at_once", "slices"]
