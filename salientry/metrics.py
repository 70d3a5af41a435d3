"""Scores to numbers with intervals.

Scores are higher for adversarial images. An image is flagged when ``score > threshold``, strictly. Intervals resample
*natural images*: an adversarial keeps the id of the natural it was made from, and everything that carries one id is
drawn together, so copies and twins never narrow an interval.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inference import LEAST_SEEDS, LEVEL, bounded_mean, exact_share, few_differ, t_interval

Floats = NDArray[np.float64]
Array = NDArray[Any]

RESAMPLES = 1000
NO_WIDTH = 1e-7  # of an interval: sums of resamples are float32


@dataclass(frozen=True)
class Interval:
    """A number, its 95 % interval and the number of images it speaks of. NaN where there is nothing to speak of.

    Attributes:
        value: the estimate on all images; the mean over seeds where there are several.
        lo: lower end, 2.5 % of the resamples.
        hi: upper end.
        n: images (positives, for a rate of adversarials).
        runs: the value of each seed, in order.
        each: the interval of each seed's value over its images, in order; empty where it is not known.
        resampled: what stood in place of ``lo`` and ``hi`` before an exact bound did; None where none does.
    """

    value: float
    lo: float
    hi: float
    n: int
    runs: tuple[float, ...] = ()
    each: tuple[tuple[float, float], ...] = ()
    resampled: tuple[float, float] | None = None


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


def log_losses(scores: Array, adversarial: bool) -> Floats:
    """(N,) log loss of each score, read as the logit that an image is adversarial; not 0 or inf for any finite score below 700."""
    wide = np.asarray(scores, np.float64)
    return np.asarray(np.logaddexp(0.0, -wide if adversarial else wide))


def worst_case(flags: Sequence[Array], evaluated: Sequence[Array]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Per image over several attacks: whether all attacks on it are detected, and whether there is one at all.

    Args:
        flags: (N,) of each attack, of the same N images in the same order: the attacked image is flagged.
        evaluated: (N,) of each attack: the attack on this image counts (it fools the classifier within its budget).

    Returns:
        (N,) detected: no attack that counts goes undetected; (N,) attacked: at least one attack counts. Rates are over the attacked.
    """
    missed = np.stack([e & ~f for f, e in zip(flags, evaluated, strict=True)])
    return np.asarray(~missed.any(0)), np.asarray(np.stack([*evaluated]).any(0))


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
        self._summed: dict[bytes, Summed] = {}
        self._known: dict[bytes, NDArray[np.float32]] = {}  # the last few answers: tables ask for the same images again and again
        count = len(self.clusters)
        seed = int.from_bytes(hashlib.sha256("\n".join(map(str, self.clusters)).encode()).digest()[:8], "little")
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, max(count, 1), (resamples, count))
        flat = (drawn + count * np.arange(resamples)[:, None]).ravel()
        weights = np.bincount(flat, minlength=resamples * count).reshape(resamples, count).astype(np.float32)
        self._by_image = np.ascontiguousarray(weights.T)  # so that an image's weights lie side by side
        self.weights = self._by_image.T

    def of(self, ids: Array) -> NDArray[np.float32]:
        """(resamples, len(ids)) weight of each row in each resample. The ids must be among those drawn from."""
        key = str(np.asarray(ids).dtype).encode() + np.asarray(ids).tobytes()
        if key not in self._known:
            self._known = dict(list(self._known.items())[-7:]) | {key: self._of(np.asarray(ids))}
        return self._known[key]

    def below(self, ids: Array, scores: Array) -> Summed:
        """:func:`summed` of naturals' scores; the last few are remembered, for the many attacks that they are compared with."""
        key = ids.tobytes() + scores.tobytes()
        if key not in self._summed:
            self._summed = dict(list(self._summed.items())[-3:]) | {key: summed(scores, self.of(ids))}
        return self._summed[key]

    def _of(self, ids: Array) -> NDArray[np.float32]:
        at = np.searchsorted(self.clusters, ids)
        assert len(ids) == 0 or (self.clusters[np.minimum(at, len(self.clusters) - 1)] == ids).all(), "an id that was not drawn from"
        return self._by_image[at].T


def rate_draws(values: Array, weights: Array) -> Floats:
    """(resamples,) weighted mean of (N,) values; NaN where a resample holds none of the rows."""
    wide, total = np.asarray(values, np.float64), _sum(weights)
    exact = not len(wide) or np.asarray(values).dtype == np.bool_  # counts are exact in float32, and a share stays in [0, 1]
    centre = 0.0 if exact else wide.mean()  # so that the sums in float32 are small
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.einsum("n,nr->r", (wide - centre).astype(np.float32), weights.T).astype(np.float64)
        return np.asarray(centre + found / total)


