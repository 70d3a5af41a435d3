"""Several runs as one page: the data sets side by side, as the paper prints them. Every number is one of a run's own page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import DataDamaged, VerificationFailed
from ..results.choice import DEFENCES, SIMPLEST
from ..results.names import detector_words
from ..results.paper_numbers import printed_rows
from ..store import JSON, packed, read_json, write_json, write_text
from . import claims, detection_tables, every_number, gallery, paper_tables, plots, render, report, verification
from .attacker import budgets_of, elsewhere, passed_by, quoted
from .columns import NOT_RECORDED, Collection, DataSetColumn, read, runs, title
from .doubts import failed
from .guide import how_to_read
from .naming import BASELINE, Namer, listing
from .overview import GROUPS, OUTDONE, Standings, of_seeds
from .overview import note as noted
from .page import Block, First, Maker, Section, folded, html, listed, nested, side_by_side
from .report import Made
from .sections import BOTH, SAYS, figure2, lines_say
from .spec import Number
from .words import said

PAGE = "report.html"
MEASURED = {  # what the first sentence quotes
    "detection rate": (
        "Detection rate",
        "on attacked images that fool the classifier, at a threshold set to flag at most 5\u202f% of natural images",
    ),
    "accuracy": ("Accuracy", "on half natural, half attacked images, at each detector's own threshold"),
}
MEASURED["detection rate or accuracy"] = MEASURED["accuracy or detection rate"] = ("Detection rate", "or, without it, accuracy")
COMPARED = ("false-positive rate", "extra false alarms, noise")
NOTE = "None of these attacks knows the detector. Each data set's own page has every detector on each attack."


def write(folder: Path | str) -> Path:
    """Write each run's page into its folder, and ``report.html``, ``report.json`` and ``numbers.csv`` of all of them into ``folder``.

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
    write_text(found.folder / every_number.NAME, every_number.joined((m.name, m.csv) for m in found.members))
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
    verdicts = claims.together([(c.title, c.judged[0], NOT_RECORDED if c.run is None else "") for c in columns])
    tables = [folded(b) for b in paper_tables.tables(sources)]
    reading = replace(how_to_read(), title="How to read this page", fold=True)
    parts = [
        Section("pictures", "Where the classifier looked", list(_pictures(found)), holds="the paper's Figures 1, 5 to 8"),
        *(_figure2(columns, p) for p in reversed(BOTH) if any(c.run and c.run.scores.trained for c in columns)),
        Section("tables", "Beside the paper: its tables", tables, paper_tables.note(sources), "Tables 1 to 6"),
        Section("claims", "Beside the paper: its claims", [verdicts], _judged_on(columns), holds="C1 to C21"),
        Section("again", "Other runs of the same data sets", list(_others(found)), holds="other seeds"),
        Section("run", "How this page was made, and how to read it", [*_made(found), reading]),
    ]
    titles = [c.title for c in columns if c.run]
    total = sum(len(m.ours) for m in found.members)
    lead = f"Salientry beside the paper, on {', '.join(titles) or 'no data set'} · {total:,} numbers of {len(found.members)} runs"
    links = [(every_number.NAME, "All numbers of these runs, as comma-separated values")]
    links += [(f"{m.name}/{PAGE}", f"The whole page of {m.name}") for m in found.members]
    return html(
        "Salientry · " + ", ".join(c.title for c in columns if c.paper),
        report.QUESTION,
        f"{lead}, each computed from the records of its run",
        _first(columns),
        parts,
        links,
    )


def _judged_on(columns: Sequence[DataSetColumn]) -> str:
    """Runs that the claims of a data set leave out, and why."""
    return " ".join(f"{c.title}: judged without {', '.join(c.judged[1])}." for c in columns if c.judged[1])


def source(c: DataSetColumn) -> paper_tables.PaperColumn:
    """Its numbers beside the paper's."""
    if c.run is None:
        return paper_tables.PaperColumn(c.title, printed_rows(c.slug), why=c.why)
    reduced = frozenset(label for m in c.runs for label in m.make.context.reduced)
    return paper_tables.PaperColumn(c.title, [r for m in c.runs for r in m.rows], reduced)


