from __future__ import annotations

import errno
import json
import lzma
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from salientry import files, store
from salientry.datasets import DATASETS
from salientry.errors import DataDamaged, StoreError, UsageError
from salientry.shared_disk import beside
from salientry.store import Store, kept, read_arrays, read_json, write_arrays, write_json

# --- arrays in files ---------------------------------------------------------------------------------------------


def some_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    out: dict[str, np.ndarray] = {
        f"x{np.dtype(t).name}": rng.normal(size=(7, 3, 2)).astype(t) for t in ("f8", "f4", "f2", "i8", "i4", "i2", "u1")
    }
    out |= {"flag": rng.random(11) < 0.5, "scalar": np.array(2.5), "flag0": np.array(True), "nan": np.array([np.nan, np.inf, -0.0])}
    return out | {"none": np.zeros((0, 4), np.float32), "thin": np.zeros((5, 0), np.int64), "order": np.arange(12.0).reshape(3, 4).T}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and np.asarray(a[k]).tobytes() == np.asarray(b[k]).tobytes() for k in a
    )


def test_arrays_come_back_bit_for_bit_and_safetensors_agrees(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_arrays(tmp_path / "a", {k: [v] for k, v in arrays.items()})
    assert same(read_arrays(tmp_path / "a"), arrays)
    assert same(load_file(tmp_path / "a"), arrays)


def test_packed_arrays_come_back_bit_for_bit_and_damage_is_said(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 4), np.int64), "yes": np.array([True, False])}
    plain, packed = tmp_path / "x.safetensors", tmp_path / "x.safetensors.xz"
    for path in (plain, packed):
        write_arrays(path, {k: [v] for k, v in arrays.items()})
    assert lzma.decompress(packed.read_bytes()) == plain.read_bytes()
    found = read_arrays(packed)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    whole = packed.read_bytes()
    for body in (whole[:-20], b"x" + whole[1:], b""):
        packed.write_bytes(body)
        with pytest.raises(DataDamaged, match=r"x.safetensors.xz"):
            read_arrays(packed)
    packed.unlink()
    with pytest.raises(StoreError, match="cannot read"):
        read_arrays(packed)


def test_packed_json_is_read_where_it_lies_and_stays_packed(tmp_path: Path) -> None:
    path, other = tmp_path / "x.json", tmp_path / "x.json.xz"
    write_json(other, {"a": [1, "é"]})
    assert json.loads(lzma.decompress(other.read_bytes())) == {"a": [1, "é"]} == read_json(path) == read_json(other)
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert not path.exists(), "a recorded run stays as small as it was"
    for body in (other.read_bytes()[:-20], b"{}", lzma.compress(b"{")):
        other.write_bytes(body)
        with pytest.raises(DataDamaged, match=r"x.json.xz"):
            read_json(path)
    path.write_text('{"a": 3}')
    assert read_json(path) == {"a": 3}, "a plain file goes first"
    path.unlink()
    other.unlink()
    with pytest.raises(StoreError, match="cannot read"):
        read_json(path)


def test_files_of_safetensors_are_read(tmp_path: Path) -> None:
    arrays = {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in some_arrays().items()}
    save_file(arrays, tmp_path / "a", metadata={"note": "not an array"})
    assert same(read_arrays(tmp_path / "a"), arrays)


def test_pieces_give_the_bytes_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    whole = {"image": rng.integers(0, 256, (20, 3, 4, 5), np.uint8), "score": rng.normal(size=20), "right": rng.random(20) < 0.5}
    write_arrays(tmp_path / "whole", {k: [v] for k, v in whole.items()})
    for cuts in ([10], [1, 2, 19], [0, 7, 7, 20]):
        write_arrays(tmp_path / "pieces", {k: np.split(v, cuts) for k, v in whole.items()})
        assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


