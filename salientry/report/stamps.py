"""Warnings that stand beside a detector in every table, each with its share over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import Interval, auroc
from .maps import called, passes, within_class
from .numbers import Ledger
from .records import Group, Records, own_trunk

COLLAPSED, OVERFIT, MEMBERSHIP = 0.6, 0.15, (0.45, 0.55)
MEANING = {
    "COLLAPSED": f"on its own training pairs its AUROC is below {COLLAPSED}: it did not train, and a comparison with it says nothing",
    "OVERFIT": f"its AUROC on training pairs is more than {OVERFIT} above that on select pairs",
    "MEMBERSHIP": f"its score tells naturals the classifier was trained on from new ones: AUROC outside {MEMBERSHIP[0]} to {MEMBERSHIP[1]}",
    "TRAINED ON FIT": "its head learnt on images that the classifier was trained on, for want of others: its score may go by that",
    "GATE FAILED": "the map it reads failed its sanity gate",
    "OWN MAPS": "so many classes pass the gate by themselves; in the others the map of another image that is called the same does about as "
    "well as an image's own",
    "NOISE UNMATCHED": "the control's noise is not within 5 % of the attack's size",
    "GAUSSIAN UNMATCHED": "the Gaussian control is not within 5 % of the attack's size",
    "SHUFFLED UNMATCHED": "the attack's own values at other pixels are, after clipping, not within 5 % of its size",
    "WEAK FILL": "with every pixel removed most predictions survive: this fill hides nothing, so keeping and destroying mean little",
}


@dataclass(frozen=True)
class Health:
    """How a detector trained; the first three are ids of numbers."""

    train: str
    select: str
    membership: str
    stamps: list[str]


def lent(records: Records) -> list[str]:
    """What stands beside every head where none has images of its own."""
    return ["TRAINED ON FIT"] if records.natural("detect").facts.get("lent") == "fit" else []


def health(records: Records, ledger: Ledger, g: Group) -> Health:
    """Train and select AUROC and membership of a group, in eval mode, and the stamps that follow."""
    naturals = {r: records.natural(r) for r in ("detect", "select", "fit", "calibrate")}
    twins = {r: records.twins(g, r) for r in ("detect", "select")}

    def pairs(role: str) -> list[float]:
        found = twins[role]
        if found is None or not g.on(found):
            return [float("nan") for _ in g.runs]
        c = found.counts
        return [auroc(n[: len(c)][c], a[c]) for n, a in zip(g.scores(naturals[role]), g.scores(found), strict=True)]

    train, select = pairs("detect"), pairs("select")
    member = [auroc(a, b) for a, b in zip(g.scores(naturals["fit"]), g.scores(naturals["calibrate"]), strict=True)]
    counts = {
        "COLLAPSED": sum(t < COLLAPSED for t in train),
        "OVERFIT": sum(t - s > OVERFIT for t, s in zip(train, select, strict=True)),
        "MEMBERSHIP": sum(not MEMBERSHIP[0] <= m <= MEMBERSHIP[1] for m in member),
    }
    stamps = [f"{k} {v}/{len(g.runs)}" for k, v in counts.items() if v]
    stamps += lent(records)
    if g.family == "saliency" and any(not gate["passed"] and own_trunk(gate["saliency"]) == (g.form == "trunk") for gate in records.gates):
        stamps.append("GATE FAILED")
    for s in within_class(records) if g.family == "saliency" else []:
        passing, every = sum(passes(s, k) for k in called(s)), len(called(s))
        if own_trunk(str(s.facts["saliency"])) == (g.form == "trunk") and passing < every:
            stamps.append(f"OWN MAPS {passing}/{every}")

    def put(name: str, values: list[float], n: int) -> str:
        nan = float("nan")
        return ledger.add(f"{g.name}/{name}", Interval(float(np.mean(values)), nan, nan, n, tuple(values)), g.protocol, g.keys)

    sizes = [0 if twins[r] is None else int(twins[r].counts.sum()) for r in ("detect", "select")]  # type: ignore[union-attr]
    return Health(
        put("train-auroc", train, sizes[0]),
        put("select-auroc", select, sizes[1]),
        put("membership", member, len(naturals["calibrate"])),
        stamps,
    )
