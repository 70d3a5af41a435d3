"""The simulation of many workers, against what can be said without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling import Graph, serial_share, simulated
from salientry.experiment.run import Run
from salientry.runner.step import Handle, step


@step("simulated_training", threads=True)
def simulated_training(number: int) -> int:
    return number


@step("simulated_use")
def simulated_use(value: Any, number: int) -> int:
    return number


def graph(run: Run, handles: list[Handle], seconds: dict[str, float]) -> Graph:
    work = run._start(handles, None)
    assert all(h.step is not None for h in work.todo)
    took = {h.fingerprint: seconds[h.step.name] for h in work.todo if h.step}
    return Graph(work.todo, {k: list(v) for k, v in work.upstream.items()}, took, dict.fromkeys(took, 1e6))


@pytest.fixture
def fan(tmp_path: Path) -> list[Handle]:
    """One training and twelve uses of it."""
    run = Run(tmp_path, numerics="threads")
    first = run.do(simulated_training, 0)
    return [run.do(simulated_use, first, i) for i in range(12)]


@pytest.mark.parametrize(("workers", "seconds"), [(1, 10 + 12 * 2), (4, 10 / 4 + 3 * 2), (12, 10 / 4 + 2), (1000, 10 / 4 + 2)])
def test_a_training_whose_work_divides_and_its_uses(tmp_path: Path, fan: list[Handle], workers: int, seconds: float) -> None:
    g = graph(Run(tmp_path, numerics="threads"), fan, {"simulated_training": 10.0, "simulated_use": 2.0})
    found = simulated(g, workers, 0.0, serial=0.0)
    assert found["seconds"] == pytest.approx(seconds)
    assert found["speed-up"] == pytest.approx(34 / seconds) and found["useful"] == pytest.approx(34 / seconds / workers)
    assert found["written MB/s"] == pytest.approx(13 / seconds) and found["read MB/s"] == pytest.approx(12 / seconds)


def test_nothing_is_faster_than_the_longest_path_and_overhead_counts_for_each_step(tmp_path: Path, fan: list[Handle]) -> None:
    g = graph(Run(tmp_path, numerics="threads"), fan, {"simulated_training": 10.0, "simulated_use": 2.0})
    assert [h.step.name for h in g.path if h.step] == ["simulated_training", "simulated_use"]
    assert simulated(g, 1000, 0.0, serial=1.0)["seconds"] == pytest.approx(12.0), "threads gain nothing"
    assert simulated(g, 1, 0.5, serial=1.0)["seconds"] == pytest.approx(34 + 13 * 0.5)


@pytest.mark.parametrize(("gain", "share"), [(2.0, 0.0), (1.0, 1.0), (1.6, 0.25), (2.1, 0.0), (0.9, 1.0)])
def test_amdahls_law_turned_round(gain: float, share: float) -> None:
    found = serial_share(gain)
    assert found == pytest.approx(share)
    if 1 <= gain <= 2:
        assert 1 / (found + (1 - found) / 2) == pytest.approx(gain)
