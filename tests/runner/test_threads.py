"""The numerics mode ``threads``: who gets how many, whose keys change, and how far results are from those of one thread."""

from __future__ import annotations

from concurrent.futures import Future
from multiprocessing import SimpleQueue
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch

from salientry.classifiers import CompactCNN
from salientry.datasets import Digits
from salientry.experiment.run import Run
from salientry.experiment.steps import classify, train_classifier
from salientry.runner import pool as pool_module
from salientry.runner.graph import Schedule
from salientry.runner.step import Handle, step
from salientry.types import Roles


@step("trains_long", threads=True)
def trains_long(number: int, *, seed: int) -> int:
    return torch.get_num_threads()


@step("reads_short")
def reads_short(value: Any, number: int = 0) -> int:
    return torch.get_num_threads()


def given(run: Run, handles: list[Handle], workers: int) -> list[int]:
    run.compute(handles, workers=workers)
    return [run.get(h) for h in handles]


class Hires:
    """In place of a pool: computes nothing, and notes how many threads each step is given while how many others run."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def submit(self, _: Any, i: int, threads: int) -> Future[tuple[float, str | None]]:
        self.given.append(threads)
        future: Future[tuple[float, str | None]] = Future()
        Timer(0.05, future.set_result, [(0.0, None)]).start()
        return future


def shared_out(run: Run, handles: list[Handle], workers: int, spare: int = 0) -> list[int]:
    """The threads that each step gets, in the order in which they are handed out."""
    work, pool = run._start(handles, None), Hires()
    pool_module._lead(pool, pool_module._Workers(), SimpleQueue(), work, Schedule(work, {}), (workers, workers + spare))  # type: ignore[arg-type]
    return pool.given


@pytest.mark.parametrize(
    ("trainings", "workers", "spare", "threads"),
    [(1, 1, 3, [4]), (2, 2, 0, [1, 1]), (2, 2, 2, [2, 2]), (3, 3, 1, [1, 1, 2]), (5, 2, 0, [1] * 5), (2, 2, 14, [4, 4])],
)
def test_trainings_share_the_threads_on_which_nothing_else_can_run(
    tmp_path: Path, trainings: int, workers: int, spare: int, threads: list[int]
) -> None:
    run = Run(tmp_path, numerics="threads")
    found = shared_out(run, [run.do(trains_long, i) for i in range(trainings)], workers, spare)
    assert found[:workers] == threads[:workers] and len(found) == trainings


def test_no_more_threads_run_than_there_are(tmp_path: Path) -> None:
    """A training that has all four keeps what becomes ready waiting until it ends."""
    run = Run(tmp_path, numerics="threads")
    first = run.do(trains_long, 0)
    found = shared_out(run, [run.do(reads_short, first, i) for i in range(3)], 3, 1)
    assert found == [4, 1, 1, 1]


def test_any_other_step_has_one_thread(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    run = Run(tmp_path, numerics="threads")
    training = run.do(trains_long, 0)
    assert given(run, [training, run.do(reads_short, training)], 4) == [4, 1], "one after the other, in this process"
    assert shared_out(run, [run.do(trains_long, 1), *(run.do(reads_short, i) for i in range(3))], 4) == [1] * 4, "others run beside it"
    assert torch.get_num_threads() == before


def test_a_worker_computes_with_the_threads_that_it_is_given(tmp_path: Path) -> None:
    run = Run(tmp_path, numerics="threads")
    assert given(run, [run.do(trains_long, i) for i in range(2)], 4) == [2, 2]


def test_in_the_ordinary_mode_nothing_has_more_than_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert given(run, [run.do(trains_long, 0)], 4) == [1]


def test_the_mode_is_part_of_the_keys_of_trainings_and_of_what_depends_on_them(tmp_path: Path) -> None:
    def made(numerics: str) -> list[Handle]:
        run = Run(tmp_path, numerics=numerics)
        data = run.dataset(Digits())
        training = run.do(train_classifier, data["train"], CompactCNN())
        return [data, training, run.do(classify, data["test"], training)]

    same = [a.fingerprint == b.fingerprint for a, b in zip(made("float32"), made("threads"), strict=True)]
    assert same == [True, False, False]


def test_a_short_training_on_several_threads_is_that_on_one_to_rounding(tmp_path: Path) -> None:
    """Rounding grows with every step of a training; after two dozen it is below 1e-5."""
    data, settings = Digits(roles=Roles(400, 200, 200, 200, 200)), CompactCNN(epochs=2)
    found = {}
    for numerics in ("float32", "threads"):
        run = Run(tmp_path, numerics=numerics)
        rows = run.dataset(data)
        training = run.do(train_classifier, rows["train"], settings)
        answers = run.do(classify, rows["test"], training)
        run.compute([answers], workers=4)
        found[numerics] = torch.as_tensor(run.get(answers).column("logits"))
        assert run.record(training)["machine"]["threads"] == (4 if numerics == "threads" else 1)
    scale = float(found["float32"].abs().max())
    torch.testing.assert_close(found["threads"], found["float32"], rtol=0, atol=1e-5 * scale)
