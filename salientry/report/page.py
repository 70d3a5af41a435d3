"""One self-contained page of sections and blocks, and what every block is made of."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jinja2
from markupsafe import Markup

from . import render
from .spec import Context, Number, Table, fill, find, number_of

WIDEST_LISTED = 9  # columns below groups that a sheet of paper has room for
GROUPS = ("saliency", "image", "fusion", "baseline")
POLICY = "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Block:
    """A table, a figure or a paragraph: heading (empty for none), body, one sentence on what it shows; folded away or not."""

    title: str
    body: Markup
    says: Markup | str = ""
    fold: bool = False
    anchor: str = ""


@dataclass(frozen=True)
class Section:
    """What opens under one heading: its blocks, and in a few words what is in it."""

    anchor: str
    title: str
    blocks: Sequence[Block | None]
    says: Markup | str = ""
    holds: str = ""

    @property
    def shown(self) -> list[Block]:
        """The blocks that there are."""
        return [b for b in self.blocks if b is not None]


@dataclass(frozen=True)
class First:
    """The first screen.

    Attributes:
        sentences: the answer, three of them.
        notes: what must be known before it is believed: a failed check, missing scores.
        picture: one plot.
        table: a small one.
        wide: the table stands below the picture, not beside it.
    """

    sentences: Sequence[Markup]
    notes: Sequence[Markup] = ()
    picture: Markup | None = None
    table: Block | None = None
    wide: bool = False


@dataclass(frozen=True)
class Maker:
    """Makes blocks of the numbers of one or several runs.

    Attributes:
        numbers: rows of the frame.
        context: levels, reduced attacks, warnings.
    """

    numbers: Sequence[dict[str, Any]]
    context: Context = field(default_factory=Context)

    @functools.cached_property
    def _kinds(self) -> dict[str, list[dict[str, Any]]]:
        out: dict[str, list[dict[str, Any]]] = {}
        for r in self.numbers:
            out.setdefault(r["kind"], []).append(r)
        return out

    def of(self, kind: Any) -> list[dict[str, Any]]:
        """The numbers of a kind, or of several."""
        return [r for k in ((kind,) if isinstance(kind, str) else kind) for r in self._kinds.get(k, [])]

    def table(self, table: Table, **changes: Any) -> Block | None:
        """The table filled in; None where none of its numbers is there."""
        table = replace(table, **changes)
        found = fill(table, self.of(table.where["kind"]), self.context)
        if not any(c is not None for line in found.lines for c in line.cells):
            return None
        used = [k for k in range(len(found.leaves)) if any(line.cells[k] is not None for line in found.lines)]
        lines = [replace(x, cells=[x.cells[k] for k in used]) for x in found.lines]
        found = replace(found, leaves=[found.leaves[k] for k in used], lines=lines)
        return Block(table.title, render.html(found), table.says, table.fold)

    def find(self, kind: str, **where: Any) -> Number | None:
        """One number."""
        if any(callable(v) or isinstance(v, tuple) for v in where.values()):
            return find(self._kinds.get(kind, []), **where)
        there = self._at(kind, where)
        return number_of(there[0]) if there else None

    def num(self, kind: str, how: str = "", **where: Any) -> Markup:
        """One number as it is printed, a dash where there is none."""
        return render.mark(self.find(kind, **where), how)

    def values(self, kind: Any, column: str, **where: Any) -> list[Any]:
        """The values of a column, in order."""
        rows = (r for k in ((kind,) if isinstance(kind, str) else kind) for r in self._at(k, where))
        return list(dict.fromkeys(r[column] for r in rows if r[column] is not None))

    @functools.cached_property
    def _places(self) -> dict[tuple[str, ...], dict[tuple[Any, ...], list[dict[str, Any]]]]:
        return {}

    def _at(self, kind: str, where: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The numbers of a kind that have these values, in order; a page asks for thousands."""
        names = (kind, *sorted(where))
        if names not in self._places:
            found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
            for r in self._kinds.get(kind, []):
                found.setdefault(tuple(r[c] for c in names[1:]), []).append(r)
            self._places[names] = found
        return self._places[names].get(tuple(where[c] for c in names[1:]), [])