def _sum(weights: Array) -> Floats:
    """(resamples,) sum over the images: whole numbers, exact in float32 up to 16 million."""
    return np.asarray(np.einsum("nr->r", weights.T), np.float64)


Summed = tuple[Array, Array]  # scores in order, and the summed weights of the images below each of them, by resample


def summed(natural: Array, weights: Array) -> Summed:
    """(N,) scores in order and (N + 1, resamples) how many drawn naturals lie below each place among them."""
    order = np.argsort(natural, kind="stable")
    columns = np.ascontiguousarray(weights.T)  # images first: whole rows are added and gathered
    below = np.zeros((len(natural) + 1, len(weights)), np.float32 if len(natural) ** 2 < 2**21 else np.float64)
    for i, row in enumerate(order):  # far faster than a cumsum over the first axis
        np.add(below[i], columns[row], out=below[i + 1])
    return natural[order], below


def auroc_draws(
    natural: Array, natural_weights: Array, adversarial: Array, adversarial_weights: Array, known: Summed | None = None
) -> Floats:
    """(resamples,) AUROC of each resample, exact with ties. Weights are (resamples, N) and (resamples, M); ``known`` is what
    :func:`summed` gives of the naturals, where it was asked for already.
    """
    ranked, below = known or summed(natural, natural_weights)
    places = np.argsort(adversarial, kind="stable")
    there = adversarial[places]
    left, right = np.searchsorted(ranked, there, "left"), np.searchsorted(ranked, there, "right")
    beaten = below[left]
    beaten += below[right] if (left != right).any() else beaten
    wins = 0.5 * np.einsum("mr,mr->r", beaten, adversarial_weights.T[places]).astype(np.float64)
    total = _sum(natural_weights) * _sum(adversarial_weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wins / total)


def interval(value_of_run: Sequence[float], draws_of_run: Sequence[Floats], n: int) -> Interval:
    """Mean over the seeds with its interval, and each seed's own percentile interval over images.

    Below five seeds it is a percentile interval of the mean over images, the same draw for every seed: seeds are not resampled, it
    says "given these nets". From five up it is Student's over the seeds: "on these images".
    """
    value, runs = float(np.mean(value_of_run)), tuple(float(v) for v in value_of_run)
    lo, hi = _percentiles(np.mean(np.stack(draws_of_run), 0))
    if not np.isfinite(value) or math.isnan(lo):
        return Interval(float("nan"), float("nan"), float("nan"), n, runs)
    if len(runs) >= LEAST_SEEDS:
        lo, hi = t_interval(runs)
    return Interval(value, lo, hi, n, runs, tuple(_percentiles(d) for d in draws_of_run) if len(runs) > 1 else ((lo, hi),))


def _percentiles(draws: Floats) -> tuple[float, float]:
    """The middle 95 % of the draws that hold something; NaN where none does."""
    ranked = np.sort(draws[np.isfinite(draws)])
    if not len(ranked):
        return float("nan"), float("nan")
    places, grid = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * (len(ranked) - 1), np.arange(len(ranked))
    lo, hi = np.interp(places, grid, ranked)
    return float(lo), float(hi)


def bounded(found: Interval, whole: tuple[float, float] | None, each: Sequence[tuple[float, float] | None]) -> Interval:
    """The same number with bounds in place of its interval and of its seeds' intervals; None: it stays."""
    if whole is None and not any(each):
        return found
    lo, hi = whole or (found.lo, found.hi)
    ends = tuple(b or e for b, e in zip(each, found.each, strict=True)) if found.each else ()
    return replace(found, lo=lo, hi=hi, each=ends, resampled=found.resampled if whole is None else (found.lo, found.hi))


def share(value: Interval, *ids: Array, low: float = 0.0) -> Interval:
    """A number in [low, 1] whose interval has no width, where resampling cannot see a spread, with a bound: that of a share at 0.

    300 of 300 found is [.988, 1], not [1, 1]: Clopper and Pearson's; a balanced accuracy of .5 on 300 pairs that all get one answer is
    [.494, .506]. ``ids``: of the images behind it; of two classes the smaller one counts.
    """
    flat, clusters = [hi - lo < NO_WIDTH for lo, hi in value.each], min(len(np.unique(i)) for i in ids)
    if clusters and (value.hi - value.lo < NO_WIDTH or any(flat)):
        other = exact_share(0, clusters)[1]  # how many images may be unlike all these
        ends = [(v + other * (low - v), v + other * (1.0 - v)) for v in (value.value, *value.runs)]
        value = bounded(
            value, ends[0] if value.hi - value.lo < NO_WIDTH else None, [e if f else None for e, f in zip(ends[1:], flat, strict=False)]
        )
    if len(value.runs) >= LEAST_SEEDS and low == 0:
        value = replace(value, lo=max(value.lo, 0.0), hi=min(value.hi, 1.0))
    return value


