"""A run computes what is wanted and not there, and what that, or reading the rest, depends on; a store may lack the rest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salientry.batches import Batch
from salientry.experiment.run import Run
from salientry.rows import Rows
from salientry.runner.step import Chosen, Handle, step
from salientry.types import Pool, Roles


@dataclass(frozen=True)
class Few:
    """A data set of 12 images."""

    roles: Roles = Roles(train=12, detector_train=0, validation=0, calibration=0, test=0)

    def read(self) -> tuple[Pool, ...]:
        return (Pool(np.arange(12, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(4, 2), np.arange(12) % 2),)


@step("painted", each_row=True)
def painted(rows: Batch, log: str) -> dict[str, torch.Tensor]:
    noted(log, "painted")
    return {"paint": rows.label + 1.0}


@step("framed", each_row=True)
def framed(rows: Batch, log: str) -> dict[str, torch.Tensor]:
    noted(log, "framed")
    return {"frame": rows.label + 2.0}


@step("hung", each_row=True)
def hung(sets: list[Batch], log: str) -> dict[str, torch.Tensor]:
    noted(log, "hung")
    return {f"hung{i}": s.label + 3.0 for i, s in enumerate(sets)}


@step("priced")
def priced(rows: Rows, log: str, cents: int = 0) -> float:
    noted(log, "priced")
    return float(rows.column("frame").sum() + rows.column("paint").sum()) + cents


@step("walked turned", stored=False)
def turned(rows: Rows) -> Rows:
    return rows.widen({"turned": -rows.column("paint")}, {})


@step("dearest", chooses=True)
def dearest(prices: list[float], fallback: float, least: float) -> Chosen:
    return Chosen("fallback", {"prices": prices}, None if max(prices) >= least else f"at least {least} wanted")


@step("doubled")
def doubled(price: float) -> float:
    return 2 * price


def noted(log: str, word: str) -> None:
    with open(log, "a") as f:
        f.write(f"{word}\n")


class Shop:
    """A small graph: painted, framed (widens painted), hung (widens both), prices of the framed."""

    def __init__(self, root: Path, **wanted: Any) -> None:
        self.run, self.log = Run(root / "store"), str(root / "log")
        rows = self.run.dataset(Few())["train"]
        self.painted = self.run.do(painted, rows, self.log)
        self.framed = self.run.do(framed, self.painted, self.log)
        self.hung = self.run.do(hung, [self.framed, self.run.do(turned, self.painted)], self.log)
        self.priced = self.run.do(priced, self.framed, self.log)

    def lose(self, *handles: Handle) -> None:
        for h in handles:
            shutil.rmtree(self.run.path(h))

    def made(self, *wanted: Handle, workers: int = 1) -> list[str]:
        """What a fresh process computes, by name; the functions that ran say the same."""
        Path(self.log).write_text("")
        again = Run(self.run.store.root)
        names = [h.step.name for h in again.missing(list(wanted)) if h.step]
        made = [h.step.name for h, _ in again.compute(list(wanted), workers=workers).made if h.step]
        assert names == made, "missing() and compute() do not agree"
        assert all(again.done(h) for h in wanted)
        for h in wanted:
            again.get(h)
        mine = ("painted", "framed", "hung", "priced")
        assert sorted(Path(self.log).read_text().split()) == sorted(m for m in made if m in mine)
        return made


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    wanted = [made.hung, made.priced]
    assert [h.fingerprint for h in made.run.missing(wanted)] == [h.fingerprint for h in made.run.order(wanted)]
    made.run.compute(wanted)
    return made


def test_nobody_needs_what_a_finished_value_was_made_from(shop: Shop) -> None:
    shop.lose(shop.painted, shop.framed)
    assert shop.made(shop.priced) == []
    assert len(shop.run.compute([shop.priced]).reused) == 2  # the data set and the price


def test_what_is_missing_brings_back_all_that_it_stands_on(shop: Shop) -> None:
    shop.lose(shop.painted, shop.framed, shop.priced)
    assert shop.made(shop.priced) == ["painted", "framed", "priced"]


def test_rows_that_a_result_widens_are_made_again_for_it(shop: Shop) -> None:
    """It is there, but reading it back reads them."""
    shop.lose(shop.painted)
    assert shop.made(shop.framed) == ["painted"]
    shop.lose(shop.painted)
    assert shop.made(shop.hung) == ["painted"]
    shop.lose(shop.painted)
    assert shop.made(shop.run.do(priced, shop.framed, shop.log, 1)) == ["painted", "priced"]
    assert shop.made(shop.framed, shop.hung, shop.priced) == []


def test_a_choice_needs_what_it_chose_and_not_what_it_looked_at(shop: Shop) -> None:
    other = shop.run.do(doubled, shop.run.do(priced, shop.framed, shop.log, 7))
    choice = shop.run.do(dearest, [shop.priced], other, 1.0)
    shop.run.compute([choice])
    shop.lose(shop.painted, shop.framed, shop.priced)
    assert shop.made(choice) == []
    shop.lose(other)
    assert shop.made(choice) == ["doubled"]


def test_what_stands_on_a_failed_gate_brings_nothing_back_twice(shop: Shop) -> None:
    gate = shop.run.do(dearest, [shop.priced], shop.run.do(priced, shop.framed, shop.log, 7), 1e9)
    after = shop.run.do(doubled, gate)
    first = shop.run.compute([after])
    assert [h.fingerprint for h, _ in first.skipped] == [after.fingerprint]
    shop.lose(shop.painted, shop.framed)
    again = Run(shop.run.store.root).compute([after])
    assert not again.made
    assert [h.fingerprint for h, _ in again.skipped] == [after.fingerprint]
    assert [m for _, m in again.failed] == ["at least 1000000000.0 wanted"]


def test_workers_make_such_rows_once_and_before_those_who_read_them(shop: Shop) -> None:
    """Two prices read the framed rows, which are there; the painted ones, which they widen, are not."""
    shop.lose(shop.painted)
    wanted = [shop.run.do(priced, shop.framed, shop.log, cents) for cents in (1, 2, 3)]
    assert shop.made(*wanted, workers=2) == ["painted", "priced", "priced", "priced"]
