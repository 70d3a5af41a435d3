"""Several runs as one page: the data sets side by side, as the paper prints them. Every number is one of a run's own page."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import DataDamaged, Error, StoreError, UsageError, VerificationFailed
from ..results.joined import joined
from ..results.names import detector_words
from ..results.numbers import numbers
from ..results.paper_numbers import COLUMNS, column_of, printed_rows
from ..results.scores import Scores
from ..store import JSON, packed, read_json, write_json, write_text
from . import claims, detection_tables, gallery, paper_tables, plots, render, report, verification
from .guide import how_to_read
from .overview import BEST, SIMPLEST, Answer, budgets_of, failed, of_seeds, passed_by, quoted
from .page import Block, First, Maker, Section, folded, html, listed, nested, side_by_side
from .report import Made
from .sections import BOTH, LINES_SAY, SAYS, figure2
from .spec import Number

PAGE = "report.html"
MEASURED = {  # what the first sentence quotes
    "detection rate": ("Detection rate", "on attacked images that fool the classifier, with at most 5\u202f% of natural images flagged"),
    "accuracy": ("Accuracy", "on half natural, half attacked images, at each detector's own threshold"),
}
MEASURED["detection rate or accuracy"] = MEASURED["accuracy or detection rate"] = ("Detection rate", "or, without it, accuracy")
COMPARED = ("false-positive rate", "extra false alarms, noise")
NOTE = (
    "In brackets 95 % intervals over images, given these networks and this split; of several seeds the mean. Detectors are trained and "
    "tested on all attacks together; none of these attacks knows the detector. Each data set's own page has every detector on each attack."
)
SLICES = {"part", "attack", "only", "test"}  # parameters in which the parts of one run may differ
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
class Column:
    """A data set: its run, or why there is none. ``paper``: the paper's column, None for a data set that it does not have; ``parts``: other
    runs of the same recipe on the same classifier, of other attacks or another part.
    """

    title: str
    slug: str
    paper: str | None
    run: Made | None
    why: str = ""
    parts: tuple[Made, ...] = ()

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
        return (scores, self.run.frame if scores is self.run.scores else numbers(scores)), [s.folder.name for s in apart]


@dataclass(frozen=True)
class Collection:
    """All runs of a folder."""

    folder: Path
    members: list[Made]

    @functools.cached_property
    def columns(self) -> list[Column]:
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
        out = [Column(title(m) + f" (seed {m.scores.run_seed})" * again(m), d, column_of(d), m, parts=parts[d]) for d, m in found.items()]
        for c in (c for c in ORDER if c not in known):
            out.append(Column(c, names[c], c, None, f"not recorded: salientry run {recipe} dataset={names[c]}"))
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


def _parts_of_one(a: Made, b: Made) -> bool:
    """Whether these are of one recipe, one seed and one classifier, in which they tried different things: what else was set for maps or
    detectors is the same where both have any.
    """
    mine, theirs = (m.scores.body["recipe"] for m in (a, b))
    alike = all(mine.get(k) == theirs.get(k) for k in ("recipe", "seed"))
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
        one = report.made(folder, beside=report.remembered(folder) or _white_box(folder), name=folder.name)
        assert one.rows
        return one
    except Error as e:
        raise e if str(folder) in str(e) else type(e)(f"{folder}: {e}") from None


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
    with render.shown() as shown:
        text = page(found)
    for m in found.members:
        report.put(m)
    members = [{"name": m.name, "recipe": m.scores.body["recipe"], "command": m.command} for m in found.members]
    numbers = [{"of": m.name} | n for m in found.members for n in m.ours if (m.name, n["id"]) in shown]
    write_json(found.folder / "report.json", {"schema": report.SCHEMA, "command": found.command, "members": members, "numbers": numbers})
    write_text(found.folder / PAGE, text)
    return found.folder / PAGE


def verify(folder: Path | str, say: Callable[[str], None] | None = None) -> int:
    """The number of verified numbers of all runs; what stands in this folder's own ``report.json`` must be theirs. ``say`` hears which
    of them could not be computed again.

    Raises:
        UsageError: when there are no runs.
        VerificationFailed: names what is wrong, and in which run.
    """
    there = runs(folder)
    total = sum(verification.verify(p, say) for p in there)
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


# --- the page -------------------------------------------------------------------------------------------------------------


def page(found: Collection) -> str:
    """The page of all runs."""
    columns = found.columns
    sources = [source(c) for c in columns if c.paper]
    verdicts = claims.together([(c.title, c.judged[0], c.why) for c in columns])
    tables = [folded(b) for b in paper_tables.tables(sources)]
    reading = replace(how_to_read(), title="How to read this page", fold=True)
    parts = [
        Section("pictures", "Where the classifier looked", list(_pictures(found)), holds="the paper's Figures 1, 5 to 8"),
        *(_figure2(columns, p) for p in reversed(BOTH) if any(c.run and c.run.scores.trained for c in columns)),
        Section("tables", "Beside the paper: its tables", tables, paper_tables.NOTE, "Tables 1 to 6"),
        Section("claims", "Beside the paper: its claims", [verdicts], _judged_on(columns), holds="C1 to C21"),
        Section("again", "Other runs of the same data sets", list(_others(found)), holds="other seeds"),
        Section("run", "How this page was made, and how to read it", [*_made(found), reading]),
    ]
    titles = [c.title for c in columns if c.run]
    total = sum(len(m.ours) for m in found.members)
    lead = f"Salientry beside the paper, on {', '.join(titles) or 'no data set'} · {total:,} numbers of {len(found.members)} runs"
    links = [(f"{m.name}/{PAGE}", f"The whole page of {m.name}") for m in found.members]
    return html(
        "Salientry · " + ", ".join(c.title for c in columns if c.paper),
        report.QUESTION,
        f"{lead}, each computed from the records of its run",
        _first(columns),
        parts,
        links,
    )


def _judged_on(columns: Sequence[Column]) -> str:
    """Runs that the claims of a data set leave out, because they are of other test images."""
    return " ".join(f"{c.title}: judged without {', '.join(c.judged[1])}, whose test images are others." for c in columns if c.judged[1])


def source(c: Column) -> paper_tables.Source:
    """Its numbers beside the paper's."""
    if c.run is None:
        return paper_tables.Source(c.title, printed_rows(c.slug), why=c.why)
    reduced = frozenset(label for m in c.runs for label in m.make.context.reduced)
    return paper_tables.Source(c.title, [r for m in c.runs for r in m.rows], reduced)