def rate(resamples: Resamples, ids: Array, runs: Sequence[Array], shares: bool = False) -> Interval:
    """A mean of per-image values, one array per seed, with its interval; a share where they are flags, or ``shares`` of something."""
    weights = resamples.of(ids)
    values = [float(np.mean(r, dtype=np.float64)) if len(r) else float("nan") for r in runs]
    found = interval(values, [rate_draws(r, weights) for r in runs], len(ids))
    flags = shares or all(np.asarray(r).dtype == np.bool_ for r in runs)
    return share(found, ids) if flags else found


def difference(resamples: Resamples, ids: Array, runs: Sequence[tuple[Array, Array]], bound: bool = True) -> Interval:
    """Mean of (first minus second) over the same images, paired, one pair of arrays per seed; ``bound``: False leaves it resampled.

    Of shares in [0, 1], flags or their means over seeds, that differ on few images (:data:`~salientry.inference.FEW`) resampling sees too
    little: they get the bound of what lies in [-1, 1].
    """
    weights = resamples.of(ids)
    deltas = [np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in runs]
    values = [float(d.mean()) if len(d) else float("nan") for d in deltas]
    found = interval(values, [rate_draws(d, weights) for d in deltas], len(ids))
    shares = len(ids) > 0 and all(np.all((np.asarray(v) >= 0) & (np.asarray(v) <= 1)) for pair in runs for v in pair)
    return with_few(found, [(ids, deltas)]) if shares and bound else found


def with_few(found: Interval, parts: Sequence[tuple[Array, Sequence[Array]]]) -> Interval:
    """A sum or mean of differences with the bound of few images, where all but few images say the same.

    Args:
        found: the mean over the parts.
        parts: of each the ids (N,) and the differences in [-1, 1] (N,) of each seed. An image that stands in several of them counts
            once, with all that it adds: so attacks on one image are not taken for images of their own.
    """
    images, at = np.unique(np.concatenate([i for i, _ in parts]), return_inverse=True)
    scale = len(images) / len(parts)

    def total(values: Sequence[Array]) -> Floats:
        return np.asarray(scale * np.bincount(at, np.concatenate([v / max(len(v), 1) for v in values]), len(images)), np.float64)

    most = float(total([np.ones(len(i)) for i, _ in parts]).max(initial=0.0))
    each = [total([d[k] for _, d in parts]) for k in range(len(found.runs))]
    whole = np.mean(each, 0)
    ends = [bounded_mean(v, -most, most) if few_differ(v) else None for v in (whole, *each)]
    over_seeds = len(found.runs) >= LEAST_SEEDS and found.hi - found.lo >= NO_WIDTH
    return bounded(found, None if over_seeds else ends[0], ends[1:])


def median_ratio(resamples: Resamples, ids: Array, first: Array, second: Array) -> Interval:
    """Median of the first over median of the second, of the same images, with its percentile interval."""
    value = float(np.median(first) / np.median(second)) if len(ids) else float("nan")
    weights = resamples.of(ids)
    with np.errstate(invalid="ignore"):  # of two infinite medians
        found = median_draws(first, weights) / median_draws(second, weights)
    return interval([value], [found], len(ids))


