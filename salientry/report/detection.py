"""How well each detector notices: both protocols, with floors and controls beside every number."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..metrics import Interval, auroc, auroc_interval, balanced_accuracy, difference, rate
from .numbers import Ledger
from .records import Group, ImageSet, Records
from .stamps import Health, health

FEWEST = 50  # positives under which a cell is not printed
FEWEST_UNCHANGED = 100  # images under which specificity is not printed
MATCHED = 0.05
NOISES = ("MatchedNoise", "MatchedNoise-kind=gaussian")
OTHERS = ("Shuffled", "Transplant")
UNMATCHED = {"MatchedNoise": "NOISE", "MatchedNoise-kind=gaussian": "GAUSSIAN", "Shuffled": "SHUFFLED"}


@dataclass(frozen=True)
class Cell:
    """One detector on one test attack; every field but ``n`` is a number's id, None where it is not printed."""

    attack: str
    n: int
    auroc: str | None = None
    tpr: dict[str, str] = field(default_factory=dict)
    accuracy: str | None = None
    gap: str | None = None


@dataclass(frozen=True)
class Noise:
    """One detector on a control as large as the adversarials that it was trained on: three numbers' ids and stamps."""

    changed: str
    specificity: str | None
    fooled: str | None
    n: int
    stamps: list[str]


@dataclass(frozen=True)
class Row:
    """One detector (all seeds) trained on one attack under one protocol."""

    group: Group
    health: Health
    fpr: dict[str, str]
    fpr_right: str | None
    cells: list[Cell]
    noise: Noise | None
    null: str | None
    controls: dict[str, Noise]
    round_trip: str | None
    precision: str | None

    @property
    def stamps(self) -> list[str]:
        """Warnings that stand beside it."""
        return self.health.stamps + (self.noise.stamps if self.noise else [])


@dataclass(frozen=True)
class Table:
    """All detectors of one protocol trained on one attack.

    Attributes:
        best_floor: the floor with the best AUROC on *select* pairs of the same attack: what a gap is taken to.
        missing: mandatory controls that the records lack; then no number is printed.
        levels: false-positive rates of the thresholds, the largest first; ``own`` is the head's own 0.
    """

    protocol: str
    trained_on: str
    rows: list[Row]
    best_floor: str | None
    missing: list[str]
    levels: list[str]


def tables(records: Records, ledger: Ledger) -> list[Table]:
    """Strict first, then published."""
    out = []
    for protocol in ("strict", "published"):
        for attack in dict.fromkeys(g.trained_on for g in records.of(protocol)):
            there = [g for g in records.of(protocol) if g.trained_on == attack]
            lacking = missing_controls(records, there)
            groups = [] if lacking else there
            floor = _best_floor(records, groups)
            levels = levels_of(groups)
            rows = [_row(records, ledger, g, floor, levels) for g in sorted(groups, key=_place)]
            out.append(Table(protocol, attack, rows, floor.title if floor else None, lacking, levels))
    return out


def levels_of(groups: list[Group]) -> list[str]:
    """The calibrated levels, the largest first; only ``own`` where nothing was calibrated."""
    known = {level for g in groups for r in g.runs for level in (r.thresholds or {}) if level != "own"}
    return sorted(known, key=float, reverse=True) or ["own"]


def missing_controls(records: Records, groups: list[Group]) -> list[str]:
    """The mandatory controls that the records lack for detectors of one training attack under one protocol: null, margin2 on the
    same attack, noise as large as the attack. Without them no number of these detectors is printed.
    """
    protocol, attack = groups[0].protocol, groups[0].trained_on
    null, noise = records.controls(protocol, "Null"), records.control_of(groups[0], "MatchedNoise")
    out = [] if null and all(g.on(null[0]) for g in groups) else ["null"]
    out += [] if records.group(protocol, "Margin2", attack) else [f"margin2 trained on {attack}"]
    return out + ([] if noise and all(g.on(noise) for g in groups) else [f"noise matched to {attack}"])


def _place(g: Group) -> tuple[int, int]:
    known = ("saliency", "image", "fusion", "floor")
    return known.index(g.family) if g.family in known else len(known), g.form == "replica"


def _best_floor(records: Records, groups: list[Group]) -> Group | None:
    """Chosen on *select*, never on *test*."""

    def select_auroc(g: Group) -> float:
        twin, natural = records.twins(g, "select"), records.natural("select")
        if twin is None or not g.on(twin):
            return -1.0
        c = twin.counts
        return float(np.mean([auroc(n[: len(c)][c], a[c]) for n, a in zip(g.scores(natural), g.scores(twin), strict=True)]))

    floors = [g for g in groups if g.family == "floor"]
    return max(floors, key=select_auroc) if floors else None


def _row(records: Records, ledger: Ledger, g: Group, floor: Group | None, levels: list[str]) -> Row:
    natural, right = records.natural("test"), records.natural("test").columns["right"]
    draws = records.resamples

    def put(name: str, found: Interval) -> str:
        return ledger.add(f"{g.name}/{name}", found, g.protocol, g.keys)

    flags = {level: g.flags(natural, level) for level in levels}
    fpr = {level: put(f"fpr@{level}", rate(draws, natural.ids, flags[level])) for level in levels}
    only_right = put(f"fpr-right@{levels[0]}", rate(draws, natural.ids[right], [f[right] for f in flags[levels[0]]]))
    attacked = [s for s in records.attacked(g.protocol) if len(g.on(s)) == len(g.runs)]
    twins = records.twins(g, "test")
    if twins is not None and twins.parts:
        attacked.append(twins)
    cells = [_cell(records, ledger, g, s, floor, levels) for s in attacked]
    null = records.controls(g.protocol, "Null")
    controls = {k: noise_of(records, ledger, g, k, levels[0]) for k in (*NOISES, *OTHERS)}
    return Row(
        g,
        health(records, ledger, g),
        fpr,
        only_right,
        cells,
        controls.pop(NOISES[0]),
        _largest_change(ledger, g, natural, null[0] if null else None, "null-difference"),
        {k: v for k, v in controls.items() if v is not None},
        _round_trip(records, ledger, g, levels[0]),
        _precision(records, ledger, g, levels[0]),
    )


