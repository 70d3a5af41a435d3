"""A guard's report from facts made by hand: its numbers are theirs, its intervals exact, and the Markdown holds them."""

from __future__ import annotations

import copy
import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest

from salientry.calibration import CONFIDENCE, allowed, smallest_sample
from salientry.guard import Guard
from salientry.guard_card import Known, base_rate, card_text, guard_card, more_images
from salientry.inference import exact_share
from salientry.learned import with_facts
from salientry.rates import rate, share
from salientry.summary import guard_summary
from salientry.types import Shape

from . import examples
from .examples import ViewPairs

CANDIDATES = [
    {
        "name": "LearnedFusion",
        "passes": 4,
        "mean": 0.625,
        "worst": 0.25,
        "cells": {"PGD, JPEG": [0.25, 40.0], "PGD": [1.0, 30.0]},
        "harmless": {"noise": [0.01, -0.02, 60]},
        "excess": -0.02,
        "chosen": True,
        "dropped": False,
    },
    {
        "name": "Margin",
        "passes": 1,
        "mean": 0.9,
        "worst": 0.8,
        "cells": {"PGD": [0.8, 30.0]},
        "harmless": {"noise": [0.5, 0.4, 60]},
        "excess": 0.4,
        "chosen": False,
        "dropped": True,
    },
]
FACTS: dict[str, Any] = {
    "classifier": "the classifier is right on 240 of 256 images (93.8%); shuffled labels give 10.1%",
    "detector": "how the answer bears small changes",
    "promise": "all",
    "accuracy": [90, 100],
    "natural": [7, 100],
    "right": [4, 90],
    "wrong": [3, 10],
    "classes": {"0": [5, 40], "1": [2, 60]},
    "attacks": [
        {"attack": "PGD", "encoding": "", "learnt": True, "encoding_learnt": True, "found": [61, 83], "fooled": [83, 90]},
        {"attack": "PGD", "encoding": "WebP", "learnt": True, "encoding_learnt": False, "found": [50, 77], "fooled": [77, 90]},
        {"attack": "patch|odd", "encoding": "", "learnt": False, "encoding_learnt": True, "found": [2, 41], "fooled": [41, 90]},
        {"attack": "C&W", "encoding": "", "learnt": False, "encoding_learnt": True, "found": [0, 0], "fooled": [0, 90]},
    ],
    "worst_case": [1, 89],
    "harmless": [
        {"change": "noise", "learnt": True, "flagged": [8, 97], "unchanged": 6},
        {"change": "a zoom", "learnt": False, "flagged": [19, 70], "unchanged": 5},
    ],
    "left_out": ["the maps: too few images; give more"],
    "candidates": CANDIDATES,
}


def known(**other: Any) -> Known:
    words: dict[str, Any] = {"facts": FACTS, "threshold": 1.25, "level": 0.05, "calibration": 175, "above": 3, "shape": (1, 28, 28, 2)}
    return Known(**(words | other))


def shares(body: Any) -> list[dict[str, Any]]:
    """All shares in a card."""
    if isinstance(body, dict):
        return [body] if {"count", "of", "low"} <= set(body) else [s for v in body.values() for s in shares(v)]
    return [s for v in body for s in shares(v)] if isinstance(body, list) else []


def test_the_numbers_are_those_of_the_facts() -> None:
    measured = guard_card(known())["measured"]

    def counts(s: dict[str, Any]) -> list[int]:
        return [s["count"], s["of"]]

    assert counts(measured["classifier"]["accuracy"]) == FACTS["accuracy"]
    wrong = measured["false_positives"]
    assert [counts(wrong[k]) for k in ("all", "right", "wrong")] == [FACTS[k] for k in ("natural", "right", "wrong")]
    assert {k: counts(v) for k, v in wrong["classes"].items()} == FACTS["classes"]
    for made, fact in zip(measured["attacks"], FACTS["attacks"], strict=True):
        assert made | {k: counts(made[k]) for k in ("found", "fooled")} == fact
    assert counts(measured["every_attack_found"]) == FACTS["worst_case"]
    for made, fact in zip(measured["harmless"], FACTS["harmless"], strict=True):
        assert (made["change"], made["learnt"], counts(made["flagged"])) == (fact["change"], fact["learnt"], fact["flagged"])
        assert counts(made["unchanged"]) == [fact["unchanged"], fact["flagged"][1]]
    assert measured["left_out"] == FACTS["left_out"]
    chosen = measured["detector"]["candidates"][0]
    assert {n: counts(s) for n, s in chosen["cells"].items()} == {"PGD, JPEG": [10, 40], "PGD": [30, 30]}
    assert chosen["harmless"] == {"noise": {"extra": 0.01, "low": -0.02, "of": 60}}


