"""The paper's tables with a column for each data set: rows of several runs, whose attacks have settings of their own, put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import targets
from .compute import Computed
from .paper import MEANS, Cell, Line, Table
from .threshold import Size

COLUMNS = ("MNIST", "CIFAR-10", "ASSIRA")  # as the paper prints them
ALONE = "the records hold the white box alone"


@dataclass(frozen=True)
class Place:
    """What stands in a row for a data set.

    Attributes:
        cells: ours beside the paper's, one for each group of columns.
        label: our attack's, empty where nothing of ours is there.
        said: our attack as it is shown, where that is not the row's title.
        why: why nothing of ours is there.
        p: Table 1: as in :class:`~salientry.report.paper.Line`, like ``bold``.
        bold: Table 2.
    """

    cells: list[Cell]
    label: str = ""
    said: str = ""
    why: str = ""
    p: tuple[str | None, str] | None = None
    bold: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class Row:
    """A row of a table: its title and a place for each data set."""

    title: str
    places: list[Place]


@dataclass(frozen=True)
class Joined:
    """One of the paper's tables for all data sets; ``whys``: for each data set why nothing of ours is there, empty where something is."""

    number: int
    name: str
    trunk: bool
    groups: list[str]
    rows: list[Row]
    whys: list[str]

    @property
    def percent(self) -> bool:
        """Whether its values are printed in percent."""
        return self.number == 4

    @property
    def means(self) -> str:
        """What the unit is worth here."""
        return MEANS[self.number]

    @property
    def suspect(self) -> list[str]:
        """Words on the paper's cells that are doubted."""
        return list(dict.fromkeys(c.printed.suspect for r in self.rows for p in r.places for c in p.cells if c.printed.suspect))


@dataclass(frozen=True)
class Source:
    """Where a data set's places come from: the paper's column, and our numbers, or why there are none."""

    column: str
    found: Computed | None
    why: str = ""


def joined(sources: list[Source]) -> list[Joined]:
    """All tables; those of a map from the classifier's trunk behind the same of a second net, where any run has one."""
    there = {(t.number, t.trunk) for s in sources if s.found for t in s.found.paper.tables}
    wanted = [(k, trunk) for k in targets.TABLES for trunk in (False, True) if not trunk or (k, trunk) in there]
    return [_joined(k, trunk, sources) for k, trunk in wanted]


def _joined(number: int, trunk: bool, sources: list[Source]) -> Joined:
    tables = [_table(s, number, trunk) for s in sources]
    whys = [_why(s, t) for s, t in zip(sources, tables, strict=True)]
    rows = [r for name in targets.rows(number) for r in _rows(number, name, sources, tables, whys)]
    name, groups = targets.TABLES[number]
    return Joined(number, name, trunk, groups, rows, whys)


def _table(source: Source, number: int, trunk: bool) -> Table | None:
    found = source.found.paper.tables if source.found else []
    return next((t for t in found if (t.number, t.trunk) == (number, trunk)), None)


def _why(source: Source, table: Table | None) -> str:
    if source.found is None:
        return source.why
    if table is None:
        return "no such map in the records" if source.found.natural else ALONE
    return table.why


@dataclass
class _Slot:
    """A row in the making: lines by the place of their data set."""

    title: str
    lines: dict[int, Line] = field(default_factory=dict)


def _rows(number: int, name: str, sources: list[Source], tables: list[Table | None], whys: list[str]) -> list[Row]:
    """The rows for one of the paper's: more than one where a run has several attacks of that name.

    A line goes to the row of its own title; else, since data sets have settings of their own, to the first that is free for its data set.
    """
    mine = [[x for x in (t.lines if t else []) if x.name == name and any(c.ours for c in x.cells)] for t in tables]
    slots: list[_Slot] = []
    for k, lines in enumerate(mine):
        for line in lines:
            slot = next((s for s in slots if s.title == line.title), None)
            if slot is None and k == next(i for i, other in enumerate(mine) if other):
                slots.append(slot := _Slot(line.title))
            if slot is not None:
                slot.lines[k] = line
        for line in (x for x in lines if not any(s.lines.get(k) is x for s in slots)):
            slot = next((s for s in slots if k not in s.lines), None)
            if slot is None:
                slots.append(slot := _Slot(line.title))
            slot.lines[k] = line
    slots = slots or [_Slot(targets.words(number, name))]
    return [Row(s.title, [_place(number, name, s, k, sources[k], whys[k]) for k in range(len(sources))]) for s in slots]


def _place(number: int, name: str, slot: _Slot, k: int, source: Source, why: str) -> Place:
    line = slot.lines.get(k)
    if line is not None:
        return Place(line.cells, line.label, line.title if line.title != slot.title else "", "", line.p, line.bold)
    printed = targets.row(number, name, source.column)
    p = None
    if number == 1 and name != "different_images":
        p = (None, f"{targets.printed()['table1'][name][source.column]['p_value']:.2f}")
    theirs = number == 2 and Size(printed[1].mean, printed[2].mean).bold
    return Place([Cell(c) for c in printed], why=why or "not run", p=p, bold=(False, theirs))
