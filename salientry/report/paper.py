"""The paper's tables beside ours, and what its text claims: cell by cell, with the difference in units of its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..metrics import Interval
from ..store import JSON
from . import algorithms, claims, targets, threshold, verdicts, white_box, white_box_claims
from .cells import FOUND, Cells
from .detection import Table as Detection
from .numbers import Ledger
from .records import Records, attack_title, own_trunk
from .targets import ATTACKS, Printed

NORMAL = 2 * 1.959964  # width of a normal 95 % interval in standard errors
UNIT = (
    "The unit is the square root of a² + b² + c²: a, our standard error, the width of our 95 % interval over 3.92; b, the standard "
    "deviation that the paper prints, 0 where it prints none; c, the rounding of the paper's mean, half its last digit over √3."
)
MEANS = {  # what the unit is worth, by table: it depends on what the paper's standard deviation is over
    1: "b is over images: the difference is an effect size, in spreads of single images, and no test.",
    2: "The paper prints no standard deviation, so b is 0: its own error over images is not in the unit.",
    3: "b is over runs.",
    4: "The paper prints no standard deviation, so b is 0: its own error over images is not in the unit.",
    5: "b is over images: the difference is an effect size, in spreads of single images, and no test.",
    6: "b is over runs; ours are the seeds in small print.",
}


@dataclass(frozen=True)
class Cell:
    """Ours beside the paper's; ids of numbers, None where there is none.

    Attributes:
        printed: the paper's.
        ours: our number.
        difference: ours minus the paper's, with our interval.
        units: that over its unit, see :func:`unit`.
    """

    printed: Printed
    ours: str | None = None
    difference: str | None = None
    units: str | None = None


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        label: our attack's label, empty where the row is none or was not run.
        title: as it is shown; where ours and the paper's names differ, the paper's behind a dot.
        cells: one for each group of columns.
        p: Table 1: id of our two-sided p and the paper's text.
        bold: Table 2: whether ours, and whether the paper's, is bold.
        name: of the paper's row, as in :func:`targets.rows`.
    """

    label: str
    title: str
    cells: list[Cell]
    p: tuple[str | None, str] | None = None
    bold: tuple[bool, bool] = (False, False)
    name: str = ""


@dataclass(frozen=True)
class Table:
    """One of the paper's tables; ``why`` says why nothing of ours stands in it, ``trunk`` that its map is one of the classifier's trunk."""

    number: int
    name: str
    groups: list[str]
    lines: list[Line]
    percent: bool = False
    why: str = ""
    trunk: bool = False

    @property
    def means(self) -> str:
        """What the unit is worth here."""
        return MEANS[self.number]


@dataclass(frozen=True)
class Paper:
    """Everything that stands beside the paper; ``column`` is None for a data set that it does not have."""

    column: str | None
    digits: bool
    tables: list[Table]
    bold: list[threshold.Bold]
    correlations: list[threshold.Correlation]
    claims: list[claims.Claim]
    unit: str = UNIT
    found: float = FOUND["published"]
    found_strict: float = FOUND["strict"]

    @property
    def said(self) -> list[verdicts.Said]:
        """The 21 claims, each with its lines."""
        return verdicts.all_of(self.claims)

    @property
    def suspect(self) -> list[str]:
        """Words on the cells that are doubted."""
        return [c.printed.suspect for t in self.tables for line in t.lines for c in line.cells if c.printed.suspect]


def paper(
    records: Records, ledger: Ledger, detection: list[Detection], siege: white_box.Siege | None, steps: algorithms.Algorithms | None
) -> Paper:
    """All of it; the other numbers must be in the ledger already."""
    column = targets.column_of(records)
    if column is None:
        return Paper(None, False, [], [], [], [])
    against = white_box_claims.claims(records, ledger, column, steps, siege)
    if not records.whole:
        return Paper(column, False, [_white_box(ledger, column, steps)], [], [], verdicts.without_black_box(against))
    named = targets.attacks_of(records, column)
    sizes = threshold.sizes_of(records, named)
    cells = Cells(records, detection)
    shown = [
        *_distances(records, ledger, column, named),
        _sizes(ledger, column, named, sizes),
        _white_box(ledger, column, steps),
        _accuracies(ledger, column, named),
        *_pairs(records, ledger, column, named),
        _combined(ledger, column),
    ]
    return Paper(
        column,
        records.dataset.startswith("digits"),
        sorted(shown, key=lambda t: t.number),
        threshold.bold(cells, ledger, sizes),
        threshold.correlations(records, cells, ledger, named),
        verdicts.claims(records, cells, ledger, named, sizes, against),
    )


