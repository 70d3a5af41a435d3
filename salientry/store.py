"""Keys, rows and results on disk. Numpy only: a report is made from a store without torch.

A result is a folder ``<step>/<slug>-<12 hex of the key>/`` that holds ``result.json``, perhaps ``arrays.safetensors``,
and ``DONE``, written last. Everything is written into a folder of another name first and renamed when complete, so a
process may be killed at any moment: a result is there whole or it is not there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataDamaged, StoreError, UsageError

Array = NDArray[Any]
JSON = Any

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "|u1", "BOOL": "|b1"}
NAMES = {np.dtype(v): k for k, v in DTYPES.items()}


# --- settings: keys and JSON ------------------------------------------------------------------------------------


def class_name(kind: type) -> str:
    """``attacks.FGSM`` for ours, ``module.Name`` for a user's own."""
    module = kind.__module__.split(".")
    return f"{module[1]}.{kind.__name__}" if module[0] == "salientry" and len(module) > 1 else f"{kind.__module__}.{kind.__qualname__}"


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The field's default value, or ``dataclasses.MISSING``."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def changed_fields(spec: Any) -> dict[str, Any]:
    """The fields of a settings object that differ from their defaults (required ones always do)."""
    found = {f.name: (getattr(spec, f.name), default_of(f)) for f in dataclasses.fields(spec)}
    return {k: v for k, (v, default) in found.items() if default is dataclasses.MISSING or _differ(v, default)}


def _differ(value: Any, default: Any) -> bool:
    try:
        return bool(value != default)
    except (ValueError, RuntimeError):  # arrays and tensors answer one by one
        return True


