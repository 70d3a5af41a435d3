from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from salientry.errors import DataDamaged, UsageError, VerificationFailed
from salientry.rates import short
from salientry.report import grid, report
from salientry.report.report import Made, listed
from salientry.report.verification import differences, problems, verify
from salientry.results.scores import Scores
from salientry.results.transfer import amiss, cells
from salientry.store import write_text
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
    one = Made(Scores.read(folder), "")
    (folder / "report.json").write_text(json.dumps({"numbers": one.ours}))
    write_text(folder / grid.NAME, grid.csv(one.scores, one.rows))


def test_an_honest_report_verifies(reported: Path) -> None:
    assert verify(reported) == len(json.loads((reported / "report.json").read_text())["numbers"]) > 100


def test_one_flipped_score_is_found(reported: Path) -> None:
    name = column(reported, "SMD", "strict/test/FGSM")
    counts = Scores.read(reported).images["strict/test/FGSM"]["evaluated"]
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
    counts = Scores.read(reported).images["strict/test/FGSM"]["evaluated"]
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
            report.write(reported)
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
    (report.write if what == "Null" else follow)(o.close())
    numbers = [n["id"] for n in json.loads((reported / "report.json").read_text())["numbers"]]
    heads = ("SMD", "SPD", "ID", "JSD", "IDPlus", "spoiled", "fusion", "Margin", "Margin2", "BlackShare")
    assert not [i for i in numbers if i.startswith(tuple(f"strict/{h}/" for h in heads))]
    assert [i for i in numbers if i.startswith("published/SMD/")]
    assert what != "Null" or "Not printed:" in (reported / "report.html").read_text()
    assert any(f"control {says}" in p for p in problems(reported))
    lines, whole = listed(reported, "figure2")
    assert whole, "each says why"
    assert lines[0].startswith("16 of 32 cells are finite")
    line = next(line for line in lines if "none: strict/SPD trained on FGSM, tested on FGSM:" in line)
    assert "mandatory controls are missing" in line
    assert says in line


# --- grid.csv: the paper's Appendix G ---------------------------------------------------------------------------------


def test_the_grid_file_holds_what_the_numbers_are(finished: Path) -> None:
    lines = list(csv.DictReader(io.StringIO((finished / "grid.csv").read_text())))
    numbers = {n["id"]: n for n in json.loads((finished / "report.json").read_text())["numbers"]}
    spoken = {(line["protocol"], line["defence"], line["form"], line["trained_on"], line["tested_on"]) for line in lines}
    assert len(spoken) == len(lines)
    manners = (("published", "paired"), ("published", "replica"), ("strict", "paired"))
    both = ("FGSM", CW)
    assert {(p, d, f, a, b) for p, f in manners for d in ("SPD", "SMD", "ID", "JSD") for a in both for b in both} <= spoken
    for line in lines:
        if not line["id"]:
            assert line["why"] and not line["value"]
            continue
        n = numbers[line["id"]]
        assert line["measure"] in ("accuracy", "tpr@0.05") and line["id"].endswith(line["measure"])
        assert [float(line[k]) for k in ("value", "lo", "hi")] == pytest.approx([n["value"], n["lo"], n["hi"]], abs=1e-9)
        assert int(line["n"]) == n["n"]
        assert [float(v) for v in line["seeds"].split()] == pytest.approx(n["runs"], abs=1e-9)
        assert line["std"] == "", "one seed has no spread"
        rank = numbers[re.sub(r"[^/]+$", "auroc", line["id"])]
        assert float(line["auroc"]) == pytest.approx(rank["value"], abs=1e-9)
        assert set(line["heads"].split()) <= set(n["keys"])


def test_the_spread_of_two_seeds(finished: Path) -> None:
    one, id = Made(Scores.read(finished), ""), "published/SPD/FGSM/FGSM/accuracy"
    two = [r | {"seeds": (0.5, 0.7)} if r["id"] == id else r for r in one.rows]
    line = next(line for line in grid.csv(one.scores, two).splitlines() if f",{id}," in line)
    assert ",0.500000000 0.700000000,0.141421356," in line


@pytest.mark.parametrize("what", ["changed", "missing", "longer"])
def test_a_changed_grid_file_is_found(reported: Path, what: str) -> None:
    file = reported / "grid.csv"
    raw = bytearray(file.read_bytes())
    if what == "changed":
        at = raw.rindex(b"0.")
        raw[at + 2] = ord("8") if raw[at + 2] != ord("8") else ord("7")
        file.write_bytes(raw)
        says = [f"grid.csv is not what follows from the records: line {raw[:at].count(10) + 1}"]
    elif what == "missing":
        file.unlink()
        says = ["grid.csv is missing"]
    else:
        file.write_bytes(raw + b"x\n")
        says = [f"grid.csv is not what follows from the records: line {raw.count(10) + 1}"]
    assert problems(reported) == says


