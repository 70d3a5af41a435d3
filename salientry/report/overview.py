"""The first screen: the question's answer in three sentences, one picture and one small table; each number is one of the records'."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..inference import LEAST_SEEDS
from ..results.names import NATURAL, ORDINARY, attack_title, detector_words
from . import plots, render
from .page import First, Maker, listed
from .sections import Shown, best_baseline
from .spec import Number
from .words import said

GROUPS = {"saliency": "sees the saliency map", "image": "sees the image", "fusion": "fusion", "baseline": "baseline"}
SHOWN, SIMPLEST = ("SMD", "SPD", "ID", "ID+"), "Margin2"
NOISE = "noise/excess-flags-on-unchanged"
BEST = "best baseline on validation images"
NOISY = 0.1  # above so many extra false alarms a detector is called an alarm for noise
NOT_RUN = "<b>An attacker who knows the detector</b> was not tried here (<code>salientry run whitebox dataset={}</code>)."


@dataclass(frozen=True)
class Standing:
    """A detector on the first screen: detection rate, extra false alarms on harmless noise."""

    title: str
    group: str
    detected: Number
    noise: Number | None


@dataclass(frozen=True)
class Answer:
    """What a run with natural images says of its detectors, trained on ``trained`` and tested on the same."""

    shown: Shown

    @functools.cached_property
    def make(self) -> Maker:
        """Its numbers."""
        return self.shown.make

    @functools.cached_property
    def level(self) -> str:
        """The false-positive rate that thresholds were calibrated for."""
        return str(self.make.context.levels[0])

    @functools.cached_property
    def protocol(self) -> str:
        """The stricter one where it was run, else the paper's."""
        return "strict" if self.make.values("detection", "trained_on", protocol="strict", measure=f"tpr@{self.level}") else "published"

    @functools.cached_property
    def strict(self) -> bool:
        """Whether there are detection rates; else accuracies."""
        return self.protocol == "strict"

    @functools.cached_property
    def measure(self) -> str:
        """What is quoted."""
        return f"tpr@{self.level}" if self.strict else "accuracy"

    @functools.cached_property
    def trained(self) -> str | None:
        """All attacks together where detectors were trained on them, else the first attack."""
        there = self.make.values("detection", "trained_on", protocol=self.protocol, measure=self.measure)
        return "combined" if "combined" in there else next(iter(there), None)

    @functools.cached_property
    def false(self) -> str:
        """The measure of the false-positive rate."""
        return f"fpr@{self.level}" if self.strict else "fpr@own"

    def number(self, title: str, measure: str, tested: str | None = None) -> Number | None:
        """Of a detector."""
        place = {"protocol": self.protocol, "trained_on": self.trained, "title": title, "measure": measure}
        return self.make.find("detection", tested_on=tested, **place)

    @functools.cached_property
    def best(self) -> str | None:
        """The best baseline, chosen on validation pairs."""
        return best_baseline(self.make, self.trained, self.protocol) if self.trained else None

    @functools.cached_property
    def standings(self) -> list[Standing]:
        """Every detector that is no fusion without a part and no copy in the paper's manner."""
        out = []
        wanted = {"protocol": self.protocol, "trained_on": self.trained, "tested_on": self.trained, "measure": self.measure}
        for r in self.make.of("detection"):
            if all(r[c] == v for c, v in wanted.items()) and r["scheme"] in ORDINARY and r["scheme"] != "replica":
                found = self.make.find("detection", **wanted, title=r["title"])
                if found:
                    out.append(Standing(r["title"], r["group"], found, self.number(r["title"], NOISE)))
        return out

    def chosen(self) -> list[Standing]:
        """Those that a sentence speaks of: the map's two, the best baseline, the fusion."""
        known = {s.title: s for s in self.standings}
        return [known[t] for t in dict.fromkeys(("SMD", "SPD", self.best, "fusion")) if t in known]

    def pair(self) -> list[Standing]:
        """Where there is room for two: the map's detector, or the best without one, and the best baseline."""
        known = {s.title: s for s in self.standings}
        others = [s.title for s in sorted(self.standings, key=lambda s: -s.detected.value) if s.group != "baseline"]
        mine = next((t for t in ("SPD", "SMD", *others) if t in known), None)
        return [known[t] for t in (mine, self.best) if t is not None and t in known]

    def named(self, s: Standing) -> str:
        """As a sentence names it."""
        return detector_words(s.title) + (f" ({BEST})" if s.title == self.best else "")

    def rates(self) -> Markup:
        """The detection rates that the first sentence quotes."""
        return quoted((self.named(s), s.detected) for s in self.chosen())

    def alarms(self) -> Markup:
        """The extra false alarms that the second sentence quotes."""
        return quoted((detector_words(s.title), s.noise) for s in self.chosen())

    def better(self) -> tuple[int, int] | None:
        """How many detectors have a higher detection rate than every baseline, and how many of these are alarms for noise."""
        there = self.standings
        baselines = [s.detected.value for s in there if s.group == "baseline"]
        if not baselines or len(baselines) == len(there):
            return None
        more = [s for s in there if s.detected.value > max(baselines)]
        return len(more), sum(s.noise is not None and s.noise.value > NOISY for s in more)

    def conclusion(self) -> str:
        """In words."""
        found = self.better()
        if found is None:
            return ""
        more, noisy = found
        if not more:
            return "No detector here is better than every baseline."
        what = "1 detector is better" if more == 1 else f"{more} detectors are better"
        if not any(s.noise for s in self.standings):
            return f"{what} than every baseline."
        loud = f"{noisy} of {more} with extra false alarms on more than {100 * NOISY:.0f}\u202f% of such images"
        return f"{what} than every baseline; {loud}."

    def sentences(self) -> list[Markup]:
        """Detection rate, false alarms, the attacker who knows."""
        images = self.chosen()
        if not images:
            none = Markup("These records hold no detection rate: {}.").format(_why(self.shown))
            return [*_attacked(self.shown), none, attacker(self.make, self.shown.scores.dataset)]
        first = Markup(
            "<b>Detection rate</b> on {:,} attacked images that fool the classifier (trained and tested on {}), {} of natural images "
            "flagged{}: {}."
        )
        level = f"with at most {render.percent(self.level)}" if self.level != "own" else "with no calibrated share"
        out = [first.format(images[0].detected.n, said("trained_on", self.trained), level, of_seeds(self.standings), self.rates())]
        if not self.strict:
            words = Markup(
                "<b>Accuracy</b> on half natural, half attacked images in float32, at each detector's own threshold, chance 50\u202f% "
                "(trained and tested on {}){}: {}."
            )
            out = [words.format(said("trained_on", self.trained), of_seeds(self.standings), self.rates())]
        second = Markup("<b>Extra false alarms</b> on natural images with harmless noise as large as the attack: {}. {}")
        return [
            *out,
            second.format(self.alarms() or "not measured here", self.conclusion()),
            attacker(self.make, self.shown.scores.dataset),
        ]

    def points(self) -> tuple[list[plots.Point], str]:
        """A point a detector: detection rate against extra false alarms, else against false-positive rate; and x in words."""
        there = sorted(self.standings, key=lambda s: list(GROUPS).index(s.group) if s.group in GROUPS else len(GROUPS))
        noisy = any(s.noise for s in there)
        across = [(s, s.noise if noisy else self.number(s.title, self.false)) for s in there]
        points = [plots.Point(detector_words(s.title), GROUPS.get(s.group, "your own"), n.value, s.detected.value) for s, n in across if n]
        words = "extra false alarms on harmless noise" if noisy else "false-positive rate"
        return points, words

    def rows(self, titles: Iterable[str | None] = ()) -> list[list[Any]]:
        """A row a detector of the small table: of all that are shown, or of these."""
        wanted = tuple(titles) or (*SHOWN, SIMPLEST, self.best, "fusion")
        budgets = budgets_of(self.make)
        there, rows = {s.title: s for s in self.standings}, []
        for t in dict.fromkeys(t for t in wanted if t in there):
            each = {a: n for a in self.shown.labels if (n := self.number(t, self.measure, a))}
            worst = min(each, key=lambda a: each[a].value) if each else None
            least = Markup("{}<small>{}</small>").format(render.mark(each[worst], "bare"), attack_title(worst)) if worst else "–"
            below = {SIMPLEST: "simplest baseline", self.best: BEST}.get(t)
            name = Markup("<b>{}</b>{}").format(detector_words(t), Markup("<small>{}</small>").format(below) if below else "")
            cells = [render.mark(there[t].detected), least, render.mark(self.number(t, self.false)), render.mark(there[t].noise)]
            rows.append([name, *cells, *([_past(self.make, t, budgets[-1])] if budgets else [])])
        return rows

    @property
    def heads(self) -> list[str]:
        """Of the small table."""
        budgets = budgets_of(self.make)
        more = [f"attacker who knows it: success, {budgets[-1]}"] if budgets else []
        return [
            "detector",
            "detection rate" if self.strict else "accuracy",
            "least, on which attack",
            "false-positive rate",
            "extra false alarms, noise",
            *more,
        ]


