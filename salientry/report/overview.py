"""The first screen: the question's answer in three sentences, one picture and one small table; each number is one of the records'."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..inference import LEAST_SEEDS
from ..results.choice import PAPERS, SIMPLEST
from ..results.names import NATURAL, ORDINARY, attack_title, detector_words
from . import plots, render
from .attacker import attacker, budgets_of, past, quoted, white
from .doubts import attacked, black, failed, why
from .naming import BASELINE, Namer, listing
from .page import First, Maker, listed
from .sections import Shown, best_baseline
from .spec import Number, number_of
from .words import said

GROUPS = {"saliency": "sees the saliency map", "image": "sees the image", "fusion": "fusion", "baseline": "baseline"}
NOISE = "noise/excess-flags-on-unchanged"
FEW = 6  # so many detectors of other architectures have room in a sentence
MOST = 16  # rows of the small table
NOISY = 0.1  # above so many extra false alarms a detector is called an alarm for noise


@dataclass(frozen=True)
class Standing:
    """A detector on the first screen: detection rate, extra false alarms on harmless noise."""

    title: str
    group: str
    detected: Number
    noise: Number | None


@dataclass(frozen=True)
class Standings:
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
        found = self.make.find("detection", tested_on=tested, **place)
        return found or self.make.find("architecture", **place, tested_on=tested or self.trained)

    @functools.cached_property
    def best(self) -> str | None:
        """The best baseline, chosen on validation pairs."""
        return best_baseline(self.make, self.trained, self.protocol) if self.trained else None

    @functools.cached_property
    def searched(self) -> list[Standing]:
        """Detectors of a search over architectures, which stand in no grid."""
        place = {"trained_on": self.trained, "tested_on": self.trained, "measure": "accuracy", "protocol": self.protocol}
        found = [r for r in self.make.of("architecture") if all(r[c] == v for c, v in place.items())]
        return [Standing(r["title"], r["group"], number_of(r), self.number(r["title"], NOISE)) for r in found] if not self.strict else []

    @functools.cached_property
    def standings(self) -> list[Standing]:
        """Every detector that is no fusion without a part and no copy in the paper's manner."""
        out = list(self.searched)
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
        wanted = (*PAPERS[:2], *(s.title for s in self.searched[:FEW]), self.best, "fusion")
        return [known[t] for t in dict.fromkeys(wanted) if t in known]

    def pair(self) -> list[Standing]:
        """Where there is room for two: the map's detector, or the best without one, and the best baseline."""
        known = {s.title: s for s in self.standings}
        others = [s.title for s in sorted(self.standings, key=lambda s: -s.detected.value) if s.group != "baseline"]
        mine = next((t for t in ("SPD", "SMD", *others) if t in known), None)
        return [known[t] for t in (mine, self.best) if t is not None and t in known]

    def rates(self, named: Namer) -> Markup:
        """The detection rates that the first sentence quotes."""
        return quoted((named(s.title, BASELINE if s.title == self.best else ""), s.detected) for s in self.chosen())

    def alarms(self, named: Namer) -> Markup:
        """The extra false alarms that the second sentence quotes."""
        return quoted((named(s.title), s.noise) for s in self.chosen() if s.noise)

    def better(self) -> list[Standing] | None:
        """The detectors with a higher detection rate than every baseline; None where there is nothing to compare."""
        there = self.standings
        baselines = [s.detected.value for s in there if s.group == "baseline"]
        if not baselines or len(baselines) == len(there):
            return None
        return [s for s in there if s.detected.value > max(baselines)]

    def conclusion(self, named: Namer) -> str:
        """In words: who is better than every baseline, and which of them are alarms for noise."""
        more = self.better()
        if more is None:
            return ""
        if not more:
            return "No detector here is better than every baseline."
        what = f"{listing([named(s.title) for s in more])} {'is' if len(more) == 1 else 'are'} better than every baseline"
        measured = [s for s in more if s.noise]
        if not measured:
            return f"{what}."
        loud = [named(s.title) for s in measured if s.noise and s.noise.value > NOISY]
        false = f"extra false alarms on more than {render.percent(str(NOISY))} of such images"
        if len(loud) == len(more):
            return f"{what}; {'each of them' if len(more) > 1 else 'it'} has {false}."
        quiet = listing([named(s.title) for s in more if not s.noise]) if len(measured) < len(more) else ""
        return f"{what}; with {false}: {listing(loud) if loud else 'none of them'}{f' ({quiet}: not measured)' if quiet else ''}."

    def sentences(self) -> list[Markup]:
        """Detection rate, false alarms, the attacker who knows."""
        images = self.chosen()
        if not images:
            none = Markup("These records hold no detection rate: {}.").format(why(self.shown))
            return [*attacked(self.shown), none, attacker(self.make, self.shown.scores.dataset)]
        named, seeds = Namer(), of_seeds(self.standings)
        trained = said("trained_on", self.trained)
        if self.strict:
            words = Markup(
                "<b>Detection rate</b> on {:,} attacked images that fool the classifier (detectors are trained and tested on {}), at a "
                "threshold set to flag {} of natural images{}: {}."
            )
            level = f"at most {render.percent(self.level)}" if self.level != "own" else "no calibrated share"
            out = [words.format(images[0].detected.n, trained, level, seeds, self.rates(named))]
        else:
            words = Markup(
                "<b>Accuracy</b> on half natural, half attacked images in float32, at each detector's own threshold, chance 50\u202f% "
                "(detectors are trained and tested on {}){}: {}."
            )
            out = [words.format(trained, seeds, self.rates(named))]
        second = Markup("<b>Extra false alarms</b> on natural images with harmless noise as large as the attack: {}. {}")
        out.append(second.format(self.alarms(named) or "not measured here", self.conclusion(named)))
        return [*out, attacker(self.make, self.shown.scores.dataset, named)]

    def points(self) -> tuple[list[plots.Dot], str]:
        """A point a detector: detection rate against extra false alarms, else against false-positive rate; and x in words."""
        there = sorted(self.standings, key=lambda s: list(GROUPS).index(s.group) if s.group in GROUPS else len(GROUPS))
        noisy = any(s.noise for s in there)
        across = [(s, s.noise if noisy else self.number(s.title, self.false)) for s in there]
        points = [plots.Dot(detector_words(s.title), GROUPS.get(s.group, "your own"), n.value, s.detected.value) for s, n in across if n]
        words = "extra false alarms on harmless noise" if noisy else "false-positive rate"
        return points, words

    @functools.cached_property
    def ranks(self) -> dict[str, tuple[int, int]]:
        """The rows of the small table, every detector that sentences speak of and the best others, MOST in all, and their order: what is
        best known first, then others, baselines, the fusion.
        """
        known, places = (*PAPERS, *(s.title for s in self.searched)), {"baseline": 4, "fusion": 6}
        found = {}
        for k, s in enumerate(self.standings):
            place = 3 if s.title == SIMPLEST else places.get(s.group, 2)
            found[s.title] = (1, known.index(s.title)) if s.title in known else (place, k)
        named = {*known, SIMPLEST, self.best, *(s.title for s in (*self.chosen(), *(self.better() or ())))}
        others = sorted((s for s in self.standings if s.title not in named), key=lambda s: -s.detected.value)
        room = max(MOST - sum(s.title in named for s in self.standings), 0)
        left = {s.title for s in others[room:]}
        return {t: place for t, place in found.items() if t not in left}

    @property
    def left(self) -> int:
        """How many detectors have no row in the small table."""
        return len(self.standings) - len(self.ranks)

    @property
    def rows(self) -> list[list[Any]]:
        """A row a detector of the small table."""
        budgets = budgets_of(self.make)
        there, rows = {s.title: s for s in self.standings}, []
        for t in sorted(self.ranks, key=lambda t: self.ranks[t]):
            each = {a: n for a in self.shown.labels if (n := self.number(t, self.measure, a))}
            worst = min(each, key=lambda a: each[a].value) if each else None
            least = Markup("{} <small>{}</small>").format(render.mark(each[worst], "bare"), attack_title(worst)) if worst else "–"
            below = {SIMPLEST: "simplest baseline", self.best: "best baseline"}.get(t) or self.doubt(t)
            name = Markup("<b>{}</b>{}").format(detector_words(t), Markup(" <small>{}</small>").format(below) if below else "")
            cells = [render.mark(there[t].detected), least, render.mark(self.number(t, self.false)), render.mark(there[t].noise)]
            rows.append([name, *cells, *([past(self.make, t, budgets[-1])] if budgets else [])])
        return rows

    @property
    def outdone(self) -> bool:
        """Whether another baseline is better here than the one that was best on validation images."""
        there = {s.title: s.detected.value for s in self.standings if s.group == "baseline"}
        return self.best in there and max(there.values()) > there[self.best]

    def doubt(self, title: str) -> str:
        """What stands below the name of a detector that gives one score to all images."""
        place = {"protocol": self.protocol, "title": title, "trained_on": self.trained}
        return next((d.word for d in self.make.context.warned(place) if d.code == "ONE SCORE"), "")

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


