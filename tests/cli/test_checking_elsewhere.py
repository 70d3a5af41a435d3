"""Pictures that are judged on an executor: the same lines in the same order, whoever judges and wherever it stands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from salientry.cli import checking_elsewhere
from salientry.cli.checking import each
from salientry.cli.checking_elsewhere import SOME, Asked, each_on, judged_there
from salientry.errors import DataMissing, Error, UsageError
from salientry.guard import Guard
from salientry.picture_check import PictureVerdict
from salientry.picture_stream import Source, found_in
from tests.test_picture_stream import folder, guard, tar_of

from .conftest import Cli

__all__ = ["folder", "guard"]
NET = "tests.test_picture_stream:net"


class Here(Executor):
    """Computes when it is asked for the result; counts what waits."""

    def __init__(self, change: Callable[[Asked], Asked] = lambda asked: asked) -> None:
        self.change, self.sent = change, 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.sent += 1
        found = _Later(lambda: fn(self.change(args[0]), *args[1:]))
        return found


class _Later(Future[Any]):
    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work = work

    def result(self, timeout: float | None = None) -> Any:
        return self.work()


@pytest.fixture
def asked(guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr(checking_elsewhere, "_guards", {})
    guard.save(tmp_path / "guard")
    return Asked.of(guard, tmp_path / "guard", NET, None, "cpu", second=None, second_weights=None, detector=None)


def alike(found: list[tuple[str, PictureVerdict | Error]], expected: list[tuple[str, PictureVerdict | Error]]) -> None:
    assert [n for n, _ in found] == [n for n, _ in expected]
    for (_, a), (_, b) in zip(found, expected, strict=True):
        if isinstance(b, Error) or isinstance(a, Error):
            assert (type(a), str(a)) == (type(b), str(b))
        else:
            assert (a.flagged, a.predicted, str(a.path)) == (b.flagged, b.predicted, str(b.path))
            assert a.score == pytest.approx(b.score, abs=1e-5)


def test_verdicts_and_faults_are_those_of_this_process(guard: Guard, asked: Asked, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{tmp_path / 'none.png'}\n{tmp_path / 'bad.png'}\n")
    paths = [folder, tmp_path / "bad.png", tar_of(folder, tmp_path / "all.tar"), listed, folder / "b" / "00.png"]
    expected = [*each(guard, found_in(paths))]
    assert len(expected) == 2 * 40 + 4 and sum(isinstance(s, Error) for _, s in expected) == 3
    executor = Here()
    alike([*each_on(executor, asked, found_in(paths))], expected)
    assert executor.sent == -(-len(expected) // SOME)


def test_those_that_are_judged_together_here_travel_together(
    guard: Guard, asked: Asked, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the last digit of a product of matrices depends on how many rows there are."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    paths, judged = [folder, tmp_path / "bad.png", *[folder] * 15], list[int]()
    forward = Guard.forward
    monkeypatch.setattr(Guard, "forward", lambda self, images, batch: judged.append(len(images)) or forward(self, images, batch))
    each_here = [*each(guard, found_in(paths))]
    here = [judged.pop(0) for _ in range(3)]
    executor = Here()
    found = [*each_on(executor, asked, found_in(paths))]
    assert executor.sent == 3 and len(found) == 641 == len(each_here) and judged == here == [249, 250, 141]
    assert [s.json() for _, s in found if isinstance(s, PictureVerdict)] == [
        s.json() for _, s in each_here if isinstance(s, PictureVerdict)
    ]


def test_what_was_found_before_the_pictures_end_with_an_error_is_judged(guard: Guard, asked: Asked, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found: list[tuple[str, PictureVerdict | Error]] = []
    with pytest.raises(DataMissing, match="there is no picture in"):
        found.extend(each_on(Here(), asked, found_in([folder, tmp_path / "empty"])))
    alike(found, [*each(guard, found_in([folder]))])


def test_packets_are_bounded_by_their_bytes(asked: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking_elsewhere, "HEAVY", 1)
    executor = Here()
    assert len([*each_on(executor, asked, found_in([folder / "b"]))]) == executor.sent == 14


def test_files_and_folders_are_named_from_anywhere(guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    made = Asked.of(guard, Path("g"), "net", Path("w.pt"), "cpu", second="net", second_weights=Path("v.pt"), detector="my.module:rough")
    assert (made.folder, made.classifier, made.weights) == (tmp_path / "g", str(tmp_path / "net"), tmp_path / "w.pt")
    assert dict(made.beside) == {"second": str(tmp_path / "net"), "second_weights": tmp_path / "v.pt", "detector": "my.module:rough"}


def test_a_picture_too_large_is_said_and_not_sent(asked: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking_elsewhere, "LARGEST", 10)
    ((_, said),) = each_on(Here(), asked, found_in([folder / "b" / "00.png"]))
    assert isinstance(said, UsageError) and "has over 10 bytes; 10 at most are read" in str(said)


@pytest.mark.parametrize(("name", "value"), [("MOST", 3), ("ROOM", 1000)])
def test_no_more_is_under_way_than_may(asked: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    monkeypatch.setattr(checking_elsewhere, name, value)
    data, read = (folder / "b" / "00.png").read_bytes(), 0

    def endless() -> Iterator[Source]:
        nonlocal read
        while True:
            read += 1
            yield Source(f"{read}.png", data)

    most = 3 * SOME if name == "MOST" else SOME * -(-1000 // (len(data) * SOME))
    found = each_on(Here(), asked, endless())
    for given in range(4 * SOME):
        next(found)
        assert read <= most + SOME * (given // SOME + 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "0.0.1"}, r"the worker on .* has salientry .*; salientry 0\.0\.1 with torch"),
        ({"torch": "1.0"}, r"with torch 1\.0 expected"),
        ({"folder": Path("/nowhere/guard")}, "does not see /nowhere/guard: the guard's folder must be the same files"),
        ({"threshold": 7.5}, "sees another guard in"),
        ({"detector": "0" * 64}, "sees another guard in"),
    ],
)
def test_a_worker_that_is_or_sees_something_else_is_refused(asked: Asked, folder: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        list(each_on(Here(lambda a: replace(a, **change)), asked, found_in([folder])))


def test_an_executor_that_fails_ends_it_with_one_line(asked: Asked, folder: Path) -> None:
    class Broken(Here):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise RuntimeError("the pool is gone")

    with pytest.raises(Error, match=r"the executor failed \(.*the pool is gone.*\); a call with --out FILE goes on"):
        list(each_on(Broken(), asked, found_in([folder])))


def test_a_worker_reads_the_guard_once(asked: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = [*found_in([folder])][:3]
    first = judged_there(asked, some)
    monkeypatch.setattr(checking_elsewhere, "loaded", None)
    alike(judged_there(asked, some), first)


def test_the_command_gives_the_same_file_and_goes_on(asked: Asked, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are processes; this one stands in another folder and names all by paths from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words = ["check", "guard", os.path.relpath(folder), "--classifier", NET]
    there = [*words, "--executor", "tests.runner.test_executors:pool"]
    here = Cli(*words, "--out", "here.jsonl")
    assert Cli(*there, "--out", "there.jsonl").code == here.code == 1
    expected = [json.loads(line) for line in Path("here.jsonl").read_text().splitlines()]
    content = Path("there.jsonl").read_text()
    found = [json.loads(line) for line in content.splitlines()]
    assert [(f.get("image"), f.get("flagged")) for f in found] == [(e.get("image"), e.get("flagged")) for e in expected]
    Path("there.jsonl").write_text("".join(content.splitlines(keepends=True)[:11]))
    again = Cli(*there, "--out", "there.jsonl")
    assert "10 of them were there already" in again.lines[0] and Path("there.jsonl").read_text().count("\n") == content.count("\n")
    Cli(*there, "--overlay", "maps").refused(2, "--overlay draws here: leave --executor away")
    Cli(*words, "--executor", "nothing").refused(2, "an executor is dask:ADDRESS or module:callable; found 'nothing'")
