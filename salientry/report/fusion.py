"""What each part adds to the fusion of everything, and how the guard's detector was chosen: the honest value of saliency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import Interval, difference, interval, rate_draws
from .grid import _level
from .numbers import Ledger
from .records import Group, ImageSet, Records

FEWEST = 50


@dataclass(frozen=True)
class Part:
    """The fusion without one of its parts; ``tpr`` and ``gain`` by attack and for their ``mean``: ids of numbers."""

    name: str
    members: list[str]
    tpr: dict[str, str]
    gain: dict[str, str]
    auroc: str | None


@dataclass(frozen=True)
class Fusion:
    """The whole fusion first, then without each part."""

    parts: list[Part]
    weights: dict[str, float]
    choice: dict[str, Any] | None


def fusion(records: Records, ledger: Ledger) -> Fusion | None:
    """None where the records hold no fusion."""
    groups = [g for g in records.groups if g.detector == "Fused"]
    whole = next((g for g in groups if g.form == "all"), None)
    if whole is None:
        return None
    tests = [s for s in records.attacked("strict") if s.counts.sum() >= FEWEST and s.facts["attack"] in records.labels]
    parts = [_part(records, ledger, g, whole, tests) for g in groups]
    first = whole.runs[0].facts
    weights = dict(zip(first["members"], first["weights"], strict=True))
    return Fusion(parts, weights, records.choice[0] if records.choice else None)


def _found(g: Group, s: ImageSet) -> list[Any]:
    """Flags of each seed on what counts."""
    return [f[s.counts] for f in g.flags(s, _level(g))]


def _part(records: Records, ledger: Ledger, g: Group, whole: Group, tests: list[ImageSet]) -> Part:
    name, draws = "whole" if g is whole else g.form.removeprefix("without "), records.resamples
    tpr, gain = {}, {}
    means: list[tuple[list[float], Any]] = []
    for s in tests:
        attack, ids = str(s.facts["attack"]), s.ids[s.counts]
        mine, theirs = _found(g, s), _found(whole, s)
        if g is not whole:
            value = difference(draws, ids, list(zip(theirs, mine, strict=True)))
            gain[attack] = ledger.add(f"strict/fusion/{name} adds/{attack}/tpr", value, "strict", sorted({*g.keys, *whole.keys}))
        weights = draws.of(ids)
        deltas = [a.astype(float) - (b if g is not whole else 0) for a, b in zip(theirs, mine, strict=True)]
        means.append(([float(d.mean()) for d in deltas], [rate_draws(d, weights) for d in deltas]))
        if g is not whole:
            found = [f.astype(float) for f in mine]
            tpr[attack] = ledger.add(
                f"strict/fusion/without {name}/{attack}/tpr",
                interval([f.mean() for f in found], [rate_draws(f, weights) for f in found], len(ids)),
                "strict",
                g.keys,
            )
    mean = _mean_of(means, min((int(s.counts.sum()) for s in tests), default=0))
    what = f"{name} adds" if g is not whole else "all parts"
    if means:
        gain["mean"] = ledger.add(f"strict/fusion/{what}/mean over attacks/tpr", mean, "strict", sorted({*g.keys, *whole.keys}))
    return Part(name, list(g.runs[0].facts["members"]), tpr, gain, None)


def _mean_of(means: list[tuple[list[float], Any]], n: int) -> Interval:
    """The mean over attacks of each seed's rate, images resampled together."""
    if not means:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    seeds = len(means[0][0])
    values = [float(np.mean([m[0][k] for m in means])) for k in range(seeds)]
    return interval(values, [np.mean(np.stack([m[1][k] for m in means]), 0) for k in range(seeds)], n)
