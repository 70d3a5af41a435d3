"""Results on disk. Numpy only: a report is made from a store without torch.

A result is a folder ``<step>/<slug>-<12 hex of the key>/`` that holds ``result.json``, perhaps ``arrays.safetensors``,
and ``DONE`` with their sha256, written last. Everything is written into a folder of another name first and renamed when complete, so a
process may be killed at any moment: a result is there whole or it is not there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import lzma
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import shared_disk
from .errors import DataDamaged, StoreError, UsageError
from .files import JSON as JSON
from .files import Hashing, Unpacking, opened, parsed, refuse_bomb, refuse_other, replacing
from .files import packed as packed
from .files import read_bytes as read_bytes
from .files import read_json as read_json
from .files import read_text as read_text
from .files import write_bytes as write_bytes
from .files import write_json as write_json
from .files import write_text as write_text
from .files import writing as writing
from .rows import Array, Sliceable, slices
from .shared_disk import comes, machine_name, once_more

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "|u1", "BOOL": "|b1"}
NAMES = {np.dtype(v): k for k, v in DTYPES.items()}
MOST_HEADER = 100_000_000
BODY, ARRAYS, SUMS = "result.json", "arrays.safetensors", "DONE"


# --- files -----------------------------------------------------------------------------------------------------


def _header(columns: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> bytes:
    at, body = 0, {}
    for name, (dtype, shape) in columns.items():
        size = dtype.itemsize * math.prod(shape)
        body[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(body, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_arrays(path: Path, pieces: Mapping[str, Sequence[Sliceable]]) -> str:
    """One safetensors file, packed when its name ends in ``.xz``; each array is given as pieces along its first axis, which are neither
    joined nor read as a whole. Returns the file's sha256.

    Raises:
        StoreError: when it cannot be written.
    """
    ordered = dict(sorted(pieces.items(), key=lambda item: (-item[1][0].dtype.itemsize, item[0])))
    for name, parts in ordered.items():
        assert all(p.dtype == parts[0].dtype and p.shape[1:] == parts[0].shape[1:] for p in parts), (
            f"the pieces of {name} do not fit together"
        )
    columns = {k: (v[0].dtype, v[0].shape if v[0].shape == () else (sum(len(p) for p in v), *v[0].shape[1:])) for k, v in ordered.items()}
    with replacing(path) as file:  # whoever has the old file mapped keeps it whole
        hashed = Hashing(file)
        with lzma.open(hashed, "wb", preset=4) if path.suffix == ".xz" else contextlib.nullcontext(hashed) as f:  # type: ignore[call-overload]
            f.write(_header(columns))
            for parts in ordered.values():
                for part in parts:
                    for rows in [part] if part.shape == () else slices(part):
                        f.write(np.ascontiguousarray(rows).data)
    return hashed.sha256


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file, memory-mapped, so that a few rows of a large file cost a few rows; a packed one is unpacked
    into memory.

    Raises:
        StoreError: when the file is not there or cannot be opened.
        DataDamaged: when it is shorter than its header says, or no safetensors file.
    """
    try:
        return once_more(lambda: _arrays_in(path))
    except OSError as e:
        raise StoreError(f"cannot read {path}: {e.strerror or e}") from e


def _arrays_in(path: Path) -> dict[str, Array]:
    with opened(path) as f:
        return _unpacked(path, f) if path.suffix == ".xz" else _mapped(path, f)


def _mapped(path: Path, f: IO[bytes]) -> dict[str, Array]:
    size = os.fstat(f.fileno()).st_size
    columns, start = _described(path, f, size)
    _refuse_other(path, columns, size - start, start)
    return {
        k: np.memmap(f, dtype, "r", start + at, shape) if math.prod(shape) else np.zeros(shape, dtype)
        for k, (dtype, shape, at) in columns.items()
    }


def _unpacked(path: Path, f: IO[bytes]) -> dict[str, Array]:
    with Unpacking(path, f) as inner:
        columns, start = _described(path, inner, MOST_HEADER + 8)
        size = max((at + dtype.itemsize * math.prod(shape) for dtype, shape, at in columns.values()), default=0)
        refuse_bomb(path, size, inner.size)
        body = inner.read(size + 1)
    _refuse_other(path, columns, len(body), start)
    return {k: np.frombuffer(body, dtype, math.prod(shape), at).reshape(shape) for k, (dtype, shape, at) in columns.items()}


