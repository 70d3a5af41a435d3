"""A table is a query over the frame of numbers: which numbers, what a row is, what a column is, what a cell says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..rates import THIN, percent
from .words import said

Where = Mapping[str, Any]  # a column of the frame to a value, a tuple of values, None (no value) or a question asked of the value


class Number(NamedTuple):
    """A number of the frame, as a cell holds it. ``of``: its run, where several stand on a page; ``at``: its place in the run's
    report.json, −1 where it has none; ``each``: the interval of each seed's value over images, where it is known.
    """

    id: str
    value: float
    lo: float
    hi: float
    n: int
    seeds: tuple[float, ...]
    of: str = ""
    at: int = -1
    each: tuple[tuple[float, float], ...] = ()


class Doubt(NamedTuple):
    """A warning: a word or two, a sentence, and the code by which it is known."""

    word: str
    text: str
    code: str = ""


@dataclass(frozen=True)
class Column:
    """One column. ``cell``: text with measures in braces, ``{tpr@LEVEL}``; behind a ``|`` how it is printed (see
    :func:`render.number`). A part of the text, up to ``;`` or the end of a line, is left out where one of its numbers is missing; where
    the first part is left out, so is the cell. ``LEVEL`` and ``SECOND`` are the calibrated false-positive rates, the largest first.
    """

    head: str
    cell: str
    where: Where = field(default_factory=dict)


@dataclass(frozen=True)
class Across:
    """The same columns once more for each value of a column of the frame: those that occur, or ``values`` (to the words above them)."""

    by: str
    columns: Sequence[Column | Across]
    values: Sequence[Any] | Mapping[Any, str] | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: heading.
        says: one sentence on what it shows.
        rows: columns of the frame; each combination of their values is a row.
        columns: from left to right.
        where: which numbers.
        heads: above the rows' labels.
        order: by column of ``rows``: these values and no others, in this order, to the words that are printed where it is a mapping.
        diagonal: only numbers tested on what they were trained on.
        empty: what stands where there is no number.
        warned: warnings on a row's detector stand below its name.
        shaded: from .5 or 0 (white) to 1 (dark): the lower end, None for no shading.
        fold: folded away under its title.
    """

    title: str
    says: str
    rows: Sequence[str]
    columns: Sequence[Column | Across]
    where: Where = field(default_factory=dict)
    heads: Sequence[str] = ()
    order: Mapping[str, Sequence[Any] | Mapping[Any, str]] = field(default_factory=dict)
    diagonal: bool = False
    empty: str = ""
    warned: bool = False
    shaded: float | None = None
    fold: bool = False


class Leaf(NamedTuple):
    """A column with all that is above it."""

    heads: tuple[str, ...]
    where: dict[str, Any]
    cell: str


@dataclass(frozen=True)
class Line:
    """A row: its labels, and in each cell parts of text and numbers (a number with how it is printed), None where there is nothing."""

    key: tuple[Any, ...]
    labels: tuple[str, ...]
    cells: list[list[str | tuple[Number, str]] | None]
    warnings: list[Doubt]
    baseline: bool


@dataclass(frozen=True)
class Filled:
    """A table with its numbers."""

    table: Table
    leaves: list[Leaf]
    lines: list[Line]


def matches(row: Any, where: Where) -> bool:
    """Whether a row (with the frame's columns as attributes or items) has these values."""
    for column, wanted in where.items():
        found = row[column]
        if callable(wanted):
            ok = wanted(found)
        elif isinstance(wanted, tuple):
            ok = found in wanted
        else:
            ok = found is None if wanted is None else found == wanted
        if not ok:
            return False
    return True


def chosen(numbers: Sequence[dict[str, Any]], where: Where) -> list[dict[str, Any]]:
    """The numbers that have these values."""
    return [r for r in numbers if matches(r, where)]


def find(numbers: Sequence[dict[str, Any]], **where: Any) -> Number | None:
    """The first number in this place, None where there is none."""
    row = next((r for r in numbers if matches(r, where)), None)
    return None if row is None else number_of(row)


def number_of(r: Mapping[str, Any]) -> Number:
    """A row of the frame as a number."""
    return Number(
        r["id"], r["value"], r["lo"], r["hi"], r["n"], r["seeds"], r.get("run") or "", int(r.get("at", -1)), tuple(r.get("each") or ())
    )


@dataclass(frozen=True)
class Context:
    """What a table must know beside the numbers.

    Attributes:
        levels: calibrated false-positive rates, the largest first; ``own`` where nothing was calibrated.
        reduced: labels of the attacks that ran at reduced settings: they have a star.
        warned: what is doubtful about the place of a row.
    """

    levels: Sequence[str] = ("0.05", "0.01")
    reduced: frozenset[str] = frozenset()
    warned: Callable[[Mapping[str, Any]], list[Doubt]] = lambda place: []

    def said(self, column: str, value: Any) -> str:
        """A value of a column as it is printed."""
        return said(column, value) + ("*" if column in ("attack", "tested_on", "against") and value in self.reduced else "")


