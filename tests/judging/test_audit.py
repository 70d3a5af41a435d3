"""An audit names each fault that is planted in an evaluation, and leaves honest ones alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salientry.errors import DataDamaged, DataMissing, UsageError
from salientry.judging.audit import Audit, audit
from salientry.judging.audit_claims import by_chance
from salientry.judging.audit_files import CLAIMS, Claims
from salientry.judging.audit_findings import KINDS
from salientry.judging.audit_scores import collisions

from ..cli.conftest import Cli
from .evaluations import Drawn, Wish, honest
from .planted import PLANTS

DOCS = Path(__file__).parents[2] / "docs" / "audit.md"
QUICK, ALL = 4, 100  # draws of each fault


def of(d: Drawn) -> Audit:
    return audit(d.table, images=d.images or None, claims=d.claims or None)


def drawn(k: int, wish: Wish = Wish(), most: int = 1000) -> Drawn:
    return honest(np.random.default_rng([k, 20]), 100, most, wish)


def missed(name: str, draws: range, most: int) -> list[int]:
    """The draws in which a planted fault is not found by its name."""
    gone = []
    for k in draws:
        d = drawn(k, PLANTS[name].wish, most)
        PLANTS[name].plant(np.random.default_rng([k, 21]), d)
        gone += [] if PLANTS[name].name in of(d).names else [k]
    return gone


# --- honest ones, and planted faults ----------------------------------------------------------------------------------------------


def test_an_honest_evaluation_has_no_fault() -> None:
    found = [of(drawn(k, most=200)) for k in range(20)]
    assert [a.faults for a in found if not a.ok][1:] == [], "at most one in twenty"


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_named(name: str) -> None:
    assert missed(name, range(QUICK), 140) == []


@pytest.mark.nightly
def test_a_hundred_honest_evaluations_raise_five_alarms_at_most() -> None:
    assert sum(not of(drawn(k)).ok for k in range(100, 100 + ALL)) <= 5


@pytest.mark.nightly
@pytest.mark.parametrize("name", PLANTS)
def test_of_a_hundred_planted_faults_ninety_five_are_named(name: str) -> None:
    assert len(missed(name, range(100, 100 + ALL), 1000)) <= 5


def test_every_kind_is_planted_and_documented() -> None:
    assert {p.name for p in PLANTS.values()} | {"few-images", "only-seen-attacks"} == set(KINDS)
    rows = {f"| `{n}` | {k.what} | {k.advice} |" for n, k in KINDS.items()}
    assert rows == {line for line in DOCS.read_text().splitlines() if line.startswith("| `") and line.split("`")[1] in KINDS}


# --- what no plant shows ----------------------------------------------------------------------------------------------------------


def test_few_images_and_attacks_that_were_all_seen_are_remarks() -> None:
    d = drawn(1, Wish(claims=False))
    few = np.unique(d.columns["image"][d.columns["split"] == "test"])[:40]
    d.keep((d.columns["split"] != "test") | np.isin(d.columns["image"], few))
    d.columns["seen"] = np.ones(len(d.columns["score"]), np.int64)
    found = of(d)
    assert found.ok and {"few-images", "only-seen-attacks"} <= set(found.names)


def test_what_is_missing_is_said() -> None:
    d = drawn(2, Wish(claims=False, images=False))
    d.keep(d.columns["split"] == "test")
    unseen = {n: u.why for u in of(d).unseen for n in u.names}
    assert unseen["threshold-saw-test-images"] == "no row has the split calibration"
    assert {"trained-on-test-images", "epoch-picked-on-test", "float-against-8-bit", "threshold-from-test"} <= set(unseen)
    assert "that the threshold was set on test images" in str(of(d))
    assert not set(of(d).excluded) & set(unseen)


def test_a_count_that_leaves_failed_attacks_out_is_right_and_one_with_them_is_wrong() -> None:
    d = drawn(3, Wish(failed=True, claims=True))
    assert not {"failed-attacks-counted", "failed-attacks-in-the-table"} & set(of(d).names)
    PLANTS["failed counted"].plant(np.random.default_rng(0), d)
    (fault,) = [f for f in of(d).faults if f.name == "failed-attacks-counted"]
    rows = d.table.where(detector="detector 0", seed=0, split="test")
    natural = {i: (p, y) for i, p, y in zip(*(rows.where(set="natural")[n].tolist() for n in ("image", "predicted", "label")), strict=True)}
    attacked = rows.where(set="attacked")
    failed = [natural[i][0] == p or natural[i][0] != natural[i][1] for i, p in zip(attacked["image"], attacked["predicted"], strict=True)]
    assert sum(fault.numbers["images"].values()) == sum(failed)


def test_an_epoch_that_is_the_best_on_validation_or_not_on_test_is_no_fault() -> None:
    d = drawn(4, Wish(claims=True))
    for picked, fault in ((1, True), (2, False), (0, False)):
        d.claims["epochs"] = {"detector 0": {"validation": [0.7, 0.8, 0.9], "test": [0.5, 0.9, 0.6], "picked": picked}}
        assert ("epoch-picked-on-test" in of(d).names) == fault


def test_equal_scores_by_chance_are_counted_exactly() -> None:
    blocks = [np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 2]), np.array([7.0, 8])]
    pairs, chance = collisions(blocks)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert pairs[i, j] == sum(a == b for a in blocks[i] for b in blocks[j])
    assert chance[0, 1] == pytest.approx(12 * np.sqrt((2 / 12) * (2 / 6)))
    rng = np.random.default_rng(0)
    discrete = [rng.integers(0, 5, 400).astype(float) for _ in range(3)]
    pairs, chance = collisions(discrete)
    assert np.allclose(pairs[np.triu_indices(3, 1)], chance[np.triu_indices(3, 1)], rtol=0.1)


def test_the_chance_of_flagged_naturals_is_that_of_shuffling() -> None:
    rng, of_test, of_calibration, kept = np.random.default_rng(0), 80, 60, 3
    for flagged in (4, 8, 12):
        above = np.arange(of_test + of_calibration) < flagged + kept
        shuffled = [rng.permutation(above)[:of_test].sum() >= flagged for _ in range(4000)]
        assert by_chance(flagged, of_test, kept, of_calibration, 0.05) == pytest.approx(np.mean(shuffled), abs=0.03)
    assert by_chance(0, 50, 2, 60, 0.05) == pytest.approx(1) and by_chance(1, 1, 0, 0, 0.05) == pytest.approx(0.05)


# --- files and the command --------------------------------------------------------------------------------------------------------


def test_a_folder_and_a_table_give_the_same(tmp_path: Path) -> None:
    d = drawn(5, Wish(claims=True, images=True))
    PLANTS["floats"].plant(np.random.default_rng(0), d)
    there, here = audit(d.write(tmp_path / "sent")), of(d)
    assert there.json() | {"origin": ""} == here.json() | {"origin": ""}
    assert audit(tmp_path / "sent" / "scores.npz").names == audit(d.table).names


def test_the_command_prints_and_writes_what_was_found(tmp_path: Path) -> None:
    d = drawn(6, Wish(claims=True, images=False, failed=False))
    clean = Cli("audit", str(d.write(tmp_path / "honest")), "--json", str(tmp_path / "found.json"))
    assert clean.code == 0 and clean.out.startswith("0 faults, ")
    assert json.loads((tmp_path / "found.json").read_text())["ok"] is True
    PLANTS["a test image calibrated"].plant(np.random.default_rng(0), d)
    wrong = Cli("audit", str(d.write(tmp_path / "wrong")))
    assert wrong.code == 1 and "fault threshold-saw-test-images: " in wrong.out
    assert len(wrong.out.splitlines()) <= 40 and max(map(len, wrong.out.splitlines())) <= 110


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, example = (
        re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)[0],
        re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.S)[0],
    )
    drawn(6, Wish(claims=True, images=False, failed=False)).write(tmp_path / "folder")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out.startswith("0 faults, ")
    claims = Claims.of(json.loads(example))
    assert all(getattr(claims, n) for n in CLAIMS), "the example has all that may be claimed"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ([], "holds an object; found list"),
        ({"treshold": 1}, "'treshold'; it may have level, thresholds"),
        ({"level": 5}, "level lies strictly between 0 and 1; found 5"),
        ({"thresholds": {"a": "high"}}, "thresholds of a is a finite number; found 'high'"),
        ({"rates": {"a": {"fgsm": 83}}}, r"is a share in \[0, 1\]; found 83"),
        ({"epochs": {"a": {"test": [1, 2], "picked": 2}}}, "0 validation and 2 test numbers and picked 2"),
        ({"reported": {"a": "median"}}, "is mean or best; found 'median'"),
        ({"attacked": {"fgsm": 1.5}}, "is a whole number; found 1.5"),
    ],
)
def test_wrong_claims_are_refused(claims: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        audit(drawn(7, Wish(claims=False)).table, claims=claims)


def test_wrong_images_are_refused() -> None:
    table, x = drawn(7, Wish(claims=False)).table, np.zeros((2, 1, 4, 4), np.float32)
    for images, words in (
        ({"natural": x}, r"natural/image is \(2,\), as the images; found \(0,\)"),
        ({"naturals": x}, "has 'naturals'"),
        ({"natural": x[0], "natural/image": [1, 2]}, r"is \(N, C, H, W\), uint8 or float; found float32 \(1, 4, 4\)"),
        ({"natural": x * np.nan, "natural/image": [1, 2]}, "values that are not finite"),
        ({"attacked/fgsm/image": [1, 2]}, "'attacked/fgsm/image' alone"),
    ):
        with pytest.raises(UsageError, match=words):
            audit(table, images=images)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"has no scores: one of scores.parquet, scores.csv, scores.npz was expected"):
        audit(tmp_path)
    assert Cli("audit", str(tmp_path)).code == Cli("audit", str(tmp_path / "none.csv")).code == 2
    folder = drawn(8, Wish(claims=False, images=False)).write(tmp_path / "sent")
    for name, error in (("evaluation.json", DataDamaged), ("images.npz", DataDamaged), ("scores.npz", DataDamaged)):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_bytes((before or b"PK\x03\x04 no archive")[:40] if name != "evaluation.json" else b"{")
        with pytest.raises(error, match=name):
            audit(folder)
        (folder / name).unlink() if before is None else (folder / name).write_bytes(before)
    (folder / "scores.csv").write_text("image\n1\n")
    with pytest.raises(UsageError, match=r"has scores.csv and scores.npz: one file of scores was expected"):
        audit(folder)
