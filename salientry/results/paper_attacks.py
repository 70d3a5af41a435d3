"""The paper's white box: its attacks pass by pass (Table 3), the same with the true gradient, and its adversarial training.

Rows of kind ``table 3``, published, the head's own 0: ``title`` the detector, ``part`` which reading of the attack, ``eps``, ``budget``,
``step`` the number of passes T; measure ``classifier`` (share of images that the classifier still has right), ``detector`` (share of
attacked images flagged), ``natural`` (share of naturals that are not), ``balanced`` (the mean of the two), ``joint`` (share of the images
that the classifier had right which end wrong and unflagged), ``linf`` (median Linf of the perturbation). Rows of kind ``hardened``:
``against`` what, and either ``round`` with the same measures, or ``when`` (``before``, ``after`` all rounds) with the success of an attack
run once more (``attack`` the method, or ``any`` of them) and ``cost``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..metrics import Interval, difference, rate
from .attacked import cost, draws, evaded, of_kind, same_images, size, unlimited
from .names import detector_title
from .place import Row, row
from .scores import Scores
from .trained import Array, Images
from .white_box import METHODS, PASS, VALID

PASSES = 5  # the paper's T
UNIT = 1e-9
PRINTED, TRUE, AT_ONCE = "as printed", "true gradient", "Eq. 5"  # readings of the paper's attack
THEIRS = "the paper's attack"  # what adversarial training is against


def variant(i: Images) -> str:
    """Which reading of the paper's attacks this is, in words."""
    s, true = i["settings"], i["settings"]["gradient"] == "image"
    if i["method"] == "SingleStep":
        return "Eq. 3: one step on the classifier" if s["on"] == "classifier" else "Eq. 4: one step on the detector"
    name = AT_ONCE if i["method"] == "Simultaneous" else ""
    if true:
        full = s["step_size"] is not None and abs(s["step_size"] - s["eps"]) < UNIT
        return (f"{name}, {TRUE}" if name else TRUE) + (", step eps" if full else "")
    if name or not s["project"]:
        return name or PRINTED
    return f"{PRINTED}, projected" + ("" if s["step_size"] is None else ", step eps/4")


def rows(s: Scores) -> list[Row]:
    """All of it; none where the records hold none of the paper's white-box attacks."""
    sets = of_kind(s, "passes")
    return [*_passes([i for i in sets if i["hardened"] is None]), *_hardened(s, sets)] if sets else []


def _passes(sets: list[Images]) -> Iterator[Row]:
    """In the order of the readings, the largest budget first."""
    order = {v: k for k, v in enumerate(dict.fromkeys(variant(i) for i in sets))}
    same = dict.fromkeys((i["detector"], i["attack"]) for i in sets)
    seeds = [by_seed(i for i in sets if (i["detector"], i["attack"]) == k) for k in same]
    for those in sorted(seeds, key=lambda them: (order[variant(them[0])], -float(them[0]["eps"]))):
        i = those[0]
        marks = sorted(int(c.split("@")[1]) for c in i if c.startswith("score@"))
        for t in marks if len(marks) > 1 else [1] if 1 in marks else []:
            yield from _after(those, t, "table 3", part=variant(i), step=t)


def by_seed(sets: Any) -> list[Images]:
    """In the order of their seeds."""
    return sorted(sets, key=lambda i: i["seed"])


def _after(seeds: list[Images], t: int, kind: str, **place: Any) -> Iterator[Row]:
    """The measures after T passes, over the seeds."""
    i, keys = seeds[0], [j["key"] for j in seeds]
    where = place | size(i) | {"detector": i["detector"], "title": detector_title(i["detector"], "paired"), "protocol": "published"}
    flagged, clean = [j[f"score@{t}"] > 0 for j in seeds], [j["natural_score"] <= 0 for j in seeds]
    still, right = [j[f"predicted@{t}"] == j["label"] for j in seeds], i["right"].astype(bool)
    values: dict[str, Sequence[Array]] = {
        "classifier": still,
        "detector": flagged,
        "natural": clean,
        "balanced": [(a.astype(float) + b) / 2 for a, b in zip(flagged, clean, strict=True)],
        "joint": [(~k & ~f)[right] for k, f in zip(still, flagged, strict=True)],
    }
    for measure, each in values.items():
        yield row(kind, measure, rate(draws(i), i["id"][right] if measure == "joint" else i["id"], each), keys, **where)
    median = float(np.median([np.median(j[f"linf@{t}"]) for j in seeds]))
    yield row(kind, "linf", median, keys, len(i["id"]), **where)


# --- adversarial training -------------------------------------------------------------------------------------------


