"""The one format of numbers, and tables as HTML, Markdown and CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from itertools import groupby

from markupsafe import Markup

from ..inference import LEAST_SEEDS, beside
from ..rates import THIN, long, more_decimals, row, short
from ..rates import percent as in_text
from .spec import Filled, Line, Number

FEW = 7  # columns: with no more of them an interval stands beside its number, else below it
WIDEST = 13  # columns that a sheet of paper has room for, without those of the rows' names
LONG = 40  # letters of a row's label beyond which it is broken into lines
Parts = Sequence[str | tuple[Number, str]] | None


def percent(level: str) -> str:
    """``0.05`` as ``5 %``, with the space of typography, which no line ends at."""
    return in_text(level).replace(" ", THIN)


def parts(n: Number, how: str = "") -> tuple[str, str, str]:
    """A number, its interval and its seeds, as text; empty where one is not printed.

    An interval whose ends would be printed alike has as many more decimals as tell them apart; one without any width is none. The values
    of two to four seeds stand beside an interval that they spread wider than.

    ``how``, several with commas between: ``bare`` without an interval, ``percent``, ``count`` (a whole number), ``p`` (a p-value),
    ``seeds`` (the values of several seeds where they differ: the interval knows nothing of other seeds), ``dN`` (N decimals, as the
    paper prints), ``range`` (of two to four seeds the least and the most in place of mean and interval: what a sentence may say), ``ofN``
    (a share of N attacks, whose ends are shares of them too).
    """
    ways = set(how.split(",")) if how else set()
    if (attacks := _number(ways, "of")) is not None:
        return _of(n, attacks), "", ""
    if "count" in ways:
        return f"{n.value:,.0f}", "", ""
    if "p" in ways:
        return "–" if not math.isfinite(n.value) else "<10⁻⁴" if n.value < 1e-4 else "<.001" if n.value < 1e-3 else short(n.value), "", ""
    if "range" in ways and 1 < len(n.seeds) < LEAST_SEEDS:
        low, high = (_one(v, ways) for v in beside(n.seeds, n.lo, n.hi)[:2])
        if low != high:
            return f"{low} to {high}", "", ""
    more = None if "bare" in ways else more_decimals(n.lo, n.hi, lambda v, more: _one(v, ways, more))
    ends = "" if more is None else f"[{_one(n.lo, ways, more)}, {_one(n.hi, ways, more)}]"
    seeds = [_one(s, ways, more or 0) for s in n.seeds] if "seeds" in ways or (ends and wider(n)) else []
    return _one(n.value, ways, more or 0), ends, " · ".join(seeds) if len(set(seeds)) > 1 else ""


def _number(ways: set[str], word: str) -> int | None:
    """N of ``wordN``."""
    return next((int(w[len(word) :]) for w in ways if w.startswith(word) and w[len(word) :].isdigit()), None)


def _one(v: float, ways: set[str], more: int = 0) -> str:
    """A value with so many decimals more than usual."""
    if "percent" in ways:
        return short(v, True, 1 + more)
    digits = _number(ways, "d") or 3
    if digits <= 3 or not math.isfinite(v):
        return short(v, False, 3 + more)
    return long(v, digits + more)


def _of(n: Number, attacks: int) -> str:
    """``3 of 6 attacks``; where the ends are not the same, how many are certain and how many possible."""
    if not math.isfinite(n.value):
        return "–"
    least, k, most = (round(v * attacks) if math.isfinite(v) else None for v in (n.lo, n.value, n.hi))
    between = "" if least == most else f" ({least} certain, {most} possible)"
    return f"{k} of {attacks} attack{'s' * (attacks != 1)}{between}"


def wider(n: Number) -> bool:
    """Whether two to four seeds spread wider than the interval of their mean is, or two of them lie outside it."""
    seeds = [s for s in n.seeds if math.isfinite(s)]
    if not 1 < len(seeds) < LEAST_SEEDS:
        return False
    return max(seeds) - min(seeds) > n.hi - n.lo or sum(not n.lo <= s <= n.hi for s in seeds) > 1


def over(numbers: Iterable[int], images: str = "over images") -> str:
    """Of what the intervals of numbers speak, in words; given is of how many seeds each is, and how it is said of images."""
    counts = set(numbers)
    many = sorted(k for k in counts if k >= LEAST_SEEDS)
    if not many:
        return images
    said = f"over {' or '.join(map(str, many))} seeds, on these images"
    return f"{said}; of fewer seeds {images}" if len(many) < len(counts) else said


def text(n: Number | None, how: str = "") -> str:
    """A number in running text and in Markdown: ``.135 [.117, .155]``, with seeds ``.777 [.754, .798] (.653 · .882 · .796)``; nothing
    where there is none.
    """
    if n is None:
        return ""
    value, ends, seeds = parts(n, how)
    return " ".join(p for p in (value, ends, f"({seeds})" if seeds else "") if p)


_SHOWN: ContextVar[set[tuple[str, str]] | None] = ContextVar("shown", default=None)


@contextlib.contextmanager
def shown() -> Iterator[set[tuple[str, str]]]:
    """Collects (run, id) of every number that is put on a page meanwhile."""
    found: set[tuple[str, str]] = set()
    before = _SHOWN.set(found)
    try:
        yield found
    finally:
        _SHOWN.reset(before)


def mark(n: Number | None, how: str = "") -> Markup:
    """A number in a page, marked with its place in the run's report.json (its id holds settings, which no page prints)."""
    if n is None:
        return Markup('<span class="none">–</span>')
    if (noted := _SHOWN.get()) is not None:
        noted.add((n.of, n.id))
    value, ends, seeds = parts(n, how)
    of = Markup(' data-of="{}"').format(n.of) if n.of else Markup("")
    at = Markup(' data-n="{}"').format(n.at) if n.at >= 0 else Markup("")
    out = Markup('<span class="num"{}{} title="{}">{}').format(of, at, _title(n, how, bool(ends)), value)
    out += Markup(" <small>{}</small>").format(ends) if ends else Markup("")
    return out + Markup("</span>") + (Markup('<small class="seeds">seeds {}</small>').format(seeds) if seeds else Markup(""))


