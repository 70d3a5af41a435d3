"""One run: its numbers computed from the records, written beside them, and verified."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import DataDamaged, StoreError
from ..results import kept
from ..results.detection import together
from ..results.names import in_words, own_trunk
from ..results.numbers import numbers
from ..results.place import records
from ..results.scores import Scores
from ..results.transfer import amiss, cell_lines, cells
from ..results.warnings import passing_classes, warnings
from ..store import JSON, one_of, packed, read_json, write_json, write_text
from . import every_number, grid, page, render
from .all_sections import sections
from .claims import blocks
from .overview import accuracy, first
from .page import Maker, ordered
from .sections import Shown
from .spec import Context, Doubt
from .words import WARNINGS, said

SCHEMA = 2
DIGITS = 4  # of the intervals of single seeds: all of theirs would make a report twice as large
QUESTION = "How well are adversarial examples detected?"
COST = "What does it cost an attacker to evade a known detector?"
BEST = Doubt("best baseline", "of all baselines the best AUROC on validation pairs of the same attack: what a difference is taken to")
NO_OWN_MAP = Doubt("no own map", "the map of another image that is called the same keeps and destroys about as much")


@dataclass(frozen=True)
class Made:
    """Everything that a page is written from.

    Attributes:
        scores: of the run.
        command: that made the records.
        name: of the run, where several stand on a page.
        computed: all its numbers, where they are known already.
    """

    scores: Scores
    command: str
    name: str = ""
    computed: Any = None

    @functools.cached_property
    def frame(self) -> Any:
        """All numbers, a row each; ``at``: the place of ours in ``report.json``, −1 for the paper's."""
        found = numbers(self.scores) if self.computed is None else self.computed
        ours = found["source"] != "paper"
        return found.assign(at=(ours.cumsum() - 1).where(ours, -1))

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The same as dictionaries, with this run's name."""
        rows = records(self.frame)
        return [r | {"run": self.name, "attack": r["attack"] or ("natural" if r["kind"] == "gradient" else None)} for r in rows]

    @functools.cached_property
    def ours(self) -> list[dict[str, JSON]]:
        """Our numbers as they stand in ``report.json``."""
        return [entry(r) | {"command": self.command} for r in self.rows if r["source"] != "paper"]

    @property
    def again(self) -> list[dict[str, JSON]]:
        """Where not all scores are kept: the numbers that follow from those that are. Less than the recorded keys is no such number."""
        s, keys = self.scores, {n["id"]: n["keys"] for n in self.ours}
        alone = Made(Scores.read(s.folder, alone=True, beside=s.beside.folder if s.beside else None), "")
        return [n for n in alone.ours if n["keys"] == keys.get(n["id"])]

    @functools.cached_property
    def make(self) -> Maker:
        """Makes the blocks of its page."""
        return Maker(ordered(self.rows), context(self.scores, self.frame))

    @property
    def shown(self) -> Shown:
        """What its page shows."""
        return Shown(self.scores, self.make, self.command, blocks(self.scores, self.frame))

    @functools.cached_property
    def csv(self) -> str:
        """All numbers as comma-separated values."""
        return every_number.csv(self.rows)

    @property
    def question(self) -> str:
        """What its page answers."""
        return QUESTION if self.scores.has_naturals else COST

    @property
    def text(self) -> str:
        """The page."""
        s, shown = self.scores, self.shown
        recipe = s.body["recipe"]["recipe"]
        lead = Markup(
            "Salientry, recipe <b>{}</b> on {}, run seed {}{} · {:,} numbers, each computed from the records beside this page"
        ).format(recipe, said("dataset", s.dataset), s.run_seed, accuracy(shown), len(self.ours))
        return page.html(f"Salientry · {recipe}", self.question, lead, first(shown), sections(shown, self.csv))


def entry(r: Mapping[str, Any]) -> dict[str, JSON]:
    """A number as ``report.json`` holds it; ``each``: the 95 % interval over images of each of several seeds, in the order of ``runs``."""
    plain = {c: float(r[c]) if math.isfinite(r[c]) else None for c in ("value", "lo", "hi")}
    runs = [float(v) if math.isfinite(v) else None for v in r["seeds"]]
    found = {"id": r["id"], **plain, "n": int(r["n"]), "protocol": r["protocol"], "runs": runs, "keys": list(r["keys"])}
    each = [[round(float(v), DIGITS) if math.isfinite(v) else None for v in ends] for ends in r["each"]] if len(runs) > 1 else []
    return found | {"each": each} if each else found


