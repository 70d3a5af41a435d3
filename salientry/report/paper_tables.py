"""The paper's tables with ours beside them, one data set or several: a join of rows of the same frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from ..results.names import attack_title
from ..results.paper_numbers import MEANS, TABLES, UNIT, printed_text
from . import render
from .page import Block
from .spec import number_of

Row = Mapping[str, Any]
NOTE = (
    UNIT + " In brackets: 95 % interval {} (ours), standard deviation (the paper's). An attack with another budget than the paper's "
    "is left out."
)


def note(sources: Iterable[PaperColumn]) -> str:
    """Above all of them: what the columns are, and of what our intervals speak."""
    ours = (s.ids.get(r["ours"]) for s in sources for r in s.theirs)
    return NOTE.replace("{}", render.over(len(r["seeds"]) for r in ours if r is not None))


@dataclass
class PaperColumn:
    """One data set's numbers: its title, its rows of the frame, labels at reduced settings, why there are none. Of the rows of several
    runs the first with a number of ours counts.
    """

    title: str
    numbers: Sequence[Row]
    reduced: frozenset[str] = frozenset()
    why: str = ""
    ids: dict[str, Row] = field(init=False)
    theirs: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = {r["id"]: r for r in reversed(self.numbers) if r["source"] != "paper"}
        self.theirs = self._printed()
        ours = [r for r in self.numbers if r["kind"] == "paper table" and r["source"] != "paper"]
        shifts = [r for r in self.numbers if r["kind"] == "shift" and (r["protocol"], r["measure"]) == ("published", "p-two-sided")]
        self.p = {(r["saliency"], r["attack"]): r for r in reversed(shifts)}
        self.ours = {(r["ours"], r["row"], r["measure"]): r for r in reversed(ours)}

    def _printed(self) -> list[Row]:
        """The paper's rows, each place once: beside the first run that has a number for it."""
        there: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
        for r in self.numbers:
            if r["kind"] == "paper table" and r["source"] == "paper":
                place = (r["table"], r["name"], r.get("saliency"), r.get("map"))
                there.setdefault(place, {}).setdefault(str(r.get("run")), []).append(r)
        found = ([x for x in runs.values() if any(r["ours"] in self.ids for r in x)] or [*runs.values()] for runs in there.values())
        return [r for runs in found for r in runs[0]]

    def accuracies(self) -> list[tuple[str, Row | None, Row]]:
        """Table 4: natural images and each attack in words, our number and the paper's row."""
        return [(r["name"], self.ids.get(r["ours"]), r) for r in self.theirs if r["table"] == 4]


def attacked(sources: Sequence[PaperColumn]) -> list[Markup]:
    """Sentences for where no detector was trained: what attacks leave of the classifier's accuracy, with the paper's number."""
    each = []
    for s in sources:
        known = [(words, n, theirs) for words, n, theirs in s.accuracies() if n is not None]
        said = [Markup("{} {} ({})").format(w, render.mark(number_of(n), "percent"), printed_text(t)) for w, n, t in known]
        each += [Markup("<i>{}</i>: {}").format(s.title, Markup(", ").join(said))] if said else []
    if not each:
        return [Markup("These records hold no detection rate.")]
    words = Markup("<b>Classifier accuracy</b> on natural images and under attack, the paper's in round brackets: {}.")
    return [words.format(Markup("; ").join(each)), Markup("<b>No detector</b> was trained in these records.")]


def tables(sources: Sequence[PaperColumn]) -> list[Block]:
    """All of them; those of a map from the classifier's own trunk folded behind the same of a second net."""
    out = []
    for number, (name, _) in TABLES.items():
        maps = list(dict.fromkeys("-own=True" in str(r.get("map")) for s in sources for r in s.theirs if r["table"] == number)) or [False]
        for trunk in sorted(maps):
            title = f"Table {number}: {name}" + (", maps from the classifier's trunk" if trunk else "")
            anchor = f"table{number}" + ("-trunk" if trunk else "")
            if rows := _rows(number, trunk, sources):
                out.append(Block(title, _table(number, rows, sources), _says(number, sources), fold=trunk, anchor=anchor))
    return out


def _says(number: int, sources: Sequence[PaperColumn]) -> Markup:
    doubts = dict.fromkeys(r["suspect"] for s in sources for r in s.theirs if r["table"] == number and r["suspect"])
    whys = [f"{s.title}: {s.why}." for s in sources if s.why]
    bold = ["Bold: mean L2 ≥ .025 and mean L∞ ≥ .5, the rule of the paper's caption."] if number == 2 else []
    return Markup(" ").join(Markup("{}").format(w) for w in (*whys, MEANS[number], *bold, *(f"Doubted: {d}." for d in doubts)))


