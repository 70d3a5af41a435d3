"""Disks that machines share: an answer that is lost, a listing that is old, a handle that is stale, no room on a worker."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salientry import shared_disk
from salientry.errors import StoreError
from salientry.experiment.run import Run
from salientry.files import read_bytes, sha256_of, write_bytes
from salientry.runner import executors
from salientry.runner.step import Chosen, Handle, step
from salientry.store import Store, read_arrays, write_arrays
from salientry.training import _State

from .test_executors import Here, pool

PIECES = {"x": [np.arange(3.0)]}
begun: list[str] = []


@step("first_of_all")
def first_of_all(number: int) -> int:
    begun.append(f"first {number}")
    return number


@step("second_of_all")
def second_of_all(value: int) -> int:
    begun.append("second")
    return value + 1


@step("one_of_two", chooses=True)
def one_of_two(one: int, two: int) -> Chosen:
    begun.append("choice")
    return Chosen("one", {})


@step("fills_the_disk")
def fills_the_disk(number: int) -> int:
    """From now on its process finds the disk full."""

    def full(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    import tempfile

    tempfile.mkdtemp = full  # type: ignore[assignment]
    return number


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_disk, "LATE", 0.5)
    monkeypatch.setattr(executors, "SEEN", 0.5)


def lost(act: Callable[..., Any], code: int) -> Callable[..., None]:
    """What was asked is done, and then refused, as when an answer is lost and the same is asked again."""

    def done(source: Any, target: Any) -> None:
        act(source, target)
        raise OSError(code, os.strerror(code))

    return done


def stale(act: Callable[..., Any], times: int = 1) -> Callable[..., Any]:
    """The first answers are that the handle is stale."""
    left = [None] * times

    def again(*args: Any, **how: Any) -> Any:
        if left:
            left.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return act(*args, **how)

    return again


# --- a rename whose answer is lost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY])
def test_a_result_that_was_renamed_after_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store = Store(tmp_path)
    path = store.path("s", "a", "0" * 64)
    done, asked = Store.done, list[Path]()
    monkeypatch.setattr(os, "rename", lost(os.rename, code))
    monkeypatch.setattr(Store, "done", lambda self, p: asked.append(p) or (len(asked) > 3 and done(self, p)))  # seen late, too
    store.write(path, {"a": 1}, PIECES)
    monkeypatch.undo()
    assert store.body(path) == {"a": 1} and store.arrays(path)["x"].tolist() == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTEMPTY, errno.EACCES])
def test_a_result_that_was_not_renamed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store = Store(tmp_path)
    path = store.path("s", "a", "0" * 64)
    monkeypatch.setattr(os, "rename", lost(lambda *_: None, code))
    with pytest.raises(StoreError, match=f"cannot write {path}: {os.strerror(code)}"):
        store.write(path, {"a": 1})
    assert list(path.parent.iterdir()) == []


def test_a_file_that_was_renamed_after_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lost(os.replace, errno.ENOENT))
    stat, old, asked = os.stat, os.stat(path), list[str]()

    def late(at: Any, **how: Any) -> Any:
        if at != path:
            return stat(at, **how)
        asked.append(at)
        return old if len(asked) < 3 else stat(at, **how)

    monkeypatch.setattr(shared_disk.os, "stat", late)
    sha256 = write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"new" and sha256_of(path) == sha256 and os.listdir(tmp_path) == ["a"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_was_not_renamed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if there:
        (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lost(lambda *_: None, errno.ENOENT))
    with pytest.raises(StoreError, match=r"cannot write .*No such file"):
        write_bytes(tmp_path / "a", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"] * there


def test_a_training_s_state_that_was_renamed_after_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(2, 1)
    stepper = torch.optim.SGD(module.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(stepper)
    state = _State(module, stepper, scheduler, torch.zeros(1), torch.zeros(1), ())
    monkeypatch.setattr(os, "replace", lost(os.replace, errno.ENOENT))
    state.write(tmp_path / "t" / "training-0.pt", 3)
    assert state.restored(tmp_path / "t" / "training-0.pt") == 3
    assert os.listdir(tmp_path / "t") == ["training-0.pt"]


def test_machines_write_files_of_different_names_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process numbers repeat from machine to machine; in containers all may be 1."""
    here = shared_disk.beside(tmp_path / "a")
    monkeypatch.setattr(shared_disk.socket, "gethostname", lambda: "another")
    assert here != shared_disk.beside(tmp_path / "a")