def unit(lo: float, hi: float, printed: Printed) -> float:
    """The uncertainty of a difference between our number and the paper's: one rule for all tables.

    The square root of a² + b² + c². a: our bootstrap standard error, (hi - lo) / 3.92. b: the standard deviation that the paper
    prints, 0 where it prints none; over images in Tables 1 and 5 (then the difference is an effect size), over runs in Tables 3
    and 6. c: the rounding of the paper's mean, uniform over its last digit: half of it over the square root of 3. So a difference
    is finite also where the paper prints a standard deviation of 0.00.
    """
    return math.sqrt(((hi - lo) / NORMAL) ** 2 + (printed.std or 0.0) ** 2 + printed.rounding**2)


def _beside(ledger: Ledger, head: str, ours: str, printed: Printed) -> Cell:
    """A cell, its difference and units entered as ``head/difference`` and ``head/units``."""
    if ours not in ledger:
        return Cell(printed)
    n = ledger[ours]
    if n.value is None or n.lo is None or n.hi is None:
        return Cell(printed, ours)
    gap = Interval(n.value - printed.mean, n.lo - printed.mean, n.hi - printed.mean, n.n, tuple((r or 0.0) - printed.mean for r in n.runs))
    difference = ledger.add(f"{head}/difference", gap, n.protocol, n.keys)
    units = ledger.add(f"{head}/units", gap.value / unit(n.lo, n.hi, printed), n.protocol, n.keys, n.n)
    return Cell(printed, ours, difference, units)


def _ours(ledger: Ledger, named: dict[str, str], of: str) -> Iterator[tuple[str, str, str]]:
    """(our label, shown title, the paper's row) for each of the paper's attacks; an empty label where none of ours has a number.

    ``of``: the name of that number, with ``{}`` for the label.
    """
    for name in ATTACKS.values():
        for label in [a for a, n in named.items() if n == name and of.format(a) in ledger] or [""]:
            words = targets.WORDS.get(name, name)
            mine = attack_title(label) if label else words
            yield label, mine if mine == words else f"{mine} · {words}", name


def _learnt(records: Records) -> list[str]:
    """The learnt maps whose shift was measured."""
    return [
        str(s.facts["saliency"])
        for s in records.sets.values()
        if s.facts["kind"] == "shift" and s.facts["protocol"] == "published" and "UNet" in str(s.facts["saliency"])
    ]


def _distances(records: Records, ledger: Ledger, column: str, named: dict[str, str]) -> Iterator[Table]:
    """Table 1, for each learnt map."""
    rows, maps = targets.printed()["table1"], _learnt(records)
    for saliency in maps or [""]:
        head, at = f"published/shift/{saliency}", "paper/table1" + (f"/{saliency}" if len(maps) > 1 else "")
        first = _beside(ledger, f"{at}/different images", f"{head}/other", targets.cell(rows["different_images"], column))
        lines = [Line("", targets.WORDS["different_images"], [first], name="different_images")]
        for label, title, name in _ours(ledger, named, f"{head}/{{}}/shift"):
            found = _beside(ledger, f"{at}/{label}", f"{head}/{label}/shift", targets.cell(rows[name], column))
            p = f"{head}/{label}/p-two-sided"
            lines.append(Line(label, title, [found], (p if p in ledger else None, f"{rows[name][column]['p_value']:.2f}"), name=name))
        why = "" if maps else "no maps were compared"
        yield Table(1, *targets.TABLES[1], lines, why=why, trunk=own_trunk(saliency))


