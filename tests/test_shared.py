"""A folder that tests share is whole, is the one of this code, and is not written into."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.shared import STAMP, intact, linked, shared, state_of_the_code


def slowly(folder: Path) -> None:
    with (folder.parent / "builds").open("a") as f:
        f.write("x")
    (folder / "first").write_text("1")
    time.sleep(0.1)
    (folder / "second").write_text("2")


def use(root: Path) -> None:
    folder = shared("thing", slowly, root=root, state="a")
    assert [(folder / n).read_text() for n in ("first", "second")] == ["1", "2"]


def built(root: Path) -> int:
    return len((root / "builds").read_text())


def test_it_is_built_once_for_all_workers_and_read_by_later_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as workers:  # locks of files hold between threads as between processes
        list(workers.map(use, [tmp_path] * 3))
    use(tmp_path)
    assert built(tmp_path) == 1


def test_what_a_broken_build_left_is_built_again(tmp_path: Path) -> None:
    def breaks(folder: Path) -> None:
        (folder / "rest").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared("thing", breaks, root=tmp_path, state="a")
    folder = shared("thing", slowly, root=tmp_path, state="a")
    assert {p.name for p in folder.iterdir()} == {"first", "second", STAMP}


def test_another_state_of_the_code_is_another_folder(tmp_path: Path) -> None:
    first, second = (shared("thing", slowly, root=tmp_path, state=s) for s in "ab")
    assert first != second
    assert built(tmp_path) == 2
    assert len(state_of_the_code()) == 24


def changes(folder: Path) -> None:
    (folder / "first").write_text("0")


def adds(folder: Path) -> None:
    (folder / "third").touch()


def removes(folder: Path) -> None:
    (folder / "second").unlink()


@pytest.mark.parametrize("spoil", [changes, adds, removes])
def test_one_that_was_written_into_is_not_used_again(tmp_path: Path, spoil: object) -> None:
    folder = shared("thing", slowly, root=tmp_path, state="a")
    assert intact(folder)
    assert callable(spoil)
    spoil(folder)
    assert not intact(folder)
    again = shared("thing", slowly, root=tmp_path, state="a")
    assert again != folder
    assert intact(again)
    assert shared("thing", slowly, root=tmp_path, state="a") == again


def test_links_take_what_is_added_and_leave_the_original(tmp_path: Path) -> None:
    folder = shared("thing", slowly, root=tmp_path, state="a")
    mine = linked(folder, tmp_path / "mine")
    assert {p.name for p in mine.iterdir()} == {"first", "second"}
    (mine / "third").touch()
    (mine / "first").unlink()
    (mine / "first").write_text("mine")
    assert intact(folder)


def test_only_the_newest_are_kept_and_those_in_use(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for n in range(5):
        folder = tmp_path / f"thing-old{n}-0"
        folder.mkdir()
        os.utime(folder, (n, n))
    shared("thing", slowly, root=tmp_path, state="a")
    assert sorted(p.name for p in tmp_path.glob("thing-*-0")) == ["thing-a-0", "thing-old3-0", "thing-old4-0"]
    shared("thing", slowly, root=tmp_path, state="b")
    shared("thing", slowly, root=tmp_path, state="c")
    shared("thing", slowly, root=tmp_path, state="d")
    assert sorted(p.name for p in tmp_path.glob("thing-?-0")) == ["thing-a-0", "thing-b-0", "thing-c-0", "thing-d-0"], "held until the end"
