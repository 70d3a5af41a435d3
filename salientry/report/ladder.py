"""From the published protocol to the strict one, one change at a time: which change moves the number?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import auroc_interval, balanced_accuracy
from .detection import FEWEST
from .numbers import Ledger
from .records import Group, ImageSet, Records

UNTRAINED = 0.69  # a mean loss of the last pass above this is that of a coin
RUNGS = (  # what changes, whose form it is ("" the rung before), the protocol of its images, whether its threshold is calibrated
    ("as published: float32, all count, own 0; heads on the classifier's images, no batch norm, unpaired", "ladder 0", "published", False),
    ("only adversarials that fool count, in training and test", "ladder 1", "fooling", False),
    ("8-bit images", "ladder 2", "strict", False),
    ("threshold from calibration naturals (FPR ≤ 5 %, PAC)", "ladder 2", "strict", True),
    ("heads on images that the classifier was not trained on", "ladder 4", "strict", True),
    ("batch norm and a one-cycle rate", "ladder 5", "strict", True),
    ("paired batches: the strict detector", "paired", "strict", True),
)  # fmt: skip


@dataclass(frozen=True)
class Rung:
    """One step; ids of numbers, and how many of its heads did not learn: their last mean loss is that of a coin."""

    change: str
    accuracy: str
    auroc: str
    n: int
    untrained: str


@dataclass(frozen=True)
class Ladder:
    """One detector on one attack."""

    detector: str
    attack: str
    rungs: list[Rung]


def ladders(records: Records, ledger: Ledger) -> list[Ladder]:
    """All that the records hold."""
    wanted = dict.fromkeys((g.detector, g.trained_on) for g in records.groups if g.form == "ladder 0")
    return [Ladder(d, a, list(_rungs(records, ledger, d, a))) for d, a in wanted]


def _rungs(records: Records, ledger: Ledger, detector: str, attack: str) -> list[Rung]:
    out = []
    for k, (change, form, protocol, calibrated) in enumerate(RUNGS):
        g = next((g for g in records.groups if (g.detector, g.form, g.trained_on, g.protocol) == (detector, form, attack, protocol)), None)
        s = records.sets.get(f"{protocol}/test/{attack}")
        if g is not None and s is not None and s.counts.sum() >= FEWEST:
            out.append(_rung(records, ledger, g, s, f"ladder/{detector}/{attack}/{k}", change, g.level if calibrated else "own"))
    return out


def _rung(records: Records, ledger: Ledger, g: Group, s: ImageSet, head: str, change: str, level: str) -> Rung:
    natural, c, draws = records.natural("test"), s.counts, records.resamples
    flags = [(n, f[c]) for n, f in zip(g.flags(natural, level), g.flags(s, level), strict=True)]
    scores = [(n, a[c]) for n, a in zip(g.scores(natural), g.scores(s), strict=True)]
    accuracy = ledger.add(f"{head}/accuracy", balanced_accuracy(draws, natural.ids, s.ids[c], flags), g.protocol, [*g.keys, s.key])
    ranks = ledger.add(f"{head}/auroc", auroc_interval(draws, natural.ids, s.ids[c], scores), g.protocol, [*g.keys, s.key])
    lost = sum(bool(r.curve) and float(np.asarray(r.curve)[-1]) > UNTRAINED for r in g.runs)
    return Rung(change, accuracy, ranks, int(c.sum()), f"{lost}/{len(g.runs)}" if lost else "")
