from __future__ import annotations

import ast
import contextlib
import errno
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salientry import files
from salientry.errors import DataDamaged, StoreError
from salientry.files import (
    opened,
    parsed,
    read_bytes,
    read_json,
    read_object,
    read_text,
    replacing,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)
from salientry.store import Store, read_arrays, write_arrays

ROOT = Path(__file__).parents[1]
BARE = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "load_file"}
SAFE = {  # calls of these names that open no file of anybody's
    ("pixels.py", "open"),  # of Pillow, on an opened file
    ("datasets/_folder.py", "open"),  # of zipfile, on an opened file
    ("harmless/_file.py", "open"),  # of Pillow, on bytes in memory
    ("video/frames.py", "open"),  # of PyAV, on an opened file
    ("video/overlay.py", "open"),  # of PyAV, on an opened file
    ("runner/transfer.py", "open"),  # of tarfile, on an opened file
    ("picture_stream.py", "open"),  # of tarfile, on an opened file
    ("store.py", "open"),  # of lzma, on an opened file
    ("results/claims/__init__.py", "read_text"),  # the package's own, whose encoding is named
    ("results/paper_numbers.py", "read_text"),
    ("serve/page.py", "read_bytes"),  # so are the page's files
    ("machine.py", "read_text"),  # what the system says of its processor
    ("cli/running.py", "read_bytes"),  # the package's own code
    ("classifiers/_loading.py", "load_file"),  # after is_file()
}


def test_every_file_is_opened_in_one_place() -> None:
    found = set()
    for path in (ROOT / "salientry").rglob("*.py"):
        name = path.relative_to(ROOT / "salientry").as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
                ours = isinstance(node.func, ast.Name) and called in ("read_text", "write_text", "read_bytes", "write_bytes")
                if called in BARE and not ours and name != "files.py":
                    found.add((name, called))
    assert found == SAFE


# --- reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [read_bytes, read_text, read_json, read_arrays, sha256_of, opened])
def test_a_pipe_is_refused_at_once(tmp_path: Path, look: Any) -> None:
    for name in ("pipe", "pipe.xz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataDamaged, match="is a named pipe; a regular file expected"):
            look(tmp_path / name)


def test_a_folder_and_a_missing_file_are_what_they_were(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Is a directory"):
        read_bytes(tmp_path)
    with pytest.raises(StoreError, match="No such file"):
        read_json(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ('{"a":' * 70 + "1" + "}" * 70, "nested too deeply"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "inf is no number"),
        (f"[{10**400}]", "larger than 2"),
        ("[" + "1" * 5000 + "]", "is no JSON"),
        ("{", "is no JSON"),
        ("", "is no JSON"),
        ("\udcff", "is no JSON"),
    ],
)
def test_json_that_nobody_wrote_is_damaged_data(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataDamaged, match="is no JSON") as e:
        read_json(tmp_path / "a.json")
    assert why in str(e.value)


def test_json_up_to_the_bounds_is_read() -> None:
    assert parsed(f"[{2**63 - 1}, 1e308, -1]".encode(), "x") == [2**63 - 1, 1e308, -1]
    assert parsed(("[" * 60 + "]" * 60).encode(), "x") is not None


def test_packed_text_comes_back_and_what_is_cut_off_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.json.xz"
    write_json(path, {"a": "\u00e9" * 100_000})
    assert path.stat().st_size < 2000 and read_json(path) == {"a": "\u00e9" * 100_000}
    for size in (0, 5, 40, path.stat().st_size - 1):
        (tmp_path / "cut.xz").write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataDamaged, match=r"is no readable xz file"):
            read_bytes(tmp_path / "cut.xz")