def _first(columns: list[Column]) -> First:
    """The first screen: two detectors of each data set in each sentence, all that its own page speaks of in the table."""
    there = {c.title: Answer(c.run.shown) for c in columns if c.run and c.run.scores.has_naturals}
    there = {t: a for t, a in there.items() if a.pair()}
    known = [(c, c.run.shown) for c in columns if c.run]
    notes = [
        Markup("<b>{}</b> was not recorded: <code>{}</code>.").format(c.title, c.why.split(": ", 1)[1]) for c in columns if c.run is None
    ]
    notes += [Markup("{}: {}").format(c.title, n) for c in columns for n in dict.fromkeys(n for m in c.runs for n in failed(m.shown))]
    clouds = {t: a.points() for t, a in there.items()}
    picture = plots.scatter([(t, points) for t, (points, _) in clouds.items()], next((x for _, x in clouds.values()), ""), _measured(there))
    sentences = [
        *(_detected(there) if there else paper_tables.attacked([source(c) for c in columns if c.paper and c.run])),
        _attacker({c.title: r.make for c, r in known}),
    ]
    return First(sentences, notes, picture, _compared(there), wide=True)


def _measured(there: Mapping[str, Answer]) -> str:
    """What the first numbers are: detection rates, or the accuracies of records that hold the paper's protocol alone."""
    return " or ".join(dict.fromkeys("detection rate" if a.strict else "accuracy" for a in there.values())) or "detection rate"


def _detected(there: Mapping[str, Answer]) -> list[Markup]:
    """What is detected, and which false alarms noise makes."""
    pairs = {t: a.pair() for t, a in there.items()}
    seeds = of_seeds(s for p in pairs.values() for s in p)
    found = _each({t: [(detector_words(s.title), s.detected) for s in p] for t, p in pairs.items()})
    noise = {t: [(detector_words(s.title), s.noise) for s in p if s.noise] for t, p in pairs.items()}
    noisy = _each({t: p for t, p in noise.items() if p}) or "not measured here"
    second = Markup("<b>Extra false alarms</b> of the same on natural images with harmless noise as large as the attack: {}.")
    return [Markup("<b>{}</b> {}, beside the {}{}: {}.").format(*MEASURED[_measured(there)], BEST, seeds, found), second.format(noisy)]


def _each(found: Mapping[str, Sequence[tuple[str, Number | None]]]) -> Markup:
    """``MNIST: SPD 97.4 %, activations 96.9 %; ...``."""
    return Markup("; ").join(Markup("<i>{}</i>: {}").format(t, quoted(numbers)) for t, numbers in found.items())


