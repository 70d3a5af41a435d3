"""Faults of evaluations, each planted with random parameters; the name of each is what an audit must call it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salientry.judging.audit_files import won

from .evaluations import CONTINUOUS, Drawn, Wish

Rng = np.random.Generator
FINE = (*CONTINUOUS, "counts", "levels")  # kinds of scores with enough different ones that a copy can be told from chance

ENDLESS = ("normal", "sigmoid", "rounded", "counts")  # kinds whose scores do not meet at the ends of their range


@dataclass(frozen=True)
class Plant:
    """A fault: what an evaluation must have, and how it gets it."""

    name: str
    wish: Wish
    plant: Callable[[Rng, Drawn], None]


def where(d: Drawn, **wanted: Any) -> NDArray[Any]:
    """Places of the rows with these values."""
    return np.flatnonzero(np.logical_and.reduce([d.columns[n] == v for n, v in wanted.items()]))


def some(rng: Rng, at: NDArray[Any], least: int = 1, share: float = 0.5) -> NDArray[Any]:
    """A random part."""
    return rng.permutation(at)[: int(rng.integers(least, max(least + 1, int(share * len(at)))))]


def attack_of(rng: Rng, d: Drawn) -> str:
    """One of those with 20 and more successful images."""
    c = d.columns
    return str(max(set(c["attack"][c["set"] == "attacked"].tolist()), key=lambda a: (c["attack"] == a).sum()))


def put(d: Drawn, name: str, at: NDArray[Any], value: Any) -> None:
    """Other values in a column."""
    column = d.columns[name].astype(object)
    column[at] = value
    d.columns[name] = column.astype(d.columns[name].dtype if d.columns[name].dtype.kind != "U" else str)


# --- images and their roles ---------------------------------------------------------------------------------------------------


def also_in(split: str, other: str = "test") -> Callable[[Rng, Drawn], None]:
    def plant(rng: Rng, d: Drawn) -> None:
        images = some(rng, np.unique(d.columns["image"][where(d, split=other, set="natural")]))
        at = np.flatnonzero(np.isin(d.columns["image"], images) & (d.columns["set"] == "natural"))
        d.double(at, split=split)

    return plant


def few_naturals(rng: Rng, d: Drawn) -> None:
    keep = rng.permutation(np.unique(d.columns["image"][where(d, split="calibration")]))[: int(rng.integers(5, 59))]
    d.keep((d.columns["split"] != "calibration") | np.isin(d.columns["image"], keep))


def twice(rng: Rng, d: Drawn) -> None:
    d.double(some(rng, where(d, split="test")))


def two_labels(rng: Rng, d: Drawn) -> None:
    put(d, "label", some(rng, where(d, set="attacked")), 99)


def two_answers(rng: Rng, d: Drawn) -> None:
    put(d, "predicted", some(rng, where(d, set="natural", detector="detector 1")), 98)


def fewer_of_one(rng: Rng, d: Drawn) -> None:
    gone = some(rng, np.unique(d.columns["image"][where(d, split="test")]))
    d.keep(~(np.isin(d.columns["image"], gone) & (d.columns["detector"] == "detector 1") & (d.columns["split"] == "test")))


def failed_counted(rng: Rng, d: Drawn) -> None:
    mine = d.table.where(detector="detector 0", seed=0, split="test", set="attacked")
    d.claims["attacked"] = {a: int((mine["attack"] == a).sum()) for a in mine.names("attack")}


def failed_in_rates(rng: Rng, d: Drawn) -> None:
    del d.claims["attacked"]
    rows = d.table.where(detector="detector 0", split="test", set="attacked")
    limit = d.claims["thresholds"]["detector 0"]
    rates = {a: float((rows["score"][rows["attack"] == a] > limit).mean()) for a in rows.names("attack")}
    d.claims["rates"]["detector 0"] = {a: round(r, 4) for a, r in rates.items()}


def failed_there(rng: Rng, d: Drawn) -> None:
    d.claims.pop("attacked", None)


def beyond(rng: Rng, d: Drawn) -> None:
    d.columns["in_budget"] = np.ones(len(d.columns["score"]), bool)
    images = some(rng, np.unique(d.columns["image"][where(d, split="test", set="attacked")]))
    put(d, "in_budget", np.flatnonzero(np.isin(d.columns["image"], images) & (d.columns["set"] == "attacked")), False)


def other_count(rng: Rng, d: Drawn) -> None:
    d.claims["natural"] += int(rng.integers(1, 50))


# --- seeds --------------------------------------------------------------------------------------------------------------------


def one_seed(rng: Rng, d: Drawn) -> None:
    d.keep((d.columns["detector"] != "detector 1") | (d.columns["seed"] == 0))
    d.claims = {}


def claimed_seeds(rng: Rng, d: Drawn) -> None:
    d.claims["seeds"]["detector 1"] = list(range(5 + int(rng.integers(0, 5))))


def best_reported(rng: Rng, d: Drawn) -> None:
    d.claims["reported"]["detector 0"] = "best"


def best_rate(rng: Rng, d: Drawn) -> None:
    """The rate of the luckiest seed; the seeds are moved apart where they happen to agree."""
    a, limits = attack_of(rng, d), d.claims["thresholds"]["detector 0"]
    rates = []
    for seed, limit in enumerate(limits):
        at = where(d, detector="detector 0", seed=seed)
        rows = d.table.rows(at)
        good = at[won(rows) & (rows["split"] == "test") & (rows["attack"] == a)]
        share = rng.uniform(0.1, 0.4) + 0.2 * seed
        put(d, "score", good, np.where(rng.random(len(good)) < share, limit + 0.1 + rng.random(len(good)), limit - rng.random(len(good))))
        rates.append(float((d.columns["score"][good] > limit).mean()))
    d.claims["rates"]["detector 0"][a] = round(max(rates), 3)


# --- scores -------------------------------------------------------------------------------------------------------------------


def constant(rng: Rng, d: Drawn) -> None:
    put(d, "score", where(d, detector="detector 0", seed=0), float(rng.choice([0.0, 0.5, 1.0])))


def constant_attack(rng: Rng, d: Drawn) -> None:
    score = d.columns["score"]
    put(d, "score", where(d, detector="detector 0", attack=attack_of(rng, d)), float(np.median(score[where(d, detector="detector 0")])))


def _at_an_end(rng: Rng, d: Drawn) -> float:
    """Where a failed detector's default lies: at the least or greatest score, or beyond it."""
    score = d.columns["score"][where(d, detector="detector 0")]
    low, high = float(score.min()), float(score.max())
    return float(rng.choice([low, high, low - (high - low) * rng.random(), high + (high - low) * rng.random()]))


