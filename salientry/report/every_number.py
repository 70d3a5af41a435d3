"""All numbers of a run as one table: a file of comma-separated values, and the same packed into the page to search and sort."""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..results.names import in_words
from .page import Block
from .render import delimited
from .words import KINDS, SCHEMES, about, measure, said

NAME = "numbers.csv"
HEAD = (
    "about",
    "detector",
    "trained on",
    "tested on",
    "of",
    "measure",
    "protocol",
    "value",
    "low",
    "high",
    "seeds",
    "seeds' intervals",
    "n",
)
PLACES = (  # columns of the frame that say more of where a number stands, and the words before their value
    ("attack", "attack", ""),
    ("against", "against", "against "),
    ("saliency", "saliency", ""),
    ("part", "part", ""),
    ("row", "part", "row "),
    ("cell", "", ""),
    ("claim", "", ""),
    ("line", "", ""),
    ("budget", "", "budget "),
    ("step", "", "passes "),
    ("round", "", "round "),
    ("when", "", ""),
    ("base", "", "added to "),
    ("trained_at", "trained_at", "trained at "),
    ("tested_at", "tested_at", "tested at "),
    ("class_number", "", "class number "),
)


def csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a number, those of the paper left out: its place in words, value, 95 % interval, each seed's value and interval, n."""
    order = {kind: k for k, kind in enumerate(KINDS)}
    ours = sorted((r for r in rows if r["source"] != "paper"), key=lambda r: order.get(r["kind"], len(order)))
    return delimited(HEAD, [line(r) for r in ours])


def joined(files: Iterable[tuple[str, str]]) -> str:
    """The files of several runs, (name, text) each, as one: the run's name stands first in each line."""
    out = [",".join(("run", *HEAD))]
    for name, text in files:
        quoted = delimited((name,), ()).rstrip("\n")
        out += [f"{quoted},{one}" for one in text.splitlines()[1:]]
    return "\n".join(out) + "\n"


def line(r: Mapping[str, Any]) -> list[str]:
    """A number as the file holds it."""
    trained, tested = ("" if r[c] is None else said(c, r[c]) for c in ("trained_on", "tested_on"))
    title = said("title", r["title"]) if r["title"] else ""
    paper = r["kind"] == "paper table"
    title = "" if paper else title
    seeds = " ".join(_plain(v) for v in r["seeds"] if math.isfinite(v)) if len(r["seeds"]) > 1 else ""
    each = " ".join(f"[{lo:.4g} {hi:.4g}]" if math.isfinite(lo + hi) else "[]" for lo, hi in r["each"]) if seeds else ""
    protocol = r["protocol"] if r["protocol"] in ("published", "strict") else ""
    scheme = "the paper's manner" if r["scheme"] == "replica" and "manner" not in title else ""
    return [
        about(r),
        title,
        trained,
        tested,
        "; ".join(dict.fromkeys(filter(None, (*_place(r), scheme)))),
        measure(r["measure"]),
        protocol,
        *map(_plain, (r["value"], r["lo"], r["hi"])),
        seeds,
        each,
        str(int(r["n"])),
    ]


def _place(r: Mapping[str, Any]) -> list[str]:
    """What else says where it stands."""
    out = []
    for column, kind, before in PLACES:
        value = r.get(column)
        if value is None or value != value or value == "":
            continue
        if (column, r["kind"]) in (("part", "shift"), ("against", "shift"), ("part", "map")) and (
            column != "part" or r["class_number"] is not None or r["kind"] == "shift"
        ):
            continue
        if column == "row":
            out.append(f"Table {r['table']}, {said('part', r['name'])}")
            continue
        if column == "step":
            value = f"{value:g}"
        if column == "cell":
            value = SCHEMES.get(str(value), value)
        words = said(kind, value) if kind else f"{value:g}" if isinstance(value, float) else in_words(str(value))
        out.append(before + words)
    return [w for k, w in enumerate(out) if w not in out[:k]]


def _plain(value: float) -> str:
    return f"{value + 0.0:.6g}" if math.isfinite(value) else ""


def block(text: str, count: int) -> Block:
    """The table of all numbers, from the file's text."""
    packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
    words = (
        "<p>{:,} numbers; <code>{}</code> beside this page holds the same. Words in the field choose the rows that hold all of them "
        "(<q>SPD strict all attacks</q>); a heading sorts. A print shows the rows that are shown.</p>"
        '<div class="search" hidden><input type="search" placeholder="search" aria-label="search"><output></output>'
        '<button type="button" class="more">show 1,000 more</button>'
        '<button type="button" class="save">save these rows as CSV</button></div>'
        '<div id="found"></div><script type="application/gzip" id="packed">{}</script>'
        "<noscript><p>The table needs the page's script; the file does not.</p></noscript>"
    )
    return Block("", Markup(words).format(count, NAME, packed))