def _sizes(ledger: Ledger, column: str, named: dict[str, str], sizes: dict[str, threshold.Size]) -> Table:
    """Table 2."""
    rows, lines = targets.printed()["table2"], []
    for label, title, name in _ours(ledger, named, "published/attack/{}/rms"):
        printed = {k: targets.cell(rows[name][k], column) for k in ("L0_rate", "L2", "Linf")}
        ids = zip(printed.values(), ("l0", "rms", "linf"), strict=True)
        cells = [_beside(ledger, f"paper/table2/{label}/{k}", f"published/attack/{label}/{k}", c) for c, k in ids]
        theirs = threshold.Size(printed["L2"].mean, printed["Linf"].mean)
        lines.append(Line(label, title, cells, None, (label in sizes and sizes[label].bold, theirs.bold), name))
    return Table(2, *targets.TABLES[2], lines)


def _white_box(ledger: Ledger, column: str, steps: algorithms.Algorithms | None) -> Table:
    """Table 3: the rows that the paper prints; its attack as printed, after its number of passes."""
    rows, lines = targets.printed()["table3"], []
    for when in ("before", "after"):
        for defence in ("SMD", "SPD"):
            found = rows[f"{when}_adversarial_training"]
            ours = {} if steps is None else steps.printed(defence, when)
            cells = [
                _beside(
                    ledger, f"paper/table3/{defence} {when}/{k}", ours.get(k, ""), targets.cell(found[f"{k}_accuracy"][defence], column)
                )
                for k in ("classifier", "detector")
            ]
            lines.append(Line("", f"{defence} {when} adversarial training", cells, name=f"{defence} {when}"))
    return Table(3, *targets.TABLES[3], lines, why="" if steps else "no white-box attack in the records")


def _accuracies(ledger: Ledger, column: str, named: dict[str, str]) -> Table:
    """Table 4."""
    rows = targets.printed()["table4"]

    def line(label: str, title: str, name: str, ours: str) -> Line:
        printed = targets.cell(rows[name], column, percent=True)
        return Line(label, title, [_beside(ledger, f"paper/table4/{label or name}", ours, printed)], name=name)

    lines = [line("", "natural", "natural", "any/natural/accuracy")]
    lines += [
        line(label, title, name, f"published/attack/{label}/accuracy")
        for label, title, name in _ours(ledger, named, "published/attack/{}/accuracy")
    ]
    return Table(4, *targets.TABLES[4], lines, percent=True)


def _pairs(records: Records, ledger: Ledger, column: str, named: dict[str, str]) -> Iterator[Table]:
    """Table 5, for each learnt map."""
    rows, maps = targets.printed()["table5"], _learnt(records)
    for saliency in maps or [""]:
        at = "paper/table5" + (f"/{saliency}" if len(maps) > 1 else "")
        lines = []
        for row, printed in ((k, v) for k, v in rows.items() if not k.startswith("_")):
            names = row.split("-")
            both = [(a, b) for a in named for b in named if [named[a], named[b]] == names]
            ids = [(a, b, f"published/shift/{saliency}/{x}|{y}") for a, b in both for x, y in ((a, b), (b, a))]
            ids = [found for found in ids if found[2] in ledger]
            cell = targets.cell(printed, column)
            lines += [_pair(ledger, at, a, b, id, cell, row) for a, b, id in ids] or [
                Line("", targets.words(5, row), [Cell(cell)], name=row)
            ]
        why = "" if maps else "no maps were compared"
        yield Table(5, *targets.TABLES[5], lines, why=why, trunk=own_trunk(saliency))


def _pair(ledger: Ledger, at: str, a: str, b: str, ours: str, printed: Printed, name: str) -> Line:
    title = f"{attack_title(a)} – {attack_title(b)}"
    return Line(f"{a}|{b}", title, [_beside(ledger, f"{at}/{a}|{b}", ours, printed)], name=name)


def _combined(ledger: Ledger, column: str) -> Table:
    """Table 6: two forms of ours beside one number of the paper's."""
    rows: JSON = targets.printed()["table6"]
    lines = []
    for defence in ("ID", "JSD", "SMD", "SPD"):
        printed, cells = targets.cell(rows[defence], column), []
        for form, name in (("paired", defence), ("replica", f"{defence} (replica)")):
            ours = f"published/{name}/combined/combined/accuracy"
            cells.append(_beside(ledger, f"paper/table6/{defence}/{form}", ours, printed))
        lines.append(Line("", defence, cells, name=defence))
    return Table(6, *targets.TABLES[6], lines)
