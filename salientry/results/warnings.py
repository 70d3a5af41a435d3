"""What to doubt of a number: warnings that stand beside a detector, a control or a map, each with how many seeds or classes it speaks of.

Columns: kind; code; count ("2/3", or ""); text; and where it belongs: protocol, title, scheme, group, trained_on of a detector, with
``control`` where only that control is meant; scheme and part of a map; title and attack of the white box.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..metrics import auroc
from . import white_box
from .detection import together
from .names import NATURAL, own_trunk
from .place import records, select
from .scores import Scores, Trained
from .trained import FittedSeed

COLLAPSED, OVERFIT, MEMBERSHIP = 0.6, 0.15, (0.45, 0.55)
ALIKE = 1e-3  # recorded heads that died give scores that differ by less than .00002; few that live, by .005 and less
CHANCE = (0.4, 0.6)  # AUROC on the training attack, beyond which scores so near to each other say something all the same
MATCHED = 0.05
UNMATCHED = {"MatchedNoise": "NOISE", "MatchedNoise-kind=gaussian": "GAUSSIAN", "Shuffled": "SHUFFLED"}
GAIN = 0.05  # a class passes the sanity check by itself when both of its gains are as large, with intervals above 0
READABLE = 0.3  # with everything removed, a prediction that survives more often than this says that the fill hides nothing
MEANING = {
    "COLLAPSED": f"on its own training pairs its AUROC is below {COLLAPSED}: it did not train, and a comparison with it says nothing",
    "ONE SCORE": f"its scores of all images lie within {ALIKE}: what it reads is always the same, or its network died in training and "
    "passes nothing on; its accuracy of one half is no finding about the attack",
    "OVERFIT": f"its AUROC on training pairs is more than {OVERFIT} above that on validation pairs",
    "MEMBERSHIP": f"its score tells naturals the classifier was trained on from new ones: AUROC outside {MEMBERSHIP[0]} to {MEMBERSHIP[1]}",
    "TRAINED ON FIT": "it was fitted on images that the classifier was trained on, for want of others: its score may depend on that",
    "SANITY CHECK FAILED": "the map it reads failed its sanity check",
    "OWN MAPS": "so many classes pass the sanity check by themselves; in the others the map of another image that is called the same does "
    "about as well as an image's own",
    "NOISE UNMATCHED": "the control's noise is not within 5 % of the attack's size",
    "GAUSSIAN UNMATCHED": "the Gaussian control is not within 5 % of the attack's size",
    "SHUFFLED UNMATCHED": "the attack's own values at other pixels are, after clipping, not within 5 % of its size",
    "WEAK FILL": "with every pixel removed most predictions survive: this fill hides nothing, so keeping and destroying mean little",
} | white_box.CODES
PLACE = ("protocol", "title", "scheme", "group", "trained_on")
COLUMNS = ("kind", "code", "count", "text", "protocol", "title", "scheme", "group", "trained_on", "control", "part", "attack")


def warnings(s: Scores, numbers: pd.DataFrame) -> pd.DataFrame:
    """One row a warning; ``numbers``: of these records."""
    found = [*_maps(numbers), *_white_box(s, numbers)]
    if s.has_naturals:
        found += [*_detectors(s, numbers), *_alike_scores(s)]
    return pd.DataFrame(found, columns=list(COLUMNS)).astype(object).where(lambda f: f.notna(), None)


def _warning(kind: str, code: str, count: str = "", text: str = "", **place: Any) -> dict[str, Any]:
    return {"kind": kind, "code": code, "count": count, "text": text or MEANING[code], **place}


def _detectors(s: Scores, numbers: pd.DataFrame) -> Iterator[dict[str, Any]]:
    every = select(numbers, kind="detection", source="run", measure=["train-auroc", "select-auroc", "membership"])
    seeds = {(r["protocol"], r["title"], r["trained_on"], r["measure"]): r["seeds"] for r in _rows(every)}
    reused = s.natural("detector_train").get("reused_from") == "train"
    passing = {scheme: passing_classes(numbers, scheme) for scheme in (None, "trunk")}
    for g in (g for t in together(s) if not t.missing for g in t.trained):
        of = {name: getattr(g, name) for name in PLACE}
        train, validation, member = (seeds[g.protocol, g.title, g.trained_on, m] for m in ("train-auroc", "select-auroc", "membership"))
        counts = {
            "COLLAPSED": sum(v < COLLAPSED for v in train),
            "OVERFIT": sum(a - b > OVERFIT for a, b in zip(train, validation, strict=True)),
            "MEMBERSHIP": sum(not MEMBERSHIP[0] <= v <= MEMBERSHIP[1] for v in member),
        }
        yield from (_warning("detection", code, f"{k}/{len(g.seeds)}", **of) for code, k in counts.items() if k)
        if reused:
            yield _warning("detection", "TRAINED ON FIT", **of)
        if g.group == "saliency":
            if any(not c["passed"] and own_trunk(c["saliency"]) == (g.scheme == "trunk") for c in s.body["gates"]):
                yield _warning("detection", "SANITY CHECK FAILED", **of)
            classes = passing["trunk" if g.scheme == "trunk" else None]
            if not all(classes.values()):
                yield _warning("detection", "OWN MAPS", f"{sum(classes.values())}/{len(classes)}", **of)
        yield from (_warning("detection", code, control=c, **of) for c, code in _unmatched(s, g))


def _alike(s: Scores, g: Trained, f: FittedSeed) -> bool:
    """Whether all scores that are kept, naturals' and adversarials', are the same, and tell nothing apart by what differs."""
    kept = [scores for scores, _ in f.scores.values() if scores is not None and len(scores)]
    if not kept or max(float(v.max()) for v in kept) - min(float(v.min()) for v in kept) >= ALIKE:
        return False
    own = s.like(g)
    there = own is not None and own["evaluated"].any() and all(f.scores.get(n, (None,))[0] is not None for n in (NATURAL, own["name"]))
    return not there or own is None or CHANCE[0] <= auroc(f.of(NATURAL), f.of(own["name"])[own["evaluated"]]) <= CHANCE[1]


def _alike_scores(s: Scores) -> Iterator[dict[str, Any]]:
    """Of every detector, those too that stand in no grid: other architectures, the steps of a ladder."""
    for g in s.trained:
        if k := sum(_alike(s, g, f) for f in g.seeds):
            of = {name: getattr(g, name) for name in PLACE}
            yield _warning("detection", "ONE SCORE", f"{k}/{len(g.seeds)}", **of)


def _unmatched(s: Scores, g: Trained) -> Iterator[tuple[str, str]]:
    """Controls that are not as large as the attack."""
    attacked = s.like(g)
    for control, word in UNMATCHED.items():
        x = s.like(g, control=control)
        if x is None or attacked is None or not g.on(x["name"]):
            continue
        if abs(float(x["rms"].mean() / attacked["rms"].mean()) - 1) > MATCHED:
            yield control, f"{word} UNMATCHED"


def passing_classes(numbers: pd.DataFrame, scheme: str | None) -> dict[int, bool]:
    """A class's number to whether it passes the sanity check of the maps by itself; empty where that was not measured."""
    gains = select(numbers, kind="map", source="run", measure=["kept-gain", "destroyed-gain"], scheme=scheme)
    out: dict[int, bool] = {}
    for r in _rows(gains):
        if r["class_number"] is not None:
            out[r["class_number"]] = out.get(r["class_number"], True) and r["value"] >= GAIN and r["lo"] > 0
    return out


def _maps(numbers: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for r in _rows(select(numbers, kind="map", source="run", measure="emptied")):
        if r["class_number"] is None and r["value"] > READABLE:
            yield _warning("map", "WEAK FILL", scheme=r["scheme"], part=r["part"])


def _white_box(s: Scores, numbers: pd.DataFrame) -> Iterator[dict[str, Any]]:
    rows = _rows(select(numbers, kind=["white box", "weak detector"], source="run"))
    for title, attack, code, text in white_box.warned(s, rows):
        yield _warning("white box", code, text=text, title=title or None, attack=attack or None)


def _rows(found: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = records(found)
    return rows
