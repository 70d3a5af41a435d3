"""What is claimed, against the scores: epochs, thresholds, rates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, gammaln

from ..rates import measured, percent, short
from .audit_files import Epochs, Evaluation, Numbers
from .audit_findings import Finding, Seen, Unseen
from .audit_splits import name_of
from .table import ScoreTable

NATURAL = "natural"  # among the claimed rates: the false-positive rate
UNLIKELY = 1e-5  # so seldom as many test naturals are flagged by chance
MOST_ROUNDED = 0.05


def epochs(e: Evaluation) -> Iterator[Seen]:
    """Whether the epoch that was taken is the best one on test."""
    given = e.claimed.epochs
    if not given:
        yield Unseen(("epoch-picked-on-test", "validation-is-test"), "evaluation.json has no epochs")
    on_test, same = {}, {}
    for name, its in given.items():
        if len(its.validation) > 2 and its.validation == its.test:
            same[name] = len(its.test)
        elif why := _picked_on_test(its):
            on_test[name] = why
    if on_test:
        name, why = next(iter(on_test.items()))
        picked = {n: given[n].picked for n in on_test}
        yield Finding(
            "epoch-picked-on-test", f"the epoch taken is the best one on test: {', '.join(on_test)}", {"picked": picked}, f"{name}: {why}"
        )
    if same:
        said = f"validation and test numbers are the same in every epoch: {', '.join(same)}"
        yield Finding("validation-is-test", said, {"epochs": same})


def _picked_on_test(its: Epochs) -> str:
    """Why it is said that the epoch was picked on test; empty where it is not."""
    if len(its.test) < 2 or its.test[its.picked] < max(its.test):
        return ""
    if not its.validation:
        return f"epoch {its.picked} of {len(its.test)}, {its.test[its.picked]:g} on test; there are no validation numbers"
    if its.validation[its.picked] >= max(its.validation):
        return ""
    best = int(np.argmax(its.validation))
    return (
        f"epoch {its.picked} has {its.test[its.picked]:g} on test and {its.validation[its.picked]:g} on validation; "
        f"epoch {best} has {its.test[best]:g} and {its.validation[best]:g}"
    )


def thresholds(e: Evaluation) -> Iterator[Seen]:
    """One threshold, not from the test naturals, that holds its level."""
    given = {n: v for n, v in e.claimed.thresholds.items() if n in e.table.names("detector")}
    if not given:
        yield Unseen(
            ("threshold-per-attack", "threshold-from-test", "threshold-does-not-hold"), "no thresholds of these detectors are claimed"
        )
    several = {n: v for n, v in given.items() if isinstance(v, dict) and len({str(x) for x in v.values()}) > 1}
    if several:
        name, by_attack = next(iter(several.items()))
        example = f"{name}: " + ", ".join(f"{a} {t}" for a, t in list(by_attack.items())[:3])
        yield Finding("threshold-per-attack", f"the threshold differs by attack: {', '.join(several)}", {"thresholds": several}, example)
    from_test, high = {}, {}
    for (detector, seed), rows in e.groups.items():
        one = _of_seed(given.get(detector), e, detector, seed)
        if one is None or detector in several:
            continue
        natural = rows.where(set="natural")
        test, calibration = (natural["score"][natural["split"] == s] for s in ("test", "calibration"))
        what = name_of(detector, seed, e)
        if why := _from_test(one, test, calibration, e.level):
            from_test[what] = why
        flagged = int((test > one).sum())
        kept = min(int((calibration > one).sum()), int(np.ceil(e.level * len(calibration))))
        if len(test) and e.claimed.level is not None and by_chance(flagged, len(test), kept, len(calibration), e.level) < UNLIKELY:
            high[what] = flagged / len(test)
    if from_test:
        name, why = next(iter(from_test.items()))
        said = f"the threshold was set on test naturals: {', '.join(from_test)}"
        yield Finding("threshold-from-test", said, {"thresholds": from_test}, f"{name}: {why}")
    if high:
        said = ", ".join(f"{n} {measured(r, 1)}" for n, r in list(high.items())[:3])
        yield Finding(
            "threshold-does-not-hold",
            f"{percent(e.level)} of natural images are said to be flagged; of the test naturals it is {said}",
            {"rates": high},
        )


def by_chance(flagged: int, of: int, kept: int, calibration: int, level: float) -> float:
    """The chance that as many test naturals lie above the threshold, or more, where as few calibration naturals do.

    Hypergeometric: which of all those above are test naturals; binomial, without calibration naturals.
    """
    if not calibration:
        return float(bdtrc(flagged - 1, of, level)) if flagged else 1.0
    k, above = np.arange(flagged, min(of, flagged + kept) + 1), flagged + kept
    log = _ways(of, k) + _ways(calibration, above - k) - _ways(of + calibration, np.array([above]))
    return float(np.exp(log).sum())


def _ways(n: int, k: NDArray[Any]) -> NDArray[Any]:
    """Logarithm of n over k."""
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def _of_seed(claimed: Any, e: Evaluation, detector: str, seed: int) -> float | None:
    """The threshold of one seed, where there is one for all attacks."""
    if isinstance(claimed, dict):
        claimed = next(iter(claimed.values()), None)
    if isinstance(claimed, list):
        seeds = [s for d, s in e.groups if d == detector]
        claimed = claimed[seeds.index(seed)] if len(claimed) == len(seeds) else None
    return None if claimed is None else float(claimed)


def _from_test(threshold: float, test: NDArray[Any], calibration: NDArray[Any], level: float) -> str:
    """Why the threshold is one of the test naturals': it is a score of theirs and of no calibration natural, or their quantile."""
    if not len(test):
        return ""
    size = 1e-9 * max(abs(threshold), float(np.abs(test).max()), 1e-300)
    if len(calibration) and (np.abs(calibration - threshold).min() <= size or abs(np.quantile(calibration, 1 - level) - threshold) <= size):
        return ""
    if abs(np.quantile(test, 1 - level) - threshold) <= size:
        return f"{threshold:.6g} is their {1 - level:g} quantile"
    return f"{threshold:.6g} is the score of one of them, and of no calibration natural" if np.abs(test - threshold).min() <= size else ""


