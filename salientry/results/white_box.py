"""An attacker who knows classifier, map, detector and threshold: what is left of each detector, and whether the attack can be believed.

Rows of kind ``white box`` (measure, with ``title``, ``norm``, ``eps``, ``budget`` as printed, ``attack`` the method): ``success`` of a
method, of their ``union`` at that budget or a smaller one (``union@0.01``: at the second level), and, with the title ``classifier
alone``, on the classifier; ``naturals flagged``; ``cost`` (median L2 over the classifier's own); ``alarm``; and the proofs ``unbounded``,
``binarization``, ``binarization by chance``, ``doubled``, ``doubled adds``. An attack that is not believed has no success. Rows of kind
``weak detector`` (measure ``evaded`` or ``blind``, ``part`` the weakness): share that no attack beats.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import difference, rate
from .attacked import cost, draws, evaded, fooled, inside, of_kind, same_images, share, size, unlimited
from .names import detector_title, detector_words
from .place import Row, row
from .scores import Scores
from .trained import Array, Images

METHODS = ("Selective", "Orthogonal", "Joint")
PASS = 0.95  # share of the known adversarials (binarization test) that an attack must find
VALID, CHANCE = 0.5, 0.1  # share of the problems that must be ones; share of random corners that may succeed
MOVED = 0.03  # by how much doubled steps may change the union's success
CODES = {
    "ATTACK TOO WEAK": "the attack does not beat every image without a budget, or not enough of the known adversarials: it is not reported",
    "NOT CONVERGED": f"independent runs with twice the steps find more than {MOVED:g} more: the share is a lower bound",
    "NOT BEATEN": "a detector that is weak by construction withstands: the attacks miss something",
}
CLASSIFIER = "classifier alone"


@dataclass(frozen=True)
class AttackedDetector:
    """A strict detector, trained on all attacks, seed 0, and what attacked it at its frozen threshold.

    Attributes:
        sets: everything that did.
        tests: binarization tests.
    """

    sets: list[Images]
    tests: list[Images]

    @property
    def place(self) -> dict[str, Any]:
        """Whose rows they are."""
        i = self.sets[0]
        named = {"detector": i["detector"], "scheme": i["scheme"], "title": detector_title(i["detector"], "paired")}
        return named | {"group": i["group"], "trained_on": i["trained_on"]}

    @property
    def level(self) -> str:
        """The level whose threshold the attacks aim at."""
        return str(self.sets[0]["level"])

    @property
    def second(self) -> str:
        """The largest other calibrated level; that one, where there is no other."""
        return max((k for k in self.sets[0]["thresholds"] if k not in ("own", self.level)), key=float, default=self.level)

    @property
    def reading(self) -> str:
        """What stands in for a part that has no slope; empty where nothing does."""
        i = self.sets[0]
        changed = ["a softplus stands for ReLU in its slope"] if i["sharpness"] else []
        return "; ".join(changed + (["a ramp stands for the count of black values in its slope"] if i["ramp"] else []))

    def of(self, method: str) -> list[Images]:
        """What a method did, without a budget too."""
        return [i for i in self.sets if i["method"] == method]

    @property
    def plain(self) -> list[Images]:
        """Attacks with a budget."""
        return [i for i in self.sets if i["method"] in METHODS and not unlimited(i) and not i["independent_rerun"]]

    @property
    def again(self) -> list[Images]:
        """Independent ones with more steps."""
        bounded = [i for i in self.sets if i["method"] in METHODS and not unlimited(i) and i["independent_rerun"]]
        return [i for i in bounded if steps(i) > min(steps(p) for p in self.plain)]

    @functools.cached_property
    def doubts(self) -> dict[str, list[str]]:
        """By method why it is not believed."""
        return {m: list(_doubts(self, m)) for m in METHODS}

    def trusted(self, sets: list[Images]) -> list[Images]:
        """Those by a method that is believed."""
        return [i for i in sets if not self.doubts[i["method"]]]


def steps(i: Images) -> int:
    """Steps of an attack."""
    return int(i["settings"]["steps"])


def targets(s: Scores) -> list[AttackedDetector]:
    """The detectors that were attacked at their calibrated threshold."""
    sets = [i for i in of_kind(s, "white box") if i["hardened"] is None and i["detector_protocol"] == "strict"]
    sets = [i for i in sets if i["level"] != "own" and i["seed"] == 0]
    tests = [i for i in of_kind(s, "binarization") if i["hardened"] is None]
    usual = [i for i in sets if i["method"] in METHODS and not unlimited(i) and not i["independent_rerun"]]
    names = dict.fromkeys((i["detector"], i["scheme"]) for i in usual)
    return [AttackedDetector(*([i for i in some if (i["detector"], i["scheme"]) == n] for some in (sets, tests))) for n in names]


def budgets(found: list[AttackedDetector]) -> list[dict[str, Any]]:
    """Norm, eps and budget of all attacks, Linf first, the smallest first."""
    sizes = [size(i) for t in found for i in t.plain]
    return list({b["budget"]: b for b in sorted(sizes, key=lambda b: (b["norm"] == "l2", b["eps"], b["budget"]))}.values())


def effort(found: list[AttackedDetector]) -> str:
    """``100 steps, 2 restarts; without a budget 200 steps, 5 restarts``; and who was attacked on fewer images than most."""
    free = [i for t in found for i in t.sets if i["method"] in METHODS and unlimited(i)]
    parts = []
    for where, those in (("", [i for t in found for i in t.plain]), ("without a budget ", free)):
        for count, restarts in sorted({(steps(i), int(i["settings"].get("restarts", 0))) for i in those}):
            words = {0: "no restart", 1: "1 restart"}.get(restarts, f"{restarts} restarts")
            parts.append(f"{where}{count} steps, {words}")
    most = max((len(t.plain[0]["id"]) for t in found), default=0)
    parts += [
        f"{detector_words(t.place['title'])} on {len(t.plain[0]['id'])} of the {most} images" for t in found if len(t.plain[0]["id"]) < most
    ]
    return "; ".join(parts)


def rows(s: Scores) -> list[Row]:
    """Everything about attacks at the frozen threshold; none where the records hold no attack on a strict detector."""
    found = targets(s)
    if not found:
        return []
    every, out = same_images(s, found[0].plain[0]), []
    for b in budgets(found):
        mine = [i for i in every if inside(i, b["norm"], b["eps"])]
        values = np.any([fooled(i) for i in mine], 0)  # whoever gets past a detector too has fooled the classifier
        out.append(share(mine, values, "success", title=CLASSIFIER, **b))
    for t in found:
        out += [r | t.place for r in (*_success(t, budgets(found)), *_attack_checks(t), *_others(t, every))]
    return [*out, *weak_detectors(s)]


def _success(t: AttackedDetector, every: list[dict[str, Any]]) -> Iterator[Row]:
    """Of each believed method, of their union at each level, and what independent runs with twice the steps add to it."""
    for i in t.trusted(t.plain):
        yield share([i], evaded(i, t.level), "success", attack=i["method"], title=t.place["title"], **size(i))
    sets = t.trusted(t.plain + t.again)
    for b in every:
        for level, name in {t.second: f"union@{t.second}", t.level: "union"}.items():
            if (values := _union(sets, b, level)) is not None:
                yield share(sets, values, "success", attack=name, title=t.place["title"], **b)
    for b in {size(i)["budget"]: size(i) for i in t.again}.values():
        base, more = (_union(t.trusted(some), b, t.level) for some in (t.plain, t.plain + t.again))
        if base is not None and more is not None:
            i = t.again[0]
            adds = difference(draws(i), i["id"], [(more, base)])
            yield row("white box", "doubled adds", adds, [a["key"] for a in t.again], protocol="strict", title=t.place["title"], **b)


def _union(sets: list[Images], b: dict[str, Any], level: str) -> Array | None:
    """(N,) whether any attack of this budget's norm, with this budget or a smaller one, succeeded; None without one of this very budget."""
    if not any(size(i)["budget"] == b["budget"] for i in sets if i["eps"] is not None):
        return None
    return np.asarray(np.any([evaded(i, level) for i in sets if inside(i, b["norm"], b["eps"])], 0))