def constant_end(rng: Rng, d: Drawn) -> None:
    put(d, "score", where(d, detector="detector 0", attack=attack_of(rng, d)), _at_an_end(rng, d))


def constant_set(kind: str) -> Callable[[Rng, Drawn], None]:
    """All naturals, all attacked or all changed images, at an end of the range."""

    def plant(rng: Rng, d: Drawn) -> None:
        put(d, "score", where(d, detector="detector 0", set=kind), _at_an_end(rng, d))

    return plant


def copied_natural(rng: Rng, d: Drawn) -> None:
    """Scores of naturals stand in place of those of attacked images, in any order."""
    mine = where(d, detector="detector 0", seed=0)
    rows = d.table.rows(mine)
    to = mine[won(rows) & (rows["split"] == "test") & (rows["attack"] == attack_of(rng, d))]
    source = where(d, detector="detector 0", seed=0, set="natural", split="test")
    count = int(rng.uniform(0.5, 1) * min(len(source), len(to)))
    put(d, "score", rng.permutation(to)[:count], d.columns["score"][rng.permutation(source)[:count]])


def copied_detector(rng: Rng, d: Drawn) -> None:
    put(d, "score", where(d, detector="detector 1"), d.columns["score"][where(d, detector="detector 0")])


def copied_seed(rng: Rng, d: Drawn) -> None:
    put(d, "score", where(d, detector="detector 0", seed=1), d.columns["score"][where(d, detector="detector 0", seed=0)])


def filled(rng: Rng, d: Drawn) -> None:
    """A default value, in the middle of the others, where the detector failed."""
    at = where(d, detector="detector 0", split="test")
    put(d, "score", some(rng, at, int(0.25 * len(at)), 0.6), float(np.median(d.columns["score"][at])) + 1e-3 * rng.random())