def test_reading_maps_the_file_read_only_and_aligned(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_arrays(tmp_path / "a", {k: [v] for k, v in arrays.items()})
    found = read_arrays(tmp_path / "a")
    for name, value in found.items():
        assert value.flags.aligned, name
        if value.size:
            assert isinstance(value, np.memmap), name
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a", {"x": [np.arange(6, dtype=np.float32)], "flag": [np.array([True, False, True])]})
    whole = (tmp_path / "a").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(DataDamaged, match=str(tmp_path / "a")):
            read_arrays(tmp_path / "a")


def with_header(header: Any, body: bytes = bytes(24)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


GOOD = {"dtype": "F64", "shape": [3], "data_offsets": [0, 24]}


GARBAGE = [
    b"",
    b"not safetensors at all, but long enough for a header length",
    bytes(100),
    b"\xff" * 100,
    with_header(b"{nonsense"),
    with_header(b"\xff\xfe\xfd"),
    with_header([GOOD]),
    with_header("text"),
    with_header({"x": 3}),
    with_header({"x": {k: v for k, v in GOOD.items() if k != "shape"}}),
    with_header({"x": GOOD | {"dtype": "BF16"}}),
    with_header({"x": GOOD | {"dtype": ["F64"]}}),
    with_header({"x": GOOD | {"shape": 3}}),
    with_header({"x": GOOD | {"shape": ["3"]}}),
    with_header({"x": GOOD | {"shape": [-3]}}),
    with_header({"x": GOOD | {"shape": [-1, -3]}}),
    with_header({"x": GOOD | {"shape": [4]}}),
    with_header({"x": GOOD | {"data_offsets": [0]}}),
    with_header({"x": GOOD | {"data_offsets": ["0", "24"]}}),
    with_header({"x": GOOD | {"data_offsets": [-24, 0]}}),
    with_header({"x": GOOD | {"data_offsets": [8, 32]}}),
    with_header({"x": GOOD | {"shape": [0], "data_offsets": [24, 0]}}),
]


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_damage_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    assert read_arrays_of(tmp_path, with_header({"x": GOOD}))["x"].tolist() == [0, 0, 0]
    with pytest.raises(DataDamaged, match=str(tmp_path / "a")):
        read_arrays_of(tmp_path, content)


def read_arrays_of(folder: Path, content: bytes) -> dict[str, Any]:
    (folder / "a").write_bytes(content)
    return read_arrays(folder / "a")


def test_a_file_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        read_arrays(tmp_path / "a")
    with pytest.raises(StoreError, match="No such file"):
        store.read_json(tmp_path / "a")


def test_json_comes_back_and_bad_json_is_damage(tmp_path: Path) -> None:
    body = {"a": [1, 2.5, None, True, "ä"], "b": {}}
    store.write_json(tmp_path / "deep" / "a.json", body)
    assert store.read_json(tmp_path / "deep" / "a.json") == body
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.json"]
    for text in ("", "{", "\xff"):
        (tmp_path / "b.json").write_bytes(text.encode("latin1"))
        with pytest.raises(DataDamaged, match="no JSON"):
            store.read_json(tmp_path / "b.json")


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write_json(tmp_path / "a.json", math.nan)
    assert store.read_json(tmp_path / "a.json") == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full_is_said_to_be_and_the_old_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_arrays(file, {"x": [np.ones(3)]})
    beside(file).symlink_to("/dev/full")  # where the new one is written first
    with pytest.raises(StoreError, match=r"full.*free some space"):
        write_arrays(file, {"x": [np.zeros(100_000)]})
    np.testing.assert_array_equal(read_arrays(file)["x"], np.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


# --- results -----------------------------------------------------------------------------------------------------

PIECES = {"x": [np.arange(3.0), np.arange(2.0)]}


def test_a_result_comes_back(tmp_path: Path) -> None:
    there = Store(tmp_path / "deep" / "store")
    path = there.path("look", "digits-test", "0123456789abcdef")
    assert path == tmp_path / "deep" / "store" / "look" / "digits-test-0123456789ab"
    assert not there.done(path)
    there.write(path, {"a": 1}, PIECES)
    assert there.done(path) and there.body(path) == {"a": 1}
    assert there.arrays(path)["x"].tolist() == [0, 1, 2, 0, 1]
    there.write(there.path("look", "s", "1" * 64), [1])
    assert there.arrays(there.path("look", "s", "1" * 64)) == {}


def test_a_complete_result_is_left_alone_and_a_half_one_replaced(tmp_path: Path) -> None:
    there = Store(tmp_path)
    path = there.path("s", "a", "0" * 64)
    path.mkdir(parents=True)
    (path / "result.json").write_text("{")
    (path / "stale").touch()
    there.write(path, {"try": 1})
    assert there.body(path) == {"try": 1} and not (path / "stale").exists()
    there.write(path, {"try": 2}, PIECES)
    assert there.body(path) == {"try": 1} and there.arrays(path) == {}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


class Crash(BaseException):
    pass


@pytest.mark.parametrize("where", ["rename", "replace"])
def test_a_crash_leaves_nothing_that_looks_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    there = Store(tmp_path)
    path = there.path("s", "a", "0" * 64)

    def crash(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as m:
        m.setattr(os, where, crash)
        with pytest.raises(Crash):
            there.write(path, {"a": 1}, PIECES)
    assert not path.exists() and not there.done(path)
    assert list((tmp_path / "s").iterdir()) == []
    there.write(path, {"a": 1}, PIECES)
    assert there.done(path)


def test_done_is_written_after_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, rename, seen = Store(tmp_path), os.rename, []
    path = there.path("s", "a", "0" * 64)

    def look(source: Any, target: Any) -> None:
        seen.append(({p.name for p in Path(source).iterdir()}, Path(target), Path(target).exists()))
        rename(source, target)

    monkeypatch.setattr(os, "rename", look)
    there.write(path, {"a": 1}, PIECES)
    assert seen == [({"result.json", "arrays.safetensors", "DONE"}, path, False)]


def test_a_killed_process_leaves_a_folder_that_is_swept_and_no_result(tmp_path: Path) -> None:
    code = f"""
import os, signal
import numpy as np
from salientry.store import Store
os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
s = Store({str(tmp_path)!r})
s.write(s.path("s", "a", "0" * 64), {{"a": 1}}, {{"x": [np.zeros(3)]}})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    there = Store(tmp_path)
    path = there.path("s", "a", "0" * 64)
    assert not path.exists()
    (left,) = (tmp_path / "s").iterdir()
    assert (left / "result.json").exists(), "it died at the last moment"
    assert there.sweep() == 1
    assert list((tmp_path / "s").iterdir()) == []
    there.write(path, {"a": 2})
    assert there.body(path) == {"a": 2}


def test_sweep_leaves_the_living_and_the_finished_alone(tmp_path: Path) -> None:
    there = Store(tmp_path)
    path = there.path("s", "a", "0" * 64)
    there.write(path, 1)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    dead, alive, first = (tmp_path / "s" / f".new-{pid}-abc" for pid in (child.pid, os.getpid(), 1))
    for folder in (dead, alive, first, tmp_path / "s" / ".new-abc-d"):
        folder.mkdir()
        (folder / "result.json").touch()
    assert there.sweep() == 1
    assert not dead.exists() and alive.exists() and first.exists() and there.done(path)
    assert there.sweep() == 0


def test_two_writers_of_one_result_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, rename = Store(tmp_path), os.rename
    path = there.path("s", "a", "0" * 64)

    def late(source: Any, target: Any) -> None:
        monkeypatch.setattr(os, "rename", rename)
        there.write(path, {"by": "the other"})
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    there.write(path, {"by": "me"})
    assert there.body(path) == {"by": "the other"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_unusable_root_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=f"cannot write {root}"):
            Store(root)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match="permission denied"):
        Store(tmp_path / "closed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="ermission denied"):
        Store(tmp_path)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("where", ["open", "mkdtemp", "rename", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_so_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int) -> None:
    there = Store(tmp_path)
    before, path = there.path("s", "before", "1" * 64), there.path("s", "a", "0" * 64)
    there.write(before, {"kept": True}, PIECES)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    owner: Any = {"open": files, "mkdtemp": store.tempfile, "rename": os, "replace": os}[where]
    with monkeypatch.context() as m:
        m.setattr(owner, where, full, raising=where != "open")
        with pytest.raises(StoreError, match=r"the disk that holds .* is full") as e:
            there.write(path, {"a": 1}, PIECES)
    assert e.value.exit_code == 4
    assert [p.name for p in (tmp_path / "s").iterdir()] == [before.name]
    assert there.body(before) == {"kept": True} and there.arrays(before)["x"].tolist() == [0, 1, 2, 0, 1]


def test_other_refusals_of_the_system_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file") as e:
        write_arrays(tmp_path / "nowhere" / "a", {"x": [np.zeros(1)]})
    assert "full" not in str(e.value)


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALIENTRY_HOME", str(tmp_path / "mine"))
    assert store.home() == tmp_path / "mine"
    monkeypatch.setenv("SALIENTRY_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert store.home() == tmp_path / "cache" / "salientry"
    monkeypatch.delenv("SALIENTRY_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.home() == tmp_path / ".cache" / "salientry"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    store.one_of("data set", "digits", DATASETS)
    with pytest.raises(UsageError, match="unknown data set 'cifar'; there are: digits"):
        store.one_of("data set", "cifar", DATASETS)


def test_a_piece_is_kept_where_it_took_long_and_made_again_where_its_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def piece() -> Any:
        made.append(1)
        return np.arange(3) + len(made)

    file = tmp_path / "folder" / "piece.safetensors"
    assert kept(file, piece).tolist() == [1, 2, 3] and not file.exists(), "it took no second"
    monkeypatch.setattr("salientry.store.WORTH", 0.0)
    assert kept(file, piece).tolist() == kept(file, piece).tolist() == [2, 3, 4]
    file.write_bytes(file.read_bytes()[:-1])
    assert kept(file, piece).tolist() == [3, 4, 5]
    assert kept(file, piece).tolist() == [3, 4, 5] and len(made) == 3
