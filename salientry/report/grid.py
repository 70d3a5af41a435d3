"""The paper's Figure 2 and Table 6: trained on each attack, tested on each; and what the pattern says (C8, C9, C12)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import Interval, difference
from .detection import FEWEST, Table
from .numbers import KEY, Ledger
from .records import Group, Records

DEFENCES = ("SPD", "SMD", "ID", "JSD")
NORMS = {"FGSM": "inf", "BIM": "inf", "MIM": "inf", "CarliniWagner": "2", "DeepFool": "2"}  # JSMA's is 0: it has no group


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a number's id, or the reason why there is none."""

    protocol: str
    defence: str
    trained_on: str
    tested_on: str
    id: str | None
    why: str
    heads: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The cells, and what follows from them; lists are ids of numbers."""

    labels: list[str]
    cells: list[Cell]
    transfer: dict[str, str]
    specific: list[tuple[str, str, str, str]]

    def of(self, protocol: str, defence: str) -> dict[tuple[str, str], Cell]:
        """(trained on, tested on) to the cell."""
        return {(c.trained_on, c.tested_on): c for c in self.cells if (c.protocol, c.defence) == (protocol, defence)}


def grid(records: Records, ledger: Ledger, tables: list[Table]) -> Grid:
    """All 4 x (attacks squared) x 2 cells of the paired defences, by their numbers in the tables."""
    labels = records.labels
    cells = [_cell(records, tables, p, d, a, b) for p in ("published", "strict") for d in DEFENCES for a in labels for b in labels]
    transfer, specific = {}, []
    lacking = {(t.protocol, t.trained_on) for t in tables if t.missing}
    for protocol in ("published", "strict"):
        for defence in DEFENCES:
            if not lacking & {(protocol, a) for a in labels} and (id := _transfer(records, ledger, labels, protocol, defence)):
                transfer[f"{protocol}/{defence}"] = id
            for a in labels:
                if not lacking & {(protocol, a), (protocol, "combined")} and (id := _specific(records, ledger, protocol, defence, a)):
                    specific.append((protocol, defence, a, id))
    return Grid(labels, cells, transfer, specific)


def _cell(records: Records, tables: list[Table], protocol: str, defence: str, trained: str, tested: str) -> Cell:
    g = records.group(protocol, defence, trained)
    table = next((t for t in tables if (t.protocol, t.trained_on) == (protocol, trained)), None)
    if g is None or table is None:
        return Cell(protocol, defence, trained, tested, None, "no such detector in the records", ())
    heads = tuple(r.key for r in g.runs)
    if table.missing:
        return Cell(protocol, defence, trained, tested, None, f"mandatory controls are missing: {', '.join(table.missing)}", heads)
    row = next(r for r in table.rows if r.group is g)
    cell = next((c for c in row.cells if c.attack == tested), None)
    if cell is None:
        return Cell(protocol, defence, trained, tested, None, "its scores are not in the records", heads)
    if cell.auroc is None:
        return Cell(protocol, defence, trained, tested, None, f"{cell.n} adversarials count, {FEWEST} are needed", heads)
    id = cell.accuracy if protocol == "published" else cell.tpr[table.levels[0]]
    return Cell(protocol, defence, trained, tested, id, "", heads)


def _rates(records: Records, g: Group, tested: str) -> tuple[Any, Any] | None:
    """Ids (n,) and mean over seeds of the flags on the adversarials that count."""
    s = records.sets.get(f"{g.protocol}/test/{tested}")
    if s is None or not g.on(s) or s.counts.sum() < FEWEST:
        return None
    level = "own" if g.protocol == "published" else g.level
    return s.ids[s.counts], np.mean([f[s.counts] for f in g.flags(s, level)], 0)


def _transfer(records: Records, ledger: Ledger, labels: list[str], protocol: str, defence: str) -> str | None:
    """C9: mean share found where training and test attack are others of one norm, minus where they are of two norms."""
    ids, rates = records.natural("test").ids, {True: list[Any](), False: list[Any]()}
    keys: list[str] = []
    for a, b in ((a, b) for a in labels for b in labels if a != b):
        norms = [NORMS.get(x.split("-")[0]) for x in (a, b)]
        g = records.group(protocol, defence, a)
        if None in norms:
            continue
        if g is None:
            return None  # a part of what it is computed from is not there
        found = _rates(records, g, b)
        if found is None:
            continue
        rates[norms[0] == norms[1]].append(_spread(ids, *found))
        keys += g.keys
    if not rates[True] or not rates[False]:
        return None
    with np.errstate(invalid="ignore"):
        within, across = (_mean(rates[k]) for k in (True, False))
    both = np.isfinite(within) & np.isfinite(across)
    if both.sum() < FEWEST:
        return None
    value = difference(records.resamples, ids[both], [(within[both], across[both])])
    return ledger.add(f"{protocol}/{defence}/within-norm-minus-across", value, protocol, sorted(set(keys)))


def _spread(ids: Any, some: Any, values: Any) -> Any:
    """(N,) values at the places of their ids among all; NaN elsewhere."""
    at = {i: k for k, i in enumerate(ids.tolist())}
    out = np.full(len(ids), np.nan)
    out[[at[i] for i in some.tolist()]] = values
    return out


def _mean(columns: list[Any]) -> Any:
    """Mean of the finite values of each image; NaN where there is none."""
    stack = np.stack(columns)
    known = np.isfinite(stack)
    return np.where(known.any(0), np.where(known, stack, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)


def _specific(records: Records, ledger: Ledger, protocol: str, defence: str, attack: str) -> str | None:
    """C12: share of an attack found by the detector trained on all attacks, minus by the one trained on that attack."""
    every, own = records.group(protocol, defence, "combined"), records.group(protocol, defence, attack)
    if every is None or own is None:
        return None
    a, b = _rates(records, every, attack), _rates(records, own, attack)
    if a is None or b is None:
        return None
    found: Interval = difference(records.resamples, a[0], [(a[1], b[1])])
    return ledger.add(f"{protocol}/{defence}/{attack}/combined-minus-specific", found, protocol, sorted({*every.keys, *own.keys}))


def cell_lines(records: Records, ledger: Ledger, found: Grid) -> Iterator[str]:
    """For ``--cells figure2``: what there is, what there is not and why, how strong each attack was, how many heads."""
    there = [c for c in found.cells if c.id is not None and ledger[c.id].value is not None]
    total = len(found.cells)
    yield f"{len(there)} of {total} cells are finite ({len(DEFENCES)} defences x {len(found.labels)}^2 attacks x 2 protocols)"
    for c in found.cells:
        if c.id is None or ledger[c.id].value is None:
            yield f"  none: {c.protocol}/{c.defence} trained on {c.trained_on}, tested on {c.tested_on}: {c.why or 'not finite'}"
    for protocol in ("published", "strict"):
        for s in records.attacked(protocol):
            sizes, changed = s.columns["rms"][s.counts], s.columns["changed"].mean()
            size = f"median RMS {np.median(sizes):.4f}" if len(sizes) else "no size"
            yield f"  {protocol}/{s.facts['attack']}: prediction changed {changed:.3f}, {len(sizes)} count, {size}"
    heads = {h for c in found.cells for h in c.heads}
    yield f"{len(heads)} distinct heads"
    yield from amiss(ledger, found)


def amiss(ledger: Ledger, found: Grid) -> list[str]:
    """Where cells, reasons and heads do not add up, one line each: a cell that is neither a finite number nor says why not, and a head
    that stands in two rows.
    """
    rows: dict[str, set[str]] = {}
    for c in found.cells:
        for k, h in enumerate(c.heads):
            again = f", seed number {k}" if h in c.heads[:k] else ""
            rows.setdefault(h, set()).add(f"{c.protocol}/{c.defence} trained on {c.trained_on}{again}")
    out = [
        f"AMISS: {c.protocol}/{c.defence} trained on {c.trained_on}, tested on {c.tested_on} is no number, for no reason"
        for c in found.cells
        if (c.id is None or ledger[c.id].value is None) and not c.why
    ]
    return out + [f"AMISS: one head, {h[:KEY]}, in {' and in '.join(sorted(names))}" for h, names in rows.items() if len(names) > 1]
