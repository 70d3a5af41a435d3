"""Steps on any executor: the results of one process, and clear words where executor, worker or store are not what they should be."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling_dask import cluster, compared, on_dask
from salientry import store
from salientry.cli.lines import error_text
from salientry.errors import Error, StoreError, UsageError
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.runner import executors
from salientry.runner.executors import compute, executor_called
from salientry.runner.step import step
from salientry.store import Store
from tests.tiny import recorded, tiny

from .test_pool import behind, breaks, draws, graph, held_to, keys, sleeps, wait_for, warns

ROOT = Path(__file__).parents[2]


class Here(Executor):
    """Computes where it is called; each task may be changed before."""

    def __init__(self, change: Callable[[Any], Any] = lambda task: task) -> None:
        self.change, self.tasks = change, list[Any]()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        found: Future[Any] = Future()
        self.tasks.append(args[0])
        try:
            found.set_result(fn(self.change(args[0])))
        except BaseException as e:
            found.set_exception(e)
        return found


def pool() -> ProcessPoolExecutor:
    """What `module:callable` names."""
    return ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


def disk_is_full() -> None:
    """A worker begins, on a machine whose disk takes nothing more."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.tempfile.mkdtemp = full  # type: ignore[assignment]


@step("raises_odd")
def raises_odd(text: str) -> None:
    raise ZeroDivisionError(text)


@pytest.mark.slow
def test_a_pool_of_the_standard_library_gives_what_one_process_gives(tmp_path: Path) -> None:
    here, there = Run(tmp_path / "here"), Run(tmp_path / "there")
    expected = here.compute(graph(here))
    with pool() as executor:
        found = there.compute(graph(there), executor=executor)
    assert keys(found) == keys(expected)
    assert [there.get(h) for h in graph(there)] == [here.get(h) for h in graph(here)]
    made = [there.get(there.do(draws, i)) for i in range(4)]
    assert os.getpid() not in {m["pid"] for m in made} and {m["threads"] for m in made} == {1}
    assert not list((tmp_path / "there").glob(".graph-*"))


def test_what_is_there_is_not_sent_and_views_are_made_here(tmp_path: Path) -> None:
    run, executor = Run(tmp_path), Here()
    run.compute(graph(run)[:1])
    run.compute(graph(run), executor=executor)
    assert len(executor.tasks) == 1 and executor.tasks[0].step == 0
    run.compute(graph(run), executor=executor)
    assert len(executor.tasks) == 1


def test_a_failed_check_skips_what_depends_on_it(tmp_path: Path) -> None:
    def outcome(folder: str, **how: Any) -> Any:
        run = Run(tmp_path / folder)
        gate = run.do(held_to, run.do(draws, 1), 0.5)
        return run.compute([run.do(behind, gate), run.do(draws, 2)], **how)

    assert keys(outcome("there", executor=Here())) == keys(outcome("here"))


def test_warnings_and_errors_arrive_and_what_was_finished_stays(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.compute([run.do(warns, "careful")], executor=Here())
    assert [str(w.message) for w in caught] == ["careful"]
    with pytest.raises(UsageError, match="no good"):
        run.compute([run.do(draws, 1), run.do(breaks, "no good")], executor=Here())
    assert run.done(run.do(draws, 1))
    with pytest.raises(ZeroDivisionError, match="somebody's own"):
        run.compute([run.do(raises_odd, "somebody's own")], executor=Here())


def test_a_worker_of_another_version_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(UsageError, match=r"the worker on .* has salientry .*; salientry 9\.9 with torch .* expected"):
        run.compute(graph(run), executor=Here(lambda task: replace(task, version="9.9")))
    with pytest.raises(UsageError, match=r"torch 1\.0 expected"):
        run.compute(graph(run), executor=Here(lambda task: replace(task, torch="1.0")))


def test_a_store_that_is_not_shared_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "store")
    with pytest.raises(UsageError, match=r"does not see .* so the store is not shared"):
        run.compute(graph(run), executor=Here(lambda task: replace(task, graph=str(tmp_path / "elsewhere"), sha256="0" * 64)))
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(UsageError, match="sees something else at"):
        run.compute(graph(run), executor=Here(lambda task: replace(task, graph=str(tmp_path / "other"), sha256="1" * 64)))
    monkeypatch.setattr(executors, "SEEN", 0.3)
    monkeypatch.setattr(executors, "compute", lambda task: (1.0, None, [], "far away"))
    with pytest.raises(UsageError, match="was computed on far away, but its result is not in"):
        run.compute(graph(run), executor=Here())


