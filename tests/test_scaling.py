"""The simulation of many workers, against what can be said without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.scaling import Graph, by_images, serial_share, simulated
from salientry.attacks import FGSM
from salientry.datasets import Arrays
from salientry.experiment.run import Run
from salientry.experiment.steps import attack_images, classify
from salientry.runner.step import Handle, step
from salientry.types import Roles


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


@pytest.mark.parametrize(("workers", "seconds"), [(1, 34), (2, 10 + 24 / 2), (4, 10 + 24 / 4), (12, 12), (1000, 12)])
def test_what_no_order_goes_below(tmp_path: Path, fan: list[Handle], workers: int, seconds: float) -> None:
    """While one trains, the others wait: with two workers 10 s, in which one stands idle, and 24 s shared."""
    g = graph(Run(tmp_path, numerics="threads"), fan, {"simulated_training": 10.0, "simulated_use": 2.0})
    assert g.least(workers) == pytest.approx(seconds)
    assert g.least(workers, serial=0.0) == pytest.approx(max(34 / workers, 2.5 + 24 / workers, 2.5 + 2)), "four cores train, at best"
    for serial in (0.0, 0.5, 1.0):
        found = simulated(g, workers, 0.0, serial)
        assert g.least(workers, serial) <= found["seconds"] + 1e-9
        assert found["at best"] == pytest.approx(34 / g.least(workers, serial) / workers) and found["at best"] >= found["useful"] - 1e-9


def test_without_trainings_the_uses_are_shared(tmp_path: Path, fan: list[Handle]) -> None:
    g = graph(Run(tmp_path, numerics="threads"), fan, {"simulated_training": 10.0, "simulated_use": 2.0})
    assert simulated(g, 6, 0.0, serial=1.0)["at best without trainings"] == pytest.approx(1.0)
    assert simulated(g, 100, 0.0, serial=1.0)["at best without trainings"] == pytest.approx(12 / 100)


def test_steps_of_one_name_share_their_seconds_by_images(tmp_path: Path) -> None:
    run = Run(tmp_path)
    roles = Roles(train=0, detector_train=6, validation=0, calibration=30, test=10)
    data = run.dataset(Arrays(np.random.default_rng(0).integers(0, 256, (46, 1, 8, 8), np.uint8), np.arange(46) % 4, roles))
    f = run.given(1, "net")
    looks = [run.do(classify, data[role], f) for role in ("calibration", "test")]
    attacks = [run.do(attack_images, look, f, FGSM(eps)) for look in looks for eps in (0.1, 0.2)]
    uses = [run.do(simulated_use, h, 0) for h in looks]
    seconds = dict.fromkeys((h.fingerprint for h in (*looks, *attacks, *uses)), 8.0)
    found = by_images([*looks, *attacks, *uses], seconds, roles)
    assert [found[h.fingerprint] for h in looks] == [8.0, 8.0], "their names tell them apart"
    assert [found[h.fingerprint] for h in attacks] == pytest.approx([12.0, 12.0, 4.0, 4.0]), "of one attack 8 s on the average"
    assert [found[h.fingerprint] for h in uses] == [8.0, 8.0], "it looks at no image"


@pytest.mark.parametrize(("gain", "share"), [(2.0, 0.0), (1.0, 1.0), (1.6, 0.25), (2.1, 0.0), (0.9, 1.0)])
def test_amdahls_law_turned_round(gain: float, share: float) -> None:
    found = serial_share(gain)
    assert found == pytest.approx(share)
    if 1 <= gain <= 2:
        assert 1 / (found + (1 - found) / 2) == pytest.approx(gain)
