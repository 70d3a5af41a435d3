"""Where a detector stands beside others, what is best within a limit, and the picture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salientry.cli.judging import names_of
from salientry.judging import judge_scores
from salientry.judging.page import coded, page
from salientry.judging.picture import FLAGS, front, labelled, plots
from salientry.judging.standing import images_on_leaderboard, on_leaderboard, shortened, standing
from salientry.judging.table import ScoreTable
from salientry.judging.words import best, sections

from .test_verdict import made

FACTS: dict[str, Any] = {"classifier": "a net", "images": {"calibration": 400, "test": 200}, "attacks": {"weak": "W"}, "own": ["mine"]}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Any]:
    """Three detectors, the first in the middle; with costs."""
    strengths = {"mine": 2.0, "strong": 4.0, "(poor": 0.5}
    first, *others = (made(strength=s, detector=n) for n, s in strengths.items())
    found = judge_scores(ScoreTable.of(first.joined(*others).columns), [0.05]).verdicts
    for v, ms in zip(found.values(), (2.0, 9.0, 3.0), strict=True):
        cost = {"with_detector": ms, "classifier": 1.0, "times": ms, "of": 1}
        v["cost"], v["adaptive"] = {"1": cost, "64": cost}, None
    return found


def test_a_sentence_says_the_place(verdicts: dict[str, Any]) -> None:
    (said,) = standing("mine", verdicts, FACTS)
    assert said.startswith("of 3 side by side: place 2 by mean detection rate at 5 % (first: strong, ")
    assert standing("strong", verdicts, FACTS)[0].startswith("of 3 side by side: place 1 by mean detection rate at 5 %, place 1 by images")
    assert standing("mine", {"mine": verdicts["mine"]}, FACTS) == []
    assert standing("mine", verdicts, FACTS | {"beside": "ten more with --baselines published"})[-1].startswith("ten more")


def test_the_leaderboard_is_used_where_images_and_attacks_are_the_same(verdicts: dict[str, Any], tmp_path: Path) -> None:
    body = FACTS | {"command": "python -m benchmarks.leaderboard digits --images 600 --adaptive 8"}
    body |= {"detectors": {"logit margin": verdicts["strong"], "LID": verdicts["(poor"]}}
    file = tmp_path / "leaderboard.json"
    file.write_text(json.dumps(shortened({"digits": body})))
    here = {"mine": verdicts["mine"]}
    (said,) = standing("mine", here, FACTS | {"leaderboard": on_leaderboard("digits", FACTS, file)})
    assert "on the leaderboard of digits" in said and "of 3: place 2 by mean detection rate" in said and "first: linear margin" in said
    other = FACTS | {"images": {"calibration": 900, "test": 750}}
    (said,) = standing("mine", here, other | {"leaderboard": on_leaderboard("digits", other, file)})
    assert said == "the leaderboard of digits is of 400 calibration and 200 test images: --images 600 compares with it"
    (said,) = standing("mine", here, {"leaderboard": on_leaderboard("digits", FACTS | {"classifier": "another"}, file)})
    assert "another training of the classifier" in said
    assert on_leaderboard("mnist", FACTS, file) == on_leaderboard("digits", FACTS, tmp_path / "none") == {}
    assert (images_on_leaderboard("digits", file), images_on_leaderboard("mnist", file)) == (600, None)


def test_the_best_within_a_number_of_milliseconds(verdicts: dict[str, Any]) -> None:
    rate = f"{verdicts['strong']['summary']['0.05']['attacks']['mean']:.3f}".replace("0.", ".", 1)
    assert best(verdicts, latency=20.0).endswith(f": strong, mean detection rate {rate}")
    assert ": mine, mean" in best(verdicts, latency=5.0) and "at most 5 ms an image" in best(verdicts, latency=5.0)
    assert ": mine, mean" in best(verdicts, cost=2.5) and "no detector of 3" in best(verdicts, cost=2.5, latency=1.0)
    html = page(verdicts, FACTS | {"best": best(verdicts, latency=5.0)})
    assert best(verdicts, latency=5.0) in html
    heads = sections(verdicts, FACTS)[0].heads
    assert [r[heads.index("ms")] for r in sections(verdicts, FACTS)[0].rows] == ["9", "2", "3"]


def test_the_front_has_those_that_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    marks = [{"cost": float(c), "mean": float(m)} for c, m in rng.integers(0, 6, (40, 2))]
    beaten = [
        any((o["cost"] <= m["cost"] and o["mean"] > m["mean"]) or (o["cost"] < m["cost"] and o["mean"] >= m["mean"]) for o in marks)
        for m in marks
    ]
    kept = {(m["cost"], m["mean"]) for m, is_beaten in zip(marks, beaten, strict=True) if not is_beaten}
    assert [(m["cost"], m["mean"]) for m in front(marks, "cost")] == sorted(kept)


def test_colour_says_what_harmless_changes_do_and_shape_whose_it_is(verdicts: dict[str, Any]) -> None:
    for flags, (_, colour, _) in zip((0.01, 0.1, 0.6), FLAGS, strict=True):
        verdicts["mine"]["harmless"][0]["extra"]["share"] = flags
        for p in plots(verdicts, ["mine"]):
            shapes = {m["name"]: (m["colour"], "<circle" in m["shape"]) for m in p["marks"]}
            assert shapes["mine"] == (colour, True) and not shapes["strong"][1]
            assert p["front"].startswith("M")


@pytest.mark.parametrize("draw", range(3))
def test_no_label_lies_on_another_or_on_a_mark(draw: int) -> None:
    """Sixteen detectors, most of them in one corner, as published ones are."""
    rng = np.random.default_rng(draw)
    points = [(float(60 + 60 * a), float(200 + 40 * b)) for a, b in rng.random((10, 2))] + [
        (float(60 + 300 * a), float(20 + 200 * b)) for a, b in rng.random((6, 2))
    ]
    boxes = [label["box"] for label in labelled(points, [str(i + 1) for i in range(16)])]
    apart = lambda a, b: a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert all(apart(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(apart(a, (x - 5, y - 5, x + 5, y + 5)) for a in boxes for x, y in points)


def test_backticks_of_words_are_code_on_the_page() -> None:
    assert coded("see `salientry audit <x>` & more") == "see <code>salientry audit &lt;x&gt;</code> &amp; more"
    assert coded("one ` alone <b>") == "one ` alone &lt;b&gt;"


def test_a_detector_has_a_name_of_its_own() -> None:
    assert names_of(["a.x:build", "b.x:other", "guards/mine"]) == {"build": "a.x:build", "other": "b.x:other", "mine": "guards/mine"}
    assert names_of(["a.x:build", "b.x:build"]) == {"a.x:build": "a.x:build", "b.x:build": "b.x:build"}
    assert names_of(["a/guard", "b/guard"]) == {"a/guard": "a/guard", "b/guard": "b/guard"}
    assert names_of(["a.x:energy"]) == {"a.x:energy": "a.x:energy"}, "a baseline is called so"
