"""The benchmark of attacks: what it compares, and the table that is made of its record. How fast anything is, no test says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import attacks as bench
from benchmarks import readme_attacks
from salientry.attacks import PGD
from tests import examples

SHAPE = examples.SHAPES["colour"]


def test_ratio_is_the_median_over_rounds_with_an_interval_that_holds_it() -> None:
    """Of 10 rounds the second smallest and the second largest: 1 - 2 (1 + 10) / 2^10 = 98 %."""
    ours, theirs = [1.0] * 10, [1.5, 1.0, 2.0, 1.1, 1.9, 1.2, 1.8, 1.3, 1.7, 1.4]
    assert bench.ratio(theirs, ours) == [1.45, 1.1, 1.9]
    assert bench.ratio([2.0] * 6, [1.0] * 6) == [2.0, 2.0, 2.0]


def test_only_attacks_of_equal_success_and_norm_are_compared() -> None:
    one: dict[str, Any] = {"success": 0.9, "norm": 1.0}
    assert bench.alike(one, one | {"success": 0.87}, 256) and not bench.alike(one, one | {"success": 0.86}, 256)
    assert bench.alike(one, one | {"success": 0.8}, 8) and not bench.alike(one, one | {"norm": 1.06}, 256)
    assert not bench.alike(one, one | {"norm": None}, 256)
    assert bench.alike(one | {"norm": None}, one | {"norm": None}, 256)


def test_a_row_counts_passes_says_what_failed_and_has_no_ratio_without_an_equal() -> None:
    net, x = bench.Whole(examples.conv(SHAPE)).eval(), examples.images(SHAPE, 6)
    y = examples.predicted(net, x)

    def same(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return PGD(0.15, 0.05, 4)(net, x, y, seeds=torch.arange(len(x)))

    def nothing(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return x.clone()

    def broken(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        raise ValueError("no")

    theirs = {"same": same, "nothing": nothing, "broken": broken}
    row = bench.measured(bench.Row("PGD", "", PGD(0.15, 0.05, 4), theirs), net, x, y, 3, 0.0)
    mine = row["libraries"]["salientry"]
    assert (mine["forward"], mine["backward"], mine["success"]) == (4, 4, 1)
    assert row["libraries"]["broken"]["failed"] == "ValueError: no" and row["libraries"]["nothing"]["success"] == 0
    assert (row["best"], row["rounds"], row["batch"], row["images"]) == ("same", bench.FEWEST, 3, 6)
    assert all(math.isfinite(v) and v > 0 for v in row["ratio"])
    alone = bench.measured(bench.Row("PGD", "", PGD(0.15, 0.05, 4), {"nothing": nothing}), net, x, y, 6, 0.0)
    assert alone["best"] is None and alone["ratio"] is None


def test_the_table_has_a_line_for_every_row_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    body = readme_attacks.record()
    lines = [line for line in readme_attacks.table().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(body["rows"]) > 2
    row = body["rows"][0] | {"best": None, "ratio": None}
    monkeypatch.setattr(readme_attacks, "record", lambda: body | {"rows": [row]})
    assert "none alike (" in readme_attacks.table() and readme_attacks.table().splitlines()[2].endswith("| – |")