def median_draws(values: Array, weights: Array) -> Array:
    """Medians (R,) of values (N,), each counted as often as the weights (R, N) say; NaN where none is."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    ranks = np.cumsum(weights[:, order].astype(np.int64), 1)
    count = ranks[:, -1]
    low, high = (np.argmax(ranks > k[:, None], 1) for k in ((count - 1) // 2, count // 2))
    found = values[order]
    return np.where(count > 0, (found[low] + found[high]) / 2, np.nan)  # in the values' own precision, as numpy's


def auroc_interval(resamples: Resamples, natural_ids: Array, adversarial_ids: Array, runs: Sequence[tuple[Array, Array]]) -> Interval:
    """AUROC per seed, then the mean; scores of different seeds are never pooled. ``runs``: (natural, adversarial) scores."""
    wn, wa = resamples.of(natural_ids), resamples.of(adversarial_ids)
    values = [auroc(n, a) for n, a in runs]
    draws = [auroc_draws(n, wn, a, wa, resamples.below(natural_ids, n)) for n, a in runs]
    return share(interval(values, draws, len(adversarial_ids)), natural_ids, adversarial_ids)


def auroc_difference(
    resamples: Resamples, natural_ids: Array, adversarial_ids: Array, runs: Sequence[tuple[tuple[Array, Array], tuple[Array, Array]]]
) -> Interval:
    """AUROC of the first minus AUROC of the second of two detectors on the same images, paired; a pair of (natural, adversarial)
    scores per seed. Where no resample distinguishes them the bound is that of no discordant pair among the smaller class.
    """
    wn, wa = resamples.of(natural_ids), resamples.of(adversarial_ids)
    values, draws = [], []
    for (n, a), (m, b) in runs:
        values.append(auroc(n, a) - auroc(m, b))
        mine, theirs = resamples.below(natural_ids, n), resamples.below(natural_ids, m)
        draws.append(auroc_draws(n, wn, a, wa, mine) - auroc_draws(m, wn, b, wa, theirs))
    return share(interval(values, draws, len(adversarial_ids)), natural_ids, adversarial_ids, low=-1.0)


def balanced_mean(resamples: Resamples, ids: Array, adversarial_ids: Array, runs: Sequence[tuple[Array, Array]]) -> Interval:
    """Mean of the two classes' means of a value by image, so that each class weighs one half; (natural, adversarial) values per seed."""
    wn, wa = resamples.of(ids), resamples.of(adversarial_ids)
    values = [float((np.mean(n) + np.mean(a)) / 2) if len(n) and len(a) else float("nan") for n, a in runs]
    draws = [(rate_draws(n, wn) + rate_draws(a, wa)) / 2 for n, a in runs]
    return interval(values, draws, len(adversarial_ids))


def balanced_accuracy(resamples: Resamples, ids: Array, adversarial_ids: Array, runs: Sequence[tuple[Array, Array]]) -> Interval:
    """Mean of the two classes' accuracies; ``runs``: (natural flagged, adversarial flagged) of each seed."""
    wn, wa = resamples.of(ids), resamples.of(adversarial_ids)
    values = [float((1 - np.mean(n) + np.mean(a)) / 2) if len(n) and len(a) else float("nan") for n, a in runs]
    draws = [(1 - rate_draws(n, wn) + rate_draws(a, wa)) / 2 for n, a in runs]
    return share(interval(values, draws, len(adversarial_ids)), ids, adversarial_ids)


def of_mixture(columns: Sequence[Array]) -> Array:
    """One column of several aligned ones: row i is that of column i modulo their number.

    So six attacks are mixed: as many adversarials as naturals, each attack on a sixth of them.
    """
    out = np.array(columns[0])
    for k in range(1, len(columns)):
        out[k :: len(columns)] = columns[k][k :: len(columns)]
    return out


@dataclass(frozen=True)
class Ranks:
    """A Mann-Whitney test of two samples.

    Attributes:
        effect: rank-biserial, P(first > second) - P(first < second), in [-1, 1].
        two_sided: p-value.
        greater: p-value against the first sample being no larger.
    """

    effect: float
    two_sided: float
    greater: float


def rank_test(first: Array, second: Array) -> Ranks:
    """Mann and Whitney's test (1947), normal approximation with continuity and tie correction; NaN without images."""
    from scipy.stats import mannwhitneyu  # late: it takes as long to import as everything else here

    n, m = len(first), len(second)
    if not n or not m:
        return Ranks(float("nan"), float("nan"), float("nan"))
    if len(np.unique(np.concatenate([first, second]))) == 1:
        return Ranks(0.0, 1.0, 1.0)
    wide = np.asarray(first, np.float64), np.asarray(second, np.float64)  # it would compute in float32
    two_sided, greater = (mannwhitneyu(*wide, alternative=a, method="asymptotic") for a in ("two-sided", "greater"))
    return Ranks(float(2 * two_sided.statistic / (n * m) - 1), float(two_sided.pvalue), float(greater.pvalue))


def ranks(values: Array) -> Floats:
    """(..., n) ranks along the last axis, 1 for the smallest; equal values share the mean of their places."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(np.asarray(values, np.float64), axis=-1))


def spearman(first: Array, second: Array) -> Floats:
    """Spearman's rank correlation along the last axis; NaN where a side has fewer than two different values."""
    a, b = (r - r.mean(-1, keepdims=True) for r in (ranks(first), ranks(second)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)))


def permutation_p(first: Array, second: Array) -> float:
    """Exact two-sided p of :func:`spearman`: the share of all orders of ``second`` that correlate as strongly or more; 2 to 8 values."""
    assert 2 <= len(first) == len(second) <= 8, "all orders are counted"
    found = abs(float(spearman(first, second)))
    orders = np.array(list(itertools.permutations(range(len(first)))))
    every = np.abs(spearman(np.asarray(first)[None], np.asarray(second)[orders]))
    return float((every >= found - 1e-12).mean()) if math.isfinite(found) else float("nan")