def test_every_share_has_its_exact_interval() -> None:
    """Ours, and that of another library."""
    found = shares(guard_card(known()))
    assert len(found) > 20
    for s in found:
        if not s["of"]:
            assert (s["share"], s["low"], s["high"]) == (None, None, None)
            continue
        assert (s["low"], s["high"]) == exact_share(s["count"], s["of"])
        theirs = binomtest(s["count"], s["of"]).proportion_ci(0.95, "exact")
        assert (s["low"], s["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
        assert s["low"] <= s["share"] == s["count"] / s["of"] <= s["high"]


def test_facts_are_left_as_they_are_and_the_card_is_json() -> None:
    before = copy.deepcopy(FACTS)
    card = guard_card(known(), ("cat", "dog"), "salientry check guard PICTURE...")
    assert before == FACTS
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert card["classes"] == ["cat", "dog"]
    assert set(card["measured"]["false_positives"]["classes"]) == {"cat", "dog"}


def test_the_markdown_holds_the_numbers() -> None:
    card = guard_card(known(second=True, resize="crop"), ("cat", "dog"), "salientry check guard PICTURE...")
    text = card_text(card)
    shown = {k: v for k, v in card["measured"].items() if k != "detector"}
    shown["attacks"] = [a["found"] for a in shown["attacks"]] + [a["fooled"] for a in shown["attacks"] if not a["encoding"]]
    for s in shares(shown):
        assert rate(s) in text
    for line in (
        "| PGD | .922 [.846, .968] (83 of 90) |",
        "| patch\\|odd\\* |",
        "| attack | fools | saved without loss | WebP\\* |",
        "| noise | .082 [",
        "| a zoom\\* | .271 [",
        "| class cat | .125 [",
        "| Margin (dropped) | 1 | .900 | .800 | .400 |",
        "finds least of patch|odd: .049 [",
        "finds most of PGD: .735 [",
        "    salientry check guard PICTURE...",
        "It also asks a second network.",
        "(crop)",
        "above 1.25",
        "- the maps: too few images; give more",
        "## What it does not do",
        "Whoever knows the guard",
        *card["limits"],
    ):
        assert line in text, line
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1, table
    assert "finds least" not in card_text(guard_card(known(facts=FACTS | {"attacks": FACTS["attacks"][3:]})))


@pytest.mark.parametrize(
    ("promise", "words"), [("all", "ordinary images are"), ("correct", "ordinary images that the classifier is right on are")]
)
def test_the_promise_in_words(promise: str, words: str) -> None:
    said = guard_card(known(facts=FACTS | {"promise": promise}))["promise"]
    assert said["words"].startswith(f"with 95 % confidence at most 5 % of {words} flagged, if they are like the 175 that")
    assert (said["of"], said["level"], said["confidence"]) == (promise, 0.05, CONFIDENCE)
    assert said["calibration"] == share(3, 175)


def test_what_more_images_would_buy() -> None:
    """By the definition of the threshold: the most images above it for which the binomial leaves no more than 5 % of doubt."""
    text = more_images(175, 0.05)
    for n in (175, 350, 1750):
        k = max(k for k in range(n) if binom.cdf(k, n, 0.05) <= 0.05)
        assert f"{k:,} of {n:,} ({100 * k / n:.3g} %)" in text
    shown = [allowed(n, 0.05) / n for n in (175, 350, 1750)]
    assert shown == sorted(shown)
    least = smallest_sample(0.05)
    assert "0 of 59 (0 %)" in more_images(least, 0.05)
    assert more_images(least - 1, 0.05) == "58 calibration images are too few to promise 5 %, which takes 59."


def test_how_rare_attacks_spoil_flags() -> None:
    """Bayes: of the flags, in expectation, the share that is of attacks when all are found."""
    for level in (0.05, 0.01, 0.001):
        flagged = int(base_rate(level).split("then of ")[1].split(" ")[0].replace(",", ""))
        assert math.isclose(1 / flagged, 1 / (1 + level * 9999), rel_tol=0.05)


def test_why_a_detector_was_chosen() -> None:
    def why(rows: list[Any]) -> str:
        return str(guard_card(known(facts=FACTS | {"candidates": rows}))["measured"]["detector"]["why"])

    assert why([]) == "it was the only one that was tried"
    assert why(CANDIDATES).startswith("of 2 that were tried (1 with too many flags on a harmless change")
    assert why([CANDIDATES[0]]).startswith("of 1 that were tried it finds most")
    assert "does so least" in why([CANDIDATES[0] | {"dropped": True}, CANDIDATES[1]])


@pytest.mark.parametrize("facts", [None, {}, {"attacks": []}])
def test_a_guard_of_which_nothing_was_recorded_says_so(facts: Any) -> None:
    card = guard_card(known(facts=facts))
    assert card["measured"] is None
    text = card_text(card)
    assert "was not recorded" in text
    assert "What it does not do" in text


def test_a_guard_reports_itself(tmp_path: Any) -> None:
    shape = Shape(1, 12, 12, 5)
    spec = examples.detectors()["margin"]
    pairs = ViewPairs.of(spec, examples.natural_evidence(64, seed=0), examples.adversarial_evidence(64, seed=1))
    detector = with_facts(examples.fitted(spec, pairs), fit=FACTS)
    guard = Guard(examples.conv(shape), None, detector, 17.5, 0.05, np.arange(20.0), shape)
    assert guard.report() == str(guard) == guard_summary(FACTS, 17.5, 0.05, 20)
    assert guard.card()["promise"]["calibration"] == share(2, 20)
    assert guard.card()["images"] == {"channels": 1, "height": 12, "width": 12, "resize": None}
    text = guard.report(tmp_path / "new", ("a", "b"), "a command")
    assert (tmp_path / "new" / "card.md").read_text() == text
    assert json.loads((tmp_path / "new" / "card.json").read_text()) == guard.card(("a", "b"), "a command")
    assert torch.equal(guard.calibration, torch.arange(20.0))
