"""Several threads of one process that compute: torch's random numbers, threads and hooks, and warnings, are of the process."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from salientry.classifiers import CompactCNN
from salientry.datasets import Digits
from salientry.experiment.run import Run
from salientry.experiment.steps import classify, train_classifier
from salientry.runner.step import Handle, step
from salientry.store import Store
from tests.tiny import ROLES

NET = CompactCNN(width=8, epochs=1)


@step("warns_late")
def warns_late(text: str) -> str:
    """While it computes, others would come and go."""
    warnings.warn(text, stacklevel=1)
    time.sleep(0.05)
    return text


@step("draws_globally")
def draws_globally(number: int) -> Any:
    """As libraries do that know torch's own generator only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        found = []
        for _ in range(20):
            found.append(float(torch.rand(())))
            time.sleep(0.001)
    return {"drawn": found, "threads": torch.get_num_threads()}


def nets(run: Run) -> list[Handle]:
    """One classifier that many steps ask at once, and trainings, which draw weights."""
    rows = run.dataset(Digits(roles=ROLES))
    asked = run.do(train_classifier, rows["train"].first(100), NET)
    trained = [run.do(train_classifier, rows["train"].first(n), NET) for n in (110, 120, 130)]
    return [*trained, *(run.do(classify, rows["train"].first(n), asked) for n in range(150, 400, 25))]


def arrays(store: Store) -> dict[str, bytes]:
    return {str(p.parent.relative_to(store.root)): p.read_bytes() for p in store.root.rglob("arrays.safetensors")}


def test_threads_of_an_executor_leave_the_bytes_of_one(tmp_path: Path) -> None:
    here, there = Run(tmp_path / "here"), Run(tmp_path / "there")
    here.compute(nets(here))
    before = torch.get_num_threads()
    with ThreadPoolExecutor(3) as executor:
        outcome = there.compute(nets(there), executor=executor)
    assert torch.get_num_threads() == before
    assert len(outcome.made) == 15
    mine, theirs = arrays(here.store), arrays(there.store)
    assert len(mine) == 15 and mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


def test_each_warning_arrives_once(tmp_path: Path) -> None:
    run, filters = Run(tmp_path), list(warnings.filters)
    said = [f"warning {i}" for i in range(8)]
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(4) as executor:
        warnings.simplefilter("always")
        run.compute([run.do(warns_late, text) for text in said], executor=executor)
    assert sorted(str(w.message) for w in caught) == said
    assert list(warnings.filters) == filters


def test_two_runs_in_two_threads_give_what_one_gives(tmp_path: Path) -> None:
    """Without any executor."""
    runs = [Run(tmp_path / name) for name in ("one", "two", "alone")]
    wanted = [[run.do(draws_globally, n) for n in range(4)] for run in runs]
    threads = [threading.Thread(target=run.compute, args=(some,)) for run, some in zip(runs[:2], wanted[:2], strict=True)]
    before = torch.get_rng_state()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert torch.equal(torch.get_rng_state(), before)
    runs[2].compute(wanted[2])
    one, two, alone = ([run.get(h) for h in some] for run, some in zip(runs, wanted, strict=True))
    assert one == two == alone and {found["threads"] for found in alone} == {1}


def test_one_run_may_be_asked_by_threads(tmp_path: Path) -> None:
    run = Run(tmp_path)
    h = run.do(draws_globally, 1)
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: run.get(h), range(8))]
    assert all(f is found[0] for f in found)


@pytest.mark.nightly
def test_a_worker_of_dask_with_several_threads_leaves_the_bytes_of_one(tmp_path: Path) -> None:
    """Which is what Dask starts unless it is told otherwise."""
    pytest.importorskip("distributed")
    from benchmarks.scaling_dask import cluster
    from salientry.runner.executors import executor_called

    here, there = Run(tmp_path / "here"), Run(tmp_path / "there")
    here.compute(nets(here))
    with cluster(tmp_path, threads=3) as (address, _), executor_called(f"dask:{address}") as executor:
        there.compute(nets(there), executor=executor)
    assert arrays(here.store) == arrays(there.store)
