"""A store's results on another machine: packed into files of a limited size, and put into a store there.

Packed is what a run found: weights, ids, seeds, scores, values, choices, figures by row. *Wide* results stay: rows
where some array holds more than ``WIDE`` numbers for each of more than ``FEW`` rows (whatever has the size of the data itself, and what was
stored with it). They are named in the manifest, and are made again,
from the same keys, by whoever needs them. On a machine that computes alike they are the same to the last bit; on another they
may differ in the last digits from those that the packed weights were trained on.

An export is a folder of ``manifest.json`` and ``results.tar.0000``, ``.0001`` ...: one tar file, cut. It holds no clock and no
names of users, so equal stores give equal exports.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import DataDamaged, StoreError, UsageError
from ..files import JSON, Hashing, opened, parsed, read_json, replacing, sha256_of, write_bytes, write_json, writing
from ..keys import digest
from ..store import ARRAYS, BODY, Store, read_arrays, replaceable, sums_of

FORMAT = 1
LIMIT = 14 * 2**20  # bytes of a file: under the 15 MiB that are the most
WIDE, FEW = 128, 32  # numbers in a row, rows
FILE = re.compile(rf"([^\W\d]\w*/[A-Za-z0-9._=+-]{{1,80}}-[0-9a-f]{{12}})/({re.escape(BODY)}|{re.escape(ARRAYS)})")
CUT = re.compile(r"results\.tar\.\d{4,}")


@dataclass(frozen=True)
class Exported:
    """What was packed.

    Attributes:
        results: how many.
        size: bytes of the files that hold them.
        files: how many.
        left_out: how many wide results of each step were not packed.
        left_out_size: bytes that they take in the store.
    """

    results: int
    size: int
    files: int
    left_out: dict[str, int]
    left_out_size: int


@dataclass(frozen=True)
class Imported:
    """What was put into a store.

    Attributes:
        results: how many are new there.
        there: how many were complete there, and were left alone.
        left_out: how many wide results of each step the export lacks.
    """

    results: int
    there: int
    left_out: dict[str, int]


# --- packing ---------------------------------------------------------------------------------------------------


def export_results(store: Path | str, folder: Path | str, limit: int = LIMIT) -> Exported:
    """Pack a store's results into a folder; an earlier export there is replaced.

    Args:
        store: folder of the results; it is only read.
        folder: made when it is not there.
        limit: the most bytes of a file of results.

    Raises:
        UsageError: when the store holds no results.
        DataDamaged: when a result cannot be read.
        StoreError: when the folder cannot be written.
    """
    store, folder = Path(store), Path(folder)
    results = sorted(p.parent.relative_to(store).as_posix() for p in store.glob("*/[!.]*/DONE"))
    if not results:
        raise UsageError(f"no results in {store}: nothing to export")
    looked = [_looked(store, name) for name in results]  # all of it is read before an earlier export goes
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").unlink(missing_ok=True)  # first: half an export is none
        for old in _cuts(folder):
            old.unlink()
    packed, left_out, left_out_size = dict[str, dict[str, str]](), dict[str, list[str]](), 0
    with writing(folder), tempfile.TemporaryFile(dir=folder) as archive:
        with tarfile.open(fileobj=archive, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for name, sums in looked:
                if sums is None:
                    step, _, result = name.partition("/")
                    left_out.setdefault(step, []).append(result)
                    left_out_size += sum(f.stat().st_size for f in _files(store / name))
                    continue
                for file in _files(store / name):
                    member = tarfile.TarInfo(f"{name}/{file.name}")  # no owner, no clock
                    member.size = file.stat().st_size
                    with opened(file) as f:
                        tar.addfile(member, f)
                packed[name] = sums
        files = _cut(archive, folder, limit)
    size = sum(f["bytes"] for f in files)
    rule = f"rows with an array of more than {WIDE} numbers for each of more than {FEW} rows"
    without = {"rule": rule, "bytes": left_out_size, "results": left_out}
    manifest = {"format": FORMAT, "results": len(packed), "bytes": size, "files": files, "left_out": without, "sums": packed}
    write_json(folder / "manifest.json", manifest | {"sha256": digest(manifest)})
    return Exported(len(packed), size, len(files), {k: len(v) for k, v in left_out.items()}, left_out_size)


def _looked(store: Path, name: str) -> tuple[str, dict[str, str] | None]:
    """A result's name and the sha256 of its files, which are what was written; None for one that is left out."""
    result = store / name
    with replaceable(result):
        if _wide(result, _of_its_place(read_json(result / BODY), name, store)):
            return name, None
        known, found = sums_of(result), {f.name: sha256_of(f) for f in _files(result)}
        if known and found != known:
            wrong = next(k for k in {**known, **found} if known.get(k) != found.get(k))
            raise DataDamaged(f"{result / wrong} is damaged: its sha256 is {found.get(wrong)}, {known.get(wrong)} expected")
    return name, found


def _files(result: Path) -> list[Path]:
    return [file for name in (BODY, ARRAYS) if (file := result / name).exists()]


def _of_its_place(body: JSON, name: str, where: Path) -> JSON:
    """Raise unless a result's JSON says the step and key that its folder is named by.

    Raises:
        DataDamaged: says both.
    """
    step, _, result = name.partition("/")
    found = (body.get("step"), str(body.get("key"))[:12]) if isinstance(body, dict) else (None, "no JSON object")
    if not FILE.fullmatch(f"{name}/{BODY}") or found != (step, result[-12:]):
        raise DataDamaged(f"{where}: {name} is no result of that name: its {BODY} says step {found[0]!r}, key {found[1]}")
    return body


