"""The benchmark of attacks: what it compares, and the table that is made of its record. How fast anything is, no test says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import attack_rows, readme_attacks
from benchmarks import attacks as bench
from salientry.attacks import PGD
from salientry.rates import short
from salientry.types import Shape
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


def test_rows_are_told_apart_and_measured_at_numbers_that_the_benchmark_knows() -> None:
    rows = attack_rows.rows()
    assert len({r.name for r in rows}) == len(rows) > 15
    assert all(r.theirs and set(r.theirs) <= set(bench.PEERS) and set(r.batches) <= set(bench.BATCHES) for r in rows)


def test_a_record_is_made_in_parts() -> None:
    """A row takes the place of that of the same attack, network and number of images; an older record's rows keep what it said of all."""
    old = {"date": "then", "processor": "p", "versions": {"ART": "1"}, "accuracy": 0.5, "rows": [{"attack": "PGD", "batch": 1, "ratio": 1}]}
    kept = bench.whole(old)
    assert kept == [{"date": "then", "processor": "p", "versions": {"ART": "1"}, "accuracy": 0.5, "attack": "PGD", "batch": 1, "ratio": 1}]
    new = {"attack": "PGD", "net": "compact", "batch": 1, "date": "now"}
    assert bench.joined(kept, new) == [new]
    others = [new | {"net": "paper"}, new | {"batch": 32}, new | {"attack": "FGSM"}]
    for row in others:
        kept = bench.joined(kept, row)
    assert kept == [others[2], bench.whole(old)[0], others[1], others[0]]
    assert bench.joined(kept, new) == [others[2], new, others[1], others[0]]


def test_the_norm_of_sparse_attacks_is_the_share_of_values_that_changed() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 4)
    y = (examples.predicted(net, x) + 1) % SHAPE.classes
    moved = x.clone()
    moved[:, 0, 0, :7] = 1 - moved[:, 0, 0, :7]
    y = (examples.predicted(net, moved) + 1) % SHAPE.classes
    assert bench.described(net, x, y, moved, "l0") == {"success": 1.0, "norm": pytest.approx(7 / x[0].numel())}


ALIKE = ("FGSM", "BIM", "MIM", "patch", "JSMA")


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("row", [r for r in attack_rows.rows() if r.name not in ("AutoAttack", "universal")], ids=lambda r: r.name)
def test_the_calls_of_other_libraries_are_attacks(row: attack_rows.Row) -> None:
    """Those that can be had here: images in [0, 1]; of attacks that are defined to the last step the success and norm of ours."""
    shape = Shape(3, 16, 16, 10)
    net, x = examples.conv(shape).requires_grad_(False), examples.images(shape, 2)
    y = examples.predicted(net, x)
    ours = row.ours(net, x, y, seeds=attack_rows.seeds_of(x))
    for name, call in row.theirs.items():
        if name not in ("foolbox", "ART"):
            continue
        pytest.importorskip({"foolbox": "foolbox", "ART": "art"}[name])
        found = call(net, x, y).detach().float()
        assert found.shape == x.shape and float(found.min()) >= 0 and float(found.max()) <= 1
        mine, theirs = (bench.described(net, x, y, images, row.norm) for images in (ours, found))
        assert row.name not in ALIKE or mine == pytest.approx(theirs), name


def test_goals_that_are_missed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(attack: str, ratio: list[float] | None, share: float | None, batch: int = 1) -> dict[str, Any]:
        return {"attack": attack, "batch": batch, "ratio": ratio, "libraries": {"salientry": {"time by bare passes": share}}}

    rows = [
        row("C&W", [1.1, 1, 1.3], 1.16),
        row("C&W", [1.3, 1.2, 1.4], 1.1, 32),
        row("PGD", [0.9, 0.8, 0.95], 1.1),
        row("FAB", None, None),
    ]
    monkeypatch.setattr(readme_attacks, "record", lambda: {"rows": rows})
    said = readme_attacks.goals().splitlines()
    assert said[0].endswith("missed in 1 of 3 rows: PGD at 1 (.95).")
    assert said[1].endswith("missed in 1 of 2 rows: C&W at 1 (1.10).")
    assert said[2].endswith("missed in 1 of 4 rows: C&W at 1 (1.16).")
    monkeypatch.setattr(readme_attacks, "record", lambda: {"rows": rows[1:2]})
    assert [line.rpartition(": ")[2] for line in readme_attacks.goals().splitlines()[:3]] == ["reached in all 1 rows."] * 3


def test_the_table_has_a_line_for_every_row_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    body = readme_attacks.record()
    lines = [line for line in readme_attacks.table().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(body["rows"]) > 2
    assert all(f"| {short(r['libraries']['salientry']['time by bare passes'], digits=2)} |" in readme_attacks.table() for r in body["rows"])
    row = body["rows"][0] | {"best": None, "ratio": None}
    monkeypatch.setattr(readme_attacks, "record", lambda: body | {"rows": [row]})
    assert "none alike (" in readme_attacks.table() and readme_attacks.table().splitlines()[2].endswith("| – |")
