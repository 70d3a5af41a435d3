"""What each part adds to the fusion of everything, and how the guard's detector was chosen: the honest value of saliency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import Interval, difference, interval, rate_draws
from .detection import FEWEST, missing_controls, noise_of
from .numbers import Ledger
from .records import Group, ImageSet, Records


@dataclass(frozen=True)
class Part:
    """What one part does: to everything else, or to the logits alone. Fields are ids of numbers.

    Attributes:
        name: of the part; ``whole`` and ``alone`` are what the others are compared with.
        base: ``whole`` (taken out of everything) or ``logits`` (added to the logits' floors).
        members: of this fusion.
        finds: mean over the attacks of the share that this fusion finds.
        gain: by attack, and for their ``mean``: what the part adds.
        noise: more flags of this fusion on matched noise that changes nothing.
    """

    name: str
    base: str
    members: list[str]
    finds: str | None
    gain: dict[str, str]
    noise: str | None


@dataclass(frozen=True)
class Fusion:
    """The whole fusion first, then without each part; the logits alone, then with each part."""

    parts: list[Part]
    weights: dict[str, float]
    choice: dict[str, Any] | None

    def of(self, base: str) -> list[Part]:
        """The comparisons with one base, the base itself first."""
        return [p for p in self.parts if p.base == base]

    def gain(self, base: str, name: str) -> str | None:
        """What a part adds on average over the attacks."""
        return next((p.gain.get("mean") for p in self.of(base) if p.name == name), None)


def fusion(records: Records, ledger: Ledger) -> Fusion | None:
    """None where the records hold no fusion."""
    groups = {g.form: g for g in records.groups if g.detector == "Fused" and g.trained_on == "combined"}
    if "all" not in groups or missing_controls(records, [groups["all"]]):
        return None
    tests = [s for s in records.attacked("strict") if s.counts.sum() >= FEWEST and s.facts["attack"] in records.labels]
    parts = [_part(records, ledger, g, groups, tests) for g in groups.values()]
    first = groups["all"].runs[0].facts
    weights = dict(zip(first["members"], first["weights"], strict=True))
    return Fusion(parts, weights, records.choice[0] if records.choice else None)


def _found(g: Group, s: ImageSet) -> list[Any]:
    """Flags of each seed on what counts."""
    return [f[s.counts] for f in g.flags(s, g.level)]


def _part(records: Records, ledger: Ledger, g: Group, groups: dict[str, Group], tests: list[ImageSet]) -> Part:
    """A fusion beside the one that it is compared with: more is the one with the part, fewer the one without it."""
    members, draws = list(g.runs[0].facts["members"]), records.resamples
    head = f"strict/fusion/{'all parts' if g.form == 'all' else g.form}"
    finds = ledger.add(f"{head}/mean over attacks/tpr", _mean(records, tests, [_found(g, s) for s in tests]), "strict", g.keys)
    noise = None if g.form == "all" else noise_of(records, ledger, g, "MatchedNoise", g.level)
    flags = noise.specificity if noise else None
    base, name = (
        ("whole", g.form.removeprefix("without ")) if not g.form.startswith("logits ") else ("logits", g.form.removeprefix("logits "))
    )
    name, other = name.removeprefix("with "), groups.get("all" if base == "whole" else "logits alone")
    if g.form in ("all", "logits alone") or other is None:
        return Part("whole" if g.form == "all" else name, base, members, finds, {}, flags)
    more, fewer = (other, g) if base == "whole" else (g, other)
    keys, gain, deltas = sorted({*g.keys, *other.keys}), {}, []
    head = f"strict/fusion/{name} adds{'' if base == 'whole' else ' to the logits'}"
    for s in tests:
        pairs = list(zip(_found(more, s), _found(fewer, s), strict=True))
        attack = str(s.facts["attack"])
        gain[attack] = ledger.add(f"{head}/{attack}/tpr", difference(draws, s.ids[s.counts], pairs), "strict", keys)
        deltas.append([a.astype(float) - b for a, b in pairs])
    gain["mean"] = ledger.add(f"{head}/mean over attacks/tpr", _mean(records, tests, deltas), "strict", keys)
    return Part(name, base, members, finds, gain, flags)


def _mean(records: Records, tests: list[ImageSet], values: list[list[Any]]) -> Interval:
    """The mean over attacks of each seed's mean value, images resampled together. ``values``: by attack and seed, (n,) each."""
    if not tests:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    weights = [records.resamples.of(s.ids[s.counts]) for s in tests]
    seeds = range(len(values[0]))
    means = [float(np.mean([np.mean(v[k], dtype=float) for v in values])) for k in seeds]
    draws = [np.mean(np.stack([rate_draws(v[k], w) for v, w in zip(values, weights, strict=True)]), 0) for k in seeds]
    return interval(means, draws, min(int(s.counts.sum()) for s in tests))
