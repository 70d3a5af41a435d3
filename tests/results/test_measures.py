"""Measures that the recorded reports do not hold, counted image by image from the recorded scores."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from salientry.results import part_adds, worst_case
from salientry.results.scores import Scores, Trained

from .oracle import ROOT

RUN = ROOT / "fast" / "assira-seed1"
NATURAL = "any/test/natural"


@functools.cache
def scores() -> Scores:
    return Scores.read(RUN)


@functools.cache
def found() -> dict[str, dict[str, Any]]:
    every = [*worst_case.rows(scores()), *part_adds.rows(scores())]
    assert len({r["id"] for r in every}) == len(every) > 200
    return {r["id"]: r for r in every}


def of(**where: Any) -> dict[str, Any]:
    (one,) = (r for r in found().values() if all(r.get(k) == v for k, v in where.items()))
    return one


def detector(title: str, trained_on: str) -> Trained:
    (one,) = (g for g in scores().trained if (g.protocol, g.title, g.trained_on) == ("strict", title, trained_on))
    return one


def flagged(g: Trained, k: int, name: str, i: int) -> bool:
    return bool(g.seeds[k].scores[name][0][i] > g.seeds[k].thresholds["0.05"])


@pytest.mark.parametrize("title", ["SPD", "ID+", "fusion"])
def test_an_image_is_detected_if_every_attack_on_it_is(title: str) -> None:
    s = scores()
    attacks = s.attacked("strict")
    assert len(attacks) >= 2
    trained_on = next(g.trained_on for g in s.trained if g.title == title and g.protocol == "strict" and len(g.of) > 1)
    g = detector(title, trained_on)
    values, images = [], 0
    for k in range(len(g.seeds)):
        detected = []
        for i in range(attacks[0]["n"]):
            fooling = [x["name"] for x in attacks if x["right"][i] and x["changed"][i] and x["in_budget"][i]]
            if fooling:
                detected.append(all(flagged(g, k, name, i) for name in fooling))
        values.append(float(np.mean(detected)))
        images = len(detected)
    row = of(kind="worst case", title=title, trained_on=trained_on, part="all")
    assert row["tested_on"] == f"all {len(attacks)} attacks"
    assert row["seeds"] == pytest.approx(values) and row["n"] == images and row["lo"] <= row["value"] <= row["hi"]
    single = [of(kind="undetected", title=title, trained_on=trained_on, tested_on=x["attack"])["value"] for x in attacks]
    assert 1 - row["value"] >= max(single) - 0.02, "the worst case is no better than the worst attack"


def test_an_attack_of_a_method_that_was_trained_on_is_not_unseen() -> None:
    s = scores()
    method = {a["label"]: a["attack"] for a in s.body["attacks"]}
    unseen = {r["trained_on"] for r in found().values() if r["kind"] == "worst case" and r["part"] == "unseen"}
    for trained_on in {g.trained_on for g in s.trained if g.protocol == "strict"}:
        g = next(g for g in s.trained if g.protocol == "strict" and g.trained_on == trained_on)
        others = [x for x in s.attacked("strict") if method[x["attack"]] not in {method[a] for a in g.of}]
        assert (trained_on in unseen) == (len(others) >= 2)


def test_shares_are_of_all_images_that_the_classifier_had_right() -> None:
    g = detector("SPD", scores().labels[0])
    for x in scores().attacked("strict"):
        right = [i for i in range(x["n"]) if x["right"][i]]
        fools = of(kind="undetected", measure="fools", tested_on=x["attack"])
        assert fools["value"] == pytest.approx(np.mean([x["changed"][i] and x["in_budget"][i] for i in right])) and fools["n"] == len(right)
        missed = [[x["evaluated"][i] and not flagged(g, k, x["name"], i) for i in right] for k in range(len(g.seeds))]
        row = of(kind="undetected", title="SPD", trained_on=g.trained_on, tested_on=x["attack"])
        assert row["seeds"] == pytest.approx([np.mean(m) for m in missed]) and row["measure"] == "undetected@0.05"


def test_false_positives_of_wrong_images_and_of_each_class() -> None:
    natural = scores().natural("test")
    g = next(g for g in scores().trained if g.title == "ID+" and g.protocol == "strict" and len(g.of) > 1)
    flags = [[flagged(g, k, NATURAL, i) for i in range(natural["n"])] for k in range(len(g.seeds))]
    wrong = ~natural["right"]
    row = of(kind="false positives", title="ID+", trained_on=g.trained_on, measure="fpr-wrong@0.05")
    assert row["seeds"] == pytest.approx([np.mean(np.array(f)[wrong]) for f in flags]) and row["n"] == wrong.sum()
    classes = [r for r in found().values() if r["kind"] == "false positives" and r.get("part") and r["title"] == "ID+"]
    assert [r["part"] for r in classes] == scores().class_names and sum(r["n"] for r in classes) == natural["n"]
    mean = sum(r["n"] * r["value"] for r in classes) / natural["n"]
    assert mean == pytest.approx(np.mean(flags))


@pytest.mark.parametrize(("part", "against"), [("the map", "the others"), ("the map", "the logits")])
def test_what_a_part_adds(part: str, against: str) -> None:
    s = scores()
    pair = ("all", "without the map") if against == "the others" else ("logits with the map", "logits alone")
    trained_on = next(g.trained_on for g in s.trained if g.scheme == pair[1] and len(g.of) == 1)
    more, fewer = (s.one("strict", "Fused", trained_on, scheme) for scheme in pair)
    assert more is not None and fewer is not None
    x = s.images[f"strict/test/{trained_on}"]
    labels = np.r_[np.zeros(s.natural("test")["n"]), np.ones(int(x["evaluated"].sum()))]
    weights = np.where(labels == 1, 1 / labels.sum(), 1 / (1 - labels).sum())

    def sides(g: Trained, k: int) -> np.ndarray:
        return np.r_[g.seeds[k].scores[NATURAL][0], g.seeds[k].scores[x["name"]][0][x["evaluated"]]].astype(float)

    losses, areas, rates = [], [], []
    for k in range(len(more.seeds)):
        a, b = sides(more, k), sides(fewer, k)
        losses.append(np.subtract(*(log_loss(labels, 1 / (1 + np.exp(-v)), sample_weight=weights) for v in (a, b))))
        areas.append(roc_auc_score(labels, a) - roc_auc_score(labels, b))
        rates.append(np.mean([[flagged(g, k, x["name"], i) for i in np.flatnonzero(x["evaluated"])] for g in (more, fewer)], 1) @ [1, -1])
    place = {"kind": "part adds", "part": part, "against": against, "trained_on": trained_on, "tested_on": trained_on}
    for measure, truth, tolerance in (("log loss", losses, 1e-6), ("auroc", areas, 1e-9), ("tpr@0.05", rates, 1e-9)):
        row = of(measure=measure, **place)
        assert row["seeds"] == pytest.approx(truth, abs=tolerance)
        assert row["lo"] <= row["value"] <= row["hi"] and not math.isnan(row["lo"])
