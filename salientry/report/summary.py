"""The first screen: what the paper says, what came of it in its own manner, what is left in an honest one, what an attacker pays.

Sentences for someone who must decide whether to put such a detector in front of a model; every number in them is one of the ledger's,
but for the paper's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

from . import targets
from .compute import Computed
from .detection import Row, Table
from .records import Records, attack_title

Number = Callable[..., Markup]  # an id (and whether in percent) to what is printed


@dataclass(frozen=True)
class Part:
    """A heading and its sentences."""

    heading: str
    sentences: list[Markup]


def summary(records: Records, found: Computed, num: Number, percent: Callable[[str], str]) -> list[Part]:
    """The four parts; empty where the paper does not have the data set."""
    if found.paper.column is None:
        return []
    return [
        Part("The paper says", _paper(found.paper.column)),
        Part("In the paper's own manner, we find", _own_manner(found, num)),
        Part("Under strict rules is left", _strict(found, num, percent)),
        Part("An attacker who knows the detector", _attacker(records, found, num, percent)),
    ]


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
                "of that size"
            ).format(d, num(a.numbers["detector"]), num(a.numbers["joint"]), num(b.numbers["joint"]))
            for d, a, b in lines
            if a and b
        ]
        out.append(Markup("Its white-box attack with eps {}: {}.").format(lines[0][1].eps if lines[0][1] else "?", Markup("; ").join(each)))
    return out or [Markup("Not run: these records hold the white box alone.")]


def _strict(found: Computed, num: Number, percent: Callable[[str], str]) -> list[Markup]:
    """Detection by who does not know the detector."""
    table = next((t for t in found.tables if (t.protocol, t.trained_on) == ("strict", "combined") and t.rows), None)
    if table is None:
        return [Markup("Not run: these records hold the white box alone.")]
    level = table.levels[0]
    wanted = [n for n in ("SPD", "SMD", "ID+", table.best_floor, "fusion") if n]
    rows = [r for n in dict.fromkeys(wanted) for r in table.rows if r.group.title == n]
    out = [
        Markup(
            "8-bit images that fool, one threshold that flags at most {} of naturals, attacks that do not know the detector. Trained on "
            "all of them, share found, over them all and on the one of which least is found:"
        ).format(percent(level))
        + Markup(" {}.").format(Markup("; ").join(_found(r, table, found, num) for r in rows))
    ]
    if found.fusion and (gain := found.fusion.gain("whole", "the map")):
        out.append(Markup("Added to a fusion of everything else, the map's two detectors find {} more.").format(num(gain)))
    return out


def _found(row: Row, table: Table, found: Computed, num: Number) -> Markup:
    level = table.levels[0]
    cells = {c.attack: c.tpr[level] for c in row.cells if level in c.tpr}
    name = row.group.title + (" (floor)" if row.group.title == table.best_floor else "")
    whole = Markup("{} {}").format(name, num(cells.get("combined")))
    each = [a for a in found.grid.labels if a in cells]
    if not each:
        return whole
    worst = min(each, key=lambda a: found.ledger.value(cells[a]))
    return whole + Markup(", {} {}").format(attack_title(worst), num(cells[worst]))


def _attacker(records: Records, found: Computed, num: Number, percent: Callable[[str], str]) -> list[Markup]:
    """What is left of a detector whose owner publishes it."""
    siege = found.siege
    if siege is None:
        return [Markup("Not run: <code>salientry run whitebox dataset={}</code>.").format(records.dataset)]
    linf = [b for b in siege.budgets if not b.startswith("L2")]
    rows = {r.title: r for r in siege.rows}
    shown = [rows[n] for n in ("SPD", "SMD", "ID+", "fusion") if n in rows]

    def at(b: str) -> Markup:
        alone = Markup("no detector {}").format(num(siege.alone[b])) if b in siege.alone else Markup("")
        told = [Markup("{} {}").format(r.title, num(r.union[b]) if r.union.get(b) else "not known, attack too weak") for r in shown]
        return Markup("<b>{}</b>: {}").format(b, _joined([*([alone] if alone else []), *told]))

    out = [
        Markup(
            "Gets past classifier and detector at the same threshold, share of {} images, by how far each value may be changed. {}."
        ).format(siege.images, Markup("; ").join(at(b) for b in linf))
    ]
    costs = [Markup("{} {}").format(r.title, num(r.cost)) for r in shown if r.cost]
    if costs:
        words = Markup("The smallest change that works is so many times the one without a detector (L2, medians): {}.")
        out.append(words.format(_joined(costs)))
    alarms = [Markup("{} {}").format(r.title, num(next(iter(r.alarm.values())))) for r in shown if r.alarm]
    if alarms:
        out.append(
            Markup("Turned against its owner it is made to flag images whose answer is right, budget {}: {}.").format(
                next(iter(shown[0].alarm)), _joined(alarms)
            )
        )
    return out