def test_a_result_that_comes_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that is far away."""
    run, asked = Run(tmp_path), []
    monkeypatch.setattr(Run, "done", lambda self, h: asked.append(h) or len(asked) == 3)
    executors._seen(run, graph(run)[0], "far away")
    assert len(asked) == 3


@pytest.mark.parametrize("broken", [BrokenProcessPool("a process ended"), RuntimeError("cannot schedule new futures"), OSError("no route")])
def test_an_executor_that_fails_is_said_and_the_next_call_goes_on(tmp_path: Path, broken: Exception) -> None:
    run, sent = Run(tmp_path), []

    class Failing(Here):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            sent.append(args)
            if len(sent) == 3:
                raise broken
            return super().submit(fn, *args, **kwargs)

    with pytest.raises(Error, match=r"the executor failed .*; complete results are kept"):
        run.compute(graph(run), executor=Failing())
    assert not list(tmp_path.glob(".graph-*"))
    outcome = run.compute(graph(run), executor=Here())
    assert len(outcome.reused) + len(outcome.made) == 6


def test_a_full_disk_on_a_worker_is_one_line_that_names_the_step(tmp_path: Path) -> None:
    run = Run(tmp_path)
    first, second = run.do(draws, 1), run.do(draws, 2)
    run.compute(first)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), disk_is_full) as executor:
        with pytest.raises(StoreError, match=r"the disk that holds .* is full; complete results are kept") as e:
            run.compute([first, second], executor=executor)
    text, code = error_text(e.value)
    assert code == 4 and "\n" not in text and text.endswith(f"(in step draws ({second.slug}))") and str(run.path(second).parent) in text
    assert run.done(first) and not run.done(second) and not list(tmp_path.glob(".graph-*"))
    assert len(run.compute([first, second], executor=Here()).made) == 1, "once there is room"


def test_what_cannot_be_sent_is_said(tmp_path: Path) -> None:
    run = Run(tmp_path)
    given = run.given(lambda: 1, "local")
    with pytest.raises(UsageError, match="cannot be sent to other processes"):
        run.compute([run.do(behind, given)], executor=Here())


def test_names_of_executors() -> None:
    with executor_called("tests.runner.test_executors:Here") as found:
        assert isinstance(found, Here)
    for name, words in {
        "dask": "dask:ADDRESS or module:callable",
        "no_such_module:x": "there is no executor",
        "tests.runner.test_executors:nothing": "there is no executor",
        "tests.runner.test_executors:graph": "makes no executor",
        "builtins:dict": "a concurrent.futures.Executor expected",
    }.items():
        with pytest.raises(UsageError, match=words), executor_called(name):
            pass


def test_what_another_machine_writes_is_left_alone(tmp_path: Path) -> None:
    """Process numbers are each machine's own: one that nobody has here may be at work elsewhere."""
    store = Store(tmp_path)
    (tmp_path / "step").mkdir()
    with store.placing(tmp_path / "step" / "x") as (fresh, _):
        mine = fresh.name
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    other = mine.replace(f"-{os.getpid()}-", f"-{child.pid}-")
    elsewhere = f".new-{child.pid}-another_machine-abc"
    for name in (other, elsewhere):
        (tmp_path / "step" / name).mkdir()
    assert store.sweep() == 1
    assert (tmp_path / "step" / elsewhere).exists() and not (tmp_path / "step" / other).exists()


# --- Dask ----------------------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_two_workers_of_dask_leave_the_records_of_one_process(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    run = Run(tmp_path / "store")
    outputs = tiny(run)
    outcome, lost, begun = on_dask(run, outputs, tmp_path, None)
    assert not lost and set(begun.values()) == {1} and len(begun) == len(outcome.made)
    about = {"recipe": "tiny", "parameters": {}, "seed": 0, "numerics": "float32", "command": "tests.tiny", "out": str(tmp_path / "out")}
    export(run, outputs, outcome, tmp_path / "out", about)
    mine, theirs = recorded(tmp_path / "out"), recorded(finished)
    assert sorted(mine) == sorted(theirs) and [name for name in mine if mine[name] != theirs[name]] == []


@pytest.mark.nightly
def test_one_of_two_workers_of_dask_that_is_killed_costs_its_step_and_nothing_else() -> None:
    """As `python -m benchmarks.scaling dask` records it of a larger run."""
    pytest.importorskip("distributed")
    found = compared(tiny, "tiny")
    assert len(found["killed in"]) == 1 and found["begun twice"] == found["killed in"]
    assert found["begun"] == found["steps"] + 1 > 100
    assert found["the same to the byte"] == found["files of records"] > 3


@pytest.mark.nightly
def test_a_scheduler_that_is_lost_is_said_and_what_was_finished_stays(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    run = Run(tmp_path / "store")
    first, slow = run.do(draws, 1), run.do(sleeps, 600.0, str(tmp_path / "begun"))
    with cluster(tmp_path) as (address, processes), executor_called(f"dask:{address}") as executor:
        killer = threading.Thread(target=lambda: (wait_for((tmp_path / "begun").exists, 60), time.sleep(1), processes[0].kill()))
        killer.start()
        with pytest.raises(Error, match=r"the executor failed .*; complete results are kept"):
            run.compute([first, slow], executor=executor)
        killer.join()
    assert run.done(first) and not run.done(slow)


def test_compute_is_a_function_that_travels() -> None:
    assert pickle.loads(pickle.dumps(compute)) is compute
