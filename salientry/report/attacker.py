"""What an attacker who knows the detector achieves, for the first screen of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from ..results.choice import CURVES
from ..results.names import data_set, detector_words
from ..results.weights import OTHER
from . import plots, render
from .naming import Namer, parted
from .page import First, Maker, listed
from .sections import Shown
from .spec import Number

APART = f"<b>An attacker who knows the detector</b> was {OTHER}: the numbers are of other nets and stand in a section of their own."
NOT_RUN = "<b>An attacker who knows the detector</b> was not tried here (<code>salientry run whitebox dataset={}</code>)."


def quoted(numbers: Iterable[tuple[str, Number | None]]) -> Markup:
    """Numbers as a sentence has them, each behind its name; of a few seeds the least and the most."""
    there = [(t, n) for t, n in numbers if n]
    return Markup(parted(t for t, _ in there)).join(Markup("{} {}").format(t, render.mark(n, "percent,range,bare")) for t, n in there)


def budgets_of(m: Maker) -> list[str]:
    """Linf budgets of the white box, from small to large; none where it is of other nets than the run's."""
    return m.values("white box", "budget", measure="success", norm="linf", attack="union", apart=None)


def elsewhere(m: Maker) -> str:
    """Why the white box beside a run says nothing of its nets; empty where it does, or where there is none."""
    return next(iter(m.values("white box", "apart")), "")


def past(m: Maker, title: str, budget: str) -> Markup:
    """The attack success rate of the union of all attacks past one detector, as a cell."""
    return m.num("white box", title=title, attack="union", budget=budget, measure="success")


def _passed(m: Maker, budget: str) -> list[tuple[str, Number]]:
    """Each attacked detector with the attack success rate at a budget, the least first."""
    place = {"attack": "union", "budget": budget, "measure": "success"}
    each = [(t, m.find("white box", title=t, **place)) for t in m.values("white box", "title", **place)]
    return sorted(((t, n) for t, n in each if n), key=lambda x: x[1].value)


def attacker(m: Maker, dataset: str, named: Callable[[str], str] = detector_words) -> Markup:
    """What someone who knows the detector achieves at the largest Linf budget; ``named``: how a sentence names a detector."""
    budgets = budgets_of(m)
    if not budgets and elsewhere(m):
        return Markup(APART)
    if not budgets:
        return Markup(NOT_RUN).format(data_set(dataset))
    return Markup("<b>An attacker who knows the detector</b> and may change each value by {} gets past {}.").format(
        budgets[-1], gets_past(m, named)
    )


def gets_past(m: Maker, named: Callable[[str], str] = detector_words) -> Markup:
    """Which detectors that attacker gets past, on how many images."""
    each = _passed(m, budgets_of(m)[-1])
    low, high = each[0], each[-1]
    if low[1].value == high[1].value:
        which = f"each of the {len(each)} detectors tried" if len(each) > 1 else named(low[0])
        what = Markup("{} on {}").format(which, render.mark(low[1], "percent,bare"))
    else:
        two = ((named(t), render.mark(n, "percent,bare")) for t, n in (low, high))
        what = Markup(" and past ").join(Markup("{} on {}").format(t, n) for t, n in two)
    return Markup("{} of {:,} images").format(what, low[1].n)


def passed_by(m: Maker) -> Markup:
    """The same where there is less room."""
    budget = budgets_of(m)[-1]
    each = _passed(m, budget)
    ends = {n.value: render.mark(n, "percent,bare") for _, n in (each[0], each[-1])}
    many = f"each of {len(each)} detectors" if len(ends) == 1 and len(each) > 1 else f"{len(each)} detector{'s' * (len(each) > 1)}"
    return Markup("{} of {:,} images ({}, each value changed by at most {})").format(
        Markup(" to ").join(ends.values()), each[0][1].n, many, budget
    )


def white(r: Shown, notes: Sequence[Markup]) -> First:
    """The first screen of the white box alone."""
    m = r.make
    budgets = budgets_of(m)
    if not budgets:
        return First([Markup("These records hold no attack on a detector.")], notes)
    each = _passed(m, budgets[-1])
    alone = {b: n for b in budgets if (n := m.find("white box", title="classifier alone", attack=None, budget=b, measure="success"))}
    first = Markup("<b>Attack success rate</b> without a detector, each value changed by at most so much: {}.").format(
        quoted(alone.items())
    )
    costs = [(t, n) for t, _ in each if (n := m.find("white box", title=t, measure="cost")) and n.value == n.value]
    costs.sort(key=lambda x: x[1].value)
    named = Namer()
    known = attacker(m, r.scores.dataset, named)
    words = Markup(
        "<b>What it costs the attacker</b>: the median of the smallest perturbation is {} times (past {}) to {} times (past {}) "
    )
    last = Markup("its size without a detector.")
    cost = (
        [
            words.format(
                render.mark(costs[0][1], "bare"),
                named(costs[0][0]),
                render.mark(costs[-1][1], "bare"),
                named(costs[-1][0]),
            )
            + last
        ]
        if costs
        else []
    )
    shown = [t for t in CURVES if t in dict(each)]
    series = [_series(m, t, budgets) for t in ("classifier alone", *shown)]
    picture = plots.facets(series, y=("attack success rate", 0.0, 1.02), x="largest change of a value", high=330)
    rows = [[Markup("<b>{}</b>").format(detector_words(t)), *(past(m, t, b) for b in budgets)] for t, _ in each]
    table = listed("", ["attacker who knows", *budgets], rows, "Attack success rate, in brackets 95 % intervals over images.", kind="small")
    return First([first, known, *cost], notes, picture, table)


def _series(m: Maker, title: str, budgets: Sequence[str]) -> plots.Series:
    """Attack success rate by budget."""
    place = {"title": title, "attack": None if title == "classifier alone" else "union", "measure": "success"}
    there = [(b, n) for b in budgets if (n := m.find("white box", budget=b, **place))]
    return plots.Series(
        "", "no detector" if title == "classifier alone" else detector_words(title), [b for b, _ in there], [n.value for _, n in there]
    )
