"""An attacker who knows classifier, map, detector and threshold: what is left of each detector, and whether the attack can be believed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import Resamples, difference, median_ratio, rate
from ..store import JSON
from .numbers import Ledger
from .records import TITLES, Array, ImageSet, Records

METHODS = ("Selective", "Orthogonal", "Joint")
UNBOUNDED = 1.0  # an eps that is no budget
PASS = 0.95  # share of planted images that an attack must find
VALID, CHANCE = 0.5, 0.1  # share of the problems that must be ones; share of random corners that may succeed
MOVED = 0.03  # by how much doubled steps may change the union's success


@dataclass(frozen=True)
class Proof:
    """Whether one attack on one detector can be believed: ids, and what is wrong.

    Attributes:
        unbounded: success without a budget; must be all.
        found: share of planted images that it found (binarization test); must be .95.
        by_chance: share of random corners that would do.
        doubled: success with twice the steps minus with the steps, on the same images, by the budget at which it was done.
        wrong: why it is not believed; empty when it is.
    """

    unbounded: str | None
    found: str | None
    by_chance: str | None
    doubled: dict[str, str]
    wrong: list[str]


@dataclass(frozen=True)
class Robust:
    """One detector, strict, trained on all attacks. Fields are ids; None where an attack is not believed or was not run.

    Attributes:
        title: of the detector.
        reading: what stands in for a part that has no slope; empty where nothing does.
        natural: share of the naturals attacked that are flagged.
        success: budget to attack to success at the first level.
        union: budget to success of any believed attack of that norm with that budget or less, at the first level.
        second: the same at the second level; the attacks aimed at the first one, which is harder, so it is a lower bound.
        kept: by budget, what independent runs with twice the steps add to the union.
        proofs: by attack.
        cost: median L2 of the smallest perturbation found that succeeds over that of the smallest one found that fools the classifier.
        alarm: budget to share of naturals that can be made to raise an alarm with their answer unchanged.
        blank: no attack is believed: nothing is reported.
    """

    title: str
    reading: str
    natural: str
    success: dict[str, dict[str, str | None]]
    union: dict[str, str | None]
    second: dict[str, str | None]
    kept: dict[str, str]
    proofs: dict[str, Proof]
    cost: str | None
    alarm: dict[str, str]
    blank: bool


@dataclass(frozen=True)
class Planted:
    """A detector that is weak by construction: ids of the shares that no attack with the answer beats, and no blind one."""

    name: str
    robust: str
    blind: str


@dataclass(frozen=True)
class Siege:
    """Everything about attacks at the frozen threshold.

    Attributes:
        budgets: titles, in order.
        alone: budget to success on the classifier alone: of any attack of that norm and budget, whatever it was up against.
        rows: one for each detector.
        planted: the attacks' own test.
        doubled: budgets at which attacks were run once more with twice the steps.
        images: how many were attacked.
        levels: the calibrated level that attacks aim at, and the largest other one.
        effort: steps of an attack, and how often it walks again: at a budget, and without one.
    """

    budgets: list[str]
    alone: dict[str, str]
    rows: list[Robust]
    planted: list[Planted]
    doubled: list[str]
    images: int
    levels: tuple[str, str]
    effort: str


@functools.cache
def _draws(ids: bytes, count: int) -> Resamples:
    return Resamples(np.frombuffer(ids, f"<U{len(ids) // 4 // max(count, 1)}"))


def draws(s: ImageSet) -> Resamples:
    """The bootstrap draw of a set's images."""
    ids = np.ascontiguousarray(s.ids)
    return _draws(ids.tobytes(), len(ids))


def of_kind(records: Records, kind: str) -> list[ImageSet]:
    """The image sets of a kind, of these records or of the ones beside them."""
    return [s for s in records.white_box.values() if s.facts["kind"] == kind]


def budget(facts: JSON) -> str:
    """An attack's budget as it stands in a table: ``2/255``, ``.05``, ``L2 .5``."""
    eps, levels = float(facts["eps"]), 255 * float(facts["eps"])
    if facts["norm"] == "l2":
        return "L2 " + f"{eps:g}".removeprefix("0")
    whole = abs(levels - round(levels)) < 1e-6 and levels < 26  # .2 is .2, though it is 51/255
    return f"{levels:.0f}/255" if whole else f"{eps:g}".removeprefix("0")


