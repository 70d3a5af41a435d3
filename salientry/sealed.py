"""A description and its arrays on disk as one: two files that are there as they were written together, or are refused.

``NAME.json`` holds the sha256 of its own other fields, and name and sha256 of the file of arrays, which is named by its content:
``NAME-<12 hex>.safetensors``. The arrays are written first, under a name that nothing refers to yet; the replaced JSON then points to
them, and only then the old arrays go. Killed at any moment, the folder holds the old or the new, never a mix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import DataDamaged, UsageError
from .files import refuse_other
from .keys import digest
from .rows import Array, Sliceable
from .store import JSON, read_arrays, read_json, write_arrays, write_json, writing


def write_sealed(folder: Path, name: str, body: Mapping[str, JSON], arrays: Mapping[str, Sequence[Sliceable]]) -> None:
    """Write both files; the folder is made when it is not there.

    Args:
        folder: where.
        name: of the files.
        body: with its ``schema``; JSON without the fields ``arrays`` and ``sha256``.
        arrays: as for :func:`salientry.store.write_arrays`.

    Raises:
        StoreError: when they cannot be written; what was there before is still whole.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{name}.safetensors"
    sha256 = write_arrays(fresh, arrays)
    file = f"{name}-{sha256[:12]}.safetensors"
    with writing(folder / file):
        os.replace(fresh, folder / file)
    whole = {**body, "arrays": {"file": file, "sha256": sha256}}
    write_json(folder / f"{name}.json", whole | {"sha256": digest(whole)})
    with writing(folder):
        for old in folder.glob(f"{name}*.safetensors"):
            if old.name != file and re.fullmatch(rf"{name}(-[0-9a-f]{{12}})?\.safetensors", old.name):
                old.unlink()


def read_sealed(folder: Path, name: str, schema: int, again: str, older: Collection[int] = ()) -> dict[str, Any]:
    """The description, found to be what was written.

    Args:
        folder: where.
        name: of the files.
        schema: that this version writes.
        again: what to do about one that it does not read.
        older: schemas that it reads too.

    Raises:
        StoreError: when it is not there.
        UsageError: when it has another schema.
        DataDamaged: when it is not what was written.
    """
    path = folder / f"{name}.json"
    body = read_json(path)
    found = body.get("schema") if isinstance(body, dict) else None
    if type(found) is not int or (found != schema and found not in older):
        raise UsageError(f"{path} has schema {found!r}; this version reads {schema}: {again}")
    said = body.pop("sha256", None)
    if digest(body) != said:
        raise DataDamaged(f"{path} is not what was saved: the sha256 of its fields is {digest(body)}, {said} expected")
    entry = body.get("arrays")
    if not isinstance(entry, dict) or not re.fullmatch(rf"{name}-[0-9a-f]{{12}}\.safetensors", str(entry.get("file"))):
        raise DataDamaged(f"{path} does not say where its arrays are")
    return dict(body)


def sealed_file(folder: Path, body: Mapping[str, Any]) -> Path:
    """The file of arrays that a description names, found to be what was written.

    Raises:
        StoreError: when it is not there.
        DataDamaged: when it is not what was written.
    """
    path = folder / str(body["arrays"]["file"])
    refuse_other(path, str(body["arrays"].get("sha256")))
    return path


def sealed_arrays(folder: Path, body: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of :func:`sealed_file`."""
    return read_arrays(sealed_file(folder, body))
