"""Detectors whose input or labels were spoiled: what is left shows what they really read."""

from __future__ import annotations

from dataclasses import dataclass

from ..metrics import auroc_interval, rate
from .detection import FEWEST, missing_controls
from .numbers import Ledger
from .records import ORDINARY, Group, Records

WORDS = {
    "paired": "as it is",
    "random map": "maps are random values",
    "constant map": "maps are .5 everywhere",
    "another image's map": "each image has another image's map",
    "untrained decoder": "maps of a decoder that was never trained",
    "natural's class": "maps for the natural's predicted class, also under attack",
    "true class": "maps for the true class (the leak that the paper avoids)",
    "labels shuffled": "half of the training pairs have their labels exchanged",
    "gradient zeroed": "gradient channels are 0",
    "another image's gradient": "each image has another image's gradient",
}


@dataclass(frozen=True)
class Row:
    """One detector in one form, trained and tested on one attack: ids of numbers, None where too few count."""

    detector: str
    form: str
    trained_on: str
    auroc: str | None
    tpr: str | None


def rows(records: Records, ledger: Ledger) -> list[Row]:
    """The spoiled ones, each after the ordinary one that it is a control of."""
    spoiled = [g for g in records.groups if g.form in WORDS and g.form not in ORDINARY]
    out: list[Row] = []
    for detector, attack in dict.fromkeys((g.detector, g.trained_on) for g in spoiled):
        ordinary = records.group("strict", detector, attack)
        if ordinary and missing_controls(records, [ordinary]):
            continue
        out += [_row(records, ledger, g) for g in ([ordinary] if ordinary else [])]
        out += [_row(records, ledger, g) for g in spoiled if (g.detector, g.trained_on) == (detector, attack)]
    return out


def _row(records: Records, ledger: Ledger, g: Group) -> Row:
    natural, s = records.natural("test"), records.twins(g, "test")
    if s is None or not g.on(s) or s.counts.sum() < FEWEST:
        return Row(g.detector, g.form, g.trained_on, None, None)
    c, draws, first = s.counts, records.resamples, g.on(s)[:1]
    runs = [(r.on(natural), r.on(s)[c]) for r in first]
    head = f"strict/spoiled/{g.detector}/{g.form}/{g.trained_on}"
    area = ledger.add(f"{head}/auroc", auroc_interval(draws, natural.ids, s.ids[c], runs), "strict", g.keys)
    level = g.level
    tpr = ledger.add(f"{head}/tpr@{level}", rate(draws, s.ids[c], [f[c] for f in g.flags(s, level)[:1]]), "strict", g.keys)
    return Row(g.detector, g.form, g.trained_on, area, tpr)
