"""The white box from records to the page: numbers against plain numpy, what is not believed is not printed, one score moves one verdict."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from salientry.cli import app
from salientry.errors import UsageError
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.report import page, verify
from salientry.report.claims import NOT_RUN
from salientry.report.compute import computed
from salientry.report.records import Records, opened
from salientry.report.white_box import METHODS, budget, evaded
from tests.shared import shared
from tests.tiny import tiny

from .surgery import Opened, sealed

ABOUT = {"recipe": "tiny", "parameters": {}, "seed": 0, "numerics": "float32", "command": "tests.tiny"}


@pytest.fixture(scope="module")
def besieged(finished_store: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the white box alone, on the tiny run's networks."""

    def besiege(folder: Path) -> None:
        run = Run(finished_store)
        every = tiny(run, whitebox=True)
        outputs = Outputs(classifier=every.classifier, white_box=every.white_box, hardened=every.hardened)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 80 calibration images
            outcome = run.compute(list(outputs))
        export(run, outputs, outcome, folder / "out", ABOUT | {"out": str(folder / "out")})

    return Path(shutil.copytree(shared("besieged", besiege) / "out", tmp_path_factory.mktemp("besieged") / "out"))


@pytest.fixture
def copied(besieged: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    shutil.copytree(besieged, tmp_path / "copy")
    return Opened(tmp_path / "copy")


def test_the_page_of_the_white_box_alone_is_written_and_verified(besieged: Path, tmp_path: Path) -> None:
    shutil.copytree(besieged, tmp_path / "alone")
    html = page.write(tmp_path / "alone").read_text()
    assert "An attacker who knows all of it" in html
    assert "paper&#39;s own white box" in html or "paper's own white box" in html
    assert verify.verify(tmp_path / "alone") > 500


def test_it_goes_beside_the_black_box_of_the_same_classifier(besieged: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "black")
    shutil.copytree(besieged, tmp_path / "white")
    found = CliRunner().invoke(app, ["report", str(tmp_path / "black"), str(tmp_path / "white")])
    assert found.exit_code == 0, found.output
    assert "An attacker who knows the detector" in (tmp_path / "black" / "report.html").read_text()
    whole = verify.verify(tmp_path / "black")
    assert whole > verify.verify(_written(tmp_path / "white"))
    before = (tmp_path / "black" / "report.json").read_bytes()
    page.write(tmp_path / "black")
    assert (tmp_path / "black" / "report.json").read_bytes() == before, "it remembers where the white box lies"
    (one,) = opened([tmp_path / "black", tmp_path / "white"])
    assert one.beside is not None
    body = (tmp_path / "white" / "records.json").read_text()
    (tmp_path / "white" / "records.json").write_text(sealed(json.loads(body.replace(str(one.classifier), "0" * 64))))
    with pytest.raises(UsageError, match="different classifiers"):
        Records(tmp_path / "black", beside=tmp_path / "white")


def change(o: Opened, name: str, column: str, by: Callable[[Any], Any]) -> None:
    """One column of one set, changed."""
    at = f"set/{o.set(name)['index']:03d}/{column}"
    o.arrays[at] = by(o.arrays[at])


def _written(folder: Path) -> Path:
    page.write(folder)
    return folder


def test_success_is_the_plain_count(besieged: Path) -> None:
    records = Records(besieged)
    found = computed(records)
    assert found.siege is not None
    row = next(r for r in found.siege.rows if r.title == "SPD")
    sets = [
        s
        for s in records.sets.values()
        if s.facts["kind"] == "white box" and s.facts["detector"] == "SPD" and s.facts["hardened"] is None and s.facts["seed"] == 0
    ]
    believed = [m for m in METHODS if not row.proofs[m].wrong]
    assert believed
    sets = [s for s in sets if s.facts["level"] != "own" and s.facts["detector_protocol"] == "strict" and s.facts["method"] in believed]
    sets = [s for s in sets if not (s.facts["afresh"] and s.facts["settings"]["steps"] == 12)]
    for at in found.siege.budgets:
        mine = [s for s in sets if budget(s.facts) == at and s.facts["eps"] != 1.0]
        if not mine:
            assert row.union[at] is None
            continue
        won = np.zeros(20, bool)
        for s in sets:
            f, c = s.facts, s.columns
            if f["norm"] == mine[0].facts["norm"] and f["eps"] <= mine[0].facts["eps"] and f["eps"] != 1.0:
                won |= c["right"] & c["changed"] & c["in_budget"] & (c["score"] <= f["thresholds"]["0.05"])
        assert found.ledger.value(row.union[at] or "") == pytest.approx(won.mean())
        assert won.mean() <= found.ledger.value(found.siege.alone[at]), "the classifier alone is never harder"
    assert all((a or 0) <= (b or 0) for a, b in zip(_linf(found, row), _linf(found, row)[1:], strict=False)), "more budget never hurts"


def _linf(found: object, row: object) -> list[float]:
    union = row.union  # type: ignore[attr-defined]
    return [found.ledger.value(i) for b, i in union.items() if not b.startswith("L2") and i]  # type: ignore[attr-defined]


def test_an_attack_that_fails_the_binarization_test_is_not_reported(copied: Opened) -> None:
    """Of one pair, that pair; of all pairs of a detector, its whole row: attack too weak, nothing to report."""
    records = Records(copied.folder)
    sets = [(n, s) for n, s in records.sets.items() if s.facts["kind"] == "binarization" and s.facts["detector"] == "SPD"]
    names = [n for n, s in sets if s.facts["hardened"] is None]
    assert len(names) == len(METHODS)
    for n in names:
        change(copied, n, "found", lambda v: np.zeros_like(v))
    found = computed(Records(copied.close()))
    assert found.siege is not None
    rows = {r.title: r for r in found.siege.rows}
    assert rows["SPD"].blank
    assert not any(rows["SPD"].union.values())
    assert not any(v for cell in rows["SPD"].success.values() for v in cell.values())
    assert rows["SPD"].cost is None
    assert rows["SPD"].alarm == {}
    assert any("planted" in w for p in rows["SPD"].proofs.values() for w in p.wrong)
    assert "attack too weak, nothing to report" in page.write(copied.folder).read_text()
    spd = next(c for c in found.paper.claims if (c.claim, c.slug) == ("C13", "SPD before"))
    assert spd.outputs["strict", "paired"].verdict == NOT_RUN


def test_an_attack_that_leaves_an_image_without_a_budget_is_not_reported(copied: Opened) -> None:
    records = Records(copied.folder)
    one = next(
        n
        for n, s in records.sets.items()
        if s.facts["kind"] == "white box" and (s.facts["detector"], s.facts["method"], s.facts["eps"]) == ("Margin", "Selective", 1.0)
    )
    assert not _wrong(records)
    change(copied, one, "score", lambda v: np.where(np.arange(len(v)) == 3, 1e9, v).astype(v.dtype))
    assert any("without a budget" in w for w in _wrong(Records(copied.close())))


def _wrong(records: Records) -> list[str]:
    """Why Selective on Margin is not believed."""
    found = computed(records)
    assert found.siege is not None
    return next(r for r in found.siege.rows if r.title == "Margin").proofs["Selective"].wrong


def test_one_corrupted_score_moves_the_verdict_it_feeds_and_no_other(besieged: Path, copied: Opened) -> None:
    before = {(c.claim, c.slug, *m): (f.verdict, f.id) for c in computed(Records(besieged)).paper.claims for m, f in c.outputs.items()}
    records = Records(copied.folder)
    name = next(
        n
        for n, s in records.sets.items()
        if s.facts["kind"] == "passes"
        and s.facts["detector"] == "SMD"
        and s.facts["attack"] == "Alternating-steps=20"
        and not s.facts["round"]
    )
    flagged = np.mean(records.sets[name].columns["score@5"] > 0)
    change(copied, name, "score@5", lambda v: np.full_like(v, -9.0 if flagged > 0.5 else 9.0))
    after = computed(Records(copied.close()))
    moved = {
        (c.claim, c.slug, *m)
        for c in after.paper.claims
        for m, f in c.outputs.items()
        if (f.verdict, f.id) != before[(c.claim, c.slug, *m)]
    }
    assert ("C13", "SMD before", "published", "paired") in moved
    assert {k[0] for k in moved} <= {"C13", "C15", "C16"}  # the same attack, compared with others
    assert all("SMD" in k[1] for k in moved)


def test_every_proof_stands_beside_its_attack(besieged: Path) -> None:
    found = computed(Records(besieged))
    assert found.siege is not None
    assert [r.title for r in found.siege.rows][:4] == ["SMD", "SPD", "JSD", "ID+"]
    assert {r.title for r in found.siege.rows} >= {"fusion", "Margin", "Margin2", "BlackShare", "PooledActivations", "SortedLogits"}
    for r in found.siege.rows:
        assert set(r.proofs) == set(METHODS)
        for p in r.proofs.values():
            assert p.unbounded
            assert p.found
            assert p.by_chance
            assert list(p.doubled) == found.siege.doubled == [".3"]
    reading = {r.title: r.reading for r in found.siege.rows}
    assert "softplus" in reading["JSD"]
    assert "ramp" in reading["BlackShare"]
    assert "ramp" in reading["fusion"]
    assert reading["SPD"] == ""
    assert len(found.siege.planted) == 6


def test_a_weak_detector_is_left_what_no_attack_beats(besieged: Path) -> None:
    records = Records(besieged)
    found = computed(records)
    assert found.siege is not None
    sets = [s for s in records.sets.values() if s.facts["kind"] == "planted"]
    assert [s.facts["method"] for s in sets] == list(METHODS)
    for p in found.siege.planted:
        for id, kind in ((p.robust, "evaded"), (p.blind, "blind")):
            beaten = np.sum([s.columns[f"{p.name}/{kind}"].astype(int) for s in sets], axis=0)
            assert found.ledger.value(id) == pytest.approx((beaten == 0).mean())
    assert found.siege.effort == "12 steps, no restart; without a budget 24 steps, no restart"


def test_the_tables_hold_every_reading_and_round(besieged: Path) -> None:
    found = computed(Records(besieged))
    steps = found.algorithms
    assert steps is not None
    variants = {row.variant for row in steps.lines}
    assert variants == {
        "as printed",
        "true gradient",
        "Eq. 5",
        "Eq. 5, true gradient",
        "as printed, projected",
        "as printed, projected, step eps/4",
        "true gradient, step eps",
        "Eq. 3: one step on the classifier",
        "Eq. 4: one step on the detector",
    }
    assert {row.passes for row in steps.lines if row.variant == "as printed"} == {1, 2, 5, 10, 20}
    assert {row.defence for row in steps.lines} == {"SMD", "SPD", "ID", "JSD"}
    assert {(t.defence, t.against) for t in steps.training} == {
        (d, m) for d in ("SMD", "SPD") for m in ("the paper's attack", "Eq. 5", "the true gradient", "selective")
    }
    for t in steps.training:
        assert [r.number for r in t.rounds] == ([] if t.against == "selective" else [0, 1, 2])
        assert len({w for r in t.rounds[1:] for w in r.weights}) == len([w for r in t.rounds[1:] for w in r.weights])
        assert all("any" in when for when in t.afresh.values())
        assert t.count == 2
        assert t.last is None or t.last.number == 2


def test_evaded_is_the_one_predicate(besieged: Path) -> None:
    s = next(s for s in Records(besieged).sets.values() if s.facts["kind"] == "white box" and s.facts["detector"] == "SMD")
    c = s.columns
    expected = [
        bool(a and b and d and e <= s.facts["thresholds"]["0.05"])
        for a, b, d, e in zip(c["right"], c["changed"], c["in_budget"], c["score"], strict=True)
    ]
    assert evaded(s, "0.05").tolist() == expected
