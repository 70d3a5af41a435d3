"""Files: only regular ones are opened, none is unpacked beyond reason, text is UTF-8 whatever the locale, and what is written takes
the place of what was there as a whole or not at all.

Whatever this package reads or writes goes through here; ``tests/test_files.py`` holds it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import lzma
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .errors import DataDamaged, StoreError
from .shared_disk import beside, once_more, take_place

JSON = Any

MOST = 2**30  # bytes of a text, packed or not
LARGE, DENSE = 2**28, 100  # what unpacks to more bytes than this, and to so many times its own size, is no data of anybody's
DEEP = 64  # brackets in brackets
CODER = 2**28  # bytes that unpacking xz may take for itself


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
                f"the disk that holds {path} is full; complete results are kept: free some space and run the same command again"
            ) from e
        raise StoreError(f"cannot write {path}: {e.strerror or e}") from e


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise StoreError(f"cannot read {path}: {e.strerror or e}") from e


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
    return next((words for found, words in kinds if found(mode)), "something else")


# --- reading ---------------------------------------------------------------------------------------------------


def opened(path: Path | str) -> io.BufferedReader:
    """A regular file to read from; nothing waits for a pipe.

    Raises:
        OSError: as ``open`` raises it.
        DataDamaged: when it is a pipe, a socket or a device.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(file, "rb")
    os.close(file)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise DataDamaged(f"{path} is {_kind(mode)}; a regular file expected")


def packed(path: Path) -> Path:
    """Where a file lies: ``path``, or ``path.xz`` when only that is there (recorded runs are packed)."""
    other = path.with_name(path.name + ".xz")
    return other if other.exists() and not path.exists() else path


def read_bytes(path: Path, most: int = MOST) -> bytes:
    """All of a file, or of its packed form beside it when only that is there; of an ``.xz`` what is packed in it.

    Raises:
        StoreError: when it cannot be opened.
        DataDamaged: when it is no regular file, holds more than ``most`` bytes, or is no xz.
    """
    path = packed(path)
    with _reading(path):
        return once_more(lambda: _bytes_of(path, most))


def _bytes_of(path: Path, most: int) -> bytes:
    with opened(path) as f:
        if path.suffix == ".xz":
            with Unpacking(path, f) as unpacked:
                most = min(most, max(LARGE, DENSE * unpacked.size))
                found = unpacked.read(most + 1)
        else:
            found = f.read(min(most, os.fstat(f.fileno()).st_size) + 1)  # a reader sets aside what it is asked for
    if len(found) > most:
        raise DataDamaged(f"{path} is too large: more than {most} bytes")
    return found


class Unpacking:
    """What is packed in an xz file, read as it is asked for."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self._rest = path, file, b""
        self._coder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=CODER)
        self.size = os.fstat(file.fileno()).st_size

    def __enter__(self) -> Unpacking:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes; fewer at the end.

        Raises:
            DataDamaged: when it is no xz, or ends in the middle.
        """
        out = bytearray()
        try:
            while len(out) < count and not self._coder.eof:
                if self._coder.needs_input and not (given := self.file.read(2**16)):
                    raise EOFError("it ends in the middle")
                out += self._coder.decompress(given if self._coder.needs_input else b"", count - len(out))
        except (lzma.LZMAError, EOFError) as e:
            raise DataDamaged(f"{self.path} is no readable xz file: {e}") from None
        return bytes(out)


def refuse_bomb(path: Path, unpacked: int, packed: int) -> None:
    """Look at the size that a packed file says it has before anything of that size is made.

    Raises:
        DataDamaged: when it cannot be.
    """
    if unpacked > max(LARGE, DENSE * packed):
        raise DataDamaged(f"{path} is damaged: its {packed} bytes say that they unpack to {unpacked}")