# --- cells ---------------------------------------------------------------------------------------------------------


def test_the_cells_of_figure_2_add_up(finished: Path) -> None:
    lines, whole = listed(finished, "figure2")
    assert whole
    assert lines[0] == "32 of 32 cells are finite (4 detectors x 2^2 attacks x 2 protocols)"
    assert lines[-1] == "16 distinct heads"  # 4 defences, 2 attacks, 2 protocols, 1 seed
    assert not [line for line in lines if "none:" in line]
    o = Opened(finished)
    for protocol in ("published", "strict"):
        for attack in ("FGSM", CW, "DeepFool-steps=2"):
            changed = o.column(f"{protocol}/test/{attack}", "changed").astype(bool).mean()
            count = int(o.column(f"{protocol}/test/{attack}", "evaluated").sum())
            (line,) = [line for line in lines if line.startswith(f"  {protocol}/{attack}:")]
            assert f"prediction changed {short(changed)}, {count} count" in line


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
    one = Made(Scores.read(finished), "")
    found, finite = cells(one.scores, one.frame), set(one.frame["id"])
    assert not amiss(found, finite)
    (said,) = amiss([replace(found[0], id=None), *found[1:]], finite)
    assert said.startswith("AMISS: published/SPD trained on FGSM, tested on FGSM is no number")
    assert len(amiss([replace(found[1], heads=("a" * 64, "a" * 64))], finite)) == 1, "two seeds, one head"
    assert not amiss([replace(found[1], id=None, why="lost")], finite)


@pytest.mark.parametrize("field", ["attacks", "gates", "strength", "class_names", "networks", "skipped", "recipe", "detectors"])
def test_a_description_that_is_not_what_was_written_is_damaged_wherever_it_was_changed(reported: Path, field: str) -> None:
    body = json.loads((reported / "records.json").read_text())
    (reported / "records.json").write_text(json.dumps(body | {field: 0.5}))
    with pytest.raises(DataDamaged, match="not what was written"):
        Scores.read(reported)
    del body["own"]
    (reported / "records.json").write_text(json.dumps(body))
    assert Scores.read(reported).images, "older records do not say"


def test_records_of_another_schema_and_no_records_are_refused(reported: Path, tmp_path: Path) -> None:
    body = json.loads((reported / "records.json").read_text())
    (reported / "records.json").write_text(json.dumps(body | {"schema": 99}))
    with pytest.raises(UsageError, match="schema 99; this version reads 3 and 4"):
        Scores.read(reported)
    (reported / "records.json").write_text('{"schema": 3}')
    with pytest.raises(DataDamaged, match=r"records\.json is damaged"):
        Scores.read(reported)
    (reported / "records.json").write_text("[]")
    with pytest.raises(UsageError, match="schema None"):
        Scores.read(reported)
    with pytest.raises(UsageError, match=r"there is no records\.json"):
        Scores.read(tmp_path / "nowhere")


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
    x, y = Scores.read(finished), Scores.read(other)
    for g in x.trained:
        twin = y.one(g.protocol, g.detector, g.trained_on, g.scheme)
        ours, its = x.like(g), y.like(g)
        assert twin is not None and ours is not None and its is not None
        assert (g.scores(ours["name"])[0] != twin.scores(its["name"])[0]).any(), g.title


def test_a_damaged_report_is_said_to_be(reported: Path) -> None:
    for body in ("{}", "[]", '{"numbers": [1]}'):
        (reported / "report.json").write_text(body)
        with pytest.raises(DataDamaged, match=r"report\.json is damaged"):
            verify(reported)


def test_an_interval_of_an_earlier_version_is_taken_where_a_bound_stands_now() -> None:
    """Exactly that one: both ends of the percentiles of resamples, of this very number."""
    now = {"id": "i", "value": 0.0, "lo": -0.01, "hi": 0.01, "n": 300, "protocol": "strict", "runs": [0.0], "keys": ["k"]}
    before = {"i": (-0.003, 0.002)}

    def found(**changed: float) -> int:
        return len(differences([now | changed], [now], resampled=before))

    assert found() == found(lo=-0.003, hi=0.002) == 0
    assert found(lo=-0.003) == found(hi=0.002) == 1, "one end alone"
    assert found(lo=-0.003, hi=0.0021) == 2
    assert found(lo=-0.003, hi=0.002, value=0.001) == 1
    assert len(differences([now | {"lo": -0.003, "hi": 0.002}], [now])) == 2, "of another number"
