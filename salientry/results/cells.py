"""Cells of the grid with their bootstrap draws, so that means and differences over cells have paired intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..inference import LEAST_SEEDS, bounded_mean, few_differ, t_interval
from ..metrics import NO_WIDTH, Floats, Interval, bounded, interval, rate_draws, share
from .place import select
from .scores import Scores
from .trained import Images, Trained

CHANCE = {"published": 0.5, "strict": 0.05}
FOUND = {"published": 0.75, "strict": 0.5}  # half way from chance (a head that says nothing) to everything: above it an attack is found
Term = tuple[float, str, str, str]  # weight, detector, trained on, tested on
Flagged = tuple[list[float], Floats, tuple[list[Floats], Floats]]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A printed cell: published accuracy or strict detection rate, by seed and by resample (mean over the seeds).

    Attributes:
        id: of its number.
        auroc: of its AUROC.
        runs: the value of each seed; none where the scores are not kept.
        draws: (resamples,), likewise.
        images: (test images,) what each adds to each seed's value, and the most that it could; likewise.
        n: adversarials.
        keys: what it depends on.
    """

    id: str
    auroc: str
    runs: tuple[float, ...]
    draws: Floats
    images: tuple[list[Floats], Floats]
    n: int
    keys: tuple[str, ...]


class Cells:
    """All cells that have a number.

    Args:
        s: the scores.
        numbers: the frame with what was measured of each detector: a cell without a number there is none here.
    """

    def __init__(self, s: Scores, numbers: pd.DataFrame) -> None:
        self.scores, self.labels = s, s.labels
        found = select(numbers, kind="detection", source="run")
        columns = (found[c] for c in ("protocol", "scheme", "detector", "trained_on", "tested_on", "measure", "id"))
        self._ids = {tuple(place): id for *place, id in zip(*columns, strict=True)}
        self._known: dict[tuple[str, ...], Drawn | str] = {}
        self._naturals: dict[int, Flagged] = {}

    def cell(self, protocol: str, scheme: str, detector: str, trained: str, tested: str) -> Drawn | str:
        """A cell, or why there is none."""
        key = (protocol, scheme, detector, trained, tested)
        if key not in self._known:
            self._known[key] = self._cell(*key)
        return self._known[key]

    def _cell(self, protocol: str, scheme: str, detector: str, trained: str, tested: str) -> Drawn | str:
        g, s = self.scores.one(protocol, detector, trained, scheme), self.scores.images.get(f"{protocol}/test/{tested}")
        if g is None or s is None:
            return "no such detector or attack in the records"
        measure = "accuracy" if g.level == "own" else f"tpr@{g.level}"
        id, auroc = (self._ids.get((protocol, scheme, detector, trained, tested, m)) for m in (measure, "auroc"))
        if id is None or auroc is None:
            return "it is not printed: its controls, its scores or enough adversarials are missing"
        of = int(s["evaluated"].sum()), (*g.keys, s["key"])
        if not g.kept:
            return Drawn(id, auroc, (), np.zeros(0), ([], np.zeros(0)), *of)
        runs, draws, (added, most) = self._rate(g, s)
        if g.level == "own":
            false, wrong, (lost, all_) = self._natural(g)
            runs, draws = [(1 - b + a) / 2 for a, b in zip(runs, false, strict=True)], (1 - wrong + draws) / 2
            added, most = [(a + all_ - b) / 2 for a, b in zip(added, lost, strict=True)], (most + all_) / 2
        return Drawn(id, auroc, tuple(runs), draws, (added, most), *of)

    def _natural(self, g: Trained) -> Flagged:
        if id(g) not in self._naturals:
            self._naturals[id(g)] = self._rate(g, self.scores.natural("test"))
        return self._naturals[id(g)]

    def _rate(self, g: Trained, s: Images) -> Flagged:
        """Share flagged of what counts: of each seed, the seeds' mean in each resample, and what each test image adds."""
        draws, ids = self.scores.draws, s["id"][s["evaluated"]]
        flags = [f[s["evaluated"]] for f in g.flags(s["name"], g.level)]
        at = np.searchsorted(draws.clusters, ids)
        size = len(draws.clusters)
        added = [np.asarray(np.bincount(at, np.asarray(f, np.float64) / len(f), size), np.float64) for f in (*flags, np.ones(len(ids)))]
        return [float(f.mean()) for f in flags], rate_draws(np.mean(flags, 0), draws.of(ids)), (added[:-1], added[-1])

    def mean(self, protocol: str, scheme: str, terms: list[Term]) -> tuple[Interval, list[str]] | str:
        """A weighted sum of cells with its interval and keys, or why there is none: one cell that is missing is enough."""
        drawn: list[tuple[float, Drawn]] = []
        for weight, *at in terms:
            found = self.cell(protocol, scheme, *at)
            if isinstance(found, str):
                return f"{at[0]} trained on {at[1]}, tested on {at[2]}: {found}"
            if not found.runs:
                return f"{at[0]} trained on {at[1]}: its scores are not kept in these records"
            drawn.append((weight, found))
        seeds = {len(d.runs) for _, d in drawn}
        runs = [sum(w * d.runs[k] for w, d in drawn) for k in range(seeds.pop())] if len(seeds) == 1 else []
        value, n = sum(w * float(np.mean(d.runs)) for w, d in drawn), min(d.n for _, d in drawn)
        out = interval([value], [np.sum([w * d.draws for w, d in drawn], 0)], n)
        lo, hi = t_interval(runs) if len(runs) >= LEAST_SEEDS else (out.lo, out.hi)
        out = Interval(out.value, lo, hi, n, tuple(runs))
        out = share(out, np.arange(n)) if all(w > 0 for w, _ in drawn) else _few(out, drawn)
        return out, sorted({k for _, d in drawn for k in d.keys})


def _few(found: Interval, drawn: list[tuple[float, Drawn]]) -> Interval:
    """A difference of cells with the bound of few images, where all but few test images add the same to it."""
    added = np.sum([w * np.mean(d.images[0], 0) for w, d in drawn], 0)
    count = len(added)
    if not few_differ(count * added):
        return found
    low, high = (sign * float(np.sum([abs(w) * d.images[1] for w, d in drawn if w * sign > 0], 0).max()) for sign in (-1, 1))
    over_seeds = len(found.runs) >= LEAST_SEEDS and found.hi - found.lo >= NO_WIDTH
    return found if over_seeds else bounded(found, bounded_mean(count * added, count * low, count * high), ())
