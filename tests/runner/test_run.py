from __future__ import annotations

import os
import threading
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from salientry.batches import Batch
from salientry.errors import CheckFailed, DataDamaged, DeviceError, UsageError
from salientry.experiment.run import Run
from salientry.keys import digest
from salientry.learned import with_recipe
from salientry.machine import machine
from salientry.progress import PROGRESS
from salientry.rows import Rows, id_bytes
from salientry.runner import results
from salientry.runner.step import Chosen, Handle, step
from salientry.types import Pool, Roles

CALLS: Counter[str] = Counter()
BREAK = {"at": -1}


@dataclass(frozen=True)
class Numbers:
    """A data set of 23 images whose pixels are their index."""

    roles: Roles = Roles(train=23, detector_train=0, validation=0, calibration=0, test=0)

    def read(self) -> tuple[Pool, ...]:
        CALLS["read"] += 1
        images = np.arange(23, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(4, 2)
        return (Pool(images, np.arange(23) % 2),)


@dataclass(frozen=True)
class Add:
    amount: float = 1.0


class Affine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


@dataclass(frozen=True)
class AffineSettings:
    start: float = 2.0

    def build(self) -> nn.Module:
        return with_recipe(Affine(), self)


@step("plus", each_row=True, batch=4, shard=8, facts=lambda settings, **_: {"added": settings.amount})
def plus(rows: Batch, settings: Add) -> dict[str, torch.Tensor]:
    CALLS["plus"] += 1
    if CALLS["plus"] == BREAK["at"]:
        raise UsageError("the power failed")
    return {"sum": rows.label + settings.amount, "row": rows.image[:, 0, 0, 0] * 255}


@step("noisy", each_row=True, batch=4, shard=8)
def noisy(rows: Batch, *, seed: int) -> dict[str, torch.Tensor]:
    return {"seeds": rows.seeds(seed, 1)}


@step("plus_slowly", each_row=True, batch=4, shard=0)
def plus_slowly(rows: Batch, settings: Add) -> dict[str, torch.Tensor]:
    return plus.function(rows, settings)  # type: ignore[no-any-return]


@step("waits")
def waits(rows: Rows) -> float:
    others = threading.Thread(target=lambda: sum(i for _ in range(20) for i in range(10**6)))
    others.start()
    others.join()
    return float(len(rows))


@step("total")
def total(rows: Rows, other: Rows | None = None) -> float:
    CALLS["total"] += 1
    return float(rows.column("sum").sum())


@step("judged", chooses=True)
def judged(rows: Rows, value: Any, limit: float) -> Chosen:
    bad = len(rows) > limit
    return Chosen("value", {"rows": len(rows)}, f"{len(rows)} rows, at most {limit:g} wanted" if bad else None)


@step("after")
def after(value: Any) -> Any:
    CALLS["after"] += 1
    return value


@step("two", each_row=True)
def two(first: Batch, second: Batch) -> dict[str, torch.Tensor]:
    return {"both": first.label + second.label}


@step("turned", stored=False)
def turned(rows: Rows) -> Rows:
    """The same images in another order."""
    return rows.take(np.arange(len(rows))[::-1])


@step("learnt")
def learnt(settings: AffineSettings, *, seed: int) -> nn.Module:
    assert torch.get_num_threads() == 1
    module = settings.build()
    with torch.no_grad():
        module.weight.fill_(seed + settings.start)  # type: ignore[operator,union-attr]
    return module


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()
    BREAK["at"] = -1


def test_nothing_is_computed_before_it_is_wanted_and_nothing_twice(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = run.dataset(Numbers())["train"]
    h = run.do(total, run.do(plus, rows, Add(2)))
    assert not CALLS
    run.compute([h, h])
    assert CALLS == {"read": 1, "plus": 6, "total": 1}  # 23 rows in shards of 8, batches of 4
    again = Run(tmp_path)
    h2 = again.do(total, again.do(plus, again.dataset(Numbers())["train"], Add(2.0)))  # 2 and 2.0 are one key
    outcome = again.compute([h2])
    assert (len(outcome.reused), len(outcome.made)) == (3, 0)
    assert CALLS == {"read": 1, "plus": 6, "total": 1}
    assert again.get(h2) == 23 // 2 + 23 * 2


def test_many_batches_are_kept_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more parts than files may be open."""
    monkeypatch.setattr(results, "MOST_PARTS", 2)
    run = Run(tmp_path)
    h = run.do(plus_slowly, run.dataset(Numbers())["train"], Add())
    BREAK["at"] = 6
    with pytest.raises(UsageError, match="power failed"):
        run.compute([h])
    assert len([p for p in tmp_path.rglob("*-*") if p.parent.name.endswith(".parts")]) == 1, "of two"
    BREAK["at"] = -1
    CALLS.clear()
    Run(tmp_path).compute([h])
    assert CALLS["plus"] == 3, "the second part's batches"


@pytest.mark.parametrize(("kind", "left"), [(plus, 4), (plus_slowly, 3)], ids=["after its last shard", "after its last batch"])
def test_a_step_that_broke_goes_on(tmp_path: Path, kind: Any, left: int) -> None:
    run = Run(tmp_path)
    h = run.do(kind, run.dataset(Numbers())["train"], Add())
    BREAK["at"] = 4  # the second batch of the second shard
    with pytest.raises(UsageError, match="power failed"):
        run.compute([h])
    assert not run.done(h)
    BREAK["at"] = -1
    CALLS.clear()
    again = Run(tmp_path)
    again.compute([h])
    assert CALLS["plus"] == left  # of six; what was safe is not done again
    whole = Run(tmp_path / "other")
    whole.compute([h])
    a, b = (next(r.store.path(kind.name, h.slug, h.fingerprint).glob("arrays.safetensors")).read_bytes() for r in (again, whole))
    assert a == b
    assert not list(tmp_path.rglob("*.parts"))


def test_rows_widen_and_keep_their_order(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = run.dataset(Numbers())["train"]
    found: Rows = run.get(run.do(plus, rows, Add(5)))
    natural: Rows = run.get(rows)
    assert found.facts["added"] == 5
    assert found.facts["role"] == "train"
    assert "-fit" in rows.slug, "folders of a store are called as ever"
    assert rows.fingerprint == digest("_take_role", 1, {"rows": rows.args["rows"], "role": "fit"}), "and so are keys"
    np.testing.assert_array_equal(found.column("row"), natural.column("image")[:, 0, 0, 0])
    np.testing.assert_array_equal(found.column("sum"), natural.column("label") + 5)
    assert isinstance(found._columns["sum"], np.memmap)
    first: Rows = run.get(run.do(plus, rows, Add(5)).first(3))
    np.testing.assert_array_equal(first.ids, natural.ids[:3])
    np.testing.assert_array_equal(first.column("sum"), found.column("sum")[:3])


def test_seeds_belong_to_steps_that_draw(tmp_path: Path) -> None:
    one, other = Run(tmp_path, seed=0), Run(tmp_path, seed=1)
    rows = one.dataset(Numbers())["train"]
    assert one.do(plus, rows, Add()).fingerprint == other.do(plus, rows, Add()).fingerprint
    keys = {r.do(noisy, rows, seed=s).fingerprint for r in (one, other) for s in (0, 1)}
    assert len(keys) == 4
    a, b = (r.get(r.do(noisy, rows)).column("seeds") for r in (one, other))
    assert (a != b).all()


def test_a_failed_gate_skips_what_stands_on_it_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = run.do(plus, run.dataset(Numbers())["train"], Add())
    value = run.given(41, "forty-one")
    bad, good = run.do(judged, rows, value, 22.0), run.do(judged, rows, value, 23.0)
    wanted = [run.do(after, bad), run.do(after, good), run.do(total, rows)]
    outcome = run.compute(wanted)
    assert [m for _, m in outcome.failed] == ["23 rows, at most 22 wanted"]
    assert [h.fingerprint for h, _ in outcome.skipped] == [wanted[0].fingerprint]
    assert run.get(wanted[1]) == 41
    assert run.done(wanted[2])
    with pytest.raises(CheckFailed, match="at most 22"):
        run.get(bad)
    again = Run(tmp_path)
    again.given(41, "forty-one")
    second = again.compute(wanted)
    assert [m for _, m in second.failed] == ["23 rows, at most 22 wanted"]  # not computed again, and not forgotten
    assert len(second.skipped) == 1
    assert not second.made


def test_modules_come_back_as_they_were(tmp_path: Path) -> None:
    run = Run(tmp_path)
    h = run.do(learnt, AffineSettings(), seed=3)
    module = Run(tmp_path / "x").get(h)
    assert float(module.weight) == 5.0
    assert not module.training
    assert not module.weight.requires_grad
    assert float(Run(tmp_path / "x").get(h).weight) == 5.0


def test_rows_that_are_not_aligned_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = run.dataset(Numbers())["train"]
    with pytest.raises(AssertionError, match="not aligned"):
        run.get(run.do(two, rows, rows.first(5)))
    with pytest.raises(AssertionError, match="not aligned"):
        run.get(run.do(two, rows, run.do(turned, rows)))


def test_an_unfinished_result_is_no_result(tmp_path: Path) -> None:
    run = Run(tmp_path)
    h = run.do(total, run.do(plus, run.dataset(Numbers())["train"], Add()))
    run.compute([h])
    (run.path(h) / "DONE").unlink()
    (run.path(h) / "result.json").write_text("{ half")
    again = Run(tmp_path)
    assert [x.fingerprint for x, _ in again.compute([h]).made] == [h.fingerprint]
    assert again.get(h) == 11 + 23


def test_a_result_of_other_images_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    data = run.dataset(Numbers())
    h = run.do(plus, data["train"], Add())
    run.compute([h])
    rows: Rows = run.get(data)
    columns = {n: [rows.column(n)] for n in rows.names} | {"id": [id_bytes(rows.ids[::-1])]}
    body = run.record(data)
    (run.path(data) / "DONE").unlink()
    run.store.write(run.path(data), body, columns)
    with pytest.raises(DataDamaged, match="other rows"):
        Run(tmp_path).get(h)


def test_what_was_half_written_by_a_dead_process_is_swept(tmp_path: Path) -> None:
    dead = tmp_path / "total" / ".new-999999999-abc"
    mine = tmp_path / "total" / f".new-{os.getpid()}-abc"
    dead.mkdir(parents=True)
    mine.mkdir()
    whole, parts, going = (tmp_path / "total" / n for n in ("a-1", "a-1.parts", "b-2.parts"))
    for folder in (whole, parts, going):
        folder.mkdir()
    (whole / "DONE").touch()
    Run(tmp_path).compute([])
    assert not dead.exists()
    assert mine.exists()
    assert not parts.exists()  # its result is whole
    assert going.exists()  # its shards are still wanted


def test_older_results_are_read_under_todays_names(tmp_path: Path) -> None:
    run = Run(tmp_path)
    before = run.get(run.dataset(Numbers())["train"])
    h = run.do(plus, run.dataset(Numbers())["train"], Add())
    facts = {"family": "floor", "form": "paired", "lent": "fit", "attack": "FGSM"}
    body = {"step": "plus", "kind": "columns", "facts": facts, "ids": digest(before.ids.tolist())}
    run.store.write(run.path(h), body, {"exists": [np.arange(23.0)], "opinion": [np.ones((23, 2))], "sum": [np.zeros(23)]})
    rows = run.get(h)
    assert rows.facts == before.facts | {"group": "baseline", "scheme": "paired", "reused_from": "train", "attack": "FGSM"}
    assert (rows.column("class_presence") == np.arange(23)).all() and rows.column("second_net_logprobs").shape == (23, 2)
    assert "exists" not in rows and "sum" in rows
    assert run.record(h)["facts"] == {"group": "baseline", "scheme": "paired", "reused_from": "train", "attack": "FGSM"}


def test_wrong_use_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="numerics mode 'float31'; there are: float32, threads"):
        Run(tmp_path, numerics="float31")
    with pytest.raises(UsageError, match="0 or more"):
        Run(tmp_path, seed=-1)
    with pytest.raises(DeviceError, match=r"no CUDA device|CUDA devices"):
        Run(tmp_path, device="cuda:99")
    run = Run(tmp_path)
    with pytest.raises(UsageError, match="unknown role 'fit'; there are: train"):
        run.dataset(Numbers())["fit"]
    with pytest.raises(UsageError, match="also needs: settings"):
        run.do(plus, run.dataset(Numbers())["train"])
    with pytest.raises(UsageError, match="30 rows are needed, there are 23"):
        run.get(run.dataset(Numbers())["train"].first(30))
    with pytest.raises(UsageError, match="no rows"):
        run.get(run.do(plus, run.dataset(Numbers())["test"], Add()))


def test_progress_is_reported_and_threads_are_as_before(tmp_path: Path) -> None:
    run = Run(tmp_path)
    h = run.do(plus, run.dataset(Numbers())["train"], Add())
    calls: list[tuple[str, int, int]] = []

    def listener(handle: Handle, index: int, of: int) -> Any:
        def heard(done: int, total: int) -> None:
            assert handle.step is not None
            calls.append((handle.step.name, done, total))

        return heard

    threads = torch.get_num_threads()
    run.compute([h], listener)
    assert [t for t in calls if t[0] == "plus"] == [*(("plus", i, 6) for i in range(6)), ("plus", 1, 1)]  # at last: made
    assert torch.get_num_threads() == threads
    assert PROGRESS.get(None) is None


def test_the_record_says_how_it_was_made(tmp_path: Path) -> None:
    run = Run(tmp_path, seed=2)
    rows = run.dataset(Numbers())["train"]
    h = run.do(noisy, rows, seed=1)
    with warnings.catch_warnings():
        run.compute([h])
    body = run.record(h)
    assert body["step"] == "noisy"
    assert body["key"] == h.fingerprint
    assert body["seed"] == 2001
    assert body["seconds"] >= 0
    assert body["arguments"] == {"rows": {"input": rows.fingerprint}}
    assert body["machine"] == machine("cpu")


def test_a_handle_is_reported_in_a_line_however_long_its_graph(tmp_path: Path) -> None:
    run = Run(tmp_path)
    h = run.do(total, run.do(plus, run.dataset(Numbers())["train"], Add()))
    for _ in range(40):
        h = run.do(two, h, h)  # spelt out, two to the fortieth
    assert len(repr(h)) < 1000
    assert h.fingerprint in repr(h)


def test_seconds_are_of_the_processor_not_of_the_wall(tmp_path: Path) -> None:
    """What else ran, here or in another thread, and how long a process was halted, says nothing about what a step costs."""
    run = Run(tmp_path)
    h = run.do(waits, run.dataset(Numbers())["train"])
    run.compute([h])
    assert 0 <= run.store.body(run.store.path("waits", h.slug, h.fingerprint))["seconds"] < 0.2
