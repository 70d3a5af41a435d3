"""The first screen: what the paper says, what came of it in its own manner, what is left in an honest one, what an attacker pays.

Sentences for someone who must decide whether to put such a detector in front of a model; every number in them is one of the ledger's,
but for the paper's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from markupsafe import Markup

from . import targets
from .compute import Computed
from .detection import Row, Table
from .headline import BLACK
from .records import Records, attack_title

SHOWN = ("SPD", "SMD", "ID+", "fusion")
Number = Callable[..., Markup]  # an id (and whether in percent) to what is printed


@dataclass(frozen=True)
class Part:
    """A heading, its sentences, and a small table under them.

    Attributes:
        heading: of the part.
        sentences: in order.
        head: of the table; empty where there is none.
        rows: of the table, the detector first.
        after: sentences below it.
    """

    heading: str
    sentences: list[Markup]
    head: list[str] = field(default_factory=list)
    rows: list[list[Markup]] = field(default_factory=list)
    after: list[Markup] = field(default_factory=list)


def summary(records: Records, found: Computed, num: Number, percent: Callable[[str], str]) -> list[Part]:
    """The four parts, and before them what a number that costs nothing finds; empty where the paper does not have the data set."""
    if found.paper.column is None:
        return []
    return [
        *_black(found, num),
        Part("The paper says", _paper(found.paper.column)),
        Part("In the paper's own manner, we find", _own_manner(found, num)),
        _strict(found, num, percent),
        _attacker(records, found, num),
    ]


def _black(found: Computed, num: Number) -> list[Part]:
    """Where the share of black pixels finds most of an attack, nothing else may be said first."""
    if found.headline is None or not found.headline.black:
        return []
    each = found.headline.black.items()
    told = _joined(
        Markup("{} {}").format("all attacks, each on its share" if a == "combined" else attack_title(a), num(i)) for a, i in each
    )
    words = Markup(
        "<b>The share of black pixels alone</b> (BlackShare: no map, no net), trained and tested on the same attack under strict rules, "
        "finds {}. A detector that is not better than this has learnt to see dirt on a black background."
    )
    return [Part("Before anything else", [words.format(told)])]


def _joined(items: Iterable[Markup]) -> Markup:
    return Markup(", ").join(items)


def _paper(column: str) -> list[Markup]:
    """From the tables that it prints."""
    rows = targets.printed()
    six = {d: targets.cell(rows["table6"][d], column).text for d in ("SPD", "SMD", "ID", "JSD")}
    three = {
        (d, w): targets.cell(rows["table3"][f"{w}_adversarial_training"]["detector_accuracy"][d], column).text
        for d in ("SPD", "SMD")
        for w in ("before", "after")
    }
    return [
        Markup(
            "A detector that sees where the classifier looks, by a learnt map times the image (SPD) or the map alone (SMD), finds "
            "adversarial images that a detector of the image (ID) does not. One detector for six attacks, accuracy on {}: SPD {}, SMD {}, "
            "ID {}, JSD {} (in brackets the standard deviation over runs)."
        ).format(column, *(six[d] for d in ("SPD", "SMD", "ID", "JSD"))),
        Markup("Its white-box attack, share flagged: SPD {}, SMD {}; after adversarial training {} and {}.").format(
            three["SPD", "before"], three["SMD", "before"], three["SPD", "after"], three["SMD", "after"]
        ),
    ]


def _own_manner(found: Computed, num: Number) -> list[Markup]:
    """Table 6 and Table 3, ours."""
    out = []
    ledger = found.ledger
    for form, words in (("", "with batch norm and paired batches"), (" (replica)", "trained as the paper trains")):
        ids = {d: f"published/{d}{form}/combined/combined/accuracy" for d in ("SPD", "SMD", "ID", "JSD")}
        if all(i in ledger for i in ids.values()):
            told = _joined(Markup("{} {}").format(d, num(i)) for d, i in ids.items())
            out.append(Markup("One detector for all attacks, {}, accuracy: {}.").format(words, told))
    steps = found.algorithms
    if steps is not None:
        lines = [(d, steps.line(d, "as printed"), steps.line(d, "true gradient")) for d in ("SPD", "SMD")]
        each = [
            Markup(
                "{} {} flagged; of the images that were right {} end wrong and unflagged as printed, {} with the true gradient in a ball "
                "of that size and steps of a quarter of it"
            ).format(d, num(a.numbers["detector"]), num(a.numbers["joint"]), num(b.numbers["joint"]))
            for d, a, b in lines
            if a and b
        ]
        if each:
            eps = next(a.eps for _, a, _ in lines if a)
            out.append(Markup("Its white-box attack with eps {}: {}.").format(eps, Markup("; ").join(each)))
    return out or [Markup("Not run: these records hold the white box alone.")]


def _strict(found: Computed, num: Number, percent: Callable[[str], str]) -> Part:
    """Detection by who does not know the detector."""
    heading = "Under strict rules is left"
    table = next((t for t in found.tables if (t.protocol, t.trained_on) == ("strict", "combined") and t.rows), None)
    if table is None:
        return Part(heading, [Markup("Not run: these records hold the white box alone.")])
    black = BLACK if found.headline and found.headline.black else ""
    wanted = [n for n in (*SHOWN[:3], table.best_floor, SHOWN[3], black) if n]
    rows = [r for n in dict.fromkeys(wanted) for r in table.rows if r.group.title == n]
    words = Markup(
        "8-bit images that fool, one threshold that flags at most {} of naturals, attacks that do not know the detector, which was trained "
        "on all of them. Share found:"
    ).format(percent(table.levels[0]))
    after = []
    if found.fusion and (gain := found.fusion.gain("whole", "the map")):
        after.append(Markup("The map's two detectors, added to a fusion of everything else, find {} more.").format(num(gain)))
    head = ["detector", "of all attacks, each on its share", "of the attack of which least is found", "naturals flagged"]
    return Part(heading, [words], head, [_found(r, table, found, num) for r in rows], after)


def _found(row: Row, table: Table, found: Computed, num: Number) -> list[Markup]:
    level = table.levels[0]
    cells = {c.attack: c.tpr[level] for c in row.cells if level in c.tpr}
    name = Markup("{}{}").format(row.group.title, " (best floor)" if row.group.title == table.best_floor else "")
    each = [a for a in found.grid.labels if a in cells]
    worst = min(each, key=lambda a: found.ledger.value(cells[a])) if each else None
    least = Markup("{} {}").format(num(cells[worst]), attack_title(worst)) if worst else Markup("–")
    return [name, num(cells.get("combined")), least, num(row.fpr.get(level))]


def _attacker(records: Records, found: Computed, num: Number) -> Part:
    """What is left of a detector against who has it."""
    heading, siege = "An attacker who knows the detector", found.siege
    if siege is None:
        return Part(heading, [Markup("Not run: <code>salientry run whitebox dataset={}</code>.").format(records.dataset)])
    linf = [b for b in siege.budgets if not b.startswith("L2")]
    shown = [r for n in SHOWN for r in siege.rows if r.title == n]
    words = Markup(
        "Share of {} images (right before) that end wrong, in 8 bits, and unflagged at the same threshold, by how far each value may be "
        "changed; how much larger the smallest such change that was found is than without a detector (L2, medians); and who wants to turn "
        "the detector against its owner: share of images that are flagged though their answer is right."
    ).format(siege.images)
    alarms = list(dict.fromkeys(b for r in shown for b in r.alarm))
    head = ["detector", *linf, "L2 it costs", *(f"alarm, {b}" for b in alarms)]
    rows = [[Markup("none"), *(num(siege.alone.get(b)) for b in linf), Markup("1"), *(Markup("–") for _ in alarms)]]
    for r in shown:
        weak = [Markup("attack too weak"), *(Markup("") for _ in linf[1:])][: len(linf)]
        cells = weak if r.blank else [num(r.union[b]) for b in linf]
        rows.append([Markup(r.title), *cells, num(r.cost), *(num(r.alarm.get(b)) for b in alarms)])
    return Part(heading, [words], head, rows)