def doubled(rng: Rng, d: Drawn) -> None:
    """The first scores of an attack once more, for its other images."""
    at = where(d, detector="detector 0", seed=0, attack=attack_of(rng, d), split="test")
    half = int(rng.uniform(0.3, 0.5) * len(at))
    put(d, "score", at[-half:], d.columns["score"][at[:half]])


def turned(rng: Rng, d: Drawn) -> None:
    for kind, sign in (("natural", 1.0), ("attacked", -1.0)):
        at = where(d, detector="detector 0", set=kind)
        put(d, "score", at, sign * (1 + rng.random(len(at))))


# --- claims -------------------------------------------------------------------------------------------------------------------


def epoch_on_test(rng: Rng, d: Drawn) -> None:
    count = int(rng.integers(3, 30))
    validation, test = (np.round(0.8 + 0.1 * rng.random(count), 4) for _ in range(2))
    test[(int(validation.argmax()) + 1) % count] = 0.95
    found = {"validation": validation.tolist(), "test": test.tolist(), "picked": int(test.argmax())}
    d.claims["epochs"]["detector 0"] = {n: v for n, v in found.items() if n != "validation" or rng.random() < 0.7}


def epochs_alike(rng: Rng, d: Drawn) -> None:
    test = rng.random(int(rng.integers(3, 30))).tolist()
    d.claims["epochs"]["detector 0"] = {"validation": test, "test": test, "picked": int(np.argmax(test))}


def threshold_each(rng: Rng, d: Drawn) -> None:
    limit = d.claims["thresholds"]["detector 0"]
    d.claims["thresholds"]["detector 0"] = {a: limit + float(rng.normal()) for a in d.claims["attacked"]}


def rates_of_own_thresholds(rng: Rng, d: Drawn) -> None:
    """No thresholds are given; two attacks have the rates of thresholds that lie far apart, the higher one for the higher scores."""
    del d.claims["thresholds"]["detector 0"]
    rows = d.table.where(detector="detector 0", split="test")
    wins = won(rows)
    two = sorted((rows["score"][wins & (rows["attack"] == a)] for a in list(d.claims["attacked"])[:2]), key=lambda s: float(np.median(s)))
    limits = np.quantile(np.concatenate(two), [0.2, 0.8])
    rates = [round(float((s > t).mean()), 3) for s, t in zip(two, limits, strict=True)]
    names = sorted(list(d.claims["attacked"])[:2], key=lambda a: float(np.median(rows["score"][wins & (rows["attack"] == a)])))
    d.claims["rates"]["detector 0"] = dict(zip(names, rates, strict=True))


def threshold_of_test(rng: Rng, d: Drawn) -> None:
    natural = d.columns["score"][where(d, detector="detector 0", set="natural", split="test")]
    method = str(rng.choice(["linear", "lower", "higher"]))
    d.claims["thresholds"]["detector 0"] = float(np.quantile(natural, 0.95, method=method))  # type: ignore[call-overload]


def threshold_too_low(rng: Rng, d: Drawn) -> None:
    """Calibration naturals that the detector finds less suspicious than those of the test."""
    at = where(d, detector="detector 0", set="natural", split="test")
    put(d, "score", at, d.columns["score"][at] + np.where(rng.random(len(at)) < rng.uniform(0.35, 0.9), 1e3, 0.0))


def other_rate(rng: Rng, d: Drawn) -> None:
    rates = d.claims["rates"]["detector 0"]
    a = attack_of(rng, d)
    rates[a] = round((rates[a] + rng.uniform(0.02, 0.2) + 1e-4) % 1, 4)


# --- images -------------------------------------------------------------------------------------------------------------------


def pictures(change: Callable[[Rng, NDArray[Any]], NDArray[Any]]) -> Callable[[Rng, Drawn], None]:
    """Another change of attacked images; they are saved in their own type."""

    def plant(rng: Rng, d: Drawn) -> None:
        for n in [n for n in d.images if n.startswith("attacked") and not n.endswith("/image")]:
            x = d.images[n]
            y = change(rng, x / 255 if x.dtype == np.uint8 else x.astype(np.float64))
            d.images[n] = np.round(255 * y.clip(0, 1)).astype(np.uint8) if x.dtype == np.uint8 else y.astype(np.float32)

    return plant