def _first(columns: list[DataSetColumn]) -> First:
    """The first screen: two detectors of each data set in each sentence, all that its own page speaks of in the table."""
    there = _answers(columns)
    known = [(c, c.run.shown) for c in columns if c.run]
    notes = [Markup("<b>{}</b> was not recorded: <code>{}</code>.").format(c.title, c.command) for c in columns if c.run is None]
    notes += [Markup("{}: {}").format(c.title, n) for c in columns for n in dict.fromkeys(n for m in c.runs for n in failed(m.shown))]
    clouds = {t: a.points() for t, a in there.items()}
    picture = plots.scatter(
        [(t, points) for t, (points, _) in clouds.items()],
        next((x for _, x in clouds.values()), ""),
        _measured(there),
        order=tuple(GROUPS.values()),
    )
    sentences = [
        *(_detected(there) if there else paper_tables.attacked([source(c) for c in columns if c.paper and c.run])),
        _attacker({c.title: r.make for c, r in known}),
    ]
    return First(sentences, notes, picture, _compared(there), wide=True)


def _measured(there: Mapping[str, Standings]) -> str:
    """What the first numbers are: detection rates, or the accuracies of records that hold the paper's protocol alone."""
    return " or ".join(dict.fromkeys("detection rate" if a.strict else "accuracy" for a in there.values())) or "detection rate"


def _answers(columns: Sequence[DataSetColumn]) -> dict[str, Standings]:
    """What each run with detectors says; where those of a data set were trained on other attacks, each under the name of its attack."""
    found: dict[str, Standings] = {}
    for c in columns:
        there = [(m.name, a) for m in c.runs if m.scores.has_naturals and (a := Standings(m.shown)).pair()]
        alone = {a.trained for _, a in there} == {"combined"}
        for name, a in there:
            title = c.title if alone else f"{c.title}, {said('trained_on', a.trained)}"
            found[f"{title} ({name})" if title in found else title] = a
    return found


def _trained(there: Mapping[str, Standings]) -> str:
    """On what the detectors of these pages were trained and tested, in words."""
    if all(a.trained == "combined" for a in there.values()):
        return "detectors are trained and tested on all attacks together"
    return "detectors are trained and tested on the attack behind the data set's name"


def _detected(there: Mapping[str, Standings]) -> list[Markup]:
    """What is detected, and which false alarms noise makes."""
    pairs, named = {t: a.pair() for t, a in there.items()}, Namer()
    seeds = of_seeds(s for p in pairs.values() for s in p)
    found = _each({t: [(named(s.title), s.detected) for s in p] for t, p in pairs.items()})
    noise = {t: [(named(s.title), s.noise) for s in p if s.noise] for t, p in pairs.items()}
    noisy = _each({t: p for t, p in noise.items() if p}) or "not measured here"
    first = Markup("<b>{}</b> {} ({}), of a detector and of the {}{}: {}.")
    second = Markup("<b>Extra false alarms</b> of the same on natural images with harmless noise as large as the attack: {}.")
    return [first.format(*MEASURED[_measured(there)], _trained(there), BASELINE, seeds, found), second.format(noisy)]


def _each(found: Mapping[str, Sequence[tuple[str, Number | None]]]) -> Markup:
    """``MNIST: SPD 97.4 %, activations 96.9 %; ...``."""
    return Markup("; ").join(Markup("<i>{}</i>: {}").format(t, quoted(numbers)) for t, numbers in found.items())


