"""What a map's detector reads: pixels, the image that goes into the map, or the class that the map is drawn for; and where, or how much?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ..metrics import auroc_interval, difference
from .detection import FEWEST
from .numbers import Ledger
from .records import ImageSet, Records

FACTORS = {"pixels": 0, "image into the map": 1, "selector class": 2}


@dataclass(frozen=True)
class Row:
    """One detector on one attack, strict, seed 0; ids of numbers.

    Attributes:
        whole: share of adversarials that is flagged minus share of their naturals.
        factors: what each factor alone changes in the share flagged, the mean over the four settings of the other two.
        own: share flagged of adversarials with their own map minus with another adversarial's map: only this says "where".
        other: AUROC when natural and adversarial both have another image's map of their kind.
        flat: AUROC when both have a map that is everywhere the mean of their own: area alone.
        area: mean map of the adversarials minus of their naturals.
    """

    detector: str
    form: str
    attack: str
    n: int
    whole: str
    factors: dict[str, str]
    own: str
    auroc: str
    other: str
    flat: str
    area: str


def rows(records: Records, ledger: Ledger) -> list[Row]:
    """All that the records hold."""
    found = [_row(records, ledger, s) for s in records.sets.values() if s.facts["kind"] == "swap" and s.columns["counts"].sum() >= FEWEST]
    return [r for r in found if r]


def _row(records: Records, ledger: Ledger, s: ImageSet) -> Row | None:
    f, c, draws = s.facts, s.columns["counts"], records.resamples
    g = records.group("strict", str(f["detector"]), str(f["trained_on"]), str(f["form"]))
    if g is None:
        return None
    run = next(r for r in g.runs if r.facts["seed"] == f["seed"])
    threshold = (run.thresholds or {"own": 0.0})[g.level]
    ids, head = s.ids[c], f"swap/{f['detector']}/{f['form']}/{f['attack']}"

    def scores(name: str) -> Any:
        return s.columns[name][c]

    def flags(name: str) -> Any:
        return (scores(name) > threshold).astype(float)

    def gap(name: str, more: Any, less: Any) -> str:
        return ledger.add(f"{head}/{name}", difference(draws, ids, [(more, less)]), "strict", [run.key, s.key])

    def ranks(name: str, kind: str) -> str:
        pair = (scores(f"n {kind}"), scores(f"a {kind}")) if kind else (scores("nnn"), scores("aaa"))
        return ledger.add(f"{head}/{name}", auroc_interval(draws, ids, ids, [pair]), "strict", [run.key, s.key])

    factors = {}
    for name, at in FACTORS.items():
        others = [tuple(o) for o in product("na", "na")]
        sides = [np.mean([flags("".join((*o[:at], k, *o[at:]))) for o in others], 0) for k in "an"]
        factors[name] = gap(name, *sides)
    return Row(
        str(f["detector"]),
        str(f["form"]),
        str(f["attack"]),
        int(c.sum()),
        gap("adversarial minus natural", flags("aaa"), flags("nnn")),
        factors,
        gap("own map minus another image's", flags("aaa"), flags("a other")),
        ranks("auroc", ""),
        ranks("auroc with another image's map", "other"),
        ranks("auroc with a flat map", "flat"),
        gap("area", scores("a area"), scores("n area")),
    )