NOTE = (
    "In brackets 95 % intervals over images, given these networks and this split; of several seeds the mean. The attacks of the first "
    "columns do not know the detector."
)


def first(r: Shown) -> First:
    """The first screen of a run."""
    notes = failed(r)
    if not r.scores.has_naturals:
        return _white(r, notes)
    a = Answer(r)
    points, words = a.points()
    return First(
        a.sentences(),
        [*notes, *_black(a)],
        plots.scatter([("", points)], words, "detection rate" if a.strict else "accuracy"),
        listed("", a.heads, a.rows(), NOTE, kind="small"),
    )


def accuracy(r: Shown) -> Markup:
    """The classifier and the attacks, for the line below the heading."""
    if not r.scores.has_naturals:
        return Markup("")
    n = len(r.scores.images[NATURAL]["id"])
    return Markup(" · classifier accuracy {} on {:,} test images").format(r.make.num("accuracy", "percent,bare"), n)


def _why(r: Shown) -> str:
    """Why there are no detection rates."""
    if r.scores.absent:
        return "their files of scores are missing"
    return "no detector was trained" if not r.scores.trained else "too few adversarials count, or a mandatory control is missing"


def _attacked(r: Shown) -> list[Markup]:
    """The classifier under attack, where no detector was tried."""
    for protocol, stored in (("strict", "8 bits"), ("published", "float32")):
        left = [
            (attack_title(a), r.make.find("attack", attack=a, protocol=protocol, measure="accuracy"))
            for a in r.make.values("attack", "attack", protocol=protocol)
        ]
        if any(n for _, n in left):
            return [Markup("<b>Classifier accuracy</b> under attack ({}): {}.").format(stored, quoted(left))]
    return []


