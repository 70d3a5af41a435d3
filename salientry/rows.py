"""Aligned per-image columns, and arrays larger than memory: whatever is read by slices of its first axis. Numpy only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .files import JSON

Array = NDArray[Any]

ROOM = 250 * 3 * 32 * 32  # values of the images that a step sees at once
PIECE = 2**22  # bytes in memory at once of what is read or written piece by piece
IDENTITY = ("label", "group")  # what stays true of a row when its image is replaced


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


class Concatenated:
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


def id_bytes(ids: Array) -> Array:
    """Ids (N,) as (N, 16) ASCII bytes, for a file."""
    return np.frombuffer(np.asarray(ids, "S16").tobytes(), np.uint8).reshape(len(ids), 16)


def ids_from(raw: Array) -> Array:
    """The ids (N,) of :func:`id_bytes`."""
    return np.frombuffer(np.ascontiguousarray(raw).tobytes(), "S16").astype("<U16")


class Rows:
    """Aligned per-image columns: what flows through a run.

    Attributes:
        ids: (N,) str, the sha256 of each *natural* image's pixels (16 hex digits): a twin keeps its natural's id.
        facts: small things that are true of every row (data set, role, attack, protocol).

    Rows widen: a step adds columns and everything it did not touch stays readable, without a copy. A new ``image``
    hides what was computed from the old one (logits, map, flags); only labels and groups stay. A column is an array; in rows that go
    straight into a store, whatever is read by slices (:class:`Sliceable`).
    """

    def __init__(
        self,
        ids: Array,
        columns: Mapping[str, Array],
        facts: Mapping[str, JSON] | None = None,
        base: Rows | None = None,
        at: Array | None = None,
    ) -> None:
        assert base is None or len(base) == len(ids), "a widened result keeps its rows"
        self.ids, self.facts, self._columns, self._base, self._at = ids, dict(facts or {}), dict(columns), base, at

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: str) -> bool:
        return name in self._columns or (self._base is not None and self._inherits(name) and name in self._base)

    def _inherits(self, name: str) -> bool:
        return "image" not in self._columns or name in IDENTITY

    @property
    def names(self) -> tuple[str, ...]:
        """Every readable column."""
        base = [n for n in self._base.names if self._inherits(n)] if self._base is not None else []
        return tuple(dict.fromkeys([*self._columns, *base]))

    def column(self, name: str, at: Array | slice = slice(None)) -> Array:
        """A column, or the rows ``at`` of it, as an array in memory.

        Raises:
            KeyError: names the columns that there are.
        """
        if name in self._columns:
            found = self._columns[name]
            return np.array(found[at if self._at is None else self._at[at]])
        if self._base is None or name not in self:
            raise KeyError(f"no column {name!r}; there are {', '.join(self.names)}")
        return self._base.column(name, at)

    @property
    def values(self) -> int:
        """How many values an image has; 0 where there is none."""
        return int(np.prod(self.column("image", slice(0, 1)).shape[1:])) if "image" in self else 0

    def take(self, at: Array, **facts: JSON) -> Rows:
        """The same columns for the rows ``at`` only, in that order; ``facts`` are added."""
        chosen = at if self._at is None else self._at[at]
        base = self._base.take(at) if self._base is not None else None
        return Rows(self.ids[at], self._columns, self.facts | facts, base, chosen)

    def widen(self, columns: Mapping[str, Array], facts: Mapping[str, JSON]) -> Rows:
        """These rows with more columns and facts; nothing is copied."""
        return Rows(self.ids, columns, self.facts | dict(facts), self)


class ReadColumn:
    """A column of rows, read as it is asked for."""

    def __init__(self, rows: Rows, name: str) -> None:
        first = rows.column(name, slice(0, 1))
        self.rows, self.name, self.dtype, self.shape = rows, name, first.dtype, (len(rows), *first.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Array | slice, /) -> Array:
        return self.rows.column(self.name, at)
