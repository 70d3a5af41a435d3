"""Scores to numbers with intervals. Numpy only.

Scores are higher for adversarial images. An image is flagged when ``score > threshold``, strictly. Intervals resample
*natural images*: an adversarial keeps the id of the natural it was made from, and everything that carries one id is
drawn together, so copies and twins never narrow an interval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Array = NDArray[Any]

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A number, its 95 % interval and the number of images it speaks of. NaN where there is nothing to speak of.

    Attributes:
        value: the estimate on all images; the mean over seeds where there are several.
        lo: lower end, 2.5 % of the resamples.
        hi: upper end.
        n: images (positives, for a rate of adversarials).
        runs: the value of each seed, in order.
    """

    value: float
    lo: float
    hi: float
    n: int
    runs: tuple[float, ...] = ()


def auroc(natural: Array, adversarial: Array) -> float:
    """Probability that an adversarial image scores above a natural one; ties count one half. NaN without images."""
    if not len(natural) or not len(adversarial):
        return float("nan")
    ranked = np.sort(natural)
    beaten = np.searchsorted(ranked, adversarial, "left") + np.searchsorted(ranked, adversarial, "right")
    return float(beaten.sum() / (2 * len(natural) * len(adversarial)))


def roc(natural: Array, adversarial: Array) -> tuple[Floats, Floats]:
    """The ROC curve's corners: false-positive rates and true-positive rates, both from 0 to 1."""
    scores = np.unique(np.concatenate([natural, adversarial]))[::-1]
    fpr = 1 - np.searchsorted(np.sort(natural), scores, "left") / len(natural)
    tpr = 1 - np.searchsorted(np.sort(adversarial), scores, "left") / len(adversarial)
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])


def flag_rate(scores: Array, threshold: float) -> float:
    """Share of the scores above the threshold. NaN without scores."""
    return float((scores > threshold).mean()) if len(scores) else float("nan")


class Resamples:
    """How often each natural image was drawn in each bootstrap resample.

    The draw depends on the set of ids alone, so every seed, detector and column that speaks of the same images uses
    the same draw, and differences between them are paired.

    Args:
        ids: (N,) ids of the images; repeated ids are one cluster.
        resamples: number of bootstrap resamples.
    """

    def __init__(self, ids: Array, resamples: int = RESAMPLES) -> None:
        self.clusters = np.unique(ids)
        self._known: dict[bytes, NDArray[np.float32]] = {}  # the last few answers: tables ask for the same images again and again
        count = len(self.clusters)
        seed = int.from_bytes(hashlib.sha256("\n".join(map(str, self.clusters)).encode()).digest()[:8], "little")
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, max(count, 1), (resamples, count))
        flat = (drawn + count * np.arange(resamples)[:, None]).ravel()
        self.weights = np.bincount(flat, minlength=resamples * count).reshape(resamples, count).astype(np.float32)

    def of(self, ids: Array) -> NDArray[np.float32]:
        """(resamples, len(ids)) weight of each row in each resample. The ids must be among those drawn from."""
        key = str(np.asarray(ids).dtype).encode() + np.asarray(ids).tobytes()
        if key not in self._known:
            self._known = dict(list(self._known.items())[-7:]) | {key: self._of(np.asarray(ids))}
        return self._known[key]

    def _of(self, ids: Array) -> NDArray[np.float32]:
        at = np.searchsorted(self.clusters, ids)
        assert len(ids) == 0 or (self.clusters[np.minimum(at, len(self.clusters) - 1)] == ids).all(), "an id that was not drawn from"
        return self.weights[:, at]


def rate_draws(values: Array, weights: Array) -> Floats:
    """(resamples,) weighted mean of (N,) values; NaN where a resample holds none of the rows."""
    total = weights.sum(1, dtype=np.float64)
    wide = np.asarray(values, np.float64)
    exact = not len(wide) or np.asarray(values).dtype == np.bool_  # counts are exact in float32, and a share stays in [0, 1]
    centre = 0.0 if exact else wide.mean()  # so that the sums in float32 are small
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(centre + (weights @ (wide - centre).astype(np.float32)).astype(np.float64) / total)