def _table(number: int, rows: list[tuple[str, list[Markup]]], sources: Sequence[PaperColumn]) -> Markup:
    """All data sets side by side; where it is printed, each alone."""
    wide = len(rows[0][1]) // len(sources)
    each = [([(t, cells[k * wide : (k + 1) * wide]) for t, cells in rows], [s]) for k, s in enumerate(sources)]
    return render.printable(_one_table(number, rows, sources), [_one_table(number, *e) for e in each])


def _one_table(number: int, rows: list[tuple[str, list[Markup]]], sources: Sequence[PaperColumn]) -> Markup:
    groups = TABLES[number][1]
    extra = ["p, ours", "p, paper"] if number == 1 else []
    span = 4 * len(groups) + len(extra)
    top = Markup("").join(Markup('<th colspan="{}">{}</th>').format(span, s.title) for s in sources)
    middle = Markup("").join(Markup('<th colspan="4">{}</th>').format(g) for _ in sources for g in groups.values())
    one = Markup("").join(Markup("<th>{}</th>").format(h) for h in ("ours", "paper", "difference", "in units"))
    last = (one * len(groups) + Markup("").join(Markup("<th>{}</th>").format(h) for h in extra)) * len(sources)
    middle = (
        middle
        if not extra
        else Markup("").join(
            Markup('<th colspan="4">{}</th>').format(g) + Markup('<th colspan="2">two-sided</th>') for _ in sources for g in groups.values()
        )
    )
    lines = Markup("\n").join(Markup("<tr><th>{}</th>{}</tr>").format(title, Markup("").join(cells)) for title, cells in rows)
    head = Markup('<tr><th rowspan="3"></th>{}</tr><tr>{}</tr><tr>{}</tr>').format(top, middle, last)
    return Markup('<div class="scroll"><table><thead>{}</thead><tbody>\n{}\n</tbody></table></div>').format(head, lines)


def _rows(number: int, trunk: bool, sources: Sequence[PaperColumn]) -> list[tuple[str, list[Markup]]]:
    """A row for each of the paper's; settings of our attack that have another name are said in the cell."""
    mine = [[r for r in s.theirs if r["table"] == number and ("-own=True" in str(r.get("map"))) == trunk] for s in sources]
    names = list(dict.fromkeys(r["name"] for rows in mine for r in rows))
    out = []
    for name in names:
        each = [list(dict.fromkeys(r["row"] for r in rows if r["name"] == name)) for rows in mine]
        for k in range(max(len(e) for e in each)):
            cells = [
                c
                for s, rows, there in zip(sources, mine, each, strict=True)
                for c in _cells(number, s, [r for r in rows if k < len(there) and r["row"] == there[k]], name)
            ]
            out.append((name, cells))
    return out


def _cells(number: int, s: PaperColumn, rows: list[Row], name: str) -> list[Markup]:
    out = []
    for cell in TABLES[number][1]:
        theirs = next((r for r in rows if (r["cell"] or "") == cell), None)
        out += _four(number, s, theirs, name)
    if number == 1:
        theirs = rows[0] if rows else None
        p = None if theirs is None else s.p.get((theirs.get("map"), theirs.get("attack")))
        out.append(Markup("<td>{}</td>").format(render.mark(number_of(p), "p") if p else ""))
        out.append(Markup("<td>{}</td>").format(f"{theirs['p']:.2f}" if theirs is not None and theirs.get("p") is not None else ""))
    return out


def _four(number: int, s: PaperColumn, theirs: Row | None, name: str) -> list[Markup]:
    if theirs is None:
        return [Markup('<td><span class="none">{}</span></td>').format("not recorded" if s.why else "not run"), *[Markup("<td></td>")] * 3]
    how = ",".join(("percent",) if theirs["percent"] else (f"d{theirs['decimals']}", "seeds"))
    ours = s.ids.get(theirs["ours"])
    label = theirs.get("attack")
    said = [] if theirs["title"] == name else [attack_title(theirs["attack"])]
    said += ["reduced settings"] if label and set(str(label).split("|")) & s.reduced else []
    said += ["other weights"] if ours is not None and ours.get("apart") else []
    body = Markup('<span class="none" title="{}">not run</span>').format(s.why) if ours is None else render.mark(number_of(ours), how)
    body += Markup("<small>{}</small>").format(", ".join(said)) if said and ours is not None else Markup("")
    doubt = Markup(' <span class="warning" title="{}">doubted</span>').format(theirs["suspect"]) if theirs["suspect"] else Markup("")
    text = Markup("<b>{}</b>" if theirs.get("bold") and theirs["cell"] != "l0" else "{}").format(printed_text(theirs))
    gap, units = (s.ours.get((theirs["ours"], theirs["row"], m)) for m in ("difference", "units"))
    cells = [
        body,
        text + doubt,
        *(render.mark(number_of(n), h) if n else "" for n, h in ((gap, how.replace(",seeds", "")), (units, "bare"))),
    ]
    return [Markup("<td>{}</td>").format(c) for c in cells]