def _title(n: Number, how: str, ends: bool) -> str:
    """What stands behind a number on a page: n; of five seeds and more what the interval speaks of; each seed with its interval."""
    said, ways = f"n = {n.n}", set(how.split(","))
    if ends and len(n.seeds) >= LEAST_SEEDS:
        said += f"; {beside(n.seeds, n.lo, n.hi)[2]}"
    if len(n.seeds) < 2 or not ways.isdisjoint(("count", "p")) or _number(ways, "of") is not None:
        return said
    each = n.each if len(n.each) == len(n.seeds) else ((math.nan, math.nan),) * len(n.seeds)
    seeds = [
        parts(Number("", s, lo, hi, n.n, ()), how.replace("bare", "").replace("range", ""))
        for s, (lo, hi) in zip(n.seeds, each, strict=True)
    ]
    return f"{said}; seeds {' · '.join(' '.join(p for p in s if p) for s in seeds)}" if len(set(seeds)) > 1 else said


def _html(found: Parts, empty: str) -> Markup:
    if found is None:
        return Markup('<span class="none">{}</span>').format(empty) if empty else Markup("")
    out, small = Markup(""), False
    for p in found:
        if isinstance(p, str):
            before, line, after = p.partition("\n")
            out += Markup("{}{}{}").format(before, (Markup("</small><small>") if small else Markup("<small>")) if line else "", after)
            small = small or bool(line)
        else:
            out += mark(*p)
    return out + (Markup("</small>") if small else Markup(""))


def _shade(found: Parts, low: float | None) -> Markup:
    """The class of a cell: from ``s1``, white, to ``s10``, dark."""
    first = next((p[0] for p in found or () if not isinstance(p, str)), None)
    if low is None or first is None or not math.isfinite(first.value):
        return Markup("")
    k = round(10 * min(max((first.value - low) / (1 - low), 0.0), 1.0))
    return Markup(' class="s{}"').format(k) if k else Markup("")


def printable(whole: Markup, pieces: Sequence[Markup]) -> Markup:
    """A table that a sheet of paper has no room for: whole on a screen, in pieces where it is printed."""
    if len(pieces) < 2:
        return whole
    return Markup('<div class="whole">{}</div><div class="pieces">{}</div>').format(whole, Markup("\n").join(pieces))