def title(facts: JSON) -> str:
    """A detector's name in a table."""
    return TITLES.get(str(facts["detector"]), str(facts["detector"]))


def evaded(s: ImageSet, level: str) -> Array:
    """(N,) whether each image was right, is wrong, is in budget and is not above the threshold of a level: the one predicate."""
    threshold = s.facts["thresholds"][level]
    found: Array = s.columns["right"] & s.columns["changed"] & s.columns["in_budget"] & (s.columns["score"] <= threshold)
    return found


def siege(records: Records, ledger: Ledger) -> Siege | None:
    """None where the records hold no attack on a strict detector."""
    sets = [s for s in of_kind(records, "white box") if s.facts["hardened"] is None and _fair(s)]
    usual = [s for s in sets if s.facts["method"] in METHODS and not _free(s) and not s.facts["afresh"]]
    if not usual:
        return None
    order = sorted({(s.facts["norm"] == "l2", float(s.facts["eps"]), budget(s.facts)) for s in usual})
    names = [name for *_, name in order]
    every = same_images(records, usual[0])
    shares = {}
    for at in names:
        mine = [s for s in every if _inside(s, *radius(at))]
        values = np.any([_fooled(s) for s in mine], 0)  # whoever gets past a detector too has fooled the classifier
        shares[at] = _share(ledger, f"white box/classifier alone/{at}", mine, values)
    detectors = dict.fromkeys((s.facts["detector"], s.facts["form"]) for s in usual)
    tests = of_kind(records, "binarization")
    rows = [
        _robust(ledger, [s for s in sets if _is(s, d)], [s for s in tests if _is(s, d) and s.facts["hardened"] is None], names, every)
        for d in detectors
    ]
    doubled = [b for b in names if any(b in p.doubled for r in rows for p in r.proofs.values())]
    level = str(usual[0].facts["level"])
    second = _second(usual[0])
    return Siege(names, shares, rows, planted(records, ledger), doubled, len(usual[0]), (level, second), _effort(usual, sets))


def _fair(s: ImageSet) -> bool:
    """Whether it attacks a strict detector at its calibrated threshold."""
    return bool(s.facts["detector_protocol"] == "strict" and s.facts["level"] != "own" and s.facts["seed"] == 0)


def _free(s: ImageSet) -> bool:
    """Whether the attack has no budget: an Linf ball as large as all of [0, 1]."""
    return bool(s.facts["norm"] == "linf" and s.facts["eps"] is not None and s.facts["eps"] >= UNBOUNDED)


def _is(s: ImageSet, detector: tuple[Any, Any]) -> bool:
    return (s.facts["detector"], s.facts["form"]) == detector


def _fooled(s: ImageSet) -> Array:
    found: Array = s.columns["right"] & s.columns["changed"] & s.columns["in_budget"]
    return found


def _steps(s: ImageSet) -> int:
    return int(s.facts["settings"]["steps"])


def _effort(usual: list[ImageSet], sets: list[ImageSet]) -> str:
    """``100 steps, 2 restarts; without a budget 200 steps, 5 restarts``."""
    told = {"": usual, "without a budget ": [s for s in sets if s.facts["method"] in METHODS and _free(s)]}
    parts = []
    for where, those in told.items():
        for steps, again in sorted({(_steps(s), int(s.facts["settings"].get("restarts", 0))) for s in those}):
            restarts = f"{again} restarts" if again != 1 else "1 restart"
            parts.append(f"{where}{steps} steps, {restarts if again else 'no restart'}")
    return "; ".join(parts)