# --- a handle that is stale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [read_bytes, sha256_of, read_arrays])
def test_a_stale_handle_is_asked_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Path], Any]) -> None:
    path = tmp_path / "a"
    write_arrays(path, PIECES)
    expected = repr(look(path))
    for name in ("open", "fstat"):
        with monkeypatch.context() as m:
            m.setattr(os, name, stale(getattr(os, name)))
            assert repr(look(path)) == expected
            m.setattr(os, name, stale(getattr(os, name), 2))
            with pytest.raises(StoreError, match=f"cannot read {path}"):
                look(path)


@pytest.mark.parametrize("name", ["rename", "mkdir"])
def test_a_result_is_written_over_a_stale_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    store = Store(tmp_path)
    path = store.path("s", "a", "0" * 64)
    path.parent.mkdir()
    monkeypatch.setattr(os, name, stale(getattr(os, name)))
    store.write(path, {"a": 1})
    monkeypatch.setattr(os, "stat", stale(os.stat))
    assert store.done(path) and store.body(path) == {"a": 1}


def test_a_file_is_written_over_a_stale_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", stale(os.replace))
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


# --- a listing that is old -----------------------------------------------------------------------------------------


class Elsewhere(Here):
    """A worker that sees a result only when it has asked for it so many times."""

    def __init__(self, hidden: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(self.hide)
        self.hidden, self.left, self.patch = hidden, times, monkeypatch

    def hide(self, task: Any) -> Any:
        done = Store.done

        def seen(store: Store, path: Path) -> bool:
            if path == self.hidden and self.left:
                self.left -= 1
                return False
            return done(store, path)

        self.patch.setattr(Store, "done", seen)
        return task


def wanted(run: Run) -> tuple[Handle, Handle, list[Handle]]:
    one, two = run.do(first_of_all, 1), run.do(first_of_all, 2)
    chosen = run.do(one_of_two, one, two)
    return one, chosen, [run.do(second_of_all, chosen)]


@pytest.mark.parametrize("which", [0, 1])
def test_an_input_that_a_worker_sees_late_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """Its own, or the one that a choice chose."""
    run = Run(tmp_path)
    *hidden, last = wanted(run)
    run.compute(hidden)
    begun.clear()
    executor = Elsewhere(run.path(hidden[which]), 3, monkeypatch)
    run.compute(last, executor=executor)
    assert executor.left == 0 and begun == ["second"] and run.get(last[0]) == 2


@pytest.mark.usefixtures("quick")
def test_an_input_that_never_comes_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    one, _, last = wanted(run)
    run.compute(wanted(run)[:2])
    begun.clear()
    executor = Elsewhere(run.path(one), 12, monkeypatch)
    run.compute(last, executor=executor)
    assert begun == ["first 1", "second"] and run.get(last[0]) == 2


def test_a_graph_that_a_worker_sees_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, exists, asked = Run(tmp_path), Path.exists, list[Path]()

    def late(path: Path, **how: Any) -> bool:
        if path.name.startswith(".graph-") and len(asked) < 3:
            asked.append(path)
            return False
        return exists(path, **how)

    def hide(task: Any) -> Any:
        monkeypatch.setattr(Path, "exists", late)
        return task

    run.compute([run.do(first_of_all, 1)], executor=Here(hide))
    assert len(asked) == 3


# --- no room -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_disk_that_is_full_on_a_worker_is_one_line_and_the_next_call_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first, full = run.do(first_of_all, 1), run.do(fills_the_disk, 2)
    run.compute([first])
    with (
        pool() as executor,
        pytest.raises(StoreError, match=r"the disk that holds .* is full; complete results are kept: free some space") as e,
    ):
        run.compute([first, full], executor=executor)
    assert "in step fills_the_disk" in "".join(e.value.__notes__)
    assert run.done(first) and not run.done(full) and not list(tmp_path.glob(".graph-*"))
    with pool() as executor:
        run.compute([run.do(second_of_all, first)], executor=executor)