def rates(e: Evaluation) -> Iterator[Seen]:
    """Whether the claimed rates follow from scores and thresholds: of images that fool, as a mean over seeds."""
    claimed = {n: v for n, v in e.claimed.rates.items() if n in e.table.names("detector")}
    if not claimed:
        beside = () if e.claimed.reported else ("best-seed-reported",)
        yield Unseen(("numbers-do-not-follow", *beside), "evaluation.json has no rates of these detectors")
    wrong, failed, best, apart = [], [], [], []
    for name, by_attack in claimed.items():
        seeds = [s for d, s in e.groups if d == name]
        limits = e.claimed.thresholds.get(name)
        if limits is None:
            if len(seeds) == 1 and (why := _implied(e, name, seeds[0], by_attack)):
                apart.append(f"{name}: {why}")
            continue
        for attack, rate in by_attack.items():
            found = _rates_of(e, name, seeds, attack, limits)
            if found is None or _fits(rate, float(np.mean(found[0]))):
                continue
            said = f"{name}, {attack or NATURAL}: claimed {rate:g}"
            if len(seeds) > 1 and _fits(rate, max(found[0])):
                best.append(f"{said}, which is the best of {len(seeds)} seeds; their mean is {short(float(np.mean(found[0])))}")
            elif _fits(rate, float(np.mean(found[1]))):
                failed.append(f"{said}, which counts images that do not fool; without them it is {short(float(np.mean(found[0])))}")
            else:
                wrong.append(f"{said}, found {short(float(np.mean(found[0])))}")
    for kind, some, what in (
        ("numbers-do-not-follow", wrong, "claimed rates do not follow from scores and thresholds"),
        ("failed-attacks-counted", failed, "claimed rates are over failed attacks, too"),
        ("best-seed-reported", best, "claimed rates are those of the best seed"),
        ("threshold-per-attack", apart, "detectors have claimed rates that no one threshold gives"),
    ):
        if some:
            yield Finding(kind, f"{len(some)} {what}", {"rates": len(some)}, some[0])


def _fits(claimed: float, found: float) -> bool:
    """Whether a number is the claimed one, rounded as that is."""
    digits = len(repr(claimed).partition(".")[2].rstrip("0")) if "e" not in repr(claimed) else 12
    return abs(claimed - found) <= min(MOST_ROUNDED, 0.5 * 10.0 ** -max(digits, 1)) + 1e-9


def _scores_of(rows: ScoreTable, won: NDArray[Any], attack: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores of the images that are counted, and of all: saved without loss, where there are such."""
    test = rows["split"] == "test"
    if attack == NATURAL:
        natural = rows["score"][test & (rows["set"] == "natural")]
        return natural, natural
    of = test & (rows["set"] == "attacked") & (rows["attack"] == attack)
    plain = of & (rows["encoding"] == "")
    of = plain if plain.any() else of
    return rows["score"][of & won & rows["in_budget"]], rows["score"][of]


def _rates_of(e: Evaluation, name: str, seeds: list[int], attack: str, limits: Numbers | dict[str, Numbers]) -> Any:
    """By seed, the share flagged of images that fool, and of all; None where it cannot be known."""
    one = limits.get(attack) if isinstance(limits, dict) else limits
    found = []
    for seed in seeds:
        threshold = _of_seed(one, e, name, seed)
        right, every = _scores_of(e.groups[name, seed], e.wins[name, seed], attack)
        if threshold is None or not len(right):
            return None
        found.append((float((right > threshold).mean()), float((every > threshold).mean())))
    return tuple(zip(*found, strict=True))


def _implied(e: Evaluation, name: str, seed: int, by_attack: dict[str, float]) -> str:
    """Why no one threshold gives the claimed rates, of images that fool or of all; empty where one does."""
    said = ""
    for which in (0, 1):
        limits, fits = [], True
        for attack, rate in by_attack.items():
            scores = np.sort(_scores_of(e.groups[name, seed], e.wins[name, seed], attack)[which])[::-1]
            if not len(scores):
                continue
            fit = [k for k in range(len(scores) + 1) if _fits(rate, k / len(scores))]
            if not fit:
                fits = False  # a number of other images
                break
            padded = np.concatenate([[np.inf], scores, [-np.inf]])
            limits.append((float(padded[fit[-1] + 1]), float(padded[fit[0]]), attack))
        if not fits:
            continue
        if len(limits) < 2:
            return ""
        low, high = max(limits, key=lambda v: v[0]), min(limits, key=lambda v: v[1])
        if low[0] < high[1]:
            return ""
        said = said or f"{low[2]} needs a threshold of at least {low[0]:.4g}, {high[2]} one below {high[1]:.4g}"
    return said
