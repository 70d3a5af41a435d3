"""A folder of records of which some files of scores are not kept: their numbers are, in ``numbers.parquet``.

``not_kept.json`` names the files (name, sha256, bytes, as they were) and the command that makes them again; it holds the sha256 of
``numbers.parquet`` and how many of its numbers follow from the files that are kept. A file that is named there may be missing; any other is
an error. When all of them are there again, everything is computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataDamaged, StoreError
from ..files import read_object, sha256_of, write_json
from . import place

NAME, NUMBERS = "not_kept.json", "numbers.parquet"
TUPLES = ("seeds", "keys", "resampled")


@dataclass(frozen=True)
class NotKept:
    """What ``not_kept.json`` says.

    Attributes:
        folder: where it lies.
        command: that makes the files again.
        files: name of a file of scores to its sha256 and size in bytes.
        numbers: sha256 of ``numbers.parquet``.
        again: how many of its numbers follow from the files that are kept.
    """

    folder: Path
    command: str
    files: dict[str, dict[str, Any]]
    numbers: str
    again: int

    @property
    def gone(self) -> list[str]:
        """The files that are not there."""
        return [f for f in self.files if not (self.folder / f).exists()]


def read(folder: Path) -> NotKept | None:
    """What is not kept of the records in a folder; None where all is.

    Raises:
        DataDamaged: when ``not_kept.json`` is not what it should be.
    """
    if not (folder / NAME).exists():
        return None
    body = read_object(folder / NAME)
    try:
        files = {str(f["name"]): {"sha256": str(f["sha256"]), "bytes": int(f["bytes"])} for f in body["files"]}
        return NotKept(folder, str(body["command"]), files, str(body["numbers"]), int(body["again"]))
    except (KeyError, TypeError, ValueError) as e:
        raise DataDamaged(f"{folder / NAME} is damaged: {type(e).__name__} {e}") from None


def missing(folder: Path, shards: Sequence[str]) -> tuple[list[str], NotKept | None]:
    """Of these files of scores those that are missing and should be there, and what is not kept, where some of it is not there."""
    known = read(folder)
    gone = set(known.gone) if known else set()
    lost = [f for f in shards if f not in gone and not (folder / f).exists()]
    return lost, known if gone & set(shards) else None


def checked(known: NotKept) -> Path:
    """``numbers.parquet``.

    Raises:
        DataDamaged: when it is missing, or not what was written.
    """
    file = known.folder / NUMBERS
    try:
        found = sha256_of(file)
    except StoreError:
        raise DataDamaged(f"{file} is missing: it holds the numbers of the records that are not kept") from None
    if found != known.numbers:
        raise DataDamaged(f"{file} is not what was written: {NAME} says another sha256")
    return file


def numbers(known: NotKept) -> list[place.Row]:
    """The numbers that were computed from all records, and those that verdicts on them and over several runs add.

    Raises:
        DataDamaged: when ``numbers.parquet`` is not what was written.
    """
    import pyarrow.parquet

    rows = [{c: v for c, v in r.items() if v is not None} for r in pyarrow.parquet.read_table(checked(known)).to_pylist()]
    return [r | {c: tuple(r[c]) for c in TUPLES if c in r} | {"each": tuple(map(tuple, r["each"]))} for r in rows]


def write(folder: Path, command: str, files: Sequence[str], rows: Sequence[place.Row], count: Callable[[], int]) -> None:
    """Write ``numbers.parquet`` and ``not_kept.json``, and remove the files of scores.

    Args:
        folder: of the records.
        command: that makes the files again.
        files: of scores that are removed.
        rows: all numbers of the whole records that stand on scores, and those that verdicts over several runs add.
        count: how many numbers follow from what is left; asked at the end.
    """
    import pyarrow
    import pyarrow.parquet

    columns = dict.fromkeys(c for r in rows for c in r)
    table = pyarrow.table({c: pyarrow.array([_plain(r.get(c)) for r in rows]) for c in columns})
    pyarrow.parquet.write_table(table, folder / NUMBERS, compression="zstd", compression_level=22, write_statistics=False)
    told = [{"name": f, "sha256": sha256_of(folder / f), "bytes": (folder / f).stat().st_size} for f in files]
    body = {"command": command, "again": 0, "numbers": sha256_of(folder / NUMBERS), "files": told}
    write_json(folder / NAME, body)
    for f in files:
        (folder / f).unlink()
    write_json(folder / NAME, body | {"again": count()})


def _plain(value: Any) -> Any:
    """Without numpy's types."""
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value