def fill(table: Table, numbers: Sequence[dict[str, Any]], context: Context | None = None) -> Filled:
    """Put the numbers into a table.

    Raises:
        ValueError: when two numbers would stand in one cell: the table does not say enough.
    """
    context = context or Context()
    mine = [r for r in chosen(numbers, table.where) if not table.diagonal or r["tested_on"] in (None, r["trained_on"])]
    leaves = [x for x in _leaves(context, table.columns, mine, {}) if "SECOND" not in x.cell or len(context.levels) > 1]
    leaves = [_at_levels(x, context.levels) for x in leaves]
    indices = [_index(table, mine, leaf) for leaf in leaves]
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for r in mine:
        key = tuple(r[c] for c in table.rows)
        if None not in key:
            first.setdefault(key, r)
    lines = []
    for key in _ordered(table, list(first)):
        cells = [_cell(leaf.cell, key, index) for leaf, index in zip(leaves, indices, strict=True)]
        if not any(c is not None for c in cells) and not table.order:
            continue
        at = {c: v for c, v in table.where.items() if isinstance(v, str)} | dict(zip(table.rows, key, strict=True))
        there = context.warned(at) if table.warned else []
        lines.append(Line(key, _labels(context, table, key), cells, there, key in first and first[key].get("group") == "baseline"))
    return Filled(table, leaves, lines)


def _at_levels(leaf: Leaf, levels: Sequence[str]) -> Leaf:
    where = {k: _at(v, levels) if isinstance(v, str) else v for k, v in leaf.where.items()}
    return Leaf(tuple(_at(h, levels) for h in leaf.heads), where, _at(leaf.cell, levels))


def _at(text: str, levels: Sequence[str]) -> str:
    names = dict(zip(("LEVEL", "SECOND"), levels, strict=False))
    for name, level in names.items():
        share = "its own 0" if level == "own" else percent(level).replace(" ", THIN)
        text = text.replace(f"@{name}", f"@{level}").replace(name, share)
    return text


def _leaves(context: Context, columns: Sequence[Column | Across], rows: list[dict[str, Any]], where: dict[str, Any]) -> list[Leaf]:
    out: list[Leaf] = []
    for c in columns:
        if isinstance(c, Column):
            out.append(Leaf((c.head,), where | dict(c.where), c.cell))
            continue
        there = list(dict.fromkeys(r[c.by] for r in rows if r[c.by] is not None)) if c.values is None else list(c.values)
        for v in there:
            words = c.values[v] if isinstance(c.values, Mapping) else context.said(c.by, v)
            inner = _leaves(context, c.columns, [r for r in rows if r[c.by] == v], where | {c.by: v})
            out += [leaf._replace(heads=(words, *(h for h in leaf.heads if h))) for leaf in inner]
    return out


def _index(table: Table, rows: list[dict[str, Any]], leaf: Leaf) -> dict[tuple[Any, ...], Number]:
    wanted = {m.partition("|")[0] for m in re.findall(r"\{([^}]+)\}", leaf.cell)}
    out: dict[tuple[Any, ...], Number] = {}
    for r in rows:
        if r["measure"] in wanted and matches(r, leaf.where):
            at = (*(r[c] for c in table.rows), r["measure"])
            if None in at:
                continue  # of no row
            if at in out:
                raise ValueError(f"{table.title}, {' '.join(leaf.heads)}: {out[at].id} and {r['id']} would stand in one cell")
            out[at] = number_of(r)
    return out


def _ordered(table: Table, keys: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Column after column in the order that the table gives, or as the values come; with ``empty`` also the rows without numbers."""
    orders = [list(table.order.get(c) or dict.fromkeys(k[i] for k in keys)) for i, c in enumerate(table.rows)]
    if len(table.rows) == 1 and table.empty and table.order:
        return [(v,) for v in orders[0]]
    places = [{v: i for i, v in enumerate(order)} for order in orders]
    kept = [k for k in keys if all(v in place for v, place in zip(k, places, strict=True))]
    return sorted(kept, key=lambda k: [place[v] for v, place in zip(k, places, strict=True)])


def _labels(context: Context, table: Table, key: tuple[Any, ...]) -> tuple[str, ...]:
    out = []
    for c, v in zip(table.rows, key, strict=True):
        words = table.order.get(c)
        out.append(words[v] if isinstance(words, Mapping) else context.said(c, v))
    return tuple(out)


def _cell(cell: str, key: tuple[Any, ...], index: Mapping[tuple[Any, ...], Number]) -> list[str | tuple[Number, str]] | None:
    out: list[str | tuple[Number, str]] = []
    for i, part in enumerate(re.split(r"(?=; |\n)", cell)):
        pieces: list[str | tuple[Number, str]] = []
        for k, text in enumerate(re.split(r"\{([^}]+)\}", part)):
            if k % 2:
                measure, _, how = text.partition("|")
                found = index.get((*key, measure))
                if found is None:
                    break
                pieces.append((found, how))
            elif text:
                pieces.append(text)
        else:
            out += pieces
            continue
        if i == 0:
            return None
    return out
