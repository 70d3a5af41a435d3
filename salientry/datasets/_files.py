"""Finding, verifying and parsing data files."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import zlib
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, DataMissing, StoreError
from ..files import LARGE, read_bytes
from ..types import DataSet


class Published(DataSet, Protocol):
    """A data set that anyone can get: it says where, which files it is made of, and whether it knows their checksums."""

    home: ClassVar[str]

    @property
    def known(self) -> bool: ...

    def files(self) -> dict[str, Path | None]:
        """Each file by where it goes under ``SALIENTRY_DATA``, and where it lies; None: nowhere."""
        ...


def data_folder() -> Path | None:
    """``SALIENTRY_DATA``, or None when it is not set."""
    given = os.environ.get("SALIENTRY_DATA")
    return Path(given) if given else None


def located(names: tuple[str, ...]) -> Path | None:
    """The first of these files that is there under ``SALIENTRY_DATA``, or None."""
    folder = data_folder()
    return next((folder / n for n in names if (folder / n).is_file()), None) if folder else None


def find(what: str, names: tuple[str, ...], get: str) -> Path:
    """The first of these files under ``SALIENTRY_DATA``.

    Raises:
        DataMissing: says what to get and where it goes.
    """
    folder = data_folder()
    if folder is None:
        raise DataMissing(f"{what} is not here: SALIENTRY_DATA is not set. Set it to a folder that holds {names[0]}. {get}")
    if (path := located(names)) is None:
        raise DataMissing(f"{what} is not here: no {' or '.join(names)} under {folder}. {get}")
    return path


def read_verified(path: Path, sha256: dict[str, str]) -> bytes:
    """A file's bytes, unpacked if it is gzip, after its checksum was found right.

    Args:
        path: the file.
        sha256: file name to the checksum of the bytes as they lie on disk.

    Raises:
        DataMissing: when it cannot be opened.
        DataDamaged: when checksum or packing is wrong; nothing of it was parsed.
    """
    try:
        raw = read_bytes(path)
    except StoreError as e:
        raise DataMissing(str(e)) from e
    found, expected = hashlib.sha256(raw).hexdigest(), sha256[path.name]
    if found != expected:
        raise DataDamaged(
            f"{path} has the wrong checksum: {len(raw)} bytes with sha256 {found[:16]}..., expected {expected[:16]}...; get it again"
        )
    return unpacked(path, raw)


def unpacked(path: Path, raw: bytes) -> bytes:
    """The bytes themselves, or what is in them when they are gzip.

    Raises:
        DataDamaged: when the packing is broken.
    """
    if path.suffix != ".gz":
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as f:
            body = f.read(LARGE + 1)
    except (OSError, EOFError, zlib.error) as e:
        raise DataDamaged(f"{path} is no readable gzip file: {e}") from None
    if len(body) > LARGE:
        raise DataDamaged(f"{path} unpacks to more than {LARGE} bytes: that is no file of images")
    return body


def parse_idx(body: bytes, path: Path) -> NDArray[np.uint8]:
    """An array in the IDX format (LeCun's MNIST page): magic 00 00 08 rank, big-endian sizes, bytes.

    Raises:
        DataDamaged: when magic or length is wrong.
    """
    if len(body) < 4 or body[:3] != b"\x00\x00\x08":
        raise DataDamaged(f"{path} is no IDX file of bytes: it starts with {body[:4].hex()}, expected 000008..")
    rank = body[3]
    sizes = tuple(int.from_bytes(body[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    if rank > 32 or len(body) != 4 + 4 * rank + math.prod(sizes):
        raise DataDamaged(f"{path} is truncated or too long: {len(body)} bytes for an array of {sizes}")
    return np.frombuffer(body, np.uint8, offset=4 + 4 * rank).reshape(sizes)