def _robust(ledger: Ledger, sets: list[ImageSet], tests: list[ImageSet], names: list[str], every: list[ImageSet]) -> Robust:
    f = sets[0].facts
    head, level = f"white box/{title(f)}", str(f["level"])
    second = _second(sets[0])
    bounded = [s for s in sets if s.facts["method"] in METHODS and not _free(s)]
    plain = [s for s in bounded if not s.facts["afresh"]]
    again = [s for s in bounded if s.facts["afresh"] and _steps(s) > min(_steps(p) for p in plain)]
    proofs = {m: _proof(ledger, head, m, sets, plain, again, tests, level) for m in METHODS}
    believed = {m for m in METHODS if not proofs[m].wrong}
    found = dict[str, dict[str, str | None]]()
    for s in plain:
        m, at = s.facts["method"], budget(s.facts)
        id = _share(ledger, f"{head}/{at}/{m}", [s], evaded(s, level)) if m in believed else None
        found.setdefault(at, {})[m] = id
    kept = {}
    for at in dict.fromkeys(budget(s.facts) for s in again):
        base, more = (_union([s for s in them if s.facts["method"] in believed], at, level) for them in (plain, plain + again))
        if base is not None and more is not None:
            s = again[0]
            kept[at] = ledger.add(
                f"{head}/{at}/doubled adds", difference(draws(s), s.ids, [(more, base)]), "strict", [a.key for a in again]
            )
    union, lower = dict[str, str | None](), dict[str, str | None]()
    for at in names:
        for into, lv, called in ((union, level, "union"), (lower, second, f"union@{second}"))[: 1 if second == level else 2]:
            any_of = [s for s in plain + again if s.facts["method"] in believed]
            values = _union(any_of, at, lv)
            into[at] = None if values is None else _share(ledger, f"{head}/{at}/{called}", any_of, values)
    return Robust(
        title(f),
        _reading(f),
        _share(ledger, f"{head}/naturals flagged", plain[:1], plain[0].columns["natural_score"] > f["thresholds"][level]),
        found,
        union,
        lower,
        kept,
        proofs,
        cost(ledger, f"{head}/cost", [s for s in sets if s.facts["method"] != "Alarm"], every, level) if believed else None,
        {
            budget(s.facts): _share(ledger, f"{head}/alarm/{budget(s.facts)}", [s], alarmed(s, level))
            for s in sets
            if s.facts["method"] == "Alarm" and believed
        },
        not believed,
    )


def _second(s: ImageSet) -> str:
    """The largest calibrated level but for the one that was aimed at; that one, where there is no other."""
    return max((k for k in s.facts["thresholds"] if k not in ("own", s.facts["level"])), key=float, default=str(s.facts["level"]))


def _reading(facts: JSON) -> str:
    told = ["a softplus stands for ReLU in its slope"] if facts["sharpness"] else []
    return "; ".join(told + (["a ramp stands for the count of black values in its slope"] if facts["ramp"] else []))


def alarmed(s: ImageSet, level: str) -> Array:
    """(N,) whether each image keeps its right answer, in budget, and is flagged."""
    found: Array = s.columns["right"] & ~s.columns["changed"] & s.columns["in_budget"] & (s.columns["score"] > s.facts["thresholds"][level])
    return found


def _share(ledger: Ledger, id: str, sets: list[ImageSet], values: Array) -> str:
    s = sets[0]
    return ledger.add(id, rate(draws(s), s.ids, [np.asarray(values, bool)]), "strict", sorted({t.key for t in sets}))


def _union(sets: list[ImageSet], at: str, level: str) -> Array | None:
    """(N,) whether any of the attacks of this budget's norm, with this budget or a smaller one, succeeded on an image; None where there
    is none of this very budget.
    """
    norm, eps = radius(at)
    if not any(budget(s.facts) == at for s in sets):
        return None
    return np.asarray(np.any([evaded(s, level) for s in sets if _inside(s, norm, eps)], 0))


def _inside(s: ImageSet, norm: str, eps: float) -> bool:
    """Whether an attack's budget is no larger."""
    return bool(s.facts["eps"] is not None and s.facts["norm"] == norm and float(s.facts["eps"]) <= eps + 1e-6)


def radius(shown: str) -> tuple[str, float]:
    """Norm and size of a budget as it stands in a table."""
    a, _, b = shown.removeprefix("L2 ").partition("/")
    return "l2" if shown.startswith("L2") else "linf", float(a) / float(b or 1)