def _wide(result: Path, body: JSON) -> bool:
    """Whether it is left out."""
    arrays = read_arrays(result / ARRAYS) if (result / ARRAYS).exists() else {}  # also says when it is damaged
    return body.get("kind") in ("rows", "columns") and any(len(v) > FEW and v.size > WIDE * len(v) for v in arrays.values() if v.ndim)


def _cuts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if CUT.fullmatch(p.name))


def _cut(archive: IO[bytes], folder: Path, limit: int) -> list[dict[str, Any]]:
    """A file in pieces of at most ``limit`` bytes: their names, sizes and sha256."""
    assert limit > 0
    found = list[dict[str, Any]]()
    archive.seek(0)
    while data := archive.read(limit):
        name = f"results.tar.{len(found):04d}"
        write_bytes(folder / name, data)
        found.append({"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    return found


# --- unpacking -------------------------------------------------------------------------------------------------


def import_results(folder: Path | str, store: Path | str) -> Imported:
    """Put the results of an export into a store. Everything is checked before anything is written; each result is there whole or
    not at all, so an import that was killed is simply repeated. A complete result of the store is left alone.

    Raises:
        UsageError: when there is no export, or one of another format.
        DataDamaged: when a file is missing or not what the manifest says, or holds what is no file of a result.
        StoreError: when the store cannot be written.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    files = [_checked(folder, f) for f in manifest["files"]]
    try:
        with tempfile.TemporaryFile() as archive, tarfile.open(fileobj=_concatenated(files, archive), mode="r:") as tar:
            found = _results_in(tar, folder)
            if len(found) != manifest["results"]:
                raise DataDamaged(f"{folder} holds {len(found)} results; its manifest says {manifest['results']}")
            place = Store(store)
            place.sweep()
            fresh = [name for name in found if not place.done(place.root / name)]
            for name in fresh:
                with place.placing(place.root / name) as (result, sums):
                    for file, member in found[name].items():
                        with replacing(result / file) as f:
                            out = Hashing(f)
                            shutil.copyfileobj(_opened(tar, member), out)
                        sums[file] = out.sha256
                    if sums != manifest["sums"].get(name, sums):  # an export of an earlier version has none
                        raise DataDamaged(f"{folder}: {name} is not what was exported; copy the whole folder again")
    except tarfile.TarError as e:
        raise DataDamaged(f"{folder}: its files are no tar file: {e}") from None
    return Imported(len(fresh), len(found) - len(fresh), {k: len(v) for k, v in manifest["left_out"]["results"].items()})


def _manifest(folder: Path) -> dict[str, Any]:
    """What an export says of itself."""
    try:
        body = read_json(folder / "manifest.json")
    except StoreError:
        raise UsageError(f"no export in {folder}: there is no manifest.json (`salientry export` writes it)") from None
    if not isinstance(body, dict) or "format" not in body:
        raise DataDamaged(f"{folder}/manifest.json is no manifest of an export")
    if body["format"] != FORMAT:
        raise UsageError(f"{folder}/manifest.json has format {body['format']!r}; this version reads {FORMAT}")
    said = body.pop("sha256", None)
    if digest(body) != said:
        raise DataDamaged(f"{folder}/manifest.json is damaged: its sha256 is {digest(body)}, {said} expected")
    body.setdefault("sums", {})
    if not _is_manifest(body):
        raise DataDamaged(f"{folder}/manifest.json is no manifest of an export: something is missing in it, or of another kind")
    return body


def _is_manifest(body: dict[str, Any]) -> bool:
    """Whether it holds what is read of it."""
    files, sums, left = body.get("files"), body["sums"], body.get("left_out")
    left = left.get("results") if isinstance(left, dict) else None
    return (
        type(body.get("results")) is int
        and isinstance(files, list)
        and all(isinstance(f, dict) and isinstance(f.get("name"), str) and {"bytes", "sha256"} <= set(f) for f in files)
        and isinstance(left, dict)
        and all(isinstance(v, list) for v in left.values())
        and isinstance(sums, dict)
    )


def _checked(folder: Path, entry: JSON) -> Path:
    """A file of an export that is what the manifest says."""
    path = folder / str(entry["name"])
    if not CUT.fullmatch(entry["name"]):
        raise DataDamaged(f"{folder}/manifest.json names {entry['name']!r}, which is no file of an export")
    if not path.is_file():
        raise DataDamaged(f"{path} is missing: copy the whole folder again")
    if (found := sha256_of(path)) != entry["sha256"]:
        size = path.stat().st_size
        raise DataDamaged(f"{path} is damaged: {size} bytes, sha256 {found}; {entry['bytes']} bytes, {entry['sha256']} expected")
    return path


def _results_in(tar: tarfile.TarFile, folder: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """Results and their files. Every name must be that of a file of a result, so that nothing is ever written elsewhere."""
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in tar:
        match = FILE.fullmatch(member.name)
        if match is None or not member.isreg() or member.issparse():
            raise DataDamaged(f"{folder} holds {member.name!r}, which is no file of a result: nothing was imported")
        found.setdefault(match[1], {})[match[2]] = member
    for name, files in found.items():
        try:
            body = parsed(_opened(tar, files[BODY]).read(), f"{name}/{BODY}")
        except (KeyError, DataDamaged):
            raise DataDamaged(f"{folder}: {name} has no readable {BODY}: nothing was imported") from None
        _of_its_place(body, name, folder)
    return found


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None, "a regular file"
    return file


def _concatenated(files: list[Path], archive: IO[bytes]) -> IO[bytes]:
    """Files one after another, written into one that is read from its beginning."""
    for path in files:
        with opened(path) as f:
            while data := f.read(LIMIT):
                archive.write(data)
    archive.seek(0)
    return archive