def read_text(path: Path) -> str:
    """Text, as UTF-8.

    Raises:
        StoreError: when it cannot be opened.
        DataDamaged: when it is no text.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as e:
        raise DataDamaged(f"{path} is no text in UTF-8: {e}") from None


def read_json(path: Path) -> JSON:
    """JSON from a file.

    Raises:
        StoreError: when there is no such file.
        DataDamaged: when it is no JSON that this package writes: see :func:`parsed`.
    """
    return parsed(read_bytes(path), packed(path))


def read_object(path: Path, **fields: type) -> dict[str, Any]:
    """A JSON object with these fields of these kinds, from a file.

    Raises:
        StoreError: when there is no such file.
        DataDamaged: when it holds anything else.
    """
    body = read_json(path)
    if not isinstance(body, dict):
        raise DataDamaged(f"{path} is damaged: a JSON object expected, found {type(body).__name__}")
    for name, kind in fields.items():
        if not isinstance(body.get(name), kind):
            raise DataDamaged(f"{path} is damaged: {name!r} must be {kind.__name__}, found {type(body.get(name)).__name__}")
    return body


def parsed(text: bytes, where: Path | str) -> JSON:
    """JSON whose numbers are finite and below 2^63, and that is not nested too deeply for whoever reads it.

    Raises:
        DataDamaged: when it is anything else.
    """
    try:
        body = json.loads(text.decode("utf-8"), parse_constant=_no_number)
        _refuse_odd(body)
    except (ValueError, RecursionError) as e:
        why = "it is nested too deeply" if isinstance(e, RecursionError) else e
        raise DataDamaged(f"{where} is no JSON: {why}") from None
    return body


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _refuse_odd(body: JSON) -> None:
    level: list[Any] = [body]
    for _ in range(DEEP):
        below: list[Any] = []
        for v in level:
            if isinstance(v, dict):
                below += v.values()
            elif isinstance(v, list):
                below += v
            elif isinstance(v, float) and not math.isfinite(v):
                raise ValueError(f"{v} is no number")
            elif isinstance(v, int) and abs(v) >= 2**63:
                raise ValueError("a whole number is larger than 2^63")
        if not below:
            return
        level = below
    raise ValueError("it is nested too deeply")


def own_sha256(body: JSON) -> str:
    """Sha256 over all fields of a JSON object but ``own``, where it is kept: how a description is known to be what was written."""
    rest = {k: v for k, v in body.items() if k != "own"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Of a file's content, as 64 hex digits.

    Raises:
        StoreError: when it cannot be opened.
        DataDamaged: when it is no regular file.
    """
    with _reading(path):
        return once_more(lambda: _digest_of(path))


def _digest_of(path: Path) -> str:
    with opened(path) as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def refuse_other(path: Path, sha256: str) -> None:
    """Raise unless a file is what was written.

    Raises:
        StoreError: when it cannot be opened.
        DataDamaged: says both checksums.
    """
    if (found := sha256_of(path)) != sha256:
        raise DataDamaged(f"{path} is damaged: its sha256 is {found}, {sha256} expected")


# --- writing ---------------------------------------------------------------------------------------------------


class Hashing:
    """A file that is hashed as it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand on what is held back."""
        self._file.flush()

    @property
    def sha256(self) -> str:
        """Of what was written, as 64 hex digits."""
        return self._hash.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when the block ends well; until then, and whatever happens, the old one stays.

    Raises:
        StoreError: when it cannot be written, or what is there is no regular file.
    """
    fresh = beside(path)
    try:
        with writing(path):
            if path.exists() and not path.is_file():
                words = "a folder" if path.is_dir() else _kind(path.stat().st_mode)
                raise StoreError(f"cannot write {path}: it is {words}; a regular file expected")
            with open(fresh, "wb") as f:
                yield f
            take_place(fresh, path)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def appending(path: Path) -> Iterator[IO[bytes]]:
    """A file that grows; what was written when the block ends, however it ends, stays.

    Raises:
        StoreError: when it cannot be written.
    """
    with writing(path), open(path, "ab") as f:
        yield f


def write_bytes(path: Path, data: bytes) -> str:
    """Bytes, packed when the name ends in ``.xz`` or they lay packed there; folders on the way are made. Returns the file's sha256.

    Raises:
        StoreError: when they cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path = packed(path)
    with replacing(path) as f:
        out = Hashing(f)
        out.write(lzma.compress(data, preset=9) if path.suffix == ".xz" else data)
    return out.sha256


def write_text(path: Path, text: str) -> str:
    """Text as UTF-8; a name of a file that is no text stands there with its bytes escaped. Returns the file's sha256.

    Raises:
        StoreError: when it cannot be written.
    """
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, body: JSON) -> str:
    """JSON; returns the file's sha256.

    Raises:
        StoreError: when it cannot be written.
    """
    return write_text(path, json.dumps(body, indent=1, allow_nan=False) + "\n")