def _black(a: Answer) -> list[Markup]:
    """Where the share of black pixels finds most of the attacked images, that must be said first."""
    place = {"title": "BlackShare", "protocol": "strict", "measure": f"tpr@{a.level}"}
    attacks = a.make.values("headline", "trained_on", protocol="strict")
    found = [(said("trained_on", x), a.make.find("detection", trained_on=x, tested_on=x, **place)) for x in attacks]
    if not any(n and n.value > 0.5 for _, n in found):
        return []
    words = (
        "The share of black pixels alone, without a map and without a net, trained and tested on the same attack, has a detection rate of "
    )
    return [Markup(words + "{}: a detector that is not better has learnt to see dirt on a black background.").format(quoted(found))]


def of_seeds(there: Iterable[Standing]) -> str:
    """What the numbers of a sentence are, where they are not means or of one seed."""
    few = any(1 < len(n.seeds) < LEAST_SEEDS for s in there for n in (s.detected, s.noise) if n)
    return " (least and most of the detector seeds)" if few else ""


def quoted(numbers: Iterable[tuple[str, Number | None]]) -> Markup:
    """Numbers as a sentence has them, each behind its name; of a few seeds the least and the most."""
    return Markup(", ").join(Markup("{} {}").format(t, render.mark(n, "percent,range,bare")) for t, n in numbers if n)


