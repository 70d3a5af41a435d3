"""How well each detector notices: both protocols, with floors and controls beside every number."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..metrics import Interval, auroc, auroc_interval, balanced_accuracy, difference, rate
from .numbers import Ledger
from .records import Group, ImageSet, Records
from .stamps import Health, health

FEWEST = 30  # positives under which a cell is not printed
FEWEST_UNCHANGED = 100  # images under which specificity is not printed
MATCHED = 0.05


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
    """One detector on noise as large as its training attack: three numbers' ids and stamps."""

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
            lacking = missing_controls(records, protocol, attack)
            groups = [] if lacking else [g for g in records.of(protocol) if g.trained_on == attack]
            floor = _best_floor(records, groups)
            levels = levels_of(groups)
            rows = [_row(records, ledger, g, floor, levels) for g in sorted(groups, key=_place)]
            out.append(Table(protocol, attack, rows, floor.title if floor else None, lacking, levels))
    return out


def levels_of(groups: list[Group]) -> list[str]:
    """The calibrated levels, the largest first; only ``own`` where nothing was calibrated."""
    known = {level for g in groups for r in g.runs for level in (r.thresholds or {}) if level != "own"}
    return sorted(known, key=float, reverse=True) or ["own"]


def missing_controls(records: Records, protocol: str, attack: str) -> list[str]:
    """The mandatory controls that are not in the records: null, margin2 on the same attack, noise as large as the attack."""
    out = [] if records.controls(protocol, "Null") else ["null"]
    out += [] if records.group(protocol, "Margin2", attack) else [f"margin2 trained on {attack}"]
    noise = [s for s in records.controls(protocol, "MatchedNoise") if s.facts["of"] == attack]
    return out + ([] if noise else [f"noise matched to {attack}"])


def _place(g: Group) -> tuple[int, int]:
    return ("saliency", "image", "floor").index(g.family), g.form == "replica"


def _best_floor(records: Records, groups: list[Group]) -> Group | None:
    """Chosen on *select*, never on *test*."""

    def select_auroc(g: Group) -> float:
        twin = records.sets[f"{g.protocol}/select/{g.trained_on}"]
        natural, c = records.natural("select"), twin.counts
        return float(np.mean([auroc(n[c], a[c]) for n, a in zip(g.scores(natural), g.scores(twin), strict=True)]))

    floors = [g for g in groups if g.family == "floor"]
    return max(floors, key=select_auroc) if floors else None


def _row(records: Records, ledger: Ledger, g: Group, floor: Group | None, levels: list[str]) -> Row:
    natural, right = records.natural("test"), records.natural("test").columns["right"]
    draws = records.resamples

    def put(name: str, found: Interval) -> str:
        return ledger.add(f"{g.name}/{name}", found, g.protocol, g.keys)

    flags = {level: _flags(g, natural, level) for level in levels}
    fpr = {level: put(f"fpr@{level}", rate(draws, natural.ids, flags[level])) for level in levels}
    only_right = put(f"fpr-right@{levels[0]}", rate(draws, natural.ids[right], [f[right] for f in flags[levels[0]]]))
    cells = [_cell(records, ledger, g, s, floor, levels) for s in records.attacked(g.protocol)]
    null = records.controls(g.protocol, "Null")
    gap = [float(np.abs(a - b).max()) for a, b in zip(g.scores(natural), g.scores(null[0]), strict=True)] if null else []
    nan = float("nan")
    null_id = put("null-difference", Interval(max(gap), nan, nan, len(natural), tuple(gap))) if gap else None
    return Row(g, health(records, ledger, g), fpr, only_right, cells, _noise(records, ledger, g, levels[0]), null_id)


def _flags(g: Group, of: ImageSet, level: str) -> list[np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """(N,) flags of each seed; under ``own`` the threshold is 0."""
    thresholds = [0.0 for _ in g.runs] if level == "own" else g.thresholds(level)
    return [s > t for s, t in zip(g.scores(of), thresholds, strict=True)]


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
        runs = list(zip(_flags(g, natural, "own"), [f[c] for f in _flags(g, s, "own")], strict=True))
        return Cell(attack, n, ranks, {}, put("accuracy", balanced_accuracy(draws, natural.ids, s.ids[c], runs)))
    tpr = {level: put(f"tpr@{level}", rate(draws, s.ids[c], [f[c] for f in _flags(g, s, level)])) for level in levels}
    gap = None
    if floor is not None and g.family != "floor":
        mine, theirs = (np.mean([f[c] for f in _flags(h, s, levels[0])], 0) for h in (g, floor))
        gap = put(f"gap-to-floor@{levels[0]}", difference(draws, s.ids[c], [(mine, theirs)]))
    return Cell(attack, n, ranks, tpr, None, gap)


def _noise(records: Records, ledger: Ledger, g: Group, level: str) -> Noise | None:
    found = [s for s in records.controls(g.protocol, "MatchedNoise") if s.facts["of"] == g.trained_on]
    if not found:
        return None
    s, natural, draws = found[0], records.natural("test"), records.resamples
    attacked = records.sets[f"{g.protocol}/test/{g.trained_on}"]
    same = ~s.columns["changed"]
    flagged, before = _flags(g, s, level), _flags(g, natural, level)

    def put(name: str, value: Interval) -> str:
        return ledger.add(f"{g.name}/noise/{name}", value, g.protocol, [*g.keys, s.key])

    specificity = None
    if same.sum() >= FEWEST_UNCHANGED:
        runs = [(a[same], b[same]) for a, b in zip(flagged, before, strict=True)]
        specificity = put("excess-flags-on-unchanged", difference(draws, s.ids[same], runs))
    fooled = put("flags-on-changed", rate(draws, s.ids[~same], [f[~same] for f in flagged])) if (~same).sum() >= FEWEST else None
    ratio = float(s.columns["rms"].mean() / attacked.columns["rms"].mean())
    stamps = ["NOISE UNMATCHED"] if abs(ratio - 1) > MATCHED else []
    return Noise(put("changed", rate(draws, s.ids, [~same])), specificity, fooled, int(same.sum()), stamps)
