"""Score records as tables, against the files themselves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from salientry.errors import DataDamaged, UsageError
from salientry.renamed import translated
from salientry.results.names import attack_title, kind_title, set_name
from salientry.results.scores import Scores
from salientry.results.trained import FittedSeed, Trained
from tests.report.surgery import CW, Opened, mixed, sealed


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    return Opened(Path(shutil.copytree(finished, tmp_path / "copy")))


def test_every_recorded_column_of_scores_is_a_row(finished: Path) -> None:
    raw, s = Opened(finished), Scores.read(finished)
    plain = s.frame[~s.frame["set"].map(lambda n: s.images[n]["mixture"])].set_index(["detector_key", "set"]).sort_index()
    assert len(plain) == len(raw.body["scores"]) > 1000
    sets, detectors = ({x["index"]: x for x in raw.body[k]} for k in ("sets", "detectors"))
    for one in raw.body["scores"][::7]:
        d = detectors[one["detector"]]
        rows = plain.loc[[(d["key"], set_name(sets[one["set"]]["name"]))]]
        same = [r for _, r in rows.iterrows() if (r["protocol"], r["trained_on"]) == (d["facts"]["protocol"], d["facts"]["trained_on"])]
        row = next(r for r in same if r["scheme"] == d["facts"]["scheme"])
        assert (row["scores"] == raw.arrays[one["column"]]).all()
        assert row["thresholds"] == (d["thresholds"] or {"own": 0.0})
        assert (row["seed"], row["detector"]) == (d["facts"]["seed"], d["facts"]["detector"])
        assert one["key"] in row["keys"]


def test_image_sets_are_rows_with_their_columns(finished: Path) -> None:
    raw, s = Opened(finished), Scores.read(finished)
    for one in raw.body["sets"]:
        row = s.sets.loc[set_name(one["name"])]
        assert row["n"] == one["n"] == len(row["id"]) == len(row["evaluated"])
        assert all((row[c] == raw.arrays[f"set/{one['index']:03d}/{c}"]).all() for c in one["columns"])
        assert row["key"] == one["key"]
    assert s.sets.loc["any/test/natural", "attack"] is None
    assert s.sets.loc["any/test/natural", "evaluated"].all()
    assert s.sets.loc["strict/test/FGSM", "attack"] == "FGSM"
    assert (s.dataset, s.run_seed, s.has_naturals) == ("digits", 0, True)


def test_a_mixture_of_attacks_is_an_image_set_as_any_other(finished: Path) -> None:
    raw, s = Opened(finished), Scores.read(finished)
    counts = mixed([raw.column(f"strict/test/{a}", "evaluated") for a in ("FGSM", CW)])
    assert (s.images["strict/test/combined"]["evaluated"] == counts).all()
    assert s.images["strict/test/combined"]["attack"] == "combined"
    d = raw.detector("ID", "strict", "combined")
    one = s.one("strict", "ID", "combined")
    assert one is not None
    assert (one.scores("strict/test/combined")[0] == mixed([raw.score(d, f"strict/test/{a}") for a in ("FGSM", CW)])).all()
    noise = s.like(one, control="MatchedNoise")
    assert noise is not None
    assert (noise["name"], noise["control"], noise["of"]) == ("strict/test/MatchedNoise of combined", "MatchedNoise", "combined")
    assert not any(x["mixture"] for x in s.attacked("strict"))
    alone = s.frame[(s.frame["set"] == "strict/test/combined")]
    assert set(alone["trained_on"]) == {"combined"}


def test_older_and_newer_words_are_read_alike() -> None:
    old = {"family": "floor", "form": "paired", "role": "select", "lent": "fit"}
    new = {"group": "baseline", "scheme": "paired", "role": "validation", "reused_from": "train"}
    assert translated(old) == translated(new) == new
    names = {
        "any/fit/natural": "any/train/natural",
        "strict/detect/FGSM": "strict/detector_train/FGSM",
        "sanity/select/a/b": "sanity/validation/a/b",
    }
    assert {n: set_name(n) for n in names} == names
    assert {set_name(n): set_name(set_name(n)) for n in names} == {n: n for n in names.values()}
    assert set_name("strict/test/MatchedNoise of FGSM") == "strict/test/MatchedNoise of FGSM"


def test_a_flag_is_strictly_above_the_threshold() -> None:
    one = FittedSeed({}, "key", {"own": 1.0}, None, None, {"a set": (np.array([0.0, 1.0, 1.0, 2.0]), ("key",))})
    (flags,) = Trained("strict", "SPD", "saliency", "paired", "FGSM", [one]).flags("a set", "own")
    assert flags.tolist() == [False, False, False, True]


def test_titles() -> None:
    assert [attack_title(a) for a in (CW, "DeepFool-steps=2", "DeepFool", f"BIM-eps={8 / 255}-step_size={2 / 255}")] == [
        "C&W",
        "DeepFool 2",
        "DeepFool",
        "BIM 8/255",
    ]
    assert kind_title("FGSM-eps=0.025") == "FGSM"


def test_records_are_read_without_pandas(finished: Path) -> None:
    """A guard's counts and a head trained again need the scores, not the tables."""
    code = f"""import sys
sys.modules["pandas"] = None
from salientry.results.scores import Scores
print(len(Scores.read({str(finished)!r}).trained))"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) > 100


# --- what is wrong ---


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no records in"):
        Scores.read(tmp_path)


@pytest.mark.parametrize("body", [{"schema": 2}, [], {}])
def test_another_schema(tmp_path: Path, body: Any) -> None:
    (tmp_path / "records.json").write_text(json.dumps(body))
    with pytest.raises(UsageError, match="this version reads 3"):
        Scores.read(tmp_path)


def test_a_changed_description(opened: Opened) -> None:
    path = opened.folder / "records.json"
    path.write_text(path.read_text().replace('"digits"', '"mnist"', 1))
    with pytest.raises(DataDamaged, match="not what was written"):
        Scores.read(opened.folder)


@pytest.mark.parametrize("part", ["sets", "detectors", "recipe", "shards", "gates", "choice", "strength"])
def test_a_description_that_lacks_a_part(opened: Opened, part: str) -> None:
    (opened.folder / "records.json").write_text(sealed({k: v for k, v in opened.body.items() if k not in (part, "own")}))
    with pytest.raises(DataDamaged, match="json is damaged"):
        Scores.read(opened.folder)


def test_a_changed_column_is_named_when_asked(opened: Opened) -> None:
    shard = opened.body["shards"][0]
    arrays = load_file(opened.folder / shard)
    name = sorted(arrays)[0]
    save_file(arrays | {name: arrays[name] + 1}, opened.folder / shard)
    assert Scores.read(opened.folder).damaged == {}
    assert Scores.read(opened.folder, verify=True).damaged == {name: shard}


def test_a_lost_column_is_no_lost_file(opened: Opened) -> None:
    shard = opened.body["shards"][0]
    arrays = load_file(opened.folder / shard)
    arrays.pop(sorted(arrays)[0])
    save_file(arrays, opened.folder / shard)
    with pytest.raises(DataDamaged, match="do not fit together"):
        Scores.read(opened.folder)


def test_what_hangs_on_a_lost_file_of_scores_is_not_there(opened: Opened) -> None:
    before = Scores.read(opened.folder)
    shard = "scores/strict-combined.safetensors"
    (opened.folder / shard).unlink()
    after = Scores.read(opened.folder)
    assert after.absent == [shard]
    gone = {s["key"] for s in opened.body["scores"] if s["shard"] == shard}
    assert len(before.frame) - len(after.frame) > 0
    assert not {k for keys in after.frame["keys"] for k in keys} & gone
    assert all(np.isfinite(s).all() for s in after.frame["scores"])


def test_records_beside_are_of_the_same_classifier(finished: Path, opened: Opened) -> None:
    assert Scores.read(finished, beside=opened.folder).white_box == {}
    opened.body["classifier"] = "0" * 64
    opened.close()
    with pytest.raises(UsageError, match="of different classifiers"):
        Scores.read(finished, beside=opened.folder)
    opened.body["classifier"] = None
    opened.close()
    with pytest.raises(UsageError, match="do not say of which classifier"):
        Scores.read(finished, beside=opened.folder)


def test_records_of_the_white_box_go_beside_those_of_the_same_classifier() -> None:
    folders = [Path(__file__).parents[2] / "results" / p for p in ("whitebox/cifar10", "fast/cifar10-seed1", "whitebox/assira")]
    alone = Scores.read_all(folders)
    assert [s.folder for s in alone] == folders
    assert all(s.beside is None for s in alone)
    joined = Scores.read_all([folders[2], folders[2].parents[1] / "fast/assira"])
    assert [s.dataset for s in joined] == ["assira"]
    assert joined[0].beside is not None
    assert joined[0].white_box == joined[0].beside.white_box != {}


def test_two_runs_of_one_data_set_and_seed_are_not_judged_together() -> None:
    """A number would be of either; the white box beside them is no second run, nor is another seed."""
    root = Path(__file__).parents[2] / "results"
    with pytest.raises(UsageError, match=r"paper/cifar10-attacks and .*fast/cifar10 are both of cifar10 with run seed 0; give one of them"):
        Scores.read_all([root / "paper/cifar10-attacks", root / "fast/cifar10", root / "fast/cifar10-seed1"])
    assert len(Scores.read_all([root / "fast/cifar10", root / "whitebox/cifar10", root / "fast/cifar10-seed1"])) == 2


def test_older_records_call_what_is_evaluated_counts(finished: Path, opened: Opened) -> None:
    for s in opened.body["sets"]:
        s["columns"] = [re.sub(r"(^|/)evaluated$", r"\1counts", c) for c in s["columns"]]
    opened.arrays = {re.sub(r"/evaluated$", "/counts", k): v for k, v in opened.arrays.items()}
    older, newer = Scores.read(opened.close()).images, Scores.read(finished).images
    assert any("set/" in k and k.endswith("/counts") for k in opened.arrays) and older.keys() == newer.keys()
    for name, s in newer.items():
        assert (older[name]["evaluated"] == s["evaluated"]).all()
    assert not newer["strict/test/FGSM"]["evaluated"].all(), "the absent column would do"