def failed(r: Shown) -> list[Markup]:
    """A check that failed, scores that are missing: what must be known before anything is believed."""
    out = []
    for g in (g for g in r.scores.body["gates"] if not g["passed"]):
        after = "What depends on it was skipped." if g["action"] == "stop" else "It goes on, and its rows are marked."
        out.append(Markup("<b>The saliency model failed its sanity check.</b> {}. {}").format("; ".join(g["wrong"]), after))
    return out + [Markup("<b>{} is missing:</b> everything that is computed from it is left out.").format(s) for s in r.scores.absent]


# --- an attacker who knows ------------------------------------------------------------------------------------------------


def budgets_of(m: Maker) -> list[str]:
    """Linf budgets of the white box, from small to large."""
    return m.values("white box", "budget", measure="success", norm="linf", attack="union")


def _past(m: Maker, title: str, budget: str) -> Markup:
    return m.num("white box", title=title, attack="union", budget=budget, measure="success")


def _passed(m: Maker, budget: str) -> list[tuple[str, Number]]:
    """Each attacked detector with the attack success rate at a budget, the least first."""
    place = {"attack": "union", "budget": budget, "measure": "success"}
    each = [(t, m.find("white box", title=t, **place)) for t in m.values("white box", "title", **place)]
    return sorted(((t, n) for t, n in each if n), key=lambda x: x[1].value)


def attacker(m: Maker, dataset: str) -> Markup:
    """What someone who knows the detector achieves at the largest Linf budget."""
    budgets = budgets_of(m)
    if not budgets:
        return Markup(NOT_RUN).format(dataset.split("-")[0].lower())
    return Markup("<b>An attacker who knows the detector</b> and may change each value by {} gets past {}.").format(
        budgets[-1], gets_past(m)
    )


def gets_past(m: Maker) -> Markup:
    """Which detectors that attacker gets past, on how many images."""
    each = _passed(m, budgets_of(m)[-1])
    low, high = each[0], each[-1]
    if low[1].value == high[1].value:
        which = f"each of the {len(each)} detectors tried" if len(each) > 1 else detector_words(low[0])
        what = Markup("{} on {}").format(which, render.mark(low[1], "percent,bare"))
    else:
        two = ((detector_words(t), render.mark(n, "percent,bare")) for t, n in (low, high))
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


def _white(r: Shown, notes: Sequence[Markup]) -> First:
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
    words = Markup(
        "<b>What it costs the attacker</b>: the median of the smallest perturbation is {} times (past {}) to {} times (past {}) "
    )
    last = Markup("its size without a detector.")
    cost = (
        [
            words.format(
                render.mark(costs[0][1], "bare"),
                detector_words(costs[0][0]),
                render.mark(costs[-1][1], "bare"),
                detector_words(costs[-1][0]),
            )
            + last
        ]
        if costs
        else []
    )
    shown = [t for t in ("SMD", "SPD", "JSD", "ID+", "SortedLogits", "fusion") if t in dict(each)]
    series = [_series(m, t, budgets) for t in ("classifier alone", *shown)]
    picture = plots.facets(series, y=("attack success rate", 0.0, 1.02), x="largest change of a value", high=330)
    rows = [[Markup("<b>{}</b>").format(detector_words(t)), *(_past(m, t, b) for b in budgets)] for t, _ in each]
    table = listed("", ["attacker who knows", *budgets], rows, "Attack success rate, in brackets 95 % intervals over images.", kind="small")
    return First([first, attacker(m, r.scores.dataset), *cost], notes, picture, table)


def _series(m: Maker, title: str, budgets: Sequence[str]) -> plots.Series:
    """Attack success rate by budget."""
    place = {"title": title, "attack": None if title == "classifier alone" else "union", "measure": "success"}
    there = [(b, n) for b in budgets if (n := m.find("white box", budget=b, **place))]
    return plots.Series(
        "", "no detector" if title == "classifier alone" else detector_words(title), [b for b, _ in there], [n.value for _, n in there]
    )