def _described(path: Path, f: IO[bytes] | Unpacking, most: int) -> tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...], int]], int]:
    """Dtype, shape and place of each array, and how long the header is."""
    length = int.from_bytes(f.read(8), "little")
    if not 2 <= length <= min(most - 8, MOST_HEADER):
        raise DataDamaged(f"{path} is no readable safetensors file: its header length is impossible")
    return _columns(path, parsed(f.read(length), f"{path}, whose header")), 8 + length


def _refuse_other(path: Path, columns: Mapping[str, tuple[np.dtype[Any], tuple[int, ...], int]], size: int, start: int) -> None:
    """Raise unless so many bytes hold these arrays one after the other and nothing else."""
    ends = sorted((at, at + dtype.itemsize * math.prod(shape)) for dtype, shape, at in columns.values())
    expected = max((stop for _, stop in ends), default=0)
    if size < expected:
        raise DataDamaged(f"{path} is truncated: {start + size} bytes, {start + expected} expected")
    if size > expected:
        raise DataDamaged(f"{path} is damaged: {start + size} bytes, {start + expected} expected")


def _columns(path: Path, header: JSON) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]:
    """Dtype, shape and place of each array in a safetensors header."""
    try:
        described = {k: (DTYPES[h["dtype"]], tuple(h["shape"]), *h["data_offsets"]) for k, h in header.items() if k != "__metadata__"}
        found = {k: (np.dtype(d), shape, start, stop) for k, (d, shape, start, stop) in described.items()}
        if any(type(n) is not int or n < 0 for _, shape, start, stop in found.values() for n in (*shape, start, stop)):
            raise ValueError("sizes must be whole numbers from 0")
        if any(stop - start != dtype.itemsize * math.prod(shape) for dtype, shape, start, stop in found.values()):
            raise ValueError("an array's place is not of its size")
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise DataDamaged(f"{path} is no readable safetensors file: {type(e).__name__} in its header: {e}") from None
    return {k: (dtype, shape, start) for k, (dtype, shape, start, _) in found.items()}


WORTH = 1.0  # seconds from which a piece of a result is kept


def kept(file: Path, make: Callable[[], Array]) -> Array:
    """A piece of something that takes long: from a file, or made now and written there where it took a second or more, so that whoever is
    stopped goes on from there. A file that cannot be read is made again.

    Args:
        file: a safetensors file; whoever names it sees to it that the same name is the same piece.
        make: it.

    Raises:
        StoreError: when it cannot be written.
    """
    if file.exists():
        with contextlib.suppress(DataDamaged, StoreError):
            return np.array(read_arrays(file)["piece"])
    began = time.monotonic()
    made = np.asarray(make())
    if time.monotonic() - began >= WORTH:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(file, {"piece": [made]})
    return made


# --- results ---------------------------------------------------------------------------------------------------