def ordered(numbers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Saliency, image, fusion, baseline, the paper's own manner behind the other; else as they were."""
    place = {g: k for k, g in enumerate(GROUPS)}
    return sorted(numbers, key=lambda r: (place.get(r["group"], 0), r["scheme"] == "replica"))


def listed(
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    says: Markup | str = "",
    fold: bool = False,
    kind: str = "text",
    groups: Sequence[tuple[str, int]] = (),
) -> Block | None:
    """A table of texts; ``kind``: its class in the page's style; ``groups``: words above so many columns each, the first
    of them the rows' names.
    """
    lines = [list(r) for r in rows]
    if not lines:
        return None
    whole = _listed(head, lines, kind, groups)
    sizes = [n for _, n in groups[1:]]
    if sum(sizes) <= WIDEST_LISTED:
        return Block(title, whole, says, fold)
    first, ends = groups[0][1], [sum(sizes[: k + 1]) for k in range(len(sizes))]
    pieces = []
    for a, b in render.cuts(sizes, WIDEST_LISTED):
        shares = [(words, min(b, end) - max(a, end - n)) for (words, n), end in zip(groups[1:], ends, strict=True)]
        pick = [*range(first), *range(first + a, first + b)]
        above = [groups[0], *((words, n) for words, n in shares if n > 0)]
        pieces.append(_listed([head[k] for k in pick], [[r[k] for k in pick] for r in lines], kind, above))
    return Block(title, render.printable(whole, pieces), says, fold)


def _listed(head: Sequence[str], rows: Sequence[Sequence[Any]], kind: str, groups: Sequence[tuple[str, int]]) -> Markup:
    body = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in r)) for r in rows)
    heads = Markup("").join(Markup("<th>{}</th>").format(h) for h in head)
    above = Markup("").join(Markup('<th colspan="{}">{}</th>').format(n, words) for words, n in groups)
    above = Markup('<tr class="groups">{}</tr>').format(above) if groups else above
    table = Markup('<div class="scroll"><table class="{}"><thead>{}<tr>{}</tr></thead><tbody>{}</tbody></table></div>')
    return table.format(kind, above, heads, body)


def side_by_side(title: str, blocks: Iterable[Block | None], says: str, fold: bool = False) -> Block | None:
    """Small tables in a row, each under its own heading."""
    there = [b for b in blocks if b]
    body = Markup("").join(Markup('<div><b class="small">{}</b>{}</div>').format(b.title, b.body) for b in there)
    return Block(title, Markup('<div class="beside">{}</div>').format(body), says, fold) if there else None


def folded(block: Block | None) -> Block | None:
    """The same, folded away under its title."""
    return None if block is None else replace(block, fold=True)


def nested(title: str, blocks: Iterable[Block | None], says: Markup | str = "", fold: bool = True) -> Block | None:
    """Several blocks as one."""
    there = [b for b in blocks if b]
    body = Markup("\n").join(_one(b) for b in there)
    return Block(title, body, says, fold) if there else None


def _one(b: Block) -> Markup:
    note = Markup('<p class="note">{}</p>').format(b.says) if b.says else Markup("")
    if b.fold:
        return Markup("<details><summary>{}</summary>{}{}</details>").format(b.title, b.body, note)
    return Markup("{}{}{}").format(Markup("<h4>{}</h4>").format(b.title) if b.title else "", b.body, note)


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader(__package__ or "", "templates")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)


@functools.cache
def _part(name: str) -> tuple[Markup, str]:
    """The page's style or script, and its hash as a content security policy names it."""
    text = _templates().get_template(name).render().strip()
    return Markup(text), "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def html(
    title: str, heading: str, lead: Markup | str, first: First, sections: Iterable[Section], links: Sequence[tuple[str, str]] = ()
) -> str:
    """The page: the first screen, then every section folded under its heading. It loads nothing and runs no script but its own.

    Args:
        title: of the window.
        heading: of the page: the question.
        lead: below it.
        first: the first screen.
        sections: what follows; those without blocks are left out.
        links: to other pages, address and words.
    """
    (style, style_hash), (script, script_hash) = _part("style.css"), _part("script.js")
    given = {"title": title, "heading": heading, "lead": lead, "first": first, "sections": [s for s in sections if s.shown], "links": links}
    given |= {"style": style, "script": script, "policy": POLICY.format(style=style_hash, script=script_hash)}
    return _templates().get_template("page.html.jinja").render(**given)
