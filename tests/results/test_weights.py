"""Two records of one classifier key are of the same nets or not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from salientry.results.claims.asked import Answer, Question, each
from salientry.results.claims.white import _apart
from salientry.results.joined import _why_not
from salientry.results.names import NATURAL
from salientry.results.trained import FittedSeed, Trained
from salientry.results.weights import OTHER, alike, differ

IDS = np.array(["a", "b", "c", "d"])
SCORES = np.array([1.5, -0.25, 3.0, 0.0])
PLACE = {"detector_protocol": "strict", "detector": "SPD", "scheme": "paired", "trained_on": "FGSM", "seed": 0}


def run(scores: Any = SCORES, threshold: float = 0.75, predicted: Any = (0, 1, 2, 3), **body: Any) -> Any:
    """Records of a run with one detector."""
    kept = {NATURAL: (None if scores is None else np.array(scores), ("key",))}
    fitted = FittedSeed({"seed": 0}, "key", {"own": 0.0, "0.05": threshold}, None, None, kept)
    natural = {"kind": "images", "id": IDS, "predicted": np.array(predicted), "key": "naturals"}
    trained = [Trained("strict", "SPD", "saliency", "paired", "FGSM", [fitted])]
    return SimpleNamespace(body=body, images={NATURAL: natural}, trained=trained, classifier="key", not_kept=None)


def white(scores: Any = SCORES[[2, 0]], threshold: float = 0.75, **body: Any) -> Any:
    """Records of a white box on two of its images."""
    thresholds = {"own": 0.0, "0.05": threshold}
    attacked = PLACE | {"kind": "white box", "hardened": None, "id": IDS[[2, 0]], "natural_score": scores, "thresholds": thresholds}
    return SimpleNamespace(body=body, images={"white box/SPD": attacked}, trained=[], classifier="key")


def test_fingerprints_decide_where_both_have_one() -> None:
    assert differ(run(weights="one"), white(weights="two"))
    assert not differ(run(weights="one"), white(weights="one", scores=SCORES[:2]))


def test_older_records_are_told_apart_by_the_scores_of_the_same_images() -> None:
    assert not differ(run(), white())
    assert not differ(run(weights="one"), white()), "one fingerprint alone says nothing"
    rounded = SCORES * (1 + 2.0**-13)
    assert not differ(run(rounded, 0.75 * (1 - 2.0**-13)), white()), "rounded to 12 binary digits"
    assert differ(run(SCORES + np.array([0, 0, 0.01, 0])), white())
    assert not differ(run(SCORES + np.array([0, 0.01, 0, 0.01])), white()), "images that the white box did not attack"


def test_thresholds_tell_where_scores_are_not_kept() -> None:
    assert not differ(run(scores=None), white())
    assert differ(run(scores=None), white(threshold=0.76))


def test_what_has_nothing_in_common_counts_as_the_same() -> None:
    other = white()
    other.images["white box/SPD"]["detector"] = "SMD"
    other.images["white box/SPD"]["natural_score"] = SCORES[:2]
    assert not differ(run(), other)


def test_runs_of_other_weights_are_not_joined() -> None:
    assert _why_not(run(), run()) == ""
    assert _why_not(run(), run(predicted=(0, 1, 2, 2))) == OTHER
    assert _why_not(run(weights="one"), run(weights="two")) == OTHER
    assert _why_not(run(), run(scores=SCORES + 0.5)) == OTHER


@pytest.mark.parametrize(("a", "same"), [([1.0], False), ([1e-9, 1.0], True), ([1e-3, 1.0], False)])
def test_alike(a: list[float], same: bool) -> None:
    assert alike(np.array(a), np.array([0.0, 1.0])) is same


def test_numbers_of_other_weights_decide_nothing() -> None:
    answers = {("strict", "paired"): Answer("number"), ("published", "paired"): Answer(None, why="none")}
    found = _apart(Question("C13", "SMD", "words", (), each(True), each(0.5), answers), OTHER)
    assert found.answers == {("strict", "paired"): Answer("number", doubted=OTHER), ("published", "paired"): Answer(None, why="none")}