def cuts(groups: Sequence[int], most: int) -> list[tuple[int, int]]:
    """The first and the last column but one of each piece of at most so many columns; ``groups``: how many columns belong together in
    turn, which are parted only where one group alone is too wide.
    """
    parts = [(n // -(-n // most) + (k < n % -(-n // most))) for n in groups if n for k in range(-(-n // most))]
    found: list[list[int]] = []
    for n in parts:
        if found and found[-1][1] - found[-1][0] + n <= most:
            found[-1][1] += n
        else:
            start = found[-1][1] if found else 0
            found.append([start, start + n])
    return [(a, b) for a, b in found]


def html(found: Filled) -> Markup:
    """The table, without its heading."""
    if len(found.leaves) <= WIDEST:
        return _html_table(found)
    groups = [len(list(same)) for _, same in groupby(found.leaves, key=lambda x: x.heads[0])]
    pieces = [
        replace(found, leaves=found.leaves[a:b], lines=[replace(x, cells=x.cells[a:b]) for x in found.lines])
        for a, b in cuts(groups, WIDEST)
    ]
    return printable(_html_table(found), [_html_table(p) for p in pieces])


def _html_table(found: Filled) -> Markup:
    table, depth, wide = found.table, max((len(x.heads) for x in found.leaves), default=1), len(found.table.rows)
    heads = [*table.heads, *[""] * wide][:wide]
    head = Markup("")
    for level in range(depth):
        head += Markup("<tr>")
        if level == 0:
            head += Markup("").join(Markup('<th rowspan="{}">{}</th>').format(depth, h) for h in heads)
        paths = [(x.heads[: level + 1], len(x.heads) == level + 1) for x in found.leaves]
        for (path, last), same in groupby(paths):
            if len(path) == level + 1:
                head += Markup('<th colspan="{}" rowspan="{}">{}</th>').format(len(list(same)), depth - level if last else 1, path[-1])
        head += Markup("</tr>")
    kind = "grid" if table.shaded is not None else "few" if len(found.leaves) <= FEW else ""
    body = Markup("\n").join(_row(found, line, before) for line, before in zip(found.lines, [None, *found.lines], strict=False))
    return Markup('<div class="scroll"><table{}><thead>{}</thead><tbody>\n{}\n</tbody></table></div>').format(
        Markup(' class="{}"').format(kind) if kind else Markup(""), head, body
    )


def _row(found: Filled, line: Line, before: Line | None) -> Markup:
    table = found.table
    new = len(table.rows) > 1 and (before is None or before.labels[0] != line.labels[0])
    classes = " ".join(c for c, on in (("first", new), ("baseline", line.baseline)) if on)
    last = len(line.labels) - 1
    same = [before is not None and k < last and before.labels[: k + 1] == line.labels[: k + 1] for k in range(last + 1)]
    labels = ["" if gone else label for gone, label in zip(same, line.labels, strict=True)]
    out = Markup("<tr{}>").format(Markup(' class="{}"').format(classes) if classes else "")
    warned = [Markup("")] * last + [_warnings(line) if table.warned else Markup("")]
    for label, below in zip(labels, warned, strict=True):
        out += Markup('<th class="long">{}{}</th>' if len(label) > LONG else "<th>{}{}</th>").format(label, below)
    out += Markup("").join(Markup("<td{}>{}</td>").format(_shade(c, table.shaded), _html(c, table.empty)) for c in line.cells)
    return out + Markup("</tr>")


def _warnings(line: Line) -> Markup:
    """Below a row's name, each word once: in a column at the end of a wide table they would be out of sight."""
    why: dict[str, list[str]] = {}
    for word, text, _ in line.warnings:
        why.setdefault(word, []).append(text)
    words = [Markup('<span class="warning" title="{}">{}</span>').format("; ".join(dict.fromkeys(t)), word) for word, t in why.items()]
    return Markup('<div class="warnings">{}</div>').format(Markup(" ").join(words)) if words else Markup("")


def plain(found: Parts, empty: str = "") -> str:
    """A cell as text."""
    return empty if found is None else "".join(p if isinstance(p, str) else text(*p) for p in found)


def markdown(found: Filled, *more: Filled) -> str:
    """The table in Markdown: one line of heads, groups before their columns. ``more``: tables of the same columns, whose rows go on."""
    table = found.table
    heads = [*table.heads, *[""] * len(table.rows)][: len(table.rows)] + [": ".join(x.heads) for x in found.leaves]
    lines = [row(*line.labels, *(plain(c, f.table.empty) for c in line.cells)) for f in (found, *more) for line in f.lines]
    return "\n".join([row(*heads), row(*["---"] * len(heads)), *lines])


def delimited(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A file of comma-separated values."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return out.getvalue()
