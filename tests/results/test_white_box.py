"""The white box as rows: recorded numbers to the last digit, plain numpy, and what is not believed is not reported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from salientry.results import paper_attacks, white_box
from salientry.results.attacked import budget, evaded, of_kind
from salientry.results.numbers import numbers
from salientry.results.scores import Scores
from salientry.results.white_box import METHODS

from .oracle import ROOT, differences, printed

FOLDERS = sorted(p.name for p in (ROOT / "whitebox").iterdir())


def rows(s: Scores) -> list[dict[str, Any]]:
    return [*white_box.rows(s), *paper_attacks.rows(s)]


@pytest.fixture(scope="module")
def digits() -> Scores:
    """Read only."""
    return Scores.read(ROOT / "whitebox" / "digits")


@pytest.fixture
def changed() -> Scores:
    """May be changed."""
    return Scores.read(ROOT / "whitebox" / "digits")


def sets(s: Scores, kind: str, detector: str) -> Iterator[dict[str, Any]]:
    return (i for i in of_kind(s, kind) if i["detector"] == detector and i["hardened"] is None)


def success(of: list[dict[str, Any]], title: str, attack: str) -> dict[str, float]:
    return {
        r["budget"]: r["value"]
        for r in of
        if (r["kind"], r["measure"], r.get("title"), r.get("attack")) == ("white box", "success", title, attack)
    }


@pytest.mark.parametrize("name", FOLDERS)
def test_recorded_numbers_come_again(name: str) -> None:
    folder = ROOT / "whitebox" / name
    expected = printed(folder, lambda _: True)
    assert len(expected) == {"assira": 439, "cifar10": 2169, "digits": 1922, "mnist": 2146}[name]
    assert differences(expected, numbers(Scores.read(folder)).to_dict("records"), lambda _: True) == []


def test_rows_say_norm_budget_and_reading_in_columns(digits: Scores) -> None:
    of = rows(digits)
    sizes = {(r["norm"], r["eps"], r["budget"]) for r in of if r["kind"] == "white box" and r["measure"] == "success"}
    assert sizes
    for norm, eps, text in sizes:
        assert text == budget(norm, eps)
        assert text.startswith("L2") == (norm == "l2")
    assert {r["step"] for r in of if r["kind"] == "table 3" and r["part"] == "as printed"} == {1, 2, 5, 10, 20}
    assert {r["title"] for r in of if r["kind"] == "table 3"} == {"SMD", "SPD", "ID", "JSD"}
    assert {r["against"] for r in of if r["kind"] == "hardened"} == {"the paper's attack", "Eq. 5", "the true gradient", "selective"}
    assert [budget("linf", 8 / 255), budget("linf", 0.2), budget("l2", 0.5)] == ["8/255", ".2", "L2 .5"]


def test_the_union_is_the_plain_count(digits: Scores) -> None:
    found = rows(digits)
    alone = {r["budget"]: r["value"] for r in found if r.get("title") == "classifier alone"}
    spd = [i for i in sets(digits, "white box", "SPD") if i["seed"] == 0 and i["level"] != "own" and i["detector_protocol"] == "strict"]
    spd = [i for i in spd if i["method"] in METHODS and i["eps"] != 1.0]
    union = success(found, "SPD", "union")
    assert len(union) > 2
    fewest = min(i["settings"]["steps"] for i in spd if not i["independent_rerun"])
    for at, value in union.items():
        like = next(i for i in spd if budget(i["norm"], i["eps"]) == at)
        won = np.zeros(len(like["id"]), bool)
        for i in spd:
            if i["norm"] == like["norm"] and i["eps"] <= like["eps"] and (not i["independent_rerun"] or i["settings"]["steps"] > fewest):
                won |= i["right"] & i["changed"] & i["in_budget"] & (i["score"] <= i["thresholds"]["0.05"])
        assert value == pytest.approx(won.mean())
        assert value <= alone[at], "the classifier alone is never harder"


def test_evaded_is_the_one_predicate(digits: Scores) -> None:
    i = next(i for i in sets(digits, "white box", "SMD") if i["level"] == "0.05")
    columns = zip(i["right"], i["changed"], i["in_budget"], i["score"], strict=True)
    assert evaded(i, "0.05").tolist() == [bool(a and b and c and d <= i["thresholds"]["0.05"]) for a, b, c, d in columns]


def test_an_attack_that_misses_known_adversarials_is_not_reported(changed: Scores) -> None:
    """All three methods on SPD: nothing of SPD is left but the proofs and the share of naturals flagged."""
    before = success(rows(changed), "SPD", "union")
    for i in sets(changed, "binarization", "SPD"):
        i["found"] = np.zeros_like(i["found"])
    after = rows(changed)
    assert before
    assert not success(after, "SPD", "union")
    mine = [r for r in after if r["kind"] == "white box" and r["title"] == "SPD"]
    assert {r["measure"] for r in mine} == {"naturals flagged", "unbounded", "binarization", "binarization by chance", "doubled"}
    warned = [w for w in white_box.warned(changed, after) if w[0] == "SPD"]
    assert {w[1] for w in warned} == set(METHODS)
    assert all("0.00 of the known adversarials" in w[3] for w in warned)
    assert success(after, "SMD", "union") == success(rows(changed), "SMD", "union"), "another detector keeps its own"


def test_an_attack_that_leaves_an_image_without_a_budget_is_not_reported(changed: Scores) -> None:
    one = next(i for i in sets(changed, "white box", "Margin") if (i["method"], i["eps"], i["seed"]) == ("Selective", 1.0, 0))
    assert success(rows(changed), "Margin", "Selective")
    one["score"] = np.where(np.arange(len(one["score"])) == 3, 1e9, one["score"])
    after = rows(changed)
    assert not success(after, "Margin", "Selective")
    assert success(after, "Margin", "Joint")
    assert ("Margin", "Selective", "ATTACK TOO WEAK", "not every image is beaten without a budget") in list(
        white_box.warned(changed, after)
    )


def test_a_detector_may_be_attacked_on_fewer_images_and_without_the_search_for_the_least(changed: Scores) -> None:
    """As the literature's are: its own rows are of its own images, it has no cost, and nobody else's number moves."""
    before = {(r["measure"], r.get("title"), r.get("attack"), r.get("budget")): r for r in rows(changed)}
    mine = [i for i in [*sets(changed, "white box", "Margin"), *sets(changed, "binarization", "Margin")] if i["method"] in METHODS]
    gone = [k for k, i in changed.white_box.items() if i.get("detector") == "Margin" and i["hardened"] is None and i not in mine]
    for k in gone:
        del changed.white_box[k]
    for i in mine:
        i |= {k: v[:24] for k, v in i.items() if isinstance(v, np.ndarray) and len(v) == len(i["id"])}
    after = {(r["measure"], r.get("title"), r.get("attack"), r.get("budget")): r for r in rows(changed)}
    margin = {k: r for k, r in after.items() if k[1] == "Margin"}
    assert {r["n"] for k, r in margin.items() if k[0] in ("success", "naturals flagged")} == {24}
    assert not {k for k in margin if k[0] in ("cost", "alarm")}
    same = [k for k in before if k[1] not in ("Margin", "classifier alone") and k[0] not in ("cost",)]
    assert same and all(after[k]["value"] == before[k]["value"] or np.isnan(before[k]["value"]) for k in same)
    assert white_box.effort(white_box.targets(changed)).endswith("; linear margin on 24 of the 64 images")


def test_a_weak_detector_is_left_what_no_attack_beats(digits: Scores) -> None:
    weak = [r for r in rows(digits) if r["kind"] == "weak detector"]
    assert len(weak) == 12
    for r in weak:
        beaten = np.sum([i[f"{r['part']}/{r['measure']}"].astype(int) for i in of_kind(digits, "weak detector")], axis=0)
        assert r["value"] == pytest.approx((beaten == 0).mean())


def test_table_3_counts_what_the_columns_say(digits: Scores) -> None:
    i = next(i for i in sets(digits, "passes", "SMD") if i["attack"] == "Alternating-steps=20" and i["seed"] == 0)
    of = {
        r["measure"]: r
        for r in paper_attacks.rows(digits)
        if (r["kind"], r["title"], r.get("part"), r.get("step"), r.get("eps")) == ("table 3", "SMD", "as printed", 5, i["eps"])
    }
    seeds = [j for j in sets(digits, "passes", "SMD") if j["attack"] == i["attack"]]
    flagged = [np.mean(j["score@5"] > 0) for j in seeds]
    assert of["detector"]["value"] == pytest.approx(np.mean(flagged))
    assert sorted(of["detector"]["seeds"]) == pytest.approx(sorted(flagged))
    both = [np.mean(((j["score@5"] <= 0) & (j["predicted@5"] != j["label"]))[i["right"].astype(bool)]) for j in seeds]
    assert of["joint"]["value"] == pytest.approx(np.mean(both))


def test_what_attacks_took(digits: Scores) -> None:
    found = white_box.targets(digits)
    assert white_box.effort(found) == "100 steps, 2 restarts; without a budget 200 steps, 5 restarts"
    reading = {t.place["title"]: t.reading for t in found}
    assert "softplus" in reading["JSD"]
    assert "ramp" in reading["BlackShare"]
    assert reading["SPD"] == ""