def _proof(
    ledger: Ledger,
    head: str,
    method: str,
    sets: list[ImageSet],
    plain: list[ImageSet],
    again: list[ImageSet],
    tests: list[ImageSet],
    level: str,
) -> Proof:
    wrong, ids = list[str](), dict[str, str | None]()
    free = next((s for s in sets if s.facts["method"] == method and _free(s)), None)
    ids["unbounded"] = None if free is None else _share(ledger, f"{head}/{method}/unbounded", [free], evaded(free, level))
    if free is None or not evaded(free, level).all():
        wrong.append("not every image is beaten without a budget" if free is not None else "not run without a budget")
    test = next((s for s in tests if s.facts["method"] == method), None)
    if test is None or not test.columns["valid"].any():
        wrong.append("no binarization test")
    else:
        ok = test.columns["valid"].astype(bool)
        found = rate(draws(test), test.ids[ok], [test.columns["found"][ok].astype(bool)])
        ids["found"] = ledger.add(f"{head}/{method}/binarization", found, "strict", [test.key])
        chance = rate(draws(test), test.ids[ok], [test.columns["by_chance"][ok]])
        ids["chance"] = ledger.add(f"{head}/{method}/binarization by chance", chance, "strict", [test.key])
        if found.value < PASS:
            wrong.append(f"it finds {found.value:.2f} of the planted images, {PASS:g} are needed")
        if ok.mean() < VALID or chance.value > CHANCE:
            wrong.append(
                f"the binarization test asks too little: {ok.mean():.2f} of the problems are set apart, chance finds {chance.value:.2f}"
            )
    doubled = {}
    for s in (a for a in again if a.facts["method"] == method):
        base = next((p for p in plain if p.facts["method"] == method and budget(p.facts) == budget(s.facts)), None)
        if base is not None:
            gap = difference(draws(s), s.ids, [(evaded(s, level), evaded(base, level))])
            doubled[budget(s.facts)] = ledger.add(f"{head}/{method}/{budget(s.facts)}/doubled", gap, "strict", [s.key, base.key])
    return Proof(ids["unbounded"], ids.get("found"), ids.get("chance"), doubled, wrong)


def disbelieved(sets: list[ImageSet], tests: list[ImageSet]) -> list[str]:
    """Of a hardened detector: which attacks fail without a budget or on the binarization test; empty where all that were put to it pass."""
    wrong = []
    for m in METHODS:
        free = [s for s in sets if s.facts["method"] == m and _free(s)]
        if any(not evaded(s, str(s.facts["level"])).all() for s in free):
            wrong.append(f"{m}: not every image is beaten without a budget")
        for s in (s for s in tests if s.facts["method"] == m):
            ok = s.columns["valid"].astype(bool)
            if ok.mean() < VALID or s.columns["found"][ok].mean() < PASS:
                wrong.append(f"{m}: the binarization test is not passed")
    return wrong


def cost(ledger: Ledger, id: str, sets: list[ImageSet], every: list[ImageSet], level: str) -> str | None:
    """The number of a ratio of medians: L2 of the smallest perturbation found that gets past classifier and detector over that of the
    smallest one found that fools the classifier, by any of the attacks, over the images that were fooled at all. An image that no attack
    got past the detector counts as infinite; None where that is half of them. ``every``: all attacks on these images, whatever they were
    up against.
    """
    base, there = _smallest(every, [_fooled(s) for s in every]), _smallest(sets, [evaded(s, level) for s in sets])
    fell = np.isfinite(base)
    if not fell.any() or not np.isfinite(np.median(there[fell])):
        return None
    s = sets[0]
    return ledger.add(id, median_ratio(draws(s), s.ids[fell], there[fell], base[fell]), "strict", sorted({t.key for t in sets}))


def _smallest(sets: list[ImageSet], won: list[Array]) -> Array:
    """(N,) L2 of each image's smallest perturbation that won; infinite where none did."""
    return np.asarray(np.min([np.where(w, s.columns["l2"], np.inf) for s, w in zip(sets, won, strict=True)], 0))


def same_images(records: Records, like: ImageSet) -> list[ImageSet]:
    """All attacks on these images that are to fool, in the storage of the strict protocol."""
    found = [s for s in of_kind(records, "white box") if s.facts["method"] != "Alarm" and s.facts["protocol"] == "strict"]
    return [s for s in found if np.array_equal(s.ids, like.ids)]


def planted(records: Records, ledger: Ledger) -> list[Planted]:
    """The weak detectors: what is left of each by all attacks together."""
    sets, out = of_kind(records, "planted"), []
    for name in dict.fromkeys(c.split("/")[0] for s in sets for c in s.columns if "/" in c):
        ids = []
        for kind in ("evaded", "blind"):
            left = ~np.any([s.columns[f"{name}/{kind}"].astype(bool) for s in sets], 0)
            ids.append(
                ledger.add(
                    f"white box/planted/{name}/{kind}", rate(draws(sets[0]), sets[0].ids, [left]), "any", sorted(s.key for s in sets)
                )
            )
        out.append(Planted(name, *ids))
    return out
