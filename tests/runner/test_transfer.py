"""A store on another machine: what comes along, what does not, what is refused, and that a run there ends with the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from salientry.errors import DataDamaged, StoreError, UsageError
from salientry.experiment.run import Run
from salientry.keys import digest
from salientry.runner.transfer import LIMIT, export_results, import_results
from tests.tiny import finish, recorded, tiny

ROOT = Path(__file__).parents[2]
SMALL = 300_000
PIXELS = {"image", "map", "gradient"}


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def results(store: Path) -> set[str]:
    return {p.parent.relative_to(store).as_posix() for p in store.glob("*/[!.]*/DONE")}


def left_out(folder: Path) -> set[str]:
    manifest = json.loads((folder / "manifest.json").read_text())["left_out"]["results"]
    return {f"{step}/{name}" for step, names in manifest.items() for name in names}


@pytest.fixture(scope="module")
def exported(finished: Path, finished_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's store, packed; nobody may write into it."""
    folder = tmp_path_factory.mktemp("exported")
    export_results(finished_store, folder, limit=SMALL)
    return folder


def forged(folder: Path, members: list[tuple[tarfile.TarInfo, bytes]], **changes: Any) -> Path:
    """An export whose checksums are all right, whatever is in it."""
    folder.mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data = packed.getvalue()
    name = changes.pop("name", "results.tar.0000")
    (folder / name).write_bytes(data)
    file = {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    body = {"format": 1, "results": 1, "bytes": len(data), "files": [file], "left_out": {"rule": "", "bytes": 0, "results": {}}} | changes
    (folder / "manifest.json").write_text(json.dumps(body | {"sha256": digest(body)}))
    return folder


GOOD = "score/SPD-0123456789ab"


def member(name: str, body: Any = None, **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    for k, v in changes.items():
        setattr(member, k, v)
    return member, json.dumps({"step": "score", "key": "0123456789ab" + 52 * "0", "kind": "value"} if body is None else body).encode()


# --- what comes along ----------------------------------------------------------------------------------------------


def test_what_is_packed_comes_back_byte_for_byte(exported: Path, finished_store: Path, tmp_path: Path) -> None:
    found = import_results(exported, tmp_path / "store")
    there, here = files(finished_store), files(tmp_path / "store")
    assert here == {k: v for k, v in there.items() if k in here}
    assert results(tmp_path / "store") == results(finished_store) - left_out(exported)
    assert found.results == len(results(tmp_path / "store")) > 300
    assert sum(found.left_out.values()) == len(left_out(exported))


def test_left_out_are_the_pixels_and_nothing_else(exported: Path, finished_store: Path) -> None:
    """Every net, score, threshold, choice and figure by image comes along; no picture of more than 32 images does."""
    absent = left_out(exported)
    assert {name.split("/")[0] for name in absent} == {"read_data", "attack_images", "control_images", "settle", "draw", "differentiate"}
    for name in results(finished_store):
        body = json.loads((finished_store / name / "result.json").read_text())
        arrays = load_file(file) if (file := finished_store / name / "arrays.safetensors").exists() else {}
        pictures = body["kind"] in ("rows", "columns") and [k for k in PIXELS & set(arrays) if len(arrays[k]) > 32]
        assert (name in absent) == bool(pictures), name
    assert "gallery" in {n.split("/")[0] for n in results(finished_store) - absent}, "six pictures are figures"
    manifest = json.loads((exported / "manifest.json").read_text())
    size = sum((finished_store / n / f).stat().st_size for n in absent for f in ("result.json", "arrays.safetensors"))
    assert manifest["left_out"]["bytes"] == size


def test_files_are_no_larger_than_the_limit(exported: Path, finished_store: Path, tmp_path: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert len(manifest["files"]) > 10
    assert {f["name"]: f["bytes"] for f in manifest["files"]} == {p.name: p.stat().st_size for p in exported.glob("results.*")}
    assert max(p.stat().st_size for p in exported.iterdir()) == SMALL
    whole = export_results(finished_store, tmp_path)
    assert LIMIT < 15 * 2**20
    assert whole.files == 1
    assert (tmp_path / "results.tar.0000").read_bytes() == b"".join(p.read_bytes() for p in sorted(exported.glob("results.*")))


def test_a_plain_tar_reads_it(exported: Path, finished_store: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(p.read_bytes() for p in sorted(exported.glob("results.*"))))) as tar:
        for member in tar:
            assert tar.extractfile(member).read() == (finished_store / member.name).read_bytes()  # type: ignore[union-attr]


def test_equal_stores_give_equal_exports(exported: Path, finished_store: Path, tmp_path: Path) -> None:
    """Whenever, in whatever order and by whomever their files were written."""
    names = sorted(results(finished_store), reverse=True)
    for i, name in enumerate(names):
        shutil.copytree(finished_store / name, tmp_path / "store" / name)
        for file in (tmp_path / "store" / name).iterdir():
            os.utime(file, (i, i))
            file.chmod(0o600)
    half = tmp_path / "store" / "scores" / "Half-0123456789ab"
    half.mkdir()
    (half / "result.json").write_text("{ half")
    (tmp_path / "store" / "scores" / ".new-1-x").mkdir()
    (tmp_path / "store" / "scores" / ".new-1-x" / "DONE").touch()
    export_results(tmp_path / "store", tmp_path / "exported", limit=SMALL)
    assert files(tmp_path / "exported") == files(exported)


def test_an_earlier_export_is_replaced(exported: Path, finished_store: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "exported")
    (tmp_path / "exported" / "notes.txt").write_text("mine")
    for limit in (LIMIT, SMALL):
        export_results(finished_store, tmp_path / "exported", limit=limit)
        count = len(list((tmp_path / "exported").glob("results.*")))
        assert (count == 1) == (limit == LIMIT)
    assert files(tmp_path / "exported") == files(exported) | {"notes.txt": b"mine"}


# --- a run on what came --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_on_what_came_makes_only_images_and_ends_with_the_same_records(
    exported: Path, finished: Path, tmp_path: Path, workers: int
) -> None:
    import_results(exported, tmp_path / "store")
    there = results(tmp_path / "store")
    run = Run(tmp_path / "store")
    outputs = tiny(run)
    outcome = run.compute([*outputs, *outputs.images], workers=workers)
    made = {run.path(h).relative_to(run.store.root).as_posix() for h, _ in outcome.made}
    assert made < left_out(exported), "only what was left out, and of that only what is needed"
    assert results(tmp_path / "store") == there | made
    _, _, second = finish(tmp_path / "store", tmp_path / "out")
    assert not second.made
    assert recorded(tmp_path / "out") == recorded(finished)
    assert results(tmp_path / "store") == there | made, "the records asked for images that the run had not made"


def test_a_walk_of_one_value_makes_no_image(exported: Path, tmp_path: Path) -> None:
    import_results(exported, tmp_path / "store")
    run = Run(tmp_path / "store")
    outputs = tiny(run)
    wanted = [outputs.classifier, *outputs.map_checks, *outputs.strength, *outputs.shifts, *outputs.choice]
    assert not run.compute(wanted).made
    assert run.get(outputs.choice[-1]) is not None


# --- killed, repeated ----------------------------------------------------------------------------------------------

KILLED = """
import os, shutil, signal, sys
from salientry.runner.transfer import import_results
name, left = sys.argv[3], int(sys.argv[4])
module = os if name == "rename" else shutil
real = getattr(module, name)
def counted(*arguments, **more):
    global left
    left -= 1
    if left == 0:
        if name == "copyfileobj":
            arguments[1].write(arguments[0].read(100))
            arguments[1].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **more)
setattr(module, name, counted)
import_results(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize(("call", "count"), [("copyfileobj", 1), ("copyfileobj", 150), ("rename", 100), ("rename", 101)])
def test_an_import_that_is_killed_leaves_whole_results_and_is_repeated(
    exported: Path, finished_store: Path, tmp_path: Path, call: str, count: int
) -> None:
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, str(exported), str(store), call, str(count)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    there = results(store)
    assert len(there) == (count - 1 if call == "rename" else len(there))
    for name in there:
        assert files(store / name) == files(finished_store / name)
    assert len(list(store.rglob(".new-*"))) == 1, "it was killed in the middle of one"
    found = import_results(exported, store)
    assert found.there == len(there)
    assert found.results == len(results(store)) - len(there)
    assert results(store) == results(finished_store) - left_out(exported)
    assert not list(store.rglob(".new-*"))
    there_now, whole = files(store), files(finished_store)
    assert there_now == {k: whole[k] for k in there_now}
    assert import_results(exported, store).results == 0


def test_what_is_there_is_left_alone_and_a_half_is_replaced(exported: Path, finished_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    mine, half = sorted(results(finished_store) - left_out(exported))[:2]
    for name in (mine, half):
        (store / name).mkdir(parents=True)
        (store / name / "result.json").write_text("mine")
    (store / mine / "DONE").touch()
    found = import_results(exported, store)
    assert found.there == 1
    assert (store / mine / "result.json").read_text() == "mine"
    assert files(store / half) == files(finished_store / half)


def test_a_store_that_cannot_be_written(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot write .*store"):
        import_results(exported, tmp_path / "store")


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 0.5, 0.999])
def test_a_byte_that_changed_is_refused_before_anything_is_written(exported: Path, tmp_path: Path, at: float) -> None:
    shutil.copytree(exported, tmp_path / "exported")
    names = sorted(p.name for p in exported.glob("results.*"))
    for name in (names[0], names[len(names) // 2], names[-1]):
        file = tmp_path / "exported" / name
        data = bytearray(file.read_bytes())
        data[int(at * len(data))] ^= 1
        file.write_bytes(data)
        with pytest.raises(DataDamaged, match=f"{name} is damaged: .* sha256 .* expected"):
            import_results(tmp_path / "exported", tmp_path / "store")
        assert not (tmp_path / "store").exists()
        shutil.copy(exported / name, file)
    assert import_results(tmp_path / "exported", tmp_path / "store").results


def test_a_file_that_is_short_or_missing_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "exported")
    last = sorted((tmp_path / "exported").glob("results.*"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(DataDamaged, match=f"{last.name} is damaged: {last.stat().st_size} bytes, .*; {last.stat().st_size + 1} bytes"):
        import_results(tmp_path / "exported", tmp_path / "store")
    last.unlink()
    with pytest.raises(DataDamaged, match=f"{last.name} is missing"):
        import_results(tmp_path / "exported", tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ('"results": ', '"results": 1', DataDamaged, "manifest.json is damaged: its sha256 is"),
        ('"format": 1', '"format": 2', UsageError, "format 2; this version reads 1"),
        ('"format"', '"fmt"', DataDamaged, "is no manifest of an export"),
        ("{", "", DataDamaged, "is no JSON"),
    ],
)
def test_a_damaged_manifest_is_refused(exported: Path, tmp_path: Path, old: str, new: str, error: type[Exception], words: str) -> None:
    shutil.copytree(exported, tmp_path / "exported")
    manifest = tmp_path / "exported" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(old, new, 1))
    with pytest.raises(error, match=words):
        import_results(tmp_path / "exported", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_damaged_result_is_not_exported(finished_store: Path, tmp_path: Path) -> None:
    name = sorted(n for n in results(finished_store) if n.startswith("fit_detector/"))[0]
    shutil.copytree(finished_store / name, tmp_path / "store" / name)
    arrays = tmp_path / "store" / name / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with pytest.raises(DataDamaged, match="is truncated"):
        export_results(tmp_path / "store", tmp_path / "exported")
    with pytest.raises(UsageError, match="no export in"):
        import_results(tmp_path / "exported", tmp_path / "other")  # half an export is none


def test_nothing_to_move(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no results in .*: nothing to export"):
        export_results(tmp_path / "store", tmp_path / "exported")
    with pytest.raises(UsageError, match=r"no export in .*: there is no manifest.json"):
        import_results(tmp_path / "exported", tmp_path / "store")
    assert not list(tmp_path.iterdir())


# --- what would escape ---------------------------------------------------------------------------------------------


def test_the_forger_can_forge(tmp_path: Path) -> None:
    """What the tests below change is all that makes it be refused."""
    assert import_results(forged(tmp_path / "exported", [member(f"{GOOD}/result.json")]), tmp_path / "store").results == 1
    assert results(tmp_path / "store") == {GOOD}


@pytest.mark.parametrize(
    "name",
    [
        "../evil-0123456789ab/result.json",
        "score/../../evil-0123456789ab/result.json",
        "/evil-0123456789ab/result.json",
        "./score/SPD-0123456789ab/result.json",
        "score/SPD-0123456789ab/../../../result.json",
        "score\\..\\SPD-0123456789ab/result.json",
        ".score/SPD-0123456789ab/result.json",
        "score/SPD-0123456789ab/DONE",
        "score/SPD-0123456789ab/evil.py",
        "score/SPD-0123456789ab.parts/result.json",
        "score/.new-1-0123456789ab/x/result.json",
        "score/SPD-0123456789ab/result.json\n",
        "result.json",
    ],
)
def test_a_name_that_is_no_files_of_a_result_is_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    folder = forged(tmp_path / "exported", [member(f"{GOOD}/result.json"), member(name)])
    before = files(tmp_path)
    with pytest.raises(DataDamaged, match="is no file of a result: nothing was imported"):
        import_results(folder, inside / "store")
    assert files(tmp_path) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_link_is_refused(tmp_path: Path, kind: bytes) -> None:
    folder = forged(tmp_path / "exported", [member(f"{GOOD}/result.json", type=kind, linkname="/etc/passwd")])
    with pytest.raises(DataDamaged, match="is no file of a result"):
        import_results(folder, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["../outside.tar", "results.tar.0000.gz", "/results.tar.0000"])
def test_a_manifest_that_names_other_files_is_refused(tmp_path: Path, name: str) -> None:
    folder = forged(tmp_path / "exported", [member(f"{GOOD}/result.json")], files=[{"name": name, "bytes": 1, "sha256": ""}])
    with pytest.raises(DataDamaged, match="is no file of an export"):
        import_results(folder, tmp_path / "store")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"step": "score", "key": "ffffffffffff"}, "says step 'score', key ffffffffffff"),
        ({"step": "calibrate", "key": "0123456789ab"}, "says step 'calibrate'"),
        ([], "no JSON object"),
    ],
)
def test_a_result_under_another_name_is_refused(tmp_path: Path, body: Any, words: str) -> None:
    """It would be taken for what it is not."""
    with pytest.raises(DataDamaged, match=words):
        import_results(forged(tmp_path / "exported", [member(f"{GOOD}/result.json", body)]), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_result_without_its_json_and_files_that_are_no_tar_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataDamaged, match=r"no readable result\.json"):
        import_results(forged(tmp_path / "a", [member(f"{GOOD}/arrays.safetensors")]), tmp_path / "store")
    with pytest.raises(DataDamaged, match="holds 1 results; its manifest says 2"):
        import_results(forged(tmp_path / "b", [member(f"{GOOD}/result.json")], results=2), tmp_path / "store")
    folder = forged(tmp_path / "c", [member(f"{GOOD}/result.json")])
    (folder / "results.tar.0000").write_bytes(b"nonsense" * 1000)
    body = json.loads((folder / "manifest.json").read_text())
    del body["sha256"]
    body["files"][0]["sha256"] = hashlib.sha256(b"nonsense" * 1000).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(body | {"sha256": digest(body)}))
    with pytest.raises(DataDamaged, match="no tar file"):
        import_results(folder, tmp_path / "store")
    assert not (tmp_path / "store").exists()
