from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from salientry.errors import DataDamaged, UsageError, VerificationFailed
from salientry.report import page
from salientry.report.records import Records
from salientry.report.verify import problems, verify
from tests.tiny import finish


@pytest.fixture
def reported(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run's records with its report."""
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    return out


def touch(folder: Path, name: str, change: object, seal: bool = False) -> None:
    """Change one array of the records; with ``seal`` its checksum too, as a careful forger would."""
    import hashlib

    arrays = load_file(folder / "records.safetensors")
    arrays[name] = np.ascontiguousarray(change(arrays[name].copy()))  # type: ignore[operator]
    save_file(arrays, folder / "records.safetensors")
    if seal:
        body = json.loads((folder / "records.json").read_text())
        body["sha256"][name] = hashlib.sha256(arrays[name].tobytes()).hexdigest()
        (folder / "records.json").write_text(json.dumps(body))


def column(folder: Path, detector: str, of: str, protocol: str = "strict") -> str:
    body = json.loads((folder / "records.json").read_text())
    sets = {s["index"]: s["name"] for s in body["sets"]}
    wanted = {d["index"] for d in body["detectors"] if d["facts"]["detector"] == detector and d["facts"]["protocol"] == protocol}
    return next(s["column"] for s in body["scores"] if sets[s["set"]] == of and s["detector"] in wanted)


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
    assert any(name in p for p in found)  # the checksum
    with pytest.raises(VerificationFailed):
        verify(reported)


def test_one_flipped_score_under_a_new_checksum_is_found_in_the_numbers(reported: Path) -> None:
    counts = Records(reported).sets["strict/test/FGSM"].counts
    scores = Records(reported).group("strict", "SMD", "FGSM")
    assert scores is not None
    at = int(np.flatnonzero(counts)[0])

    def flip(s: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        s[at] = -1e6
        return s

    touch(reported, column(reported, "SMD", "strict/test/FGSM"), flip, seal=True)
    found = problems(reported)
    assert found
    assert all(p.startswith("strict/SMD/") for p in found)


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
    body = json.loads((reported / "records.json").read_text())
    mine = next(d["index"] for d in body["detectors"] if d["facts"]["detector"] == "ID" and d["facts"]["protocol"] == "strict")
    for s in [s["column"] for s in body["scores"] if s["detector"] == mine]:
        touch(reported, s, lambda a: np.zeros_like(a), seal=True)
    page.write(reported)  # even with a report that follows from them
    found = problems(reported)
    assert len(found) == 1
    assert "its scores do not vary" in found[0]


@pytest.mark.parametrize(
    ("what", "says"), [("Null", "control null"), ("MatchedNoise", "control noise matched to"), ("Margin2", "control margin2 trained on")]
)
def test_a_missing_mandatory_control_is_found_and_its_numbers_are_not_printed(reported: Path, what: str, says: str) -> None:
    body = json.loads((reported / "records.json").read_text())
    dropped = {s["index"] for s in body["sets"] if s["facts"].get("control") == what and s["facts"]["protocol"] == "strict"}
    detectors = {d["index"] for d in body["detectors"] if d["facts"]["detector"] == what and d["facts"]["protocol"] == "strict"}
    for s in body["sets"]:
        if s["index"] in dropped:
            s["facts"]["control"] = "Nothing"
    body["scores"] = [s for s in body["scores"] if s["detector"] not in detectors]
    body["detectors"] = [d for d in body["detectors"] if d["index"] not in detectors]
    (reported / "records.json").write_text(json.dumps(body))
    page.write(reported)
    numbers = json.loads((reported / "report.json").read_text())["numbers"]
    assert not [n for n in numbers if n["id"].startswith("strict/SMD/")]
    assert [n for n in numbers if n["id"].startswith("published/SMD/")]
    assert "NOT PRINTED" in (reported / "report.html").read_text()
    assert any(says in p for p in problems(reported))


def test_records_of_another_schema_and_no_records_are_refused(reported: Path, tmp_path: Path) -> None:
    body = json.loads((reported / "records.json").read_text())
    (reported / "records.json").write_text(json.dumps(body | {"schema": 99}))
    with pytest.raises(UsageError, match="schema 99; this version reads 1"):
        Records(reported)
    (reported / "records.json").write_text('{"schema": 1}')
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
    stay, its scores may not.
    """
    other = tmp_path / "other"
    finish(tmp_path / "store", other, seed=1)
    page.write(other)
    a, b = ({n["id"]: n for n in json.loads((f / "report.json").read_text())["numbers"]} for f in (finished, other))
    shared = [i for i in a.keys() & b.keys() if i.count("/") >= 3 and a[i]["value"] not in (0.0, 1.0)]
    moved = {i for i in shared if (a[i]["lo"], a[i]["hi"]) != (b[i]["lo"], b[i]["hi"])}
    ranks, shares = [i for i in shared if i.endswith("/auroc")], [i for i in shared if i.endswith(("/tpr@0.05", "/accuracy"))]
    assert len(ranks) > 40
    assert len(shares) > 40
    assert set(ranks) <= moved
    assert len(moved & set(shares)) > 0.6 * len(shares)
    x, y = Records(finished), Records(other)
    for g in x.groups:
        twin = next(h for h in y.groups if h.name == g.name)
        mine, theirs = g.scores(x.sets[f"{g.protocol}/test/FGSM"])[0], twin.scores(y.sets[f"{g.protocol}/test/FGSM"])[0]
        assert (mine != theirs).any(), g.name


def test_a_damaged_report_is_said_to_be(reported: Path) -> None:
    for body in ("{}", "[]", '{"numbers": [1]}'):
        (reported / "report.json").write_text(body)
        with pytest.raises(DataDamaged, match=r"report\.json is damaged"):
            verify(reported)
