"""What stands beside numbers, from scores that were made to be doubted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salientry.results.numbers import numbers
from salientry.results.scores import Scores
from salientry.results.warnings import MEANING, warnings
from tests.report.surgery import CW, Opened, ranked

from .oracle import ROOT


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    return Opened(Path(shutil.copytree(finished, tmp_path / "copy")))


def warned(folder: Path, code: str) -> list[dict[str, Any]]:
    s = Scores.read(folder)
    return [w for w in warnings(s, numbers(s)).to_dict("records") if w["code"] == code]


def test_collapsed_by_the_pairs_of_its_training(opened: Opened) -> None:
    d = opened.detector("ID", "strict", "FGSM")
    counts = opened.column("strict/detector_train/FGSM", "evaluated").astype(bool)
    natural, attacked = opened.score(d, "any/detector_train/natural"), opened.score(d, "strict/detector_train/FGSM")
    attacked[:] = natural[: len(attacked)]
    folder = opened.close()
    assert ranked(natural[: len(counts)][counts], attacked[counts]) < 0.6
    (one,) = [w for w in warned(folder, "COLLAPSED") if (w["title"], w["trained_on"], w["protocol"]) == ("ID", "FGSM", "strict")]
    assert one["count"].split("/")[0] == "1"
    assert one["text"] == MEANING["COLLAPSED"]
    assert one["kind"] == "detection"


def test_a_detector_of_one_score_for_all_images(opened: Opened) -> None:
    before = [(w["title"], w["trained_on"], w["protocol"]) for w in warned(opened.folder, "ONE SCORE")]
    assert ("ID", "FGSM", "strict") not in before
    d = opened.detector("ID", "strict", "FGSM")
    named = {e["index"]: e["name"] for e in opened.body["sets"]}
    for name in {named[e["set"]] for e in opened.body["scores"] if e["detector"] == d["index"]}:
        opened.score(d, name)[:] = 0.25
    after = {(w["title"], w["trained_on"], w["protocol"]): w["count"] for w in warned(opened.close(), "ONE SCORE")}
    assert after[("ID", "FGSM", "strict")].startswith("1/") and len(after) == len(before) + 1


def test_heads_of_the_papers_architecture_that_died_are_marked() -> None:
    s = Scores.read(ROOT / "paper" / "cifar10-heads-deepfool")
    found = warnings(s, numbers(s))
    titles = set(found["title"][found["code"] == "ONE SCORE"])
    assert titles == {"ID (architecture: as printed)", "ID (architecture: no drop-out)"}, "JSD learnt"


def test_membership_is_reported_from_naturals_alone(opened: Opened) -> None:
    d = opened.detector("Margin", "strict", "FGSM")
    opened.score(d, "any/train/natural")[:] = np.linspace(1, 2, len(opened.score(d, "any/train/natural")))
    opened.score(d, "any/calibration/natural")[:] = -1.0
    found = warned(opened.close(), "MEMBERSHIP")
    assert ("Margin", "FGSM", "strict") in {(w["title"], w["trained_on"], w["protocol"]) for w in found}


def test_noise_that_is_not_as_large_as_the_attack(opened: Opened) -> None:
    opened.column(f"strict/test/MatchedNoise of {CW}", "rms")[:] *= 1.2
    found = [w for w in warned(opened.close(), "NOISE UNMATCHED") if w["trained_on"] == CW]
    assert {w["protocol"] for w in found} == {"strict"}
    assert {w["control"] for w in found} == {"MatchedNoise"}
    assert len(found) > 5


def test_a_fill_that_hides_nothing(opened: Opened) -> None:
    names = [s["name"] for s in opened.body["sets"] if s["facts"]["kind"] == "sanity" and not s["facts"].get("within")]
    for name in names:
        opened.column(name, "emptied")[:] = True
    assert len(warned(opened.close(), "WEAK FILL")) == len(names) > 0


def test_a_failed_sanity_check_stands_beside_every_detector_that_reads_the_map(opened: Opened) -> None:
    for gate in opened.body["gates"]:
        gate["passed"] = False
    found = warned(opened.close(), "SANITY CHECK FAILED")
    assert {w["group"] for w in found} == {"saliency"}
    assert {w["title"] for w in found} >= {"SPD", "SMD"}


def test_the_recorded_warnings() -> None:
    """By code, as they stood in the recorded reports."""
    s = Scores.read(ROOT / "fast" / "assira-seed1")
    found = warnings(s, numbers(s))
    counts = {"TRAINED ON FIT": 96, "COLLAPSED": 28, "OWN MAPS": 18, "MEMBERSHIP": 15, "WEAK FILL": 2, "ONE SCORE": 1}
    assert found["code"].value_counts().to_dict() == counts
    assert set(found["count"][found["code"] == "COLLAPSED"]) == {"1/1", "2/2"}


def test_the_white_box_alone_has_its_own() -> None:
    s = Scores.read(ROOT / "whitebox" / "assira")
    assert set(warnings(s, numbers(s))["kind"]) <= {"white box"}