def _attacker(there: Mapping[str, Maker]) -> Markup:
    """What somebody who knows the detector gets past it, where that was tried."""
    white = {t: passed_by(m) if budgets_of(m) else Markup(elsewhere(m) or "not tried") for t, m in there.items()}
    if not any(budgets_of(m) or elsewhere(m) for m in there.values()):
        return Markup(
            "<b>An attacker who knows the detector</b> was not tried on these records (<code>salientry run whitebox</code> does)."
        )
    each = Markup("; ").join(Markup("<i>{}</i>: {}").format(t, white[t]) for t in there)
    return Markup("<b>An attacker who knows the detector</b> and may change each value by so much gets past it on {}.").format(each)


def _compared(there: Mapping[str, Standings]) -> Block | None:
    """A row a detector of sentences and picture, the same columns for each data set."""
    rows: list[list[Any]] = []
    ranks = {t: r for a in there.values() for t, r in a.ranks.items()}
    for t in sorted(ranks, key=lambda t: ranks[t]):
        cells: list[Any] = []
        for a in there.values():
            s = next((s for s in a.standings if s.title == t), None)
            below = Markup(' <small class="below">best baseline</small>') if t == a.best else Markup("")
            cells += (
                [render.mark(None)] * 3
                if s is None
                else [render.mark(s.detected) + below, *map(render.mark, (a.number(t, a.false), s.noise))]
            )
        below = Markup(" <small>simplest baseline</small>") if t == SIMPLEST else Markup("")
        rows.append([Markup("<b>{}</b>{}").format(detector_words(t), below), *cells])
    heads = ["detector", *(h for a in there.values() for h in (a.heads[1], *COMPARED))]
    where = [t for t, a in there.items() if a.outdone]
    more = " " + OUTDONE.format(f" of {listing(where)}" if len(there) > 1 else "") if where else ""
    trained = _trained(there)
    note = f"{noted(there.values())} {trained[:1].upper()}{trained[1:]}. {NOTE}{more}"
    return listed("", heads, rows, note, kind="small", groups=[("", 1), *((t, 3) for t in there)])


def _figure2(columns: list[DataSetColumn], protocol: str) -> Section:
    there = [(f", {c.title}", c.run.make, c.run.scores.labels) for c in columns if c.run and c.run.scores.has_naturals]
    tables = [side_by_side(d, [_grid(c, protocol, d) for c in columns], "") for d in DEFENCES]
    none = [Block("", Markup('<p class="note">{}: {}.</p>').format(c.title, c.why)) for c in columns if c.run is None]
    note = "Rows: trained on; columns: tested on; each attack at the paper's budget for the data set. The paper prints no numbers here."
    drawn = figure2(there, protocol)
    blocks = [
        Block("", drawn, lines_say([m for _, m, _ in there], protocol)) if drawn is not None else None,
        nested("The same in numbers", [*tables, *none], note, fold=True),
    ]
    anchor = "figure2" if protocol == "published" else "figure2-strict"
    return Section(anchor, f"Who notices: Figure 2, {protocol}", blocks, SAYS[protocol], "detectors by attack trained and tested on")


def _grid(c: DataSetColumn, protocol: str, detector: str) -> Block | None:
    if c.run is None or not c.run.scores.has_naturals:
        return None
    return c.run.make.table(detection_tables.grid(detector, protocol, c.run.scores.labels), title=f"{detector}, {c.title}")


def _pictures(found: Collection) -> Iterator[Block | None]:
    makes = any(gallery.made(m.scores) for m in found.members)
    for c in found.columns:
        if c.run is None:
            recipe = found.members[0].scores.body["recipe"]["recipe"]
            why = c.why if makes else f"not recorded, and recipe {recipe} makes none"
            yield Block("", Markup('<p class="note">No pictures, {}: {}.</p>').format(c.title, why))
        for m in c.runs:
            of = f", {c.title}" + (f" ({m.name})" if c.parts else "")
            yield from gallery.figures(m.scores, of)


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
    white = (
        s.beside.run.get("command", "?") + f" ({s.apart})" * bool(s.apart) if s.beside else "in the same run" if s.white_box else "not run"
    )
    return [(name, f"{m.command}, run seed {s.run_seed}; white box: {white}"), *((f"{name}, missing", shard) for shard in s.absent)]