def _largest_change(ledger: Ledger, g: Group, natural: ImageSet, control: ImageSet | None, name: str) -> str | None:
    """The largest difference between an image's score and that of the same image under a control."""
    runs = [r for r in g.on(control) if r.has(natural)] if control is not None else []
    if control is None or not runs:
        return None
    gap, nan = [float(np.abs(r.on(natural) - r.on(control)).max()) for r in runs], float("nan")
    return ledger.add(f"{g.name}/{name}", Interval(max(gap), nan, nan, len(natural), tuple(gap)), g.protocol, g.keys)


def _round_trip(records: Records, ledger: Ledger, g: Group, level: str) -> str | None:
    """More flags on naturals that only went through C&W's tanh, in float."""
    found = records.controls("published", "RoundTrip")
    if not found or not (runs := g.on(found[0])):
        return None
    natural = records.natural("test")
    flags = list(zip(g.flags(found[0], level), g.flags(natural, level), strict=False))[: len(runs)]
    return ledger.add(f"{g.name}/round-trip", difference(records.resamples, natural.ids, flags), g.protocol, g.keys)


def _precision(records: Records, ledger: Ledger, g: Group, level: str) -> str | None:
    """TPR on the float version of the training attack minus that on the 8-bit version, on images that count in 8 bits and fool in both."""
    if g.protocol != "strict":
        return None
    ours, in_float = records.twins(g, "test"), records.twins(g, "test", "published")
    if ours is None or in_float is None or not g.on(in_float):
        return None
    c = ours.counts & in_float.columns["changed"]
    if c.sum() < FEWEST:
        return None
    runs = [(a[c], b[c]) for a, b in zip(g.flags(in_float, level), g.flags(ours, level), strict=False)]
    return ledger.add(f"{g.name}/float-minus-8-bit", difference(records.resamples, ours.ids[c], runs), g.protocol, g.keys)


def _cell(records: Records, ledger: Ledger, g: Group, s: ImageSet, floor: Group | None, levels: list[str]) -> Cell:
    natural, c, attack = records.natural("test"), s.counts, str(s.facts["attack"])
    n, draws = int(c.sum()), records.resamples
    if n < FEWEST:
        return Cell(attack, n)

    def put(name: str, found: Interval) -> str:
        return ledger.add(f"{g.name}/{attack}/{name}", found, g.protocol, [*g.keys, s.key])

    ranks = put(
        "auroc", auroc_interval(draws, natural.ids, s.ids[c], [(a, b[c]) for a, b in zip(g.scores(natural), g.scores(s), strict=True)])
    )
    if levels == ["own"]:
        runs = list(zip(g.flags(natural, "own"), [f[c] for f in g.flags(s, "own")], strict=True))
        return Cell(attack, n, ranks, {}, put("accuracy", balanced_accuracy(draws, natural.ids, s.ids[c], runs)))
    tpr = {level: put(f"tpr@{level}", rate(draws, s.ids[c], [f[c] for f in g.flags(s, level)])) for level in levels}
    gap = None
    if floor is not None and g.family != "floor":
        mine, theirs = (np.mean([f[c] for f in h.flags(s, levels[0])], 0) for h in (g, floor))
        gap = put(f"gap-to-floor@{levels[0]}", difference(draws, s.ids[c], [(mine, theirs)]))
    return Cell(attack, n, ranks, tpr, None, gap)


def noise_of(records: Records, ledger: Ledger, g: Group, kind: str, level: str) -> Noise | None:
    """A detector on a control as large as its training adversarials; None where there is none."""
    s, attacked = records.control_of(g, kind), records.twins(g, "test")
    if s is None or attacked is None or not g.on(s):
        return None
    natural, draws = records.natural("test"), records.resamples
    same = ~s.columns["changed"]
    flagged, before = g.flags(s, level), g.flags(natural, level)[: len(g.on(s))]
    name = "noise" if kind == NOISES[0] else kind

    def put(what: str, value: Interval) -> str:
        return ledger.add(f"{g.name}/{name}/{what}", value, g.protocol, [*g.keys, s.key])

    specificity = None
    if same.sum() >= FEWEST_UNCHANGED:
        runs = [(a[same], b[same]) for a, b in zip(flagged, before, strict=True)]
        specificity = put("excess-flags-on-unchanged", difference(draws, s.ids[same], runs))
    fooled = put("flags-on-changed", rate(draws, s.ids[~same], [f[~same] for f in flagged])) if (~same).sum() >= FEWEST else None
    ratio = float(s.columns["rms"].mean() / attacked.columns["rms"].mean())
    stamps = [f"{UNMATCHED[kind]} UNMATCHED"] if kind in UNMATCHED and abs(ratio - 1) > MATCHED else []
    return Noise(put("changed", rate(draws, s.ids, [~same])), specificity, fooled, int(same.sum()), stamps)
