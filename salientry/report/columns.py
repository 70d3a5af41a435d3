"""Runs of a folder as columns of a page: a data set each, and what belongs to one column."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Error, UsageError
from ..results.joined import joined
from ..results.numbers import numbers
from ..results.paper_numbers import COLUMNS, column_of
from ..results.scores import Scores
from ..store import packed
from . import report
from .report import Made

SLICES = {"part", "attack", "only", "test"}  # parameters in which the parts of one run may differ
NOT_RECORDED = "not recorded"
ORDER = ("MNIST", "CIFAR-10", "ASSIRA")  # as the paper prints them


def title(m: Made) -> str:
    """The data set as the paper writes it."""
    column = column_of(m.scores.dataset)
    return m.scores.dataset if column is None else column + (" (5,000 digits)" if m.scores.dataset.startswith("digits") else "")


def again(m: Made) -> bool:
    """Whether it is a run once more, with another seed or of the headline's rows alone: no column."""
    return m.scores.run_seed != 0 or m.scores.body["recipe"].get("parameters", {}).get("rows") == "headline"


def place(m: Made) -> tuple[Any, ...]:
    """The paper's data sets in its order, then others; of each the first seed in front."""
    column = column_of(m.scores.dataset)
    at = ORDER.index(column) if column in ORDER else len(ORDER)
    return at, m.scores.dataset.startswith("digits"), title(m), not m.scores.has_naturals, again(m), m.scores.run_seed, m.name


@dataclass(frozen=True)
class DataSetColumn:
    """A data set: its run, or the ``command`` that would make it. ``paper``: the paper's column, None for a data set that it does not have;
    ``parts``: other runs on the same classifier, of other attacks or another part.
    """

    title: str
    slug: str
    paper: str | None
    run: Made | None
    command: str = ""
    parts: tuple[Made, ...] = ()

    @property
    def why(self) -> str:
        """Why there is no run."""
        return f"{NOT_RECORDED}: {self.command}" if self.run is None else ""

    @property
    def runs(self) -> list[Made]:
        """The run, and its parts."""
        return [] if self.run is None else [self.run, *self.parts]

    @functools.cached_property
    def judged(self) -> tuple[tuple[Scores, Any] | None, list[str]]:
        """Scores and numbers that claims are judged on, of all its runs together; and the names of those that could not be joined."""
        if self.run is None:
            return None, []
        scores, apart = joined([m.scores for m in self.runs])
        return (scores, self.run.frame if scores is self.run.scores else numbers(scores)), [f"{s.folder.name} ({why})" for s, why in apart]


@dataclass(frozen=True)
class Collection:
    """All runs of a folder."""

    folder: Path
    members: list[Made]

    @functools.cached_property
    def columns(self) -> list[DataSetColumn]:
        """The first run of each data set, in the paper's order, with those of the paper's that were not run. A run once more is one only
        where there is no other of its data set. Of a recipe in parts the one with most detectors comes first.
        """
        found: dict[str, Made] = {}
        for m in self.members:
            first = found.setdefault(m.scores.dataset, m)
            if _parts_of_one(first, m) and len(m.scores.trained) > len(first.scores.trained):
                found[m.scores.dataset] = m
        parts = {d: tuple(m for m in self.members if m is not first and _parts_of_one(first, m)) for d, first in found.items()}
        known = {column_of(d) for d in found}
        recipe = next((m.scores.body["recipe"]["recipe"] for m in found.values()), "fast")
        names = {column: name for name, column in COLUMNS.items()}
        out = [
            DataSetColumn(title(m) + f" (seed {m.scores.run_seed})" * again(m), d, column_of(d), m, parts=parts[d])
            for d, m in found.items()
        ]
        for c in (c for c in ORDER if c not in known):
            out.append(DataSetColumn(c, names[c], c, None, f"salientry run {recipe} dataset={names[c]}"))
        return sorted(out, key=lambda c: ORDER.index(c.paper) if c.paper else len(ORDER))

    @property
    def others(self) -> list[Made]:
        """The runs that are in no column."""
        mine = [m for c in self.columns for m in c.runs]
        return [m for m in self.members if not any(m is x for x in mine)]

    @property
    def command(self) -> str:
        """That writes the page."""
        return f"salientry report {self.folder}"


def _attacks_alone(m: Made) -> bool:  # neither detectors nor maps
    return not m.scores.trained and not any(i["kind"] == "shift" for i in m.scores.images.values())


def _of_the_paper(m: Made) -> bool:  # the recipes at the paper's own size, which share nets and images
    return m.scores.body["recipe"].get("recipe") in ("paper", "sweep")


def _parts_of_one(a: Made, b: Made) -> bool:
    """Whether these are of one recipe (or both at the paper's own size), one seed and one classifier, in which they tried different things:
    what else was set for maps or detectors is the same where both have any.
    """
    mine, theirs = (m.scores.body["recipe"] for m in (a, b))
    family = mine.get("recipe") == theirs.get("recipe") or (_of_the_paper(a) and _of_the_paper(b))
    alike = mine.get("seed") == theirs.get("seed") and family
    p, q = (r.get("parameters", {}) for r in (mine, theirs))
    set_alike = _attacks_alone(a) or _attacks_alone(b) or all(p.get(k) == q.get(k) for k in {*p, *q} - SLICES)
    apart = p != q and set_alike and not again(a) and not again(b)
    return alike and apart and a.scores.dataset == b.scores.dataset and a.scores.body["classifier"] == b.scores.body["classifier"]


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
    """Read all runs of a folder and compute their numbers; write nothing.

    Raises:
        UsageError: when there are no runs.
        Error: of a run that cannot be read, with its folder.
    """
    return Collection(Path(folder), sorted(map(_member, runs(folder)), key=place))


def _member(folder: Path) -> Made:
    try:
        one = report.made(folder, name=folder.name)
        assert one.rows
        return one
    except Error as e:
        raise e if str(folder) in str(e) else type(e)(f"{folder}: {e}") from None