def floats(rng: Rng, d: Drawn) -> None:
    natural = d.images["natural"]
    d.images["natural"] = np.round(255 * natural).astype(np.uint8) if natural.dtype != np.uint8 else natural
    for n in [n for n in d.images if n.startswith("attacked") and not n.endswith("/image")]:
        x = d.images[n].astype(np.float32) / (255 if d.images[n].dtype == np.uint8 else 1)
        d.images[n] = (x + rng.uniform(0.001, 0.03) * rng.normal(size=x.shape)).clip(0, 1).astype(np.float32)


def other_range(rng: Rng, d: Drawn) -> None:
    mean, std = rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.4)
    for n in [n for n in d.images if n.startswith("attacked") and not n.endswith("/image")]:
        x = d.images[n].astype(np.float32) / (255 if d.images[n].dtype == np.uint8 else 1)
        d.images[n] = 255 * x if rng.random() < 0.5 else (x - mean) / std


def other_size(rng: Rng, d: Drawn) -> None:
    for n in [n for n in d.images if n.startswith("attacked") and not n.endswith("/image")]:
        d.images[n] = d.images[n][:, :, 1:-1, : -int(rng.integers(1, 4))]


def brighter(rng: Rng, x: NDArray[Any]) -> NDArray[Any]:
    return x + rng.choice([-1, 1]) * rng.uniform(0.05, 0.2)


def contrast(rng: Rng, x: NDArray[Any]) -> NDArray[Any]:
    return 0.5 + (x - 0.5) * rng.choice([rng.uniform(0.6, 0.88), rng.uniform(1.12, 1.4)])


def resized(rng: Rng, x: NDArray[Any]) -> NDArray[Any]:
    side, kind = int(rng.uniform(0.5, 0.85) * x.shape[2]), Image.Resampling(int(rng.choice([2, 3])))
    return np.stack([[_resized(_resized(c, side, kind), x.shape[2], kind) for c in image] for image in x])


def _resized(plane: NDArray[Any], side: int, kind: Image.Resampling) -> NDArray[Any]:
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((side, side), kind))


def jpeg(rng: Rng, x: NDArray[Any]) -> NDArray[Any]:
    quality = int(rng.integers(30, 85))
    return np.stack([_jpeg(image, quality) for image in x])


def _jpeg(x: NDArray[Any], quality: int) -> NDArray[Any]:
    file, levels = io.BytesIO(), np.round(255 * x.clip(0, 1)).astype(np.uint8)
    Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
    back = np.asarray(Image.open(file), np.float64) / 255
    return back[None] if back.ndim == 2 else back.transpose(2, 0, 1)


def nothing_changed(rng: Rng, d: Drawn) -> None:
    place = {n: i for i, n in enumerate(d.images["natural/image"].tolist())}
    for n in [n for n in d.images if n.startswith("attacked") and not n.endswith("/image")]:
        at = some(rng, np.arange(len(d.images[n])))
        d.images[n][at] = d.images["natural"][[place[i] for i in d.images[f"{n}/image"][at].tolist()]]


def small_budget(rng: Rng, d: Drawn) -> None:
    d.claims["linf"] = {a: float(rng.uniform(0.1, 0.9)) / 255 for a in set(d.columns["attack"].tolist()) - {"", "noise"}}
    for n in [n for n in d.images if n.startswith("attacked") and not n.endswith("/image")]:
        d.images[n] = d.images[n].copy()
        d.images[n][:, :, 0, 0] = np.where(d.images[n][:, :, 0, 0] > d.images[n].max() / 2, 0, d.images[n].max())


def same_picture(rng: Rng, d: Drawn) -> None:
    at = int(rng.integers(0, len(d.images["natural"])))
    other = d.columns["image"][rng.choice(where(d, split="calibration"))]
    d.images["natural"] = np.concatenate([d.images["natural"], d.images["natural"][at : at + 1]])
    d.images["natural/image"] = np.append(d.images["natural/image"], other)


