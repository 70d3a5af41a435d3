"""Trained on one attack, tested on another (the paper's Figure 2): what the pattern says, and which cells there are.

Kind ``transfer``, of the paper's four detectors: ``within-norm-minus-across`` (mean share detected where training and test attack are
different attacks of one norm, minus where they are of two) and ``combined-minus-specific`` (share of the attack ``tested_on`` that the
detector trained on all attacks detects, minus by the one trained on that attack).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..metrics import difference
from ..rates import short
from .choice import DEFENCES
from .detection import FEWEST, Together, together, where
from .place import KEY, Row, row, select
from .scores import Scores
from .trained import Array, Trained

PROTOCOLS = ("published", "strict")


def rows(s: Scores) -> list[Row]:
    """Of both protocols, where no mandatory control is missing."""
    lacking = {(t.protocol, t.trained_on) for t in together(s) if t.missing}
    out: list[Row | None] = []
    for protocol in PROTOCOLS:
        for detector in DEFENCES:
            out += [] if lacking & {(protocol, a) for a in s.labels} else [_norms(s, protocol, detector)]
            out += [_combined(s, protocol, detector, a) for a in s.labels if not lacking & {(protocol, a), (protocol, "combined")}]
    return [r for r in out if r]


def _detected(s: Scores, g: Trained, tested: str) -> tuple[Array, Array] | None:
    """Ids (n,) and mean over seeds of the flags on the adversarials that count."""
    x = s.images.get(f"{g.protocol}/test/{tested}")
    if x is None or not g.on(x["name"]) or x["evaluated"].sum() < FEWEST:
        return None
    level = "own" if g.protocol == "published" else g.level
    return x["id"][x["evaluated"]], np.mean([f[x["evaluated"]] for f in g.flags(x["name"], level)], 0)


def _norms(s: Scores, protocol: str, detector: str) -> Row | None:
    """By image: the mean over the cells that speak of it. None where one of the detectors is not there, or too few images are left."""
    ids, keys = s.natural("test")["id"], list[str]()
    cells: dict[bool, list[Array]] = {True: [], False: []}
    for a, b in ((a, b) for a in s.labels for b in s.labels if a != b):
        norms = [s.attacks[x]["norm"] for x in (a, b)]
        g = s.one(protocol, detector, a)
        if "l0" in norms or None in norms:  # JSMA's has no second attack
            continue
        if g is None:
            return None
        if found := _detected(s, g, b):
            spread = pd.Series(found[1], found[0]).reindex(ids)
            cells[norms[0] == norms[1]].append(spread.to_numpy())
            keys += g.keys
    if not cells[True] or not cells[False]:
        return None
    within, across = (pd.DataFrame(np.stack(cells[k])).mean().to_numpy() for k in (True, False))
    both = np.isfinite(within) & np.isfinite(across)
    if both.sum() < FEWEST:
        return None
    value = difference(s.draws, ids[both], [(within[both], across[both])])
    of: Row = {"protocol": protocol, "detector": detector, "title": detector, "scheme": "paired"}
    return row("transfer", "within-norm-minus-across", value, sorted(set(keys)), **of)


def _combined(s: Scores, protocol: str, detector: str, attack: str) -> Row | None:
    every, own = s.one(protocol, detector, "combined"), s.one(protocol, detector, attack)
    a, b = (None if g is None else _detected(s, g, attack) for g in (every, own))
    if every is None or own is None or a is None or b is None:
        return None
    found = difference(s.draws, a[0], [(a[1], b[1])])
    return row("transfer", "combined-minus-specific", found, sorted({*every.keys, *own.keys}), **where(every), tested_on=attack)


# --- the cells of Figure 2 ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One cell: a number's id, or why there is none; ``heads``: the keys of its detector's seeds."""

    protocol: str
    detector: str
    trained_on: str
    tested_on: str
    id: str | None
    why: str
    heads: tuple[str, ...]


def cells(s: Scores, numbers: pd.DataFrame) -> list[Cell]:
    """All 4 x (attacks squared) x 2 cells of the paired detectors, by their numbers."""
    found = select(numbers, kind="detection", source="run", scheme="paired")
    place = ("protocol", "detector", "trained_on", "tested_on", "measure")
    known = {tuple(k): id for *k, id in zip(*(found[c] for c in (*place, "id")), strict=True)}
    each = {(t.protocol, t.trained_on): t for t in together(s)}
    return [_cell(s, known, each, p, d, a, b) for p in PROTOCOLS for d in DEFENCES for a in s.labels for b in s.labels]


def _cell(s: Scores, known: dict[Any, str], each: dict[tuple[str, str], Together], protocol: str, detector: str, a: str, b: str) -> Cell:
    g, t, x = s.one(protocol, detector, a), each.get((protocol, a)), s.images.get(f"{protocol}/test/{b}")
    id, heads, why = None, tuple(r.key for r in g.seeds) if g else (), ""
    if g is None or t is None:
        why = "no such detector in the records"
    elif t.missing:
        why = f"mandatory controls are missing: {', '.join(t.missing)}"
    elif x is None or len(g.on(x["name"])) < len(g.seeds):
        why = "its scores are not in the records"
    elif (count := int(x["evaluated"].sum())) < FEWEST:
        why = f"{count} adversarials count, {FEWEST} are needed"
    else:
        id = known.get((protocol, detector, a, b, "accuracy" if protocol == "published" else f"tpr@{t.levels[0]}"))
    return Cell(protocol, detector, a, b, id, why, heads)


def cell_lines(s: Scores, numbers: pd.DataFrame) -> list[str]:
    """For ``--cells figure2``: what there is, what there is not and why, how strong each attack was, how many heads."""
    found = cells(s, numbers)
    finite = set(numbers["id"][numbers["value"].notna()])
    there = sum(c.id in finite for c in found)
    out = [f"{there} of {len(found)} cells are finite ({len(DEFENCES)} detectors x {len(s.labels)}^2 attacks x 2 protocols)"]
    for c in found:
        if c.id not in finite:
            out.append(f"  none: {c.protocol}/{c.detector} trained on {c.trained_on}, tested on {c.tested_on}: {c.why or 'not finite'}")
    for protocol in PROTOCOLS:
        for x in s.attacked(protocol):
            sizes = x["rms"][x["evaluated"]]
            size = f"median RMS {np.median(sizes):.4f}" if len(sizes) else "no size"
            out.append(f"  {protocol}/{x['attack']}: prediction changed {short(x['changed'].mean())}, {len(sizes)} count, {size}")
    return [*out, f"{len({h for c in found for h in c.heads})} distinct heads", *amiss(found, finite)]


def amiss(found: list[Cell], finite: set[str]) -> list[str]:
    """Where cells, reasons and heads do not add up, one line each: a cell that is neither a finite number nor says why not, and a head
    that stands in two rows.
    """
    rows: dict[str, set[str]] = {}
    for c in found:
        for k, h in enumerate(c.heads):
            again = f", seed number {k}" if h in c.heads[:k] else ""
            rows.setdefault(h, set()).add(f"{c.protocol}/{c.detector} trained on {c.trained_on}{again}")
    out = [
        f"AMISS: {c.protocol}/{c.detector} trained on {c.trained_on}, tested on {c.tested_on} is no number, for no reason"
        for c in found
        if c.id not in finite and not c.why
    ]
    return out + [f"AMISS: one head, {h[:KEY]}, in {' and in '.join(sorted(names))}" for h, names in rows.items() if len(names) > 1]