NOTE, IMAGES = "In brackets 95 % intervals {}; of several seeds the mean.", "over images, given these networks and this split"
UNKNOWING = "The attacks of the first columns do not know the detector."
OUTDONE = "The best baseline is the one that was best on validation images; another does better on the test images{}."


def note(answers: Iterable[Standings]) -> str:
    """Below the small table: of what its intervals speak."""
    there = [n for a in answers for s in a.standings for n in (s.detected, s.noise, a.number(s.title, a.false)) if n]
    return NOTE.format(render.over((len(n.seeds) for n in there), IMAGES))


def first(r: Shown) -> First:
    """The first screen of a run."""
    notes = failed(r)
    if not r.scores.has_naturals:
        return white(r, notes)
    a = Standings(r)
    points, words = a.points()
    more = f" {a.left} others stand under Who notices." if a.left else ""
    below = f"{note([a])} {UNKNOWING}" + (" " + OUTDONE.format("") if a.outdone else "") + more
    return First(
        a.sentences(),
        [*notes, *black(a.make, a.level)],
        plots.scatter([("", points)], words, "detection rate" if a.strict else "accuracy", order=tuple(GROUPS.values())),
        listed("", a.heads, a.rows, below, kind="small"),
    )


def accuracy(r: Shown) -> Markup:
    """The classifier and the attacks, for the line below the heading."""
    if not r.scores.has_naturals:
        return Markup("")
    n = len(r.scores.images[NATURAL]["id"])
    return Markup(" · classifier accuracy {} on {:,} test images").format(r.make.num("accuracy", "percent,bare"), n)


def of_seeds(there: Iterable[Standing]) -> str:
    """What the numbers of a sentence are, where they are not means or of one seed."""
    few = any(1 < len(n.seeds) < LEAST_SEEDS for s in there for n in (s.detected, s.noise) if n)
    return " (two numbers: least and most of several trainings)" if few else ""
