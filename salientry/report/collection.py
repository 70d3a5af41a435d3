"""Several runs as one page: the data sets side by side, as the paper prints them. Every number is one of a run's own page."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import DataDamaged, Error, StoreError, UsageError, VerificationFailed
from ..store import JSON, packed, read_json, write_json, write_text
from . import columns, figures, page, panels, targets
from . import verify as verifying
from .cells import MANNERS
from .compute import Computed
from .document import short
from .plots import shade
from .records import Records, kind_title
from .shown import Shown, percent
from .summary import summary
from .verdicts import Said, sentences

PAGE = "report.html"


@dataclass(frozen=True)
class Member:
    """One run of a collection: its folder's name, its numbers, and how this page prints them."""

    name: str
    made: page.Made
    show: Shown

    @property
    def records(self) -> Records:
        """Of the run."""
        return self.made.records

    @property
    def found(self) -> Computed:
        """Its numbers."""
        return self.made.found

    @property
    def seed(self) -> int:
        """The run seed."""
        return int(self.records.recipe.get("seed", 0))

    @property
    def again(self) -> bool:
        """Whether it is a run once more, with another seed or of the headline's rows alone: no column."""
        return self.seed != 0 or self.records.recipe.get("parameters", {}).get("rows") == "headline"

    @property
    def title(self) -> str:
        """The data set as the paper writes it."""
        column = targets.column_of(self.records)
        return self.records.dataset if column is None else column + (" (5,000 digits)" if self.records.dataset.startswith("digits") else "")

    @property
    def link(self) -> str:
        """To its own page."""
        return f"{self.name}/{PAGE}"

    @property
    def reduced(self) -> list[str]:
        """Labels of its attacks at reduced settings."""
        return [a["label"] for a in self.records.settings if a["reduced"]]

    @property
    def seeds(self) -> int:
        """The most repetitions of a detector."""
        return max((len(g.runs) for g in self.records.groups), default=0)

    @functools.cached_property
    def summary(self) -> list[Any]:
        """The first screen of its own page."""
        return list(summary(self.records, self.found, self.show.number, percent))

    @functools.cached_property
    def sentences(self) -> list[Markup]:
        """What its own page says of the run, where it has no first screen."""
        return page.sentences(self.records, self.found, self.show) if self.records.whole and not self.summary else []

    @functools.cached_property
    def pictures(self) -> dict[str, str | None]:
        """Figures by the name of their kind; None where there are none."""
        gallery = figures.Gallery(self.records)
        return {"maps": gallery.maps(), "noise": gallery.noise(), "gradients": gallery.gradients()}

    @property
    def order(self) -> tuple[Any, ...]:
        """The paper's data sets in its order, then others; of each the first seed in front."""
        column = targets.column_of(self.records)
        place = columns.COLUMNS.index(column) if column in columns.COLUMNS else len(columns.COLUMNS)
        return place, self.records.dataset.startswith("digits"), self.title, not self.records.whole, self.again, self.seed, self.name


@dataclass(frozen=True)
class Column:
    """A data set: its run, or why there is none.

    Attributes:
        title: of the data set.
        slug: for anchors.
        paper: the paper's column, None for a data set that it does not have.
        member: the run.
        why: what is said where there is none.
    """

    title: str
    slug: str
    paper: str | None
    member: Member | None
    why: str = ""

    @property
    def said(self) -> list[Said]:
        """The verdicts; empty where nothing is known."""
        return self.member.found.paper.said if self.member and self.member.found.paper.claims else []


@dataclass(frozen=True)
class Collection:
    """All runs of a folder."""

    folder: Path
    members: list[Member]

    @functools.cached_property
    def columns(self) -> list[Column]:
        """The first run of each data set, in the paper's order, with those of the paper's that were not run."""
        first: dict[str, Member] = {}
        for m in (m for m in self.members if not m.again):
            first.setdefault(m.records.dataset, m)
        there = {targets.column_of(m.records) for m in first.values()}
        recipe = next((m.records.recipe["recipe"] for m in first.values()), "fast")
        names = {column: name for name, column in targets.COLUMNS.items()}
        out = [Column(m.title, m.records.dataset, targets.column_of(m.records), m) for m in first.values()]
        for c in (c for c in columns.COLUMNS if c not in there):
            out.append(Column(c, names[c], c, None, f"not recorded: salientry run {recipe} dataset={names[c]}"))
        last = len(columns.COLUMNS)
        return sorted(out, key=lambda c: columns.COLUMNS.index(c.paper) if c.paper else last)

    @property
    def others(self) -> list[Member]:
        """The runs that are no column."""
        mine = [c.member for c in self.columns]
        return [m for m in self.members if not any(m is x for x in mine)]

    def first(self, member: Member) -> Member | None:
        """The column's run of the same data set."""
        return next((c.member for c in self.columns if c.member and c.member.records.dataset == member.records.dataset), None)

    @property
    def command(self) -> str:
        """That writes the page."""
        return f"salientry report {self.folder}"