def canonical(value: Any) -> JSON:
    """What a key is made of.

    An object with a ``fingerprint`` stands for its content; settings become their class, their ``REVISION`` and the
    fields that differ from their defaults, so that a new field with a default changes no key; numbers are normalised
    (``1.0`` is ``1``).

    Raises:
        TypeError: for a value that has no canonical form (a function, an open file, an array).
    """
    if hasattr(value, "fingerprint"):
        return str(value.fingerprint)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {k: canonical(v) for k, v in changed_fields(value).items()}
        revision = getattr(value, "REVISION", 1)
        return {class_name(type(value)): body | ({"REVISION": revision} if revision != 1 else {})}
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    if isinstance(value, frozenset | set):
        return sorted(canonical(v) for v in value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a key; give it a `fingerprint` or use Run.given")


def digest(*values: Any) -> str:
    """Sha256 of the canonical JSON of the values, as 64 hex digits."""
    text = json.dumps(canonical(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def encode(spec: Any) -> JSON:
    """Settings as JSON that :func:`decode` reads back: every field, and where the class lives."""
    if isinstance(spec, list | tuple):
        return [encode(v) for v in spec]
    if isinstance(spec, frozenset | set):
        return sorted(encode(v) for v in spec)
    if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        where = f"{type(spec).__module__}:{type(spec).__qualname__}"
        return {"class": where} | {f.name: encode(getattr(spec, f.name)) for f in dataclasses.fields(spec)}
    assert spec is None or isinstance(spec, str | int | float | bool), f"no setting: {spec!r}"
    return spec


def decode(body: JSON, trusted: bool = False) -> Any:
    """Settings back from JSON.

    Args:
        body: of :func:`encode`.
        trusted: the file is the user's own store, so settings classes that the program has imported itself are built
            too; otherwise only those of this package. Nothing outside the package is ever imported for a file's sake.

    Raises:
        DataDamaged: when the file names anything else, or fields that the class does not have.
    """
    if isinstance(body, list):
        return tuple(decode(v, trusted) for v in body)
    if not isinstance(body, dict):
        return body
    module, _, name = str(body.get("class", "")).partition(":")
    kind = getattr(sys.modules.get(module), name, None) if trusted else None
    if module.startswith("salientry.") and not module.endswith("__main__"):
        with contextlib.suppress(ImportError):
            kind = getattr(importlib.import_module(module), name, None)
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind) or not (trusted or kind.__module__.startswith("salientry.")):
        raise DataDamaged(f"a file asks for the settings class {body.get('class')!r}; only settings of salientry are read from files")
    try:
        return kind(**{k: decode(v, trusted) for k, v in body.items() if k != "class"})
    except (TypeError, AttributeError, UsageError) as e:
        raise DataDamaged(f"settings of {name} in a file do not fit this version: {e}") from None


def label(spec: Any) -> str:
    """A readable name: the class and the settings that differ from their defaults, ``DeepFool-steps=2``."""
    if not dataclasses.is_dataclass(spec):
        return str(canonical(spec) if isinstance(spec, float) else spec)
    parts = [f"{k}={label(v)}" for k, v in changed_fields(spec).items()]
    return "-".join([type(spec).__name__, *parts])


# --- files -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear line.

    Raises:
        StoreError: disk full, no permission, a file where a folder should be.
    """
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk that holds {path} is full; what was complete is kept: free some space and run the same command again"
            ) from e
        raise StoreError(f"cannot write {path}: {e.strerror or e}") from e


def _header(columns: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> bytes:
    at, body = 0, {}
    for name, (dtype, shape) in columns.items():
        size = dtype.itemsize * math.prod(shape)
        body[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(body, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_arrays(path: Path, pieces: Mapping[str, Sequence[Array]]) -> None:
    """One safetensors file; each array is given as pieces along its first axis and written without joining them in memory."""
    ordered = dict(sorted(pieces.items(), key=lambda item: (-item[1][0].dtype.itemsize, item[0])))
    columns = {k: (v[0].dtype, v[0].shape if v[0].ndim == 0 else (sum(len(p) for p in v), *v[0].shape[1:])) for k, v in ordered.items()}
    with writing(path), open(path, "wb") as f:
        f.write(_header(columns))
        for parts in ordered.values():
            for part in parts:
                f.write(np.ascontiguousarray(part).data)


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file, memory-mapped, so that a few rows of a large file cost a few rows.

    Raises:
        StoreError: when the file is not there or cannot be opened.
        DataDamaged: when it is shorter than its header says, or no safetensors file.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if not 2 <= length <= min(size - 8, 100_000_000):
                raise ValueError("its header length is impossible")
            header = json.loads(f.read(length))
    except OSError as e:
        raise StoreError(f"cannot read {path}: {e.strerror or e}") from e
    except ValueError as e:
        raise DataDamaged(f"{path} is no readable safetensors file: {e}") from None
    out: dict[str, Array] = {}
    for name, (dtype, shape, start, stop) in _columns(path, header).items():
        if 8 + length + stop > size or stop - start != dtype.itemsize * math.prod(shape):
            raise DataDamaged(f"{path} is truncated: {size} bytes, {8 + length + stop} expected")
        out[name] = np.memmap(path, dtype, "r", 8 + length + start, shape) if stop > start else np.zeros(shape, dtype)
    return out


def _columns(path: Path, header: JSON) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int, int]]:
    """Dtype, shape, start and stop of each array in a safetensors header."""
    try:
        described = {k: (h["dtype"], tuple(h["shape"]), *h["data_offsets"]) for k, h in header.items() if k != "__metadata__"}
        found = {k: (np.dtype(DTYPES[d]), shape, start, stop) for k, (d, shape, start, stop) in described.items()}
        if any(type(n) is not int or n < 0 for _, shape, start, stop in found.values() for n in (*shape, start, stop)):
            raise ValueError("sizes must be whole numbers from 0")
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise DataDamaged(f"{path} is no readable safetensors file: {type(e).__name__} in its header: {e}") from None
    return found


def write_json(path: Path, body: JSON) -> None:
    """JSON, written beside its place and renamed: never half a file."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(body, indent=1, allow_nan=False) + "\n")
        os.replace(fresh, path)


def read_json(path: Path) -> JSON:
    """JSON from a file.

    Raises:
        StoreError: when there is no such file.
        DataDamaged: when it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as e:
        raise StoreError(f"cannot read {path}: {e.strerror or e}") from e
    except ValueError as e:
        raise DataDamaged(f"{path} is no JSON: {e}") from None


# --- rows ------------------------------------------------------------------------------------------------------

IDENTITY = ("label",)  # what stays true of a row when its image is replaced


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
    hides what was computed from the old one (logits, map, flags); only labels stay.
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

    def take(self, at: Array, **facts: JSON) -> Rows:
        """The same columns for the rows ``at`` only, in that order; ``facts`` are added."""
        chosen = at if self._at is None else self._at[at]
        base = self._base.take(at) if self._base is not None else None
        return Rows(self.ids[at], self._columns, self.facts | facts, base, chosen)

    def widen(self, columns: Mapping[str, Array], facts: Mapping[str, JSON]) -> Rows:
        """These rows with more columns and facts; nothing is copied."""
        return Rows(self.ids, columns, self.facts | dict(facts), self)


# --- results ---------------------------------------------------------------------------------------------------


class Store:
    """Results on disk, each there whole or not at all.

    Args:
        root: the folder; made when it is not there.

    Raises:
        StoreError: when it cannot be made or written to.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "permission denied")

    def path(self, step: str, slug: str, key: str) -> Path:
        """Where the result with this key lives."""
        return self.root / step / f"{slug[:80]}-{key[:12]}"

    def done(self, path: Path) -> bool:
        """Whether the result is complete."""
        return (path / "DONE").exists()

    def body(self, path: Path) -> JSON:
        """The result's JSON."""
        return read_json(path / "result.json")

    def arrays(self, path: Path) -> dict[str, Array]:
        """The result's arrays, memory-mapped; empty when it has none."""
        file = path / "arrays.safetensors"
        return read_arrays(file) if file.exists() else {}

    def write(self, path: Path, body: JSON, pieces: Mapping[str, Sequence[Array]] | None = None) -> None:
        """Write a result; the rename at the end makes it visible. An existing complete result is left alone."""
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".new-{os.getpid()}-"))
        try:
            if pieces:
                write_arrays(fresh / "arrays.safetensors", pieces)
            write_json(fresh / "result.json", body)
            with writing(path):
                (fresh / "DONE").touch()
                if path.exists() and not self.done(path):
                    shutil.rmtree(path)
                try:
                    os.rename(fresh, path)
                except OSError:
                    if not self.done(path):
                        raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def sweep(self) -> int:
        """Remove what killed processes left half-written; the number of folders removed."""
        gone = 0
        for left in self.root.glob("*/.new-*"):
            owner = left.name.split("-")[1]
            if owner.isdigit() and not _alive(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
                gone += 1
        return gone


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