def _tested(t: AttackedDetector, method: str) -> tuple[Images, Array] | None:
    """The binarization test of a method and its problems that are ones; None where there is none."""
    test = next((i for i in t.tests if i["method"] == method), None)
    return None if test is None or not test["valid"].any() else (test, test["valid"].astype(bool))


def _doubts(t: AttackedDetector, method: str) -> Iterator[str]:
    free = next((i for i in t.of(method) if unlimited(i)), None)
    if free is None or not evaded(free, t.level).all():
        yield "not every image is beaten without a budget" if free is not None else "not run without a budget"
    if (tested := _tested(t, method)) is None:
        yield "no binarization test"
        return
    test, ok = tested
    found, chance = (float(np.mean(test[c][ok], dtype=np.float64)) for c in ("found", "by_chance"))
    if found < PASS:
        yield f"it finds {found:.2f} of the known adversarials, {PASS:g} are needed"
    if ok.mean() < VALID or chance > CHANCE:
        yield f"the binarization test asks too little: {ok.mean():.2f} of the problems are set apart, chance finds {chance:.2f}"


def _attack_checks(t: AttackedDetector) -> Iterator[Row]:
    for m in METHODS:
        place = {"title": t.place["title"], "attack": m, "protocol": "strict"}
        if (free := next((i for i in t.of(m) if unlimited(i)), None)) is not None:
            yield share([free], evaded(free, t.level), "unbounded", **place)
        if (tested := _tested(t, m)) is not None:
            test, ok = tested
            for measure, values in (("binarization", test["found"][ok].astype(bool)), ("binarization by chance", test["by_chance"][ok])):
                yield row("white box", measure, rate(draws(test), test["id"][ok], [values], shares=True), [test["key"]], **place)
        for i in (a for a in t.again if a["method"] == m):
            base = next((p for p in t.plain if p["method"] == m and size(p)["budget"] == size(i)["budget"]), None)
            if base is not None:
                gap = difference(draws(i), i["id"], [(evaded(i, t.level), evaded(base, t.level))])
                yield row("white box", "doubled", gap, [i["key"], base["key"]], **place, **size(i))