def sha256_of_array(array: Any) -> str:
    """Of an array's bytes, row by row."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


class Store:
    """Results on disk, each there whole or not at all.

    Args:
        root: the folder; made when it is not there.

    Raises:
        StoreError: when it cannot be made or written to.
    """

    def __init__(self, root: Path | str) -> None:
        self.root, self._sound = Path(root), set[Path]()
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "permission denied")

    def path(self, step: str, slug: str, key: str) -> Path:
        """Where the result with this key lives."""
        return self.root / step / f"{slug[:80]}-{key[:12]}"

    def done(self, path: Path) -> bool:
        """Whether the result is complete."""
        return once_more((path / SUMS).exists)

    def body(self, path: Path) -> JSON:
        """The result's JSON, an object.

        Raises:
            DataDamaged: when it is not what was written; says how to make it again.
        """
        with replaceable(path):
            found = read_json(self._compared(path, BODY))
            if not isinstance(found, dict):
                raise DataDamaged(f"{path / BODY} is damaged: it holds no JSON object")
            return found

    def arrays(self, path: Path) -> dict[str, Array]:
        """The result's arrays, memory-mapped; empty when it has none.

        Raises:
            DataDamaged: when they are not what was written; says how to make them again.
        """
        with replaceable(path):
            return read_arrays(self._compared(path, ARRAYS)) if ARRAYS in (sums_of(path) or os.listdir(path)) else {}

    def _compared(self, path: Path, name: str) -> Path:
        """A file of a result, after it was found to be what was written: the first time that this process reads it."""
        file = path / name
        if file not in self._sound:
            if sums := sums_of(path):
                refuse_other(file, sums[name])
            self._sound.add(file)
        return file

    def write(self, path: Path, body: JSON, pieces: Mapping[str, Sequence[Array]] | None = None) -> None:
        """Write a result; the rename at the end makes it visible. An existing complete result is left alone."""
        with self.placing(path) as (fresh, sums):
            if pieces:
                sums[ARRAYS] = write_arrays(fresh / ARRAYS, pieces)
            sums[BODY] = write_json(fresh / BODY, body)

    @contextlib.contextmanager
    def placing(self, path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
        """A folder for a result's files, and where their checksums are noted; it becomes the result when the block ends well. An
        existing complete result is left alone.
        """
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            name = f".new-{os.getpid()}-{machine_name()}-"
            fresh = Path(once_more(lambda: tempfile.mkdtemp(dir=path.parent, prefix=name)))
        sums: dict[str, str] = {}
        try:
            yield fresh, sums
            write_json(fresh / SUMS, dict(sorted(sums.items())))
            with writing(path):
                fresh.chmod(path.parent.stat().st_mode)  # as open as the folder it stands in: a temporary one is the owner's alone
                if self._takes_place(fresh, path):
                    self._sound |= {path / name for name in sums}
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _takes_place(self, fresh: Path, path: Path) -> bool:
        """Rename a folder; False where somebody's complete result is there. It may be this one: a network's disk whose answer is lost is
        asked again, and then finds nothing to rename, or the name taken.
        """
        if path.exists() and not self.done(path):
            shutil.rmtree(path)
        try:
            once_more(lambda: os.rename(fresh, path))
        except OSError as e:
            perhaps = e.errno in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)
            if not comes(lambda: self.done(path), path.parent, shared_disk.LATE if perhaps else 0):
                raise
            return False
        return True

    def sweep(self) -> int:
        """Remove what killed processes left: half-written folders, and shards of results that are whole; how many went."""
        halves = [p for p in self.root.glob("*/.new-*") if _abandoned(p.name)]
        merged = [p for p in self.root.glob("*/*.parts") if self.done(p.with_name(p.name.removesuffix(".parts")))]
        for left in (*halves, *merged):
            shutil.rmtree(left, ignore_errors=True)
        return len(halves) + len(merged)


def sums_of(result: Path) -> dict[str, str]:
    """The sha256 of each of a result's files; none where an earlier version wrote it: its files are then taken as they are.

    Raises:
        StoreError: when there are none.
        DataDamaged: when they cannot be read.
    """
    if not (raw := read_bytes(result / SUMS)):
        return {}
    body = parsed(raw, result / SUMS)
    files = set(body) if isinstance(body, dict) else set()
    if not {BODY} <= files <= {BODY, ARRAYS} or not all(isinstance(v, str) for v in body.values()):
        raise DataDamaged(f"{result / SUMS} is damaged: it holds no checksums of a result's files")
    return dict(body)


@contextlib.contextmanager
def replaceable(result: Path) -> Iterator[None]:
    """Say of a damaged result how to make it again."""
    again = f"; remove {result}, and the same command computes it again"
    try:
        yield
    except (DataDamaged, StoreError) as e:
        if again in str(e) or (isinstance(e, StoreError) and not isinstance(e.__cause__, FileNotFoundError)):
            raise
        raise DataDamaged(f"{e}{again}") from None


def _abandoned(name: str) -> bool:
    """Whether nobody writes into ``.new-PID-MACHINE-...`` any more; that of another machine is not ours to judge."""
    _, pid, *rest = name.split("-")
    return pid.isdigit() and (len(rest) < 2 or rest[0] == machine_name()) and not _alive(int(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def home() -> Path:
    """Where results live: ``SALIENTRY_HOME``, or ``salientry`` in the user's cache folder."""
    if given := os.environ.get("SALIENTRY_HOME"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "salientry"


def one_of(kind: str, name: str, known: Mapping[str, Any] | Sequence[str]) -> None:
    """Raise unless ``name`` is among ``known``.

    Raises:
        UsageError: names what was found and what there is.
    """
    if name not in known:
        raise UsageError(f"unknown {kind} {name!r}; there are: {', '.join(known)}")
