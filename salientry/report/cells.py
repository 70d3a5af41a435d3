"""The cells of the grid with their resamples, so that means and differences over cells have paired intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import Floats, Interval, interval, rate_draws, share
from .detection import FEWEST, Row, Table
from .numbers import Number
from .records import Group, ImageSet, Records

CHANCE = {"published": 0.5, "strict": 0.05}
FOUND = {"published": 0.75, "strict": 0.5}  # half way from chance (a head that says nothing) to everything: above it an attack is found
MANNERS = (("published", "paired"), ("published", "replica"), ("strict", "paired"))  # protocol and form, side by side
NOISE = 1e-6  # of resamples, whose sums are float32: closer to a boundary is on it
Term = tuple[float, str, str, str]  # weight, defence, trained on, tested on


@dataclass(frozen=True, eq=False)
class Drawn:
    """A cell: published accuracy or strict share found, by seed and by resample (mean over the seeds); ids of it and of its AUROC."""

    id: str
    auroc: str
    runs: tuple[float, ...]
    draws: Floats
    n: int
    keys: tuple[str, ...]


class Cells:
    """All cells that the tables print.

    Args:
        records: the scores.
        tables: which detectors there are, and which of their numbers are printed.
    """

    def __init__(self, records: Records, tables: list[Table]) -> None:
        self.records, self.labels = records, records.labels
        self.rows = {(t.protocol, r.group.form, r.group.detector, t.trained_on): (t, r) for t in tables for r in t.rows}
        self._missing = {(t.protocol, t.trained_on): t.missing for t in tables if t.missing}
        self._known: dict[tuple[str, str, str, str, str], Drawn | str] = {}
        self._naturals: dict[str, tuple[list[float], Floats]] = {}

    def row(self, protocol: str, form: str, defence: str, trained: str) -> Row | None:
        """A defence trained on an attack."""
        found = self.rows.get((protocol, form, defence, trained))
        return found[1] if found else None

    def collapsed(self, protocol: str, form: str, defence: str, trained: str) -> bool:
        """Whether any of its seeds did not train."""
        row = self.row(protocol, form, defence, trained)
        return row is not None and any(s.startswith("COLLAPSED") for s in row.stamps)

    def cell(self, protocol: str, form: str, defence: str, trained: str, tested: str) -> Drawn | str:
        """A cell, or why there is none."""
        key = (protocol, form, defence, trained, tested)
        if key not in self._known:
            self._known[key] = self._cell(*key)
        return self._known[key]

    def _cell(self, protocol: str, form: str, defence: str, trained: str, tested: str) -> Drawn | str:
        if lacking := self._missing.get((protocol, trained)):
            return f"mandatory controls are missing: {', '.join(lacking)}"
        found = self.rows.get((protocol, form, defence, trained))
        s = self.records.sets.get(f"{protocol}/test/{tested}")
        if found is None or s is None:
            return "no such detector or attack in the records"
        table, row = found
        shown = next((c for c in row.cells if c.attack == tested), None)
        if shown is None or shown.auroc is None:
            return f"{shown.n if shown else 0} adversarials count, {FEWEST} are needed"
        id = shown.accuracy or shown.tpr[table.levels[0]]
        return self._drawn(id, shown.auroc, row.group, s, table.levels[0])

    def _drawn(self, id: str, auroc: str, g: Group, s: ImageSet, level: str) -> Drawn:
        runs, draws = self._rate(g, s, level)
        if level == "own":
            if g.name not in self._naturals:
                self._naturals[g.name] = self._rate(g, self.records.natural("test"), level)
            false, wrong = self._naturals[g.name]
            runs, draws = [(1 - b + a) / 2 for a, b in zip(runs, false, strict=True)], (1 - wrong + draws) / 2
        return Drawn(id, auroc, tuple(runs), draws, int(s.counts.sum()), (*g.keys, s.key))

    def _rate(self, g: Group, s: ImageSet, level: str) -> tuple[list[float], Floats]:
        """Share flagged of what counts: of each seed, and the seeds' mean in each resample."""
        flags = [f[s.counts] for f in g.flags(s, level)]
        return [float(f.mean()) for f in flags], rate_draws(np.mean(flags, 0), self.records.resamples.of(s.ids[s.counts]))

    def mean(self, protocol: str, form: str, terms: list[Term]) -> tuple[Interval, list[str]] | str:
        """A weighted sum of cells with its interval and keys, or why there is none: one cell that is missing is enough."""
        drawn: list[tuple[float, Drawn]] = []
        for weight, *at in terms:
            found = self.cell(protocol, form, *at)
            if isinstance(found, str):
                return f"{at[0]} trained on {at[1]}, tested on {at[2]}: {found}"
            drawn.append((weight, found))
        seeds = {len(d.runs) for _, d in drawn}
        runs = [sum(w * d.runs[k] for w, d in drawn) for k in range(seeds.pop())] if len(seeds) == 1 else []
        value = sum(w * float(np.mean(d.runs)) for w, d in drawn)
        n = min(d.n for _, d in drawn)
        out = interval([value], [np.sum([w * d.draws for w, d in drawn], 0)], n)
        out = Interval(out.value, out.lo, out.hi, n, tuple(runs))
        if all(w > 0 for w, _ in drawn):
            out = share(out, np.arange(n))
        return out, sorted({k for _, d in drawn for k in d.keys})


def side(n: Number, boundary: float) -> str:
    """``above`` or ``below`` when the whole interval is, ``open`` when it holds the boundary, ``none`` without a number."""
    if n.value is None or n.lo is None or n.hi is None:
        return "none"
    return "above" if n.lo > boundary + NOISE else "below" if n.hi < boundary - NOISE else "open"