def _others(t: AttackedDetector, every: list[Images]) -> Iterator[Row]:
    title, first = t.place["title"], t.plain[0]
    yield share([first], first["natural_score"] > first["thresholds"][t.level], "naturals flagged", title=title)
    if all(t.doubts.values()):
        return
    if t.of("Minimal"):  # without it the smallest that was found is as large as the budgets are
        price = cost([i for i in t.sets if i["method"] != "Alarm"], every, t.level, "white box", title=title)
        yield from [] if price is None else [price]
    for i in t.of("Alarm"):
        raised = i["right"] & ~i["changed"] & i["in_budget"] & (i["score"] > i["thresholds"][t.level])
        yield share([i], raised, "alarm", title=title, **size(i))


def weak_detectors(s: Scores) -> Iterator[Row]:
    """The detectors that are weak by construction: what is left of each by all attacks together."""
    sets = of_kind(s, "weak detector")
    for name in dict.fromkeys(c.split("/")[0] for i in sets for c in i if "/" in c):
        for kind in ("evaded", "blind"):
            left = ~np.any([i[f"{name}/{kind}"].astype(bool) for i in sets], 0)
            yield share(sets, left, kind, kind="weak detector", part=name, protocol="any")


def warned(s: Scores, found: list[Row]) -> Iterator[tuple[str, str, str, str]]:
    """(title, attack, code, text) of what to doubt: see ``CODES``. ``found``: :func:`rows`."""
    for t in targets(s):
        for m, words in t.doubts.items():
            yield from ((t.place["title"], m, "ATTACK TOO WEAK", w) for w in words)
    for r in found:
        if r["measure"] == "doubled adds" and r["value"] > MOVED + 1e-9:
            yield r["title"], "", "NOT CONVERGED", f"{r['value']:.2f} more at {r['budget']}"
        if r["kind"] == "weak detector" and r["measure"] == "evaded" and r["value"] > 0:
            yield "", r["part"], "NOT BEATEN", f"{r['value']:.2f} of the images are left"