def _attacker(there: Mapping[str, Maker]) -> Markup:
    """What somebody who knows the detector gets past it, where that was tried."""
    white = {t: passed_by(m) for t, m in there.items() if budgets_of(m)}
    if not white:
        return Markup("<b>An attacker who knows the detector</b> was not tried on these records.")
    each = Markup("; ").join(Markup("<i>{}</i>: {}").format(t, white.get(t, "not tried")) for t in there)
    return Markup("<b>An attacker who knows the detector</b> and may change each value by so much gets past it on {}.").format(each)


def _compared(there: Mapping[str, Answer]) -> Block | None:
    """A row a detector, the same columns for each data set."""
    rows: list[list[Any]] = []
    for t in ("SMD", "SPD", SIMPLEST, None, "fusion"):  # None: the best baseline, another one on each data set
        cells: list[Any] = []
        for a in there.values():
            title = a.best if t is None else t
            s = next((s for s in a.standings if s.title == title), None)
            name = Markup("<small>{}</small>").format(detector_words(s.title)) if s and t is None else Markup("")
            cells += (
                ["", "", ""] if s is None else [render.mark(s.detected) + name, *map(render.mark, (a.number(s.title, a.false), s.noise))]
            )
        below = Markup("<small>simplest baseline</small>") if t == SIMPLEST else Markup("")
        words = Markup("<b>{}</b>{}").format(detector_words(t) if t else BEST, below)
        rows += [[words, *cells]] if any(cells) else []
    heads = ["detector", *(h for a in there.values() for h in (a.heads[1], *COMPARED))]
    return listed("", heads, rows, NOTE, kind="small", groups=[("", 1), *((t, 3) for t in there)])


def _figure2(columns: list[Column], protocol: str) -> Section:
    there = [(f", {c.title}", c.run.make, c.run.scores.labels) for c in columns if c.run and c.run.scores.has_naturals]
    tables = [side_by_side(d, [_grid(c, protocol, d) for c in columns], "") for d in detection_tables.DEFENCES]
    none = [Block("", Markup('<p class="note">{}: {}.</p>').format(c.title, c.why)) for c in columns if c.run is None]
    note = "Rows: trained on; columns: tested on; each attack at the paper's budget for the data set. The paper prints no numbers here."
    drawn = figure2(there, protocol)
    blocks = [
        Block("", drawn, LINES_SAY) if drawn is not None else None,
        nested("The same in numbers", [*tables, *none], note, fold=True),
    ]
    anchor = "figure2" if protocol == "published" else "figure2-strict"
    return Section(anchor, f"Who notices: Figure 2, {protocol}", blocks, SAYS[protocol], "detectors by attack trained and tested on")


def _grid(c: Column, protocol: str, detector: str) -> Block | None:
    if c.run is None or not c.run.scores.has_naturals:
        return None
    return c.run.make.table(detection_tables.grid(detector, protocol, c.run.scores.labels), title=f"{detector}, {c.title}")


def _pictures(found: Collection) -> Iterator[Block | None]:
    for c in (c for c in found.columns if c.paper in gallery.CALLED):
        if c.run is None:
            yield Block(c.title, Markup('<p class="note">{}.</p>').format(c.why))
        else:
            for m in c.runs:
                yield from gallery.figures(m.scores, f", {c.title}")


def _others(found: Collection) -> Iterator[Block | None]:
    for m in found.others:
        attacks = m.make.values("headline", "trained_on", protocol="strict")
        right = m.make.num("accuracy", "percent") if m.scores.has_naturals else Markup("not measured here")
        says = Markup('<code>{}</code>, run seed {}; classifier accuracy {}. <a href="{}/{}">Its own page</a>').format(
            m.command, m.scores.run_seed, right, m.name, PAGE
        )
        tables = [m.make.table(detection_tables.headline(attacks, ["Margin2"])), m.make.table(detection_tables.GAINS)] if attacks else []
        yield nested(f"{title(m)} again: {m.name}", [*tables, Block("", Markup(""), says)], fold=True)


def _made(found: Collection) -> list[Block | None]:
    read_from = ", ".join(m.name + (" with the white box beside it" if m.scores.beside else "") for m in found.members)
    rows = [("command", found.command), ("checked by", f"{found.command} --verify"), ("read from", read_from)]
    return [listed("", ("", ""), [*rows, *(r for c in found.columns for m in c.runs for r in _run(c.title, m))])]


def _run(name: str, m: Made) -> list[tuple[str, str]]:
    """What made a column."""
    s = m.scores
    white = s.beside.run.get("command", "?") if s.beside else "in the same run" if s.white_box else "not run"
    return [(name, f"{m.command}, run seed {s.run_seed}; white box: {white}"), *((f"{name}, missing", shard) for shard in s.absent)]