def test_what_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGE", 2**20)
    write_arrays(tmp_path / "bomb.safetensors.xz", {"a": [np.zeros(2**24, np.uint8)]})
    with pytest.raises(DataDamaged, match="say that they unpack to 16777216"):
        read_arrays(tmp_path / "bomb.safetensors.xz")
    coder = lzma.compress((64).to_bytes(8, "little") + b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(64) + bytes(2**24))
    (tmp_path / "longer.safetensors.xz").write_bytes(coder)
    with pytest.raises(DataDamaged, match="is damaged: 74 bytes, 73 expected"):  # it stopped a byte later
        read_arrays(tmp_path / "longer.safetensors.xz")
    with pytest.raises(DataDamaged, match="too large"):
        read_bytes(tmp_path / "longer.safetensors.xz", most=1000)


# --- writing ---------------------------------------------------------------------------------------------------


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from salientry.files import read_text, write_text
out = Path({str(tmp_path)!r})
write_text(out / "a.txt", chr(0x2013) + chr(0xE9) + chr(0xDCFF))
assert read_text(out / "a.txt") == chr(0x2013) + chr(0xE9) + chr(92) + "udcff"
"""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    plain |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], env=plain, check=True, cwd=ROOT)
    assert (tmp_path / "a.txt").read_bytes() == b"\xe2\x80\x93\xc3\xa9\\udcff"


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    assert write_text(path, "old") == sha256_of(path)
    with contextlib.suppress(RuntimeError), replacing(path) as f:
        f.write(b"ne")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="is full"):
        write_bytes(path, b"new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_nothing_is_written_over_a_pipe_or_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, words in (("pipe", "a named pipe"), ("folder", "a folder")):
        with pytest.raises(StoreError, match=f"it is {words}; a regular file expected"):
            write_text(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "folder").is_dir()


# --- results ---------------------------------------------------------------------------------------------------


def flip(path: Path, at: int = -1) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.unlink()  # another name of it may be somebody else's
    path.write_bytes(data)


def read(root: Path, path: Path) -> None:
    """As a process does that has not seen it."""
    there = Store(root)
    there.body(path)
    there.arrays(path)


@pytest.mark.parametrize("name", ["result.json", "arrays.safetensors", "DONE"])
def test_a_flipped_bit_in_a_result_is_found_when_a_process_first_reads_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "score" / "a-000000000000"
    Store(tmp_path).write(path, {"value": 12345}, {"score": [np.arange(100, dtype=np.float32)]})
    assert Store(tmp_path).body(path) == {"value": 12345} and len(Store(tmp_path).arrays(path)["score"]) == 100
    flip(path / name, -4 if name == "result.json" else -10)
    with pytest.raises(DataDamaged, match=f"remove {path}, and the same command computes it again"):
        read(tmp_path, path)


@pytest.mark.parametrize("name", ["result.json", "arrays.safetensors"])
def test_a_file_of_a_result_that_is_gone_is_damage_too(tmp_path: Path, name: str) -> None:
    path = tmp_path / "score" / "a-000000000000"
    Store(tmp_path).write(path, {}, {"score": [np.zeros(3)]})
    (path / name).unlink()
    with pytest.raises(DataDamaged, match=f"No such file or directory; remove {path}, and the same"):
        read(tmp_path, path)


def test_a_result_of_an_earlier_version_has_no_checksums_and_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "score" / "a-000000000000"
    Store(tmp_path).write(path, {"value": 1}, {"score": [np.zeros(3)]})
    (path / "DONE").write_bytes(b"")
    assert Store(tmp_path).body(path) == {"value": 1} and list(Store(tmp_path).arrays(path)) == ["score"]


@pytest.mark.parametrize("text", ["[]", "null", '{"a": []}', "{}", '"a"', "[" * 70 + "]" * 70])
def test_an_object_of_another_kind_is_damaged_data(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataDamaged, match=r"a\.json is"):
        read_object(tmp_path / "a.json", a=dict)
    (tmp_path / "a.json").write_text('{"a": {}}')
    assert read_object(tmp_path / "a.json", a=dict) == {"a": {}}
