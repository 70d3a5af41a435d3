"""The counts of a guard's detector, where the records are not those of an ordinary run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from salientry.results.counts import Counts, counts
from salientry.results.scores import Scores
from tests.report.surgery import Opened


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    shutil.copytree(finished, tmp_path / "copy")
    return Opened(tmp_path / "copy")


def test_every_image_that_scores_above_the_threshold_is_counted_and_no_other(opened: Opened) -> None:
    """One adversarial, no natural and all noise flagged, by scores that are put there."""
    chosen = opened.body["choice"][0]["chosen"]
    form = "all" if chosen == "Fused" else "paired"
    wanted = {"detector": chosen, "protocol": "strict", "trained_on": "combined", "seed": 0, "scheme": form}
    (mine,) = (d for d in opened.body["detectors"] if wanted.items() <= d["facts"].items())
    threshold = mine["thresholds"]["0.05"]
    names = {s["index"]: s["name"] for s in opened.body["sets"]}
    for s in (s for s in opened.body["scores"] if s["detector"] == mine["index"]):
        values = opened.arrays[s["column"]]
        values[:] = threshold + 1 if "MatchedNoise" in names[s["set"]] else threshold  # the threshold itself is not above it
        if names[s["set"]] == "strict/test/FGSM":
            values[opened.column("strict/test/FGSM", "evaluated").argmax()] = threshold + 1
    folder = opened.close()
    found = counts(Scores.read(folder))
    assert found is not None
    assert (found.attacked[0], found.natural) == (1, (0, 100))
    assert found.noise[0] == found.noise[1] > 100


def test_words() -> None:
    found = Counts("ID+", "0.01", 1, (1234, 2345), (0, 9), (3, 4))
    assert "the guard holds the detector ID+, set to flag at most 1 % of natural images" in found.lines()[0]
    assert found.lines()[1] == "attacked: 1,234 of 2,345 detected (one attack on the test images, where it succeeds)"
    assert "holds a fusion of all detectors" in replace(found, detector="fusion").lines()[0]


def test_without_a_chosen_detector_it_is_the_fusion(opened: Opened) -> None:
    opened.body["choice"] = []
    found = counts(Scores.read(opened.close()))
    assert found is not None
    assert found.detector == "fusion"


@pytest.mark.parametrize("lost", ["scores/strict-combined.safetensors", "the detector"])
def test_without_the_scores_nothing_is_counted(opened: Opened, lost: str) -> None:
    if lost == "the detector":
        opened.body["choice"][0]["chosen"] = "Nobody"
    folder = opened.close()
    (folder / lost).unlink(missing_ok=True)
    assert counts(Scores.read(folder)) is None