def context(s: Scores, frame: Any) -> Context:
    """Levels, reduced attacks and warnings of a run."""
    calibrated = [r.thresholds for g in s.trained for r in g.seeds] or [
        i["thresholds"] for i in s.white_box.values() if i.get("thresholds")
    ]
    known = {level for thresholds in calibrated for level in thresholds if level != "own"}
    found: list[dict[str, Any]] = records(warnings(s, frame))
    best = (
        {("strict", t.baseline.title, t.trained_on) for t in together(s) if t.protocol == "strict" and t.baseline}
        if s.has_naturals
        else set()
    )
    passing = {scheme: passing_classes(frame, scheme) for scheme in (None, "trunk")}

    def concerns(w: Mapping[str, Any], place: Mapping[str, Any]) -> bool:
        if w["kind"] == "detection":
            return all(bool(w[c] == place.get(c)) for c in ("protocol", "title", "trained_on"))
        if w["kind"] == "map":
            return bool(w["part"] == place.get("part")) and (w["scheme"] == "trunk") == own_trunk(place.get("saliency", ""))
        if w["title"] is None:
            return bool(w["attack"] == place.get("part"))
        return bool(w["title"] == place.get("title") and ("attack" not in place or w["attack"] in (None, place["attack"])))

    def warned(place: Mapping[str, Any]) -> list[Doubt]:
        out = [BEST] * ((place.get("protocol"), place.get("title"), place.get("trained_on")) in best)
        for w in (w for w in found if concerns(w, place)):
            out.append(Doubt(f"{WARNINGS.get(w['code'], w['code'].lower())} {w['count']}".strip(), in_words(w["text"]), w["code"]))
        scheme = "trunk" if own_trunk(place.get("saliency", "")) else None
        return out + [NO_OWN_MAP] * ("class_number" in place and not passing[scheme].get(place["class_number"], True))

    reduced = frozenset(a["label"] for a in s.body["attacks"] if a["reduced"])
    return Context(sorted(known, key=float, reverse=True) or ["own"], reduced, warned)


def made(folder: Path | str, command: str | None = None, beside: Path | None = None, name: str = "") -> Made:
    """Read the records, as :func:`write`, and write nothing."""
    scores = Scores.read(folder, beside=beside or beside_of(Path(folder)))
    return Made(scores, command or scores.run.get("command", "salientry report"), name)


def write(folder: Path | str, command: str | None = None, beside: Path | None = None) -> Path:
    """Compute every number of the records in ``folder`` and write ``report.json``, ``grid.csv``, ``numbers.csv`` and
    ``report.html`` beside them.

    Args:
        folder: holds ``records.json``.
        command: what was typed, when it is not what ``run.json`` says.
        beside: a folder with the records of the white box on the same classifier; the report remembers where it lies, and the next one
            finds it there. Without it one in ``../whitebox`` is taken that has this folder's name and is of this classifier.

    Returns:
        The page's path.

    Raises:
        UsageError: when there are no records.
        StoreError: when it cannot be written.
    """
    return put(made(folder, command, beside))


def put(one: Made) -> Path:
    """Write the page and what stands beside it into the folder of its records."""
    s = one.scores
    body = {"schema": SCHEMA, "recipe": s.body["recipe"], "command": one.command, "numbers": one.ours}
    body |= {} if s.beside is None else {"beside": os.path.relpath(s.beside.folder, s.folder)}
    write_json(s.folder / "report.json", body)
    write_text(s.folder / grid.NAME, grid.csv(s, one.rows))
    write_text(s.folder / every_number.NAME, one.csv)
    out = s.folder / "report.html"
    write_text(out, one.text)
    return out


def remembered(folder: Path) -> Path | None:
    """Where the white box lay when the report was last written, if it is still there."""
    where = None
    with contextlib.suppress(StoreError, DataDamaged, AttributeError):  # whatever is there is written anew
        where = read_json(folder / "report.json").get("beside")
    return folder / where if where and packed(folder / where / "records.json").exists() else None


def beside_of(folder: Path) -> Path | None:
    """Where the white box of a run lies: where it was, else ``results/whitebox/NAME`` for ``results/fast/NAME`` of the same classifier."""
    if (found := remembered(folder)) is not None:
        return found
    here = folder.absolute()
    beside = here.parent.parent / "whitebox" / here.name
    mine, theirs = None, None
    with contextlib.suppress(StoreError, DataDamaged, AttributeError):  # what is wrong with the run itself is said when it is read
        mine, theirs = (read_json(f / "records.json").get("classifier") for f in (here, beside))
    return beside if mine and mine == theirs and beside != here else None


def headline(folder: Path | str, beside: Path | None = None) -> dict[str, Any]:
    """The first screen for a script: ``folder``, ``recipe``, ``question``, ``sentences`` and ``notes`` as text, and ``numbers``, those that
    the screen shows, each as ``report.json`` holds it. Nothing is written.

    Raises:
        UsageError: when there are no records.
    """
    one = made(folder, beside=beside)
    run = one.shown
    with render.shown() as noted:
        shown = first(run)
    numbers = [n for n in one.ours if ("", n["id"]) in noted]
    texts = {k: [Markup(t).striptags() for t in v] for k, v in (("sentences", shown.sentences), ("notes", shown.notes))}
    return {"folder": str(folder), "recipe": one.scores.body["recipe"], "question": one.question, **texts, "numbers": numbers}


def absent(folder: Path | str) -> list[str]:
    """The files of scores that the records name and that are not there, but for those that are said not to be kept."""
    return kept.missing(Path(folder), read_json(Path(folder) / "records.json")["shards"])[0]


def listed(folder: Path | str, figure: str) -> tuple[list[str], bool]:
    """The cells of a figure as lines of text, and whether they add up: each is a finite number or says why not, each row has heads
    of its own.

    Raises:
        UsageError: for a figure without cells.
    """
    one_of("figure with cells", figure, ("figure2",))
    one = Made(Scores.read(folder), "")
    finite = set(one.frame["id"][one.frame["value"].notna()])
    return cell_lines(one.scores, one.frame), not amiss(cells(one.scores, one.frame), finite)