def runs(folder: Path | str) -> list[Path]:
    """The sub-folders that hold records, by name.

    Raises:
        UsageError: when there are none.
    """
    folder = Path(folder)
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    there = [p for p in found if packed(p / "records.json").exists()]
    if not there:
        said = f"no records in {folder}: there is no records.json (`salientry run` writes them)"
        inside = ", ".join(p.name for p in found[:5]) + (", …" if len(found) > 5 else "")
        raise UsageError(f"{said}, and none in a sub-folder; found: {inside or 'no sub-folder'}" if folder.is_dir() else said)
    return there


def read(folder: Path | str) -> Collection:
    """Read and compute all runs of a folder; nothing is written.

    Raises:
        UsageError: when there are none.
        Error: of a run that cannot be read; its folder is named.
    """
    members = [_member(p) for p in runs(folder)]
    return Collection(Path(folder), sorted(members, key=lambda m: m.order))


def _member(folder: Path) -> Member:
    try:
        made = page.made(folder, beside=page.remembered(folder) or _white_box(folder))
    except Error as e:
        raise e if str(folder) in str(e) else type(e)(f"{folder}: {e}") from None
    return Member(folder.name, made, Shown(made.found.ledger, folder.name))


def _white_box(folder: Path) -> Path | None:
    """``results/whitebox/NAME`` for ``results/fast/NAME``, when it is of the same classifier."""
    beside = folder.parent.parent / "whitebox" / folder.name
    mine, theirs = None, None
    with contextlib.suppress(StoreError, DataDamaged, AttributeError):  # what is wrong with the run itself is said when it is read
        mine, theirs = (read_json(f / "records.json").get("classifier") for f in (folder, beside))
    return beside if mine and mine == theirs and beside != folder else None


def write(folder: Path | str) -> Path:
    """Write each run's page into its folder, and ``report.html`` and ``report.json`` of all of them into ``folder``.

    Returns:
        The page's path.

    Raises:
        UsageError: when there are no runs.
        Error: of a run that cannot be read; then nothing was written.
        StoreError: when it cannot be written.
    """
    found = read(folder)
    text = html(found)
    for m in found.members:
        page.put(m.made)
    members = [{"name": m.name, "recipe": m.records.recipe, "command": m.made.command} for m in found.members]
    shown = [{"of": m.name} | n for m in found.members for n in m.made.numbers if n["id"] in m.show.seen]
    write_json(found.folder / "report.json", {"schema": page.SCHEMA, "command": found.command, "members": members, "numbers": shown})
    write_text(found.folder / PAGE, text)
    return found.folder / PAGE


def html(found: Collection) -> str:
    """The page; every number that it prints is entered in its run's ``show.seen``."""
    sources = [columns.Source(c.paper, c.member.found if c.member else None, c.why) for c in found.columns if c.paper]
    empty = next(m.found.ledger for m in found.members)
    drawn = [
        panels.Panel(c.title, c.member.found.grid, c.member.found.ledger, c.member.reduced)
        if c.member
        else panels.Panel(c.title, None, empty, [], c.why)
        for c in found.columns
    ]
    return (
        page.templates()
        .get_template("collection.html.jinja")
        .render(
            collection=found,
            columns=found.columns,
            papers=[c for c in found.columns if c.paper],
            tables=columns.joined(sources),
            panels={p: panels.panels(drawn, p) for p in ("published", "strict")},
            claims=sentences()["claims"],
            short=short,
            shade=shade,
            kind=kind_title,
            maps=figures.MAPS,
            unit=next(m.found.paper.unit for m in found.members),
            manners=MANNERS,
            total=sum(len(m.found.ledger.numbers) for m in found.members),
        )
    )


def verify(folder: Path | str) -> int:
    """The number of verified numbers of all runs; what stands in this folder's own ``report.json`` must be theirs.

    Raises:
        UsageError: when there are no runs.
        VerificationFailed: names what is wrong, and in which run.
    """
    there = runs(folder)
    total = sum(verifying.verify(p) for p in there)
    own = packed(Path(folder) / "report.json")
    if own.exists():
        printed: dict[str, dict[str, JSON]] = {p.name: {n["id"]: n for n in read_json(p / "report.json")["numbers"]} for p in there}
        wrong = [n for n in _numbers(own) if printed.get(n["of"], {}).get(n["id"]) != {k: v for k, v in n.items() if k != "of"}]
        if wrong:
            some = "; ".join(f"{n['of']}: {n['id']}" for n in wrong[:5])
            raise VerificationFailed(f"{own}: {len(wrong)} numbers are not those of their runs: {some}")
    return total


def _numbers(path: Path) -> list[Any]:
    body = read_json(path)
    found = body.get("numbers") if isinstance(body, dict) else None
    if not isinstance(found, list) or not all(isinstance(n, dict) and {"id", "of"} <= set(n) for n in found):
        raise DataDamaged(f"{path} is damaged: it holds no list of numbers of runs")
    return found
