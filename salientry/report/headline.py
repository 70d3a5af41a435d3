"""What the page must answer first: on the attacks that carry the question, what does the map find, and what finds as much without it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import Interval, balanced_accuracy, difference, rate
from .detection import FEWEST, Table
from .detection import Row as TableRow
from .numbers import Ledger
from .records import TITLES, Group, ImageSet, Records
from .stamps import lent

SHOWN = ("SPD", "SMD", "SPD (trunk)", "SMD (trunk)", "ID", "ID+", "fusion")
BLACK, MUCH = "BlackShare", 0.5  # where it finds more than that, it stands beside the best floor


@dataclass(frozen=True)
class Line:
    """One detector in the first table; fields are ids of numbers, None where there is none."""

    title: str
    tpr: str | None
    fpr: str | None
    noise: str | None
    transplant: str | None
    stamps: list[str]


@dataclass(frozen=True)
class Row:
    """One training attack, strict, tested on itself (of all attacks at once: on their mixture). All but the first four are ids."""

    attack: str
    n: int
    lines: list[Line]
    floor: str | None
    gain: dict[str, str]


@dataclass(frozen=True)
class Sign:
    """The paper's comparison, SPD against ID, published protocol: ids of the two accuracies and of their difference.

    Attributes:
        trained: on what.
        tested: on what.
        form: ``paired`` or ``replica``.
        verdict: what the difference says.
    """

    trained: str
    tested: str
    form: str
    spd: str
    id: str
    gap: str
    verdict: str


@dataclass(frozen=True)
class Headline:
    """The first table and the paper's sign.

    Attributes:
        rows: of the table.
        signs: published.
        black: strict training attack to the id of what BlackShare finds of it; empty where that is nowhere half.
    """

    rows: list[Row]
    signs: list[Sign]
    black: dict[str, str]


def headline(records: Records, ledger: Ledger, tables: list[Table]) -> Headline | None:
    """None where the records hold no row of its own fusion."""
    trained = [g.trained_on for g in records.groups if g.detector == "Fused" and g.form == "all"]
    wanted = [t for t in tables if t.protocol == "strict" and t.trained_on in trained and t.rows]
    if not any(t.trained_on != "combined" for t in wanted):
        return None
    rows = [_row(records, ledger, t) for t in sorted(wanted, key=lambda t: t.trained_on == "combined")]
    return Headline(rows, _signs(records, ledger, tables), _black(ledger, tables))


def _black(ledger: Ledger, tables: list[Table]) -> dict[str, str]:
    there = [(t.trained_on, _found(t, r)) for t in tables for r in t.rows if t.protocol == "strict" and r.group.title == BLACK]
    found = {attack: tpr for attack, tpr in there if tpr}
    return found if any(ledger.value(tpr) > MUCH for tpr in found.values()) else {}


def _found(table: Table, row: TableRow) -> str | None:
    """What a detector finds of the attack that it was trained on."""
    return next((c.tpr.get(table.levels[0]) for c in row.cells if c.attack == table.trained_on), None)


def _row(records: Records, ledger: Ledger, table: Table) -> Row:
    level, lines = table.levels[0], []
    always = (*SHOWN, table.best_floor, "Margin2")
    shown = [r for r in table.rows if r.group.title in always or (r.group.title == BLACK and ledger.value(_found(table, r) or "") > MUCH)]
    for r in sorted(shown, key=lambda r: SHOWN.index(r.group.title) if r.group.title in SHOWN else len(SHOWN)):
        noise, moved = r.noise, r.controls.get("Transplant")
        title = r.group.title + (", best floor" if r.group.title == table.best_floor else "")
        lines.append(
            Line(
                title,
                _found(table, r),
                r.fpr.get(level),
                noise.specificity if noise else None,
                moved.specificity if moved else None,
                r.stamps,
            )
        )
    twins = records.twins(table.rows[0].group, "test")
    n = int(twins.counts.sum()) if twins else 0
    gain = {} if twins is None or n < FEWEST else _gains(records, ledger, table, twins)
    without = _without(records, ledger, table, twins) if gain and twins else None
    return Row(table.trained_on, n, lines + ([without] if without else []), table.best_floor, gain)


def _without(records: Records, ledger: Ledger, table: Table, twins: ImageSet) -> Line | None:
    """The fusion without the map: it stands in no other table."""
    g, natural = records.group("strict", "Fused", table.trained_on, "without the map"), records.natural("test")
    if g is None:
        return None
    level, head, c = g.level, f"headline/{table.trained_on}/fusion without the map", twins.counts
    found = rate(records.resamples, twins.ids[c], [f[c] for f in g.flags(twins, level)])
    flags = rate(records.resamples, natural.ids, g.flags(natural, level))

    def more(kind: str) -> str | None:
        s = records.control_of(g, kind)
        if s is None or not g.on(s):
            return None
        same, before = ~s.columns["changed"], g.flags(natural, level)
        runs = [(a[same], b[same]) for a, b in zip(g.flags(s, level), before, strict=False)]
        value = difference(records.resamples, s.ids[same], runs)
        return ledger.add(f"{head}/{kind}/excess-flags-on-unchanged", value, "strict", [*g.keys, s.key])

    ids = ledger.add(f"{head}/tpr@{level}", found, "strict", g.keys), ledger.add(f"{head}/fpr@{level}", flags, "strict", g.keys)
    return Line("fusion without the map", *ids, more("MatchedNoise"), more("Transplant"), lent(records))


def _gains(records: Records, ledger: Ledger, table: Table, twins: ImageSet) -> dict[str, str]:
    """Differences in the share found, paired by image, mean over seeds."""
    groups = {r.group.title: r.group for r in table.rows}
    fused = {f: records.group("strict", "Fused", table.trained_on, f) for f in ("without the map", "logits alone", "logits with the map")}
    pairs = {
        "SPD minus the best floor": (groups.get("SPD"), groups.get(table.best_floor or "")),
        "SPD minus ID+": (groups.get("SPD"), groups.get("ID+")),
        "fusion with the map minus without": (groups.get("fusion"), fused["without the map"]),
        "logits with the map minus without": (fused["logits with the map"], fused["logits alone"]),
    }
    return {
        name: ledger.add(f"headline/{table.trained_on}/{name}", _difference(records, a, b, twins), "strict", sorted({*a.keys, *b.keys}))
        for name, (a, b) in pairs.items()
        if a is not None and b is not None
    }


def _difference(records: Records, a: Group, b: Group, s: ImageSet) -> Interval:
    """Share found by one minus by the other; seed by seed where both have several."""
    c = s.counts
    flags = [[f[c] for f in g.flags(s, g.level)] for g in (a, b)]
    if len(flags[0]) != len(flags[1]):
        flags = [[np.mean(f, 0)] for f in flags]
    return difference(records.resamples, s.ids[c], list(zip(*flags, strict=True)))


# --- the paper's sign -------------------------------------------------------------------------------------------


def _signs(records: Records, ledger: Ledger, tables: list[Table]) -> list[Sign]:
    """SPD minus ID where the paper says that SPD detects and ID is at chance: C&W and DeepFool, trained on themselves and on FGSM."""
    small = [a for a in records.labels if a.split("-")[0] in ("CarliniWagner", "DeepFool")]
    weak = [a for a in records.labels if a.split("-")[0] == "FGSM"][:1]
    stamped = {r.group.name: r.stamps for t in tables for r in t.rows}
    found = []
    for form in ("replica", "paired"):
        for trained, tested in [(a, a) for a in small] + [(w, a) for w in weak for a in small]:
            mine, theirs = (records.group("published", d, trained, form) for d in ("SPD", "ID"))
            s = records.sets.get(f"published/test/{tested}")
            if mine is not None and theirs is not None and s is not None and mine.on(s) and theirs.on(s):
                found.append(_sign(records, ledger, (mine, theirs), s, stamped))
    return found


def _sign(records: Records, ledger: Ledger, two: tuple[Group, Group], s: ImageSet, stamped: dict[str, list[str]]) -> Sign:
    natural, draws = records.natural("test"), records.resamples
    tested, form = str(s.facts["attack"]), two[0].form
    head, keys = f"headline/published/{form}/{two[0].trained_on}/{tested}", sorted({*two[0].keys, *two[1].keys})
    flags = [[(n, a) for n, a in zip(g.flags(natural, "own"), g.flags(s, "own"), strict=True)] for g in two]
    each = [
        ledger.add(f"{head}/{TITLES.get(g.detector, g.detector)}", balanced_accuracy(draws, natural.ids, s.ids, f), "published", g.keys)
        for g, f in zip(two, flags, strict=True)
    ]
    # every image is natural once and adversarial once: what is right of both halves, image by image
    right = [[(1.0 - n + a) / 2 for n, a in f] for f in flags]
    gap = difference(draws, natural.ids, list(zip(*right, strict=True)))
    verdict = "SPD is better" if gap.lo > 0 else "ID is better" if gap.hi < 0 else "undecided"
    if gap.lo > 0 and any(x.startswith("COLLAPSED") for x in stamped.get(two[1].name, [])):
        verdict = "holds only against a baseline that did not train"
    id = ledger.add(f"{head}/SPD minus ID", gap, "published", keys)
    return Sign(two[0].trained_on, tested, form, each[0], each[1], id, verdict)