def auroc_draws(natural: Array, natural_weights: Array, adversarial: Array, adversarial_weights: Array) -> Floats:
    """(resamples,) AUROC of each resample, exact with ties, one sort for all."""
    order = np.argsort(natural, kind="stable")
    ranked = natural[order]
    below = np.zeros((len(natural_weights), len(natural) + 1), np.float32)
    np.cumsum(natural_weights[:, order], 1, dtype=np.float32, out=below[:, 1:])
    left, right = np.searchsorted(ranked, adversarial, "left"), np.searchsorted(ranked, adversarial, "right")
    beaten = below[:, left] + below[:, right]
    wins = 0.5 * np.einsum("rm,rm->r", beaten, adversarial_weights, dtype=np.float64)
    total = natural_weights.sum(1, dtype=np.float64) * adversarial_weights.sum(1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wins / total)


def interval(value_of_run: Sequence[float], draws_of_run: Sequence[Floats], n: int) -> Interval:
    """Mean over the seeds with a percentile interval of the mean, the same draw for every seed.

    Seeds are not resampled: the interval says "given these seeds, this classifier, this split".
    """
    value = float(np.mean(value_of_run))
    draws = np.mean(np.stack(draws_of_run), 0)
    draws = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(draws):
        return Interval(float("nan"), float("nan"), float("nan"), n, tuple(value_of_run))
    lo, hi = (float(q) for q in np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Interval(value, lo, hi, n, tuple(float(v) for v in value_of_run))


def share(value: Interval, clusters: int) -> Interval:
    """A share at 0 or 1, where the bootstrap cannot see a spread, gets the exact (Clopper-Pearson) bound of its images.

    300 of 300 found is [.988, 1], not [1, 1]. ``clusters``: the number of different natural images behind it.
    """
    if clusters == 0 or value.lo != value.hi or value.value not in (0.0, 1.0):
        return value
    bound = ((1 - LEVEL) / 2) ** (1 / clusters)
    lo, hi = (bound, 1.0) if value.value == 1.0 else (0.0, 1 - bound)
    return Interval(value.value, lo, hi, value.n, value.runs)


def rate(resamples: Resamples, ids: Array, runs: Sequence[Array]) -> Interval:
    """A mean of per-image values (a share, when they are flags), one array per seed, with its interval."""
    weights = resamples.of(ids)
    values = [float(np.mean(r, dtype=np.float64)) if len(r) else float("nan") for r in runs]
    found = interval(values, [rate_draws(r, weights) for r in runs], len(ids))
    flags = all(np.asarray(r).dtype == np.bool_ for r in runs)
    return share(found, len(np.unique(ids))) if flags else found


def difference(resamples: Resamples, ids: Array, runs: Sequence[tuple[Array, Array]]) -> Interval:
    """Mean of (first minus second) over the same images, paired, one pair of arrays per seed."""
    weights = resamples.of(ids)
    deltas = [np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in runs]
    values = [float(d.mean()) if len(d) else float("nan") for d in deltas]
    return interval(values, [rate_draws(d, weights) for d in deltas], len(ids))


def auroc_interval(resamples: Resamples, natural_ids: Array, adversarial_ids: Array, runs: Sequence[tuple[Array, Array]]) -> Interval:
    """AUROC per seed, then the mean; scores of different seeds are never pooled. ``runs``: (natural, adversarial) scores."""
    wn, wa = resamples.of(natural_ids), resamples.of(adversarial_ids)
    values = [auroc(n, a) for n, a in runs]
    draws = [auroc_draws(n, wn, a, wa) for n, a in runs]
    clusters = min(len(np.unique(natural_ids)), len(np.unique(adversarial_ids)))
    return share(interval(values, draws, len(adversarial_ids)), clusters)


def balanced_accuracy(resamples: Resamples, ids: Array, adversarial_ids: Array, runs: Sequence[tuple[Array, Array]]) -> Interval:
    """Mean of the two classes' accuracies; ``runs``: (natural flagged, adversarial flagged) of each seed."""
    wn, wa = resamples.of(ids), resamples.of(adversarial_ids)
    values = [float((1 - np.mean(n) + np.mean(a)) / 2) if len(n) and len(a) else float("nan") for n, a in runs]
    draws = [(1 - rate_draws(n, wn) + rate_draws(a, wa)) / 2 for n, a in runs]
    return share(interval(values, draws, len(adversarial_ids)), min(len(np.unique(ids)), len(np.unique(adversarial_ids))))


def bootstrap(statistic: Callable[[Array], float], ids: Array, resamples: int = RESAMPLES) -> Floats:
    """The slow, obvious bootstrap that the vectorised ones are tested against: row indices of a resample to a number."""
    drawn = Resamples(ids, resamples)
    return np.array([statistic(np.repeat(np.arange(len(ids)), w.astype(int))) for w in drawn.of(ids)])
