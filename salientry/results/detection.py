"""How well each detector detects: both protocols, with baselines and controls beside every number.

Kind ``detection``. Measures: ``auroc``, ``accuracy`` (at the head's own 0), ``tpr@LEVEL``, ``gap-to-floor@LEVEL`` (detection rate
minus that of the best baseline), ``fpr@LEVEL``, ``fpr-right@LEVEL``, of each control ``.../changed``, ``.../excess-flags-on-unchanged`` and
``.../flags-on-changed``, ``null-difference``, ``round-trip``, ``float-minus-8-bit``, ``train-auroc``, ``select-auroc``, ``membership``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import Interval, auroc, auroc_interval, balanced_accuracy, difference, rate
from .names import NATURAL
from .place import Row, row
from .scores import Images, Scores, Trained

FEWEST = 50  # positives under which nothing is said
FEWEST_UNCHANGED = 100  # images under which a control says nothing of those that it left alone
CONTROLS = {"MatchedNoise": "noise"} | {k: k for k in ("MatchedNoise-kind=gaussian", "Shuffled", "Transplant")}
NAN = float("nan")


@dataclass(frozen=True)
class Together:
    """The detectors of one protocol trained on one attack.

    Attributes:
        trained: the detectors.
        missing: mandatory controls that the records lack; then no number is given.
        levels: false-positive rates of the thresholds, the largest first; ``own`` is the head's own 0.
        baseline: the one with the best AUROC on validation pairs of the same attack: what a gap is taken to.
    """

    protocol: str
    trained_on: str
    trained: list[Trained]
    missing: list[str]
    levels: list[str]
    baseline: Trained | None


def together(s: Scores) -> list[Together]:
    """All of a run, strict first."""
    out = []
    for protocol in ("strict", "published"):
        for attack in dict.fromkeys(g.trained_on for g in s.of(protocol)):
            trained = [g for g in s.of(protocol) if g.trained_on == attack]
            known = {level for g in trained for r in g.seeds for level in r.thresholds if level != "own"}
            levels = sorted(known, key=float, reverse=True) or ["own"]
            baselines = [g for g in trained if g.group == "baseline"]
            best = max(baselines, key=lambda g: _validation(s, g)) if baselines else None
            out.append(Together(protocol, attack, trained, missing_controls(s, trained), levels, best))
    return out


def missing_controls(s: Scores, trained: list[Trained]) -> list[str]:
    """The mandatory controls that the records lack for detectors of one training attack under one protocol: null, margin2 on the
    same attack, noise as large as the attack. Without them no number of these detectors is given.
    """
    protocol, attack = trained[0].protocol, trained[0].trained_on
    noise = s.like(trained[0], control="MatchedNoise")
    out = [] if nulls(s, trained) else ["null"]
    out += [] if s.one(protocol, "Margin2", attack) else [f"margin2 trained on {attack}"]
    return out + ([] if noise and all(g.on(noise["name"]) for g in trained) else [f"noise matched to {attack}"])


def nulls(s: Scores, trained: list[Trained]) -> list[Images]:
    """The unchanged images, as a control, that all of these detectors scored: one set, or, of several runs together, that of theirs."""
    return [x for x in s.controls(trained[0].protocol, "Null") if all(g.on(x["name"]) for g in trained)][:1]


def pair_aurocs(s: Scores, g: Trained, role: str) -> tuple[list[float], int]:
    """AUROC of each seed on the pairs of a role that it was trained on or chosen by, and how many pairs count."""
    pairs = s.like(g, role)
    count = 0 if pairs is None else int(pairs["evaluated"].sum())
    if pairs is None or not g.on(pairs["name"]):
        return [NAN for _ in g.seeds], count
    c = pairs["evaluated"]
    both = zip(g.scores(f"any/{role}/natural"), g.scores(pairs["name"]), strict=True)
    return [auroc(n[: len(c)][c], a[c]) for n, a in both], count


def _validation(s: Scores, g: Trained) -> float:
    """What baselines are chosen by, never on test images."""
    place = g.protocol, g.title, g.trained_on
    found = float(np.mean(pair_aurocs(s, g, "validation")[0])) if g.kept else s.validation.get(place, NAN)
    return found if np.isfinite(found) else -1.0


def rows(s: Scores) -> list[Row]:
    """All numbers of the detectors that have their controls."""
    numbers: list[Row] = []
    for t in together(s):
        for g in [] if t.missing else t.trained:
            _false_positives(numbers, s, g, t.levels)
            attacked = [x for x in s.attacked(g.protocol) if len(g.on(x["name"])) == len(g.seeds)]
            own = s.like(g)
            for x in attacked + ([own] if own is not None and own["mixture"] and g.on(own["name"]) else []):
                detected(numbers, s, g, x, t)
            for kind in CONTROLS:
                control(numbers, s, g, kind, t.levels[0])
            _others(numbers, s, g, t.levels[0])
            _training(numbers, s, g)
    return numbers


def _false_positives(numbers: list[Row], s: Scores, g: Trained, levels: list[str]) -> None:
    natural = s.natural("test")
    right = natural["right"]
    for level in levels:
        numbers.append(row("detection", f"fpr@{level}", rate(s.draws, natural["id"], g.flags(NATURAL, level)), g.keys, **where(g)))
    found = rate(s.draws, natural["id"][right], [f[right] for f in g.flags(NATURAL, levels[0])])
    numbers.append(row("detection", f"fpr-right@{levels[0]}", found, g.keys, **where(g)))


def where(g: Trained) -> Row:
    """The columns that say which detector."""
    return {k: getattr(g, k) for k in ("protocol", "detector", "title", "group", "scheme", "trained_on")}


def detected(numbers: list[Row], s: Scores, g: Trained, x: Images, t: Together) -> None:
    """A detector on one attack."""
    c, natural = x["evaluated"], s.natural("test")["id"]
    ids = x["id"][c]
    if len(ids) < FEWEST:
        return

    def add(measure: str, found: Interval) -> None:
        numbers.append(row("detection", measure, found, [*g.keys, x["key"]], **where(g), tested_on=x["attack"]))

    add("auroc", auroc_interval(s.draws, natural, ids, _sides(g.scores(NATURAL), g.scores(x["name"]), c)))
    if t.levels == ["own"]:
        add("accuracy", balanced_accuracy(s.draws, natural, ids, _sides(g.flags(NATURAL, "own"), g.flags(x["name"], "own"), c)))
        return
    flags = {level: [f[c] for f in g.flags(x["name"], level)] for level in t.levels}
    for level in t.levels:
        add(f"tpr@{level}", rate(s.draws, ids, flags[level]))
    if t.baseline is not None and g.group != "baseline":
        theirs = [f[c] for f in t.baseline.flags(x["name"], t.levels[0])]
        add(f"gap-to-floor@{t.levels[0]}", difference(s.draws, ids, [(np.mean(flags[t.levels[0]], 0), np.mean(theirs, 0))]))


def rate_gap(s: Scores, first: Trained, second: Trained, x: Images) -> Interval:
    """Detection rate of one detector minus that of the other, paired by image; seed by seed where both have as many."""
    c = x["evaluated"]
    flags = [[f[c] for f in g.flags(x["name"], g.level)] for g in (first, second)]
    if len(flags[0]) != len(flags[1]):
        flags = [[np.mean(f, 0)] for f in flags]
    return difference(s.draws, x["id"][c], list(zip(*flags, strict=True)))


def _sides(natural: list[np.ndarray], attacked: list[np.ndarray], c: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(n, a[c]) for n, a in zip(natural, attacked, strict=True)]


def control(numbers: list[Row], s: Scores, g: Trained, kind: str, level: str, of: str = "detection", **place: Any) -> None:
    """A detector on a control as large as its training adversarials; ``of``: kind of the numbers; ``place``: what else says where."""
    x = s.like(g, control=kind)
    if x is None or s.like(g) is None or not g.on(x["name"]):
        return
    same, ids = ~x["changed"], x["id"]
    flagged, before = g.flags(x["name"], level, NATURAL), g.flags(NATURAL, level, x["name"])

    def add(measure: str, found: Interval) -> None:
        numbers.append(row(of, f"{CONTROLS[kind]}/{measure}", found, [*g.keys, x["key"]], **where(g), **place))

    if same.sum() >= FEWEST_UNCHANGED:
        runs = [(a[same], b[same]) for a, b in zip(flagged, before, strict=True)]
        add("excess-flags-on-unchanged", difference(s.draws, ids[same], runs))
    if (~same).sum() >= FEWEST:
        add("flags-on-changed", rate(s.draws, ids[~same], [f[~same] for f in flagged]))
    add("changed", rate(s.draws, ids, [~same]))


def _others(numbers: list[Row], s: Scores, g: Trained, level: str) -> None:
    """The null, which changes nothing; naturals that only went through C&W's tanh, in float; and what rounding to 8 bits takes."""
    ids = s.natural("test")["id"]
    for x in nulls(s, [g]):
        pairs = zip(g.scores(NATURAL, x["name"]), g.scores(x["name"], NATURAL), strict=True)
        if gaps := [float(np.abs(a - b).max()) for a, b in pairs]:
            numbers.append(row("detection", "null-difference", Interval(max(gaps), NAN, NAN, len(ids), tuple(gaps)), g.keys, **where(g)))
    for x in s.controls("published", "RoundTrip")[:1]:
        flags = list(zip(g.flags(x["name"], level, NATURAL), g.flags(NATURAL, level, x["name"]), strict=True))
        if flags:
            numbers.append(row("detection", "round-trip", difference(s.draws, ids, flags), g.keys, **where(g)))
    own, floats = s.like(g), s.like(g, protocol="published")
    if g.protocol != "strict" or own is None or floats is None or not g.on(floats["name"]):
        return
    c = own["evaluated"] & floats["changed"]
    if c.sum() >= FEWEST:
        names = floats["name"], own["name"]
        runs = [(a[c], b[c]) for a, b in zip(g.flags(names[0], level, names[1]), g.flags(names[1], level, names[0]), strict=True)]
        numbers.append(row("detection", "float-minus-8-bit", difference(s.draws, own["id"][c], runs), g.keys, **where(g)))


def _training(numbers: list[Row], s: Scores, g: Trained) -> None:
    """AUROC on training and validation pairs, and whether the score tells the classifier's training images from new ones."""
    member = [auroc(a, b) for a, b in zip(g.scores("any/train/natural"), g.scores("any/calibration/natural"), strict=True)]
    each = {
        "train-auroc": pair_aurocs(s, g, "detector_train"),
        "select-auroc": pair_aurocs(s, g, "validation"),
        "membership": (member, len(s.natural("calibration")["id"])),
    }
    for measure, (runs, n) in each.items():
        numbers.append(row("detection", measure, Interval(float(np.mean(runs)), NAN, NAN, n, tuple(runs)), g.keys, **where(g)))
