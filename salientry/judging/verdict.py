"""From a table of scores to the numbers of a verdict: nothing here knows where the scores come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import CONFIDENCE, pac_threshold, smallest_sample
from ..errors import UsageError
from ..inference import LEVEL, bounded_mean
from ..metrics import Resamples, auroc_interval, worst_case
from ..rates import percent, share_of
from ..store import JSON
from .table import ScoreTable

LEVELS = (0.05, 0.01)
FEWEST = 20  # images that an attack fools, from which its detection rate counts in means and extremes
FEWEST_OF_CLASS = 20  # test naturals of a class, from which its false-positive rate is shown
HALVED = "no naturals were marked for calibration: thresholds are set on every second test natural, and all rates are of the others"
OF_SCORES = (
    "from scores alone it cannot be excluded that the threshold, the detector or a choice saw test images, nor that attacked images were "
    "stored in another way than naturals; `salientry audit` looks for what can be seen in the files",
    "from scores alone it is not known what somebody who knows the detector gets past it, whether it has a gradient that shows the way, "
    "what it costs, whether it gives an image the same score alone, and whether the attacks are strong and within their budgets",
)
NO_CHANGES = "the table has no harmless changes: whether the detector flags noise, JPEG or a blur is not known"
NO_CONTROLS = "the table has no controls: whether the detector finds more than noise as large as the attack's is not known"


def verdicts(table: ScoreTable, levels: Sequence[float] = LEVELS) -> dict[str, JSON]:
    """The verdict on each detector in the table, by name; several seeds of one are judged apart.

    Args:
        table: of scores, see :mod:`salientry.judging.table`.
        levels: false-positive rates that thresholds are calibrated for.

    Returns:
        JSON: every share as count, of, share, and its exact 95 % interval over images, given this detector and classifier.

    Raises:
        UsageError: where there are no naturals, none to calibrate on, nothing attacked, or two naturals of one name.
    """
    found = {}
    for name in table.names("detector"):
        mine = table.where(detector=name)
        seeds = mine.names("seed")
        for seed in seeds:
            found[name if len(seeds) == 1 else f"{name}, seed {seed}"] = verdict(mine.where(seed=seed), levels)
    return found


def verdict(table: ScoreTable, levels: Sequence[float] = LEVELS) -> JSON:
    """The verdict on one detector; see :func:`verdicts`."""
    notes: list[str] = []
    natural = table.where(set="natural")
    test, calibration = _by_image(natural.where(split="test")), _by_image(natural.where(split="calibration"))
    if not len(calibration):
        halves = np.arange(len(test)) % 2 == 0
        calibration, test = test.rows(halves), test.rows(~halves)
        notes.append(HALVED)
    attacked, harmless, control = (_known(table.where(set=s, split="test"), test, notes) for s in ("attacked", "harmless", "control"))
    if not len(test) or not len(attacked):
        raise UsageError(f"a verdict needs naturals and attacked images of the split test; found {len(test)} and {len(attacked)}")
    thresholds = {}
    for level in levels:
        if len(calibration) < smallest_sample(level):
            need = smallest_sample(level)
            notes.append(f"{len(calibration)} calibration naturals are too few to promise {percent(level)}, which takes {need}: left out")
        else:
            thresholds[f"{level:g}"] = pac_threshold(calibration["score"], level)
    if not thresholds:
        raise UsageError(f"{len(calibration)} calibration naturals are too few for {' and '.join(map('{:g}'.format, levels))}")
    first = next(iter(thresholds.values()))
    resamples = Resamples(test["image"])
    attacks = [_attack(attacked, *key, test, thresholds, resamples) for key in _cells(attacked)]
    return {
        "calibration": len(calibration),
        "confidence": CONFIDENCE,
        "interval": f"{percent(LEVEL)}, over images, given this detector and this classifier",
        "thresholds": thresholds,
        "accuracy": share_of(test["predicted"] == test["label"]),
        "natural": {level: _false_alarms(test, t) for level, t in thresholds.items()},
        "attacks": attacks,
        "summary": {level: _summary(attacks, level, attacked, test, t) for level, t in thresholds.items()},
        "worst_case": {level: _every_attack(attacked, test, t) for level, t in thresholds.items()},
        "harmless": [_change(harmless.where(attack=n), test, first) for n in harmless.names("attack")],
        "controls": [_change(control.where(attack=n), test, first) for n in control.names("attack")],
        "notes": notes,
    }


def _by_image(natural: ScoreTable) -> ScoreTable:
    """Naturals in the order of their names."""
    names, counts = np.unique(natural["image"], return_counts=True)
    if (counts > 1).any():
        called = f"two naturals of the split {natural['split'][0]} are called {str(names[counts > 1][0])!r}"
        raise UsageError(f"{called}: image says which natural a row is of")
    return natural.rows(np.argsort(natural["image"], kind="stable"))


def _known(rows: ScoreTable, natural: ScoreTable, notes: list[str]) -> ScoreTable:
    """The rows whose natural image is there, one of each image, attack and encoding."""
    known = np.isin(rows["image"], natural["image"])
    keys = list(zip(*(rows[n].tolist() for n in ("attack", "encoding", "image")), strict=True))
    if len(set(keys)) < len(keys):
        (attack, encoding, image), times = Counter(keys).most_common(1)[0]
        saved = f" saved as {encoding}" if encoding else ""
        raise UsageError(f"image {image!r} has {times} rows of {attack}{saved} in the split test: keep one, or it is counted {times} times")
    if len(rows) and not known.all() and HALVED not in notes:
        notes.append(f"{int((~known).sum())} {rows['set'][0]} rows have no natural of the split test: left out")
    return rows.rows(known)


def _twins(rows: ScoreTable, natural: ScoreTable) -> ScoreTable:
    """Of each row its natural."""
    return natural.rows(np.searchsorted(natural["image"], rows["image"]))


def counted(rows: ScoreTable, natural: ScoreTable) -> NDArray[np.bool_]:
    """(N,) the attacked images that count: the classifier has the natural right, says something else of this image, and it is within
    the attack's budget.
    """
    twins = _twins(rows, natural)
    right = twins["predicted"] == twins["label"]
    return np.asarray(right & (rows["predicted"] != twins["predicted"]) & rows["in_budget"])


def _cells(attacked: ScoreTable) -> list[tuple[str, str]]:
    pairs = zip(attacked["attack"].tolist(), attacked["encoding"].tolist(), strict=True)
    return list(dict.fromkeys(pairs))


def _false_alarms(test: ScoreTable, threshold: float) -> JSON:
    flags, right = test["score"] > threshold, test["predicted"] == test["label"]
    classes = {str(k): flags[test["label"] == k] for k in np.unique(test["label"]).tolist()}
    return {
        "all": share_of(flags),
        "right": share_of(flags[right]),
        "wrong": share_of(flags[~right]),
        "classes": {k: share_of(f) for k, f in classes.items() if len(f) >= FEWEST_OF_CLASS},
    }


def _attack(attacked: ScoreTable, attack: str, encoding: str, test: ScoreTable, thresholds: dict[str, float], resamples: Resamples) -> JSON:
    """One attack, its images saved in one way."""
    rows = attacked.where(attack=attack, encoding=encoding)
    twins, counts = _twins(rows, test), counted(rows, test)
    right, there = twins["predicted"] == twins["label"], rows.rows(counts)
    found = {level: share_of(there["score"] > t) for level, t in thresholds.items()}
    area = None
    if len(there):
        seen = auroc_interval(resamples, test["image"], there["image"], [(test["score"], there["score"])])
        area = [seen.value, *_of_few(there["score"], test["score"], seen.lo, seen.hi)]
    return {
        "attack": attack,
        "encoding": encoding,
        "seen": int(rows["seen"][0]),
        "success": share_of(counts[right]),
        "detected": found,
        "auroc": area,
    }


def _of_few(attacked: NDArray[Any], natural: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """An AUROC's interval, by resampling; of few attacked images, whose resamples differ too little, at least that of a mean of few values:
    the share of naturals that each is above.
    """
    if len(attacked) >= FEWEST:
        return low, high
    ranked = np.sort(natural)
    above = (np.searchsorted(ranked, attacked, "left") + np.searchsorted(ranked, attacked, "right")) / (2 * len(ranked))
    least, most = bounded_mean(above, 0.0, 1.0)
    return min(low, least), max(high, most)


def _summary(attacks: list[JSON], level: str, attacked: ScoreTable, test: ScoreTable, threshold: float) -> JSON:
    """Means and extremes over the attacks that fool enough images: those saved without loss, saved in other ways, and unseen ones apart."""
    there = [a for a in attacks if a["detected"][level]["of"] >= FEWEST]
    plain = [a for a in there if not a["encoding"]]
    kinds = {"attacks": plain, "unseen": [a for a in plain if a["seen"] == 0], "encoded": [a for a in there if a["encoding"]]}
    found: JSON = {}
    for name, some in kinds.items():
        rates = [a["detected"][level]["share"] for a in some]
        worst = min(some, key=lambda a: a["detected"][level]["share"], default=None)
        found[name] = {"of": len(rates), "mean": float(np.mean(rates)) if rates else None, "worst": worst and _called(worst)}
        found[name]["least"] = min(rates, default=None)
        found[name]["low"], found[name]["high"] = _mean_interval(some, attacked, test, threshold)
    return found


def _mean_interval(attacks: list[JSON], attacked: ScoreTable, test: ScoreTable, threshold: float) -> tuple[float | None, float | None]:
    """Of the mean of detection rates, over images, given how many each attack fools the classifier on: the mean is that of one number an
    image, its share of it.
    """
    if not attacks:
        return None, None
    parts, whole = dict[str, float](), dict[str, float]()
    for a in attacks:
        rows = attacked.where(attack=a["attack"], encoding=a["encoding"])
        rows = rows.rows(counted(rows, test))
        for image, flagged in zip(rows["image"].tolist(), (rows["score"] > threshold).tolist(), strict=True):
            whole[image] = whole.get(image, 0.0) + 1 / len(rows)
            parts[image] = parts.get(image, 0.0) + flagged / len(rows)
    scale = len(whole) / len(attacks)
    low, high = bounded_mean(scale * np.array([*parts.values()]), 0.0, scale * max(whole.values()))
    return low, min(high, 1.0)


def _called(attack: JSON) -> str:
    return f"{attack['attack']}, saved as {attack['encoding']}" if attack["encoding"] else str(attack["attack"])


def _every_attack(attacked: ScoreTable, test: ScoreTable, threshold: float) -> JSON:
    """Of the images that some attack fools the classifier with: those on which every such attack is detected. Only images that every
    attack was made on are counted.
    """
    plain = attacked.where(encoding="")
    sets = [plain.where(attack=n) for n in plain.names("attack")]
    shared = sorted(set.intersection(*(set(s["image"].tolist()) for s in sets))) if sets else []
    if not shared:
        return share_of(np.zeros(0, bool))
    rows = [s.rows(np.argsort(s["image"], kind="stable")) for s in sets]
    rows = [s.rows(np.searchsorted(s["image"], shared)) for s in rows]
    detected, tried = worst_case([s["score"] > threshold for s in rows], [counted(s, test) for s in rows])
    return share_of(detected[tried])


def _change(rows: ScoreTable, test: ScoreTable, threshold: float) -> JSON:
    """A harmless change or a control: flags on the images whose answer stays, beside flags on the same images unchanged."""
    twins = _twins(rows, test)
    stays = rows["predicted"] == twins["predicted"]
    flags, before = rows["score"][stays] > threshold, twins["score"][stays] > threshold
    extra = flags.astype(np.float64) - before
    low, high = bounded_mean(extra, -1.0, 1.0) if len(extra) else (None, None)
    return {
        "change": str(rows["attack"][0]),
        "seen": int(rows["seen"][0]),
        "flagged": share_of(flags),
        "unchanged": share_of(before),
        "extra": {"share": float(extra.mean()) if len(extra) else None, "low": low, "high": high},
    }


__all__ = ["FEWEST", "LEVELS", "OF_SCORES", "counted", "verdict", "verdicts"]