def trainings(s: Scores) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(detector, against what) to the records of its hardened detectors: round, seed, fingerprint of the weights."""
    hardened = (s.beside or s).body.get("hardened", [])
    modes = dict.fromkeys((h["detector"], h["hardened"]) for h in hardened)
    return {m: [h for h in hardened if (h["detector"], h["hardened"]) == m] for m in modes}


def _hardened(s: Scores, sets: list[Images]) -> Iterator[Row]:
    for (detector, against), hardened in trainings(s).items():
        place = {"detector": detector, "title": detector_title(detector, "paired"), "against": against}
        last, seeds = max(h["round"] for h in hardened), sorted({h["seed"] for h in hardened})
        yield from _rounds([i for i in sets if i["detector"] == detector], against, last, seeds)
        attacked = [i for i in of_kind(s, "white box") if i["detector"] == detector and i["independent_rerun"]]
        after = [i for i in attacked if i["hardened"] == against and i["round"] == last]
        before = [i for i in attacked if i["hardened"] is None and i["detector_protocol"] == hardened[0]["protocol"]]
        known = {str(i["attack"]) for i in after}
        before = [i for i in before if str(i["attack"]) in known and i["scheme"] == "paired"]
        for when, some in (("before", before), ("after", after)):
            yield from (r | place for r in _reruns(s, some, seeds, **place, when=when))


def _rounds(sets: list[Images], against: str, last: int, seeds: list[int]) -> Iterator[Row]:
    """Each round attacked by the attack that it is trained on; round 0 is before."""
    mine = [i for i in sets if i["hardened"] == against]
    before = [i for i in sets if i["hardened"] is None and mine and i["attack"] == mine[0]["attack"] and i["seed"] in seeds]
    for k in range(last + 1):
        if some := by_seed(i for i in (mine if k else before) if not k or i["round"] == k):
            yield from _after(some, PASSES, "hardened", against=against, round=k) if mine else ()


def _reruns(s: Scores, sets: list[Images], seeds: list[int], **place: Any) -> Iterator[Row]:
    """Attacks with another loss, more steps and other random numbers, at the strict threshold; of the seeds that all methods attacked."""
    by = {m: found for m in METHODS if (found := by_seed(i for i in sets if i["method"] == m and i["seed"] in seeds))}
    every = [k for k in seeds if all(k in [i["seed"] for i in found] for found in by.values())]
    by = {m: [i for i in found if i["seed"] in every] for m, found in by.items()} if every else {}
    won = {m: [evaded(i, str(i["level"])) for i in found] for m, found in by.items()}
    where = {"protocol": "strict"} | place
    for m, found in by.items():
        yield row("hardened", "success", rate(draws(found[0]), found[0]["id"], won[m]), [i["key"] for i in found], attack=m, **where)
    if by:
        i, keys = next(iter(by.values()))[0], [j["key"] for found in by.values() for j in found]
        union = [np.any(runs, 0) for runs in zip(*won.values(), strict=True)]
        yield row("hardened", "success", rate(draws(i), i["id"], union), keys, attack="any", **where)
    if mine := [i for i in sets if i["seed"] == min(seeds)]:
        price = cost(mine, same_images(s, mine[0]), str(mine[0]["level"]), "hardened", **where)
        yield from [] if price is None else [price]


def disbelieved(s: Scores, detector: str, against: str) -> list[str]:
    """Of a hardened detector: which attacks fail without a budget or on the binarization test; empty where all that were put to it pass."""
    wrong = []
    mine = [i for kind in ("white box", "binarization") for i in of_kind(s, kind) if (i["detector"], i["hardened"]) == (detector, against)]
    for m in METHODS:
        sets = [i for i in mine if i["method"] == m]
        if any(not evaded(i, str(i["level"])).all() for i in sets if i["kind"] == "white box" and unlimited(i)):
            wrong.append(f"{m}: not every image is beaten without a budget")
        for i in (i for i in sets if i["kind"] == "binarization"):
            ok = i["valid"].astype(bool)
            if ok.mean() < VALID or i["found"][ok].mean() < PASS:
                wrong.append(f"{m}: the binarization test is not passed")
    return wrong


# --- two attacks compared -------------------------------------------------------------------------------------------


def of_reading(s: Scores, detector: str, reading: str) -> list[Images]:
    """One reading of the paper's attacks on a detector that is not hardened, after all passes; of several budgets the largest."""
    sets = [i for i in of_kind(s, "passes") if i["hardened"] is None and i["detector"] == detector and variant(i) == reading]
    sets = [i for i in sets if f"score@{4 * PASSES}" in i]
    most = max((float(i["eps"]) for i in sets), default=0.0)
    return [i for i in sets if float(i["eps"]) == most]


def change(first: list[Images], second: list[Images], measure: str, passes: tuple[int, int]) -> tuple[Interval, list[str]] | None:
    """A paired difference over the seeds, first minus second, and its keys. ``measure``: ``detector`` or ``joint``."""
    pairs = [(a, b) for a in first for b in second if a["seed"] == b["seed"]]
    if not pairs:
        return None
    i = pairs[0][0]
    right = i["right"].astype(bool) if measure == "joint" else np.ones(len(i["id"]), bool)
    runs = [(_value(a, measure, passes[0])[right], _value(b, measure, passes[1])[right]) for a, b in pairs]
    return difference(draws(i), i["id"][right], runs), sorted({j["key"] for p in pairs for j in p})


def _value(i: Images, measure: str, t: int) -> Array:
    flagged: Array = i[f"score@{t}"] > 0
    return flagged if measure == "detector" else ~flagged & (i[f"predicted@{t}"] != i["label"])
