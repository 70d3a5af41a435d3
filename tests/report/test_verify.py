from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from salientry.errors import DataDamaged, UsageError, VerificationFailed
from salientry.report import appendix, detection, grid, page
from salientry.report.compute import computed
from salientry.report.numbers import Ledger
from salientry.report.records import Records
from salientry.report.verify import listed, problems, verify
from tests.tiny import finish

from .surgery import CW, Opened, sealed


@pytest.fixture
def reported(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run's records with its report."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    return out


def file_of(folder: Path, name: str) -> Path:
    """Where a column of scores is kept."""
    body = json.loads((folder / "records.json").read_text())
    return folder / next(s["shard"] for s in body["scores"] if s["column"] == name)


def touch(folder: Path, name: str, change: object, seal: bool = False) -> None:
    """Change one column of scores; with ``seal`` its checksum too, as a careful forger would."""
    path = file_of(folder, name)
    arrays = load_file(path)
    arrays[name] = np.ascontiguousarray(change(arrays[name].copy()))  # type: ignore[operator]
    save_file(arrays, path)
    if seal:
        body = json.loads((folder / "records.json").read_text())
        body["sha256"][name] = hashlib.sha256(arrays[name].tobytes()).hexdigest()
        (folder / "records.json").write_text(sealed(body))


def column(folder: Path, detector: str, of: str, protocol: str = "strict", trained_on: str = "FGSM") -> str:
    o = Opened(folder)
    wanted, index = o.detector(detector, protocol, trained_on)["index"], o.set(of)["index"]
    return next(s["column"] for s in o.body["scores"] if (s["set"], s["detector"]) == (index, wanted))


def follow(folder: Path) -> None:
    """Write the numbers that follow from the records, without a page."""
    found = computed(Records(folder))
    (folder / "report.json").write_text(json.dumps({"numbers": found.ledger.json()}))
    appendix.write(folder, found.ledger, found.tables)


def test_an_honest_report_verifies(reported: Path) -> None:
    assert verify(reported) == len(json.loads((reported / "report.json").read_text())["numbers"]) > 100


def test_one_flipped_score_is_found(reported: Path) -> None:
    name = column(reported, "SMD", "strict/test/FGSM")
    counts = Records(reported).sets["strict/test/FGSM"].counts
    at = int(np.flatnonzero(counts)[0])

    def flip(scores: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        scores[at] = -scores[at] - 1
        return scores

    touch(reported, name, flip)
    found = problems(reported)
    assert f"{name} in scores/strict-FGSM.safetensors is not what was recorded" in found
    with pytest.raises(VerificationFailed):
        verify(reported)


def test_one_flipped_score_under_a_new_checksum_is_found_in_the_numbers(reported: Path) -> None:
    counts = Records(reported).sets["strict/test/FGSM"].counts
    at = int(np.flatnonzero(counts)[0])

    def flip(s: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        s[at] = -1e6
        return s

    touch(reported, column(reported, "SMD", "strict/test/FGSM"), flip, seal=True)
    found = problems(reported)
    assert found
    assert all(p.startswith(("strict/SMD/", "strict/spoiled/SMD/", "paper/C", "grid.csv ")) for p in found)


def test_a_forged_number_is_found(reported: Path) -> None:
    body = json.loads((reported / "report.json").read_text())
    victim = next(n for n in body["numbers"] if n["id"].endswith("auroc") and n["value"] is not None)
    victim["value"] = min(victim["value"] + 1e-6, 2.0)
    (reported / "report.json").write_text(json.dumps(body))
    assert [p.split(":")[0] for p in problems(reported)] == [victim["id"]]


def test_a_dropped_and_an_invented_number_are_found(reported: Path) -> None:
    body = json.loads((reported / "report.json").read_text())
    gone = body["numbers"].pop(5)
    body["numbers"].append(dict(gone, id="invented"))
    (reported / "report.json").write_text(json.dumps(body))
    found = problems(reported)
    assert len(found) == 2
    assert any("invented: printed, but does not follow" in p for p in found)
    assert any(f"{gone['id']}: follows from the records, but is not printed" in p for p in found)


def test_a_detector_whose_scores_do_not_vary_is_found(reported: Path) -> None:
    o = Opened(reported)
    mine = o.detector("ID", "strict", "FGSM")["index"]
    for s in [s["column"] for s in o.body["scores"] if s["detector"] == mine]:
        o.arrays[s] = np.zeros_like(o.arrays[s])
    follow(o.close())  # even with a report that follows from them
    assert problems(reported) == ["strict/ID/FGSM, seed 0: its scores do not vary"]


def test_a_score_that_is_no_number_is_found(reported: Path) -> None:
    touch(reported, column(reported, "SMD", f"strict/test/{CW}"), lambda a: np.where(np.arange(len(a)) == 3, np.nan, a), seal=True)
    follow(reported)
    assert problems(reported) == [f"strict/SMD/FGSM, seed 0: scores of strict/test/{CW} are not finite"]


def test_a_lost_file_of_scores_is_named(reported: Path) -> None:
    (reported / "scores" / "strict-FGSM.safetensors").unlink()
    for again in (False, True):
        if again:
            page.write(reported)
            assert "scores/strict-FGSM.safetensors is missing" in (reported / "report.html").read_text()
        with pytest.raises(VerificationFailed, match=r"scores/strict-FGSM\.safetensors is missing: its scores"):
            verify(reported)
    assert len(problems(reported)) == 1, "the page that was written without it follows from what is left"


@pytest.mark.parametrize(
    ("what", "says"), [("Null", "null"), ("MatchedNoise", "noise matched to FGSM"), ("Margin2", "margin2 trained on FGSM")]
)
def test_a_missing_mandatory_control_is_found_and_its_numbers_are_not_printed(reported: Path, what: str, says: str) -> None:
    o = Opened(reported)
    o.without(what)
    (page.write if what == "Null" else follow)(o.close())
    numbers = [n["id"] for n in json.loads((reported / "report.json").read_text())["numbers"]]
    heads = ("SMD", "SPD", "ID", "JSD", "IDPlus", "spoiled", "fusion", "Margin", "Margin2", "BlackShare")
    assert not [i for i in numbers if i.startswith(tuple(f"strict/{h}/" for h in heads))]
    assert [i for i in numbers if i.startswith("published/SMD/")]
    assert what != "Null" or "NOT PRINTED" in (reported / "report.html").read_text()
    assert any(f"control {says}" in p for p in problems(reported))
    lines, whole = listed(reported, "figure2")
    assert whole, "each says why"
    assert lines[0].startswith("16 of 32 cells are finite")
    line = next(line for line in lines if "none: strict/SPD trained on FGSM, tested on FGSM:" in line)
    assert "mandatory controls are missing" in line
    assert says in line


# --- cells ---------------------------------------------------------------------------------------------------------


def test_the_cells_of_figure_2_add_up(finished: Path) -> None:
    lines, whole = listed(finished, "figure2")
    assert whole
    assert lines[0] == "32 of 32 cells are finite (4 defences x 2^2 attacks x 2 protocols)"
    assert lines[-1] == "16 distinct heads"  # 4 defences, 2 attacks, 2 protocols, 1 seed
    assert not [line for line in lines if "none:" in line]
    o = Opened(finished)
    for protocol in ("published", "strict"):
        for attack in ("FGSM", CW, "DeepFool-steps=2"):
            changed = o.column(f"{protocol}/test/{attack}", "changed").astype(bool).mean()
            count = int(o.column(f"{protocol}/test/{attack}", "counts").sum())
            (line,) = [line for line in lines if line.startswith(f"  {protocol}/{attack}:")]
            assert f"prediction changed {changed:.3f}, {count} count" in line


def test_cells_whose_scores_are_lost_say_so(reported: Path) -> None:
    (reported / "scores" / "strict-FGSM.safetensors").unlink()
    lines, whole = listed(reported, "figure2")
    assert whole
    assert lines[0].startswith("24 of 32 cells are finite")
    refused = [line for line in lines if "none:" in line]
    assert len(refused) == 8
    assert all(
        "none: strict/" in line and "trained on FGSM" in line and line.endswith("no such detector in the records") for line in refused
    )


def test_two_rows_with_one_head_are_amiss(reported: Path) -> None:
    o = Opened(reported)
    a, b = o.detector("SPD", "strict", "FGSM"), o.detector("SMD", "strict", CW)
    a["key"] = b["key"]
    lines, whole = listed(o.close(), "figure2")
    assert not whole
    assert lines[-1] == f"AMISS: one head, {b['key'][:12]}, in strict/SMD trained on {CW} and in strict/SPD trained on FGSM"


def test_a_cell_that_is_no_number_for_no_reason_is_amiss(finished: Path) -> None:
    records, ledger = Records(finished), Ledger()
    found = grid.grid(records, ledger, detection.tables(records, ledger))
    assert not grid.amiss(ledger, found)
    id = found.cells[0].id
    assert id is not None
    ledger.numbers[id] = replace(ledger.numbers[id], value=None)
    (said,) = grid.amiss(ledger, found)
    assert said.startswith("AMISS: published/SPD trained on FGSM, tested on FGSM is no number")
    twice = replace(found, cells=[replace(found.cells[1], heads=("a" * 64, "a" * 64))])
    assert len(grid.amiss(ledger, twice)) == 1, "two seeds, one head"
    without = replace(found, cells=[replace(found.cells[1], id=None, why="")])
    assert len(grid.amiss(ledger, without)) == 1
    said_why = replace(found, cells=[replace(found.cells[1], id=None, why="lost")])
    assert not grid.amiss(ledger, said_why)


@pytest.mark.parametrize("field", ["attacks", "gates", "strength", "class_names", "networks", "skipped", "recipe", "detectors"])
def test_a_description_that_is_not_what_was_written_is_damaged_wherever_it_was_changed(reported: Path, field: str) -> None:
    body = json.loads((reported / "records.json").read_text())
    (reported / "records.json").write_text(json.dumps(body | {field: 0.5}))
    with pytest.raises(DataDamaged, match="not what was written"):
        Records(reported)
    del body["own"]
    (reported / "records.json").write_text(json.dumps(body))
    assert Records(reported).sets, "older records do not say"


def test_records_of_another_schema_and_no_records_are_refused(reported: Path, tmp_path: Path) -> None:
    body = json.loads((reported / "records.json").read_text())
    (reported / "records.json").write_text(json.dumps(body | {"schema": 99}))
    with pytest.raises(UsageError, match="schema 99; this version reads 3 and 4"):
        Records(reported)
    (reported / "records.json").write_text('{"schema": 3}')
    with pytest.raises(DataDamaged, match=r"records\.json is damaged"):
        Records(reported)
    (reported / "records.json").write_text("[]")
    with pytest.raises(UsageError, match="schema None"):
        Records(reported)
    with pytest.raises(UsageError, match=r"there is no records\.json"):
        Records(tmp_path / "nowhere")


def test_another_run_seed_moves_every_detection_interval(finished: Path, tmp_path: Path) -> None:
    """A seed that does nothing is a defect.

    With 100 test images a share can fall on the same hundredth twice, so here every AUROC interval must move and most shares;
    on the full recipe every one moves (docs/LOG.md). A value at the end of its range ([.98, 1], an exact bound of n images) may
    stay, its scores may not; a map that is .5 everywhere says nothing with any seed.
    """
    other = tmp_path / "other"
    finish(tmp_path / "store", other, seed=1)
    follow(other)
    a, b = ({n["id"]: n for n in json.loads((f / "report.json").read_text())["numbers"]} for f in (finished, other))
    shared = [i for i in a.keys() & b.keys() if i.count("/") >= 3 and a[i]["value"] not in (0.0, 1.0) and "constant map" not in i]
    moved = {i for i in shared if (a[i]["lo"], a[i]["hi"]) != (b[i]["lo"], b[i]["hi"])}
    ranks, shares = [i for i in shared if i.endswith("/auroc")], [i for i in shared if i.endswith(("/tpr@0.05", "/accuracy"))]
    assert len(ranks) > 40
    assert len(shares) > 40
    assert set(ranks) <= moved
    assert len(moved & set(shares)) > 0.6 * len(shares)
    x, y = Records(finished), Records(other)
    for g in x.groups:
        twin = next(h for h in y.groups if h.name == g.name)
        ours, its = x.twins(g, "test"), y.twins(g, "test")
        assert ours is not None and its is not None
        mine, theirs = g.scores(ours)[0], twin.scores(its)[0]
        assert (mine != theirs).any(), g.name


def test_a_damaged_report_is_said_to_be(reported: Path) -> None:
    for body in ("{}", "[]", '{"numbers": [1]}'):
        (reported / "report.json").write_text(body)
        with pytest.raises(DataDamaged, match=r"report\.json is damaged"):
            verify(reported)