ONE, CLAIMED, SHOWN = Wish(seeds=1), Wish(claims=True), Wish(images=True)
ONE_CLAIMED = Wish(seeds=1, claims=True)
PLANTS = {
    "a test image trained": Plant("trained-on-test-images", Wish(), also_in("train")),
    "a test image chose": Plant("chosen-on-test-images", Wish(), also_in("validation")),
    "a test image calibrated": Plant("threshold-saw-test-images", Wish(), also_in("calibration")),
    "a calibration image trained": Plant("threshold-on-training-images", Wish(), also_in("train", "calibration")),
    "few naturals": Plant("too-few-naturals", Wish(claims=False), few_naturals),
    "rows twice": Plant("image-counted-twice", Wish(), twice),
    "two labels": Plant("two-labels", Wish(), two_labels),
    "two answers": Plant("two-answers", Wish(detectors=2), two_answers),
    "fewer of one": Plant("detectors-on-different-images", Wish(detectors=2), fewer_of_one),
    "failed counted": Plant("failed-attacks-counted", Wish(failed=True, claims=True), failed_counted),
    "failed in rates": Plant("failed-attacks-counted", Wish(seeds=1, failed=True, claims=True, kinds=("normal",)), failed_in_rates),
    "failed there": Plant("failed-attacks-in-the-table", Wish(failed=True), failed_there),
    "beyond the budget": Plant("out-of-budget-counted", CLAIMED, beyond),
    "beyond the budget, nothing claimed": Plant("out-of-budget-in-the-table", Wish(claims=False), beyond),
    "another count": Plant("counts-differ", CLAIMED, other_count),
    "one seed beside several": Plant("unequal-seeds", Wish(detectors=2, seeds=3), one_seed),
    "seeds by claim": Plant("unequal-seeds", Wish(detectors=2, claims=True, seeds=1), claimed_seeds),
    "best seed by claim": Plant("best-seed-reported", Wish(claims=True, seeds=3), best_reported),
    "best seed's rate": Plant("best-seed-reported", Wish(claims=True, seeds=3), best_rate),
    "constant": Plant("constant-scores", Wish(), constant),
    "an attack constant": Plant("constant-scores", Wish(kinds=FINE), constant_attack),
    "an attack constant at an end": Plant("constant-scores", Wish(kinds=ENDLESS), constant_end),
    "all attacked constant": Plant("constant-scores", Wish(kinds=ENDLESS), constant_set("attacked")),
    "all naturals constant": Plant("constant-scores", Wish(kinds=ENDLESS), constant_set("natural")),
    "all changed constant": Plant("constant-scores", Wish(kinds=ENDLESS), constant_set("harmless")),
    "copied from naturals": Plant("copied-scores", Wish(kinds=CONTINUOUS[:2]), copied_natural),
    "copied from a detector": Plant("copied-scores", Wish(detectors=2, kinds=FINE), copied_detector),
    "copied from a seed": Plant("seeds-are-copies", Wish(seeds=2, kinds=FINE), copied_seed),
    "a default value": Plant("repeated-scores", Wish(kinds=CONTINUOUS[:3]), filled),
    "an attack doubled": Plant("repeated-scores", Wish(kinds=("normal",)), doubled),
    "turned round": Plant("scores-turned-round", ONE, turned),
    "epoch by test": Plant("epoch-picked-on-test", CLAIMED, epoch_on_test),
    "validation is test": Plant("validation-is-test", CLAIMED, epochs_alike),
    "thresholds by attack": Plant("threshold-per-attack", Wish(seeds=1, claims=True, attacks=2), threshold_each),
    "thresholds by rates": Plant("threshold-per-attack", Wish(seeds=1, claims=True, attacks=2, kinds=("normal",)), rates_of_own_thresholds),
    "threshold of test": Plant("threshold-from-test", Wish(seeds=1, claims=True, kinds=("normal", "sigmoid")), threshold_of_test),
    "threshold too low": Plant("threshold-does-not-hold", CLAIMED, threshold_too_low),
    "another rate": Plant("numbers-do-not-follow", ONE_CLAIMED, other_rate),
    "floats": Plant("float-against-8-bit", SHOWN, floats),
    "another range": Plant("different-range", SHOWN, other_range),
    "another size": Plant("different-size", SHOWN, other_size),
    "brighter": Plant("different-preprocessing", SHOWN, pictures(brighter)),
    "contrast": Plant("different-preprocessing", SHOWN, pictures(contrast)),
    "resized": Plant("different-preprocessing", SHOWN, pictures(resized)),
    "jpeg": Plant("different-preprocessing", SHOWN, pictures(jpeg)),
    "nothing changed": Plant("attack-changed-nothing", SHOWN, nothing_changed),
    "a smaller budget": Plant("budget-exceeded", Wish(images=True, claims=True), small_budget),
    "one picture twice": Plant("same-picture-twice", SHOWN, same_picture),
}
