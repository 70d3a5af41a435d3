from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, mannwhitneyu
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

from salientry import metrics
from salientry.inference import bounded_mean, t_interval
from salientry.metrics import Interval, Resamples, auroc, auroc_draws, median_draws, rate_draws, roc

Floats = NDArray[np.float64]
few = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12).map(np.array)


def some_ids(n: int, seed: int = 0) -> NDArray[np.str_]:
    return np.array([f"{v:016x}" for v in np.random.default_rng(seed).permutation(10_000)[:n]])


def tied(rng: np.random.Generator, n: int) -> Floats:
    """Scores with many ties."""
    return rng.integers(0, 6, n) / 4


def mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], ids: NDArray[np.str_], resamples: int = metrics.RESAMPLES) -> Floats:
    """The slow, obvious bootstrap that the vectorised ones are tested against: row indices of a resample to a number."""
    drawn = Resamples(ids, resamples)
    return np.array([statistic(np.repeat(np.arange(len(ids)), w.astype(int))) for w in drawn.of(ids)])


def ends(found: Interval) -> tuple[float, float, float]:
    return found.value, found.lo, found.hi


# --- the numbers -------------------------------------------------------------------------------------------------


@given(few, few)
def test_auroc_is_the_share_of_pairs_won(natural: Floats, adversarial: Floats) -> None:
    wins = sum(1.0 if a > n else 0.5 if a == n else 0.0 for n in natural for a in adversarial)
    assert auroc(natural, adversarial) == pytest.approx(wins / (len(natural) * len(adversarial)), abs=1e-12)
    assert auroc(natural, adversarial) + auroc(adversarial, natural) == pytest.approx(1, abs=1e-12)
    assert auroc(natural, adversarial) == pytest.approx(auroc(-adversarial, -natural), abs=1e-12)
    assert auroc(np.exp(natural), np.exp(adversarial)) == auroc(natural, adversarial)


@pytest.mark.parametrize("ties", [True, False])
def test_auroc_agrees_with_scikit_learn_and_the_u_test(ties: bool) -> None:
    rng = np.random.default_rng(0)
    for n, m in ((300, 200), (1, 50), (50, 1)):
        natural, adversarial = (tied(rng, n), tied(rng, m) + 0.25) if ties else (rng.normal(size=n), rng.normal(size=m) + 0.5)
        truth = roc_auc_score(np.r_[np.zeros(n), np.ones(m)], np.r_[natural, adversarial])
        assert auroc(natural, adversarial) == pytest.approx(truth, abs=1e-12)
        assert auroc(natural, adversarial) == pytest.approx(mannwhitneyu(adversarial, natural).statistic / (n * m), abs=1e-12)


def test_auroc_at_its_ends_and_without_images() -> None:
    low, high = np.array([0.0, 1.0]), np.array([2.0, 3.0, 4.0])
    assert (auroc(low, high), auroc(high, low), auroc(low, low)) == (1.0, 0.0, 0.5)
    assert math.isnan(auroc(low[:0], high)) and math.isnan(auroc(low, high[:0]))


@given(few, few)
def test_roc_runs_from_corner_to_corner_with_the_area_of_auroc(natural: Floats, adversarial: Floats) -> None:
    fpr, tpr = roc(natural, adversarial)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(natural, adversarial), abs=1e-12)
    known = roc_curve(np.r_[np.zeros(len(natural)), np.ones(len(adversarial))], np.r_[natural, adversarial], drop_intermediate=False)
    np.testing.assert_allclose((fpr, tpr), known[:2], atol=1e-12)


# --- the draw ----------------------------------------------------------------------------------------------------


def test_each_resample_draws_as_many_images_as_there_are() -> None:
    weights = Resamples(some_ids(37), 500).weights
    assert weights.shape == (500, 37)
    assert (weights.sum(1) == 37).all() and (weights == weights.round()).all() and (weights >= 0).all()


def test_the_draw_is_multinomial() -> None:
    weights = Resamples(some_ids(50), 4000).weights.ravel().astype(int)
    expected = binom.pmf(np.arange(6), 50, 1 / 50)
    found = np.bincount(weights, minlength=6)[:6] / len(weights)
    np.testing.assert_allclose(found, expected, atol=0.005)


def test_the_draw_depends_on_the_set_of_ids_alone() -> None:
    ids = some_ids(20)
    first = Resamples(ids, 100)
    order = np.random.default_rng(1).permutation(20)
    for same in (ids[order], np.concatenate([ids, ids[:7]]), np.repeat(ids, 3)):
        assert np.array_equal(Resamples(same, 100).of(ids), first.of(ids))
    assert not np.array_equal(Resamples(some_ids(20, seed=1), 100).weights, first.weights)
    assert not np.array_equal(Resamples(ids[:19], 100).weights, first.weights[:, :19])


def test_rows_ask_for_the_weight_of_their_image() -> None:
    ids = some_ids(9)
    drawn = Resamples(ids, 50)
    by_id = dict(zip(drawn.clusters.tolist(), drawn.weights.T, strict=True))
    at = np.array([3, 3, 8, 0])
    for _ in range(2):  # the second answer is a remembered one
        assert np.array_equal(drawn.of(ids[at]), np.stack([by_id[i] for i in ids[at]], 1))
    for n in range(9):  # more than it remembers
        assert np.array_equal(drawn.of(ids[n:]), np.stack([by_id[i] for i in ids[n:]], 1))
    assert drawn.of(ids[:0]).shape == (50, 0)
    for stranger in ("0", "5", "z"):
        with pytest.raises(AssertionError, match="not drawn from"):
            drawn.of(np.array([ids[0], stranger]))


def test_ids_of_other_widths_are_not_taken_for_each_other() -> None:
    drawn = Resamples(np.array(["ab", "cd", "abcd"]), 50)
    two, one = drawn.of(np.array(["ab", "cd"])), drawn.of(np.array(["abcd"]))
    assert two.shape == (50, 2) and one.shape == (50, 1)


# --- vectorised equals obvious -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_rate_draws_equal_the_slow_bootstrap(n: int) -> None:
    rng = np.random.default_rng(n)
    ids = some_ids(n, seed=n)[rng.integers(0, n, n + 3)]  # with repeats
    drawn = Resamples(ids, 300)
    for values in (tied(rng, n + 3), rng.normal(size=n + 3), rng.random(n + 3) < 0.3):
        slow = bootstrap(lambda rows, values=values: mean(values[rows]), ids, 300)  # type: ignore[misc]
        np.testing.assert_allclose(rate_draws(values, drawn.of(ids)), slow, atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 2), (40, 25), (60, 60)])
@pytest.mark.parametrize("ties", [True, False])
def test_auroc_draws_equal_the_slow_bootstrap(n: int, m: int, ties: bool) -> None:
    rng = np.random.default_rng(n + m)
    natural_ids = some_ids(n, seed=n)
    twin_ids = rng.choice(natural_ids, m)  # some naturals have no twin, some two
    natural, adversarial = (tied(rng, n), tied(rng, m)) if ties else (rng.normal(size=n), rng.normal(size=m))
    drawn, joint = Resamples(natural_ids, 300), np.concatenate([natural_ids, twin_ids])

    def statistic(rows: NDArray[np.int64]) -> float:
        return auroc(natural[rows[rows < n]], adversarial[rows[rows >= n] - n])

    slow = bootstrap(statistic, joint, 300)
    fast = auroc_draws(natural, drawn.of(natural_ids), adversarial, drawn.of(twin_ids))
    assert np.isnan(slow).any() == (n == 3), "the small case is there for resamples without a twin"
    np.testing.assert_allclose(fast, slow, atol=1e-6, equal_nan=True)


def test_a_weight_is_a_sample_weight() -> None:
    rng = np.random.default_rng(3)
    ids = some_ids(50)
    natural, adversarial, weights = tied(rng, 50), tied(rng, 50) + 0.25, Resamples(ids, 20).of(ids)
    truth = [roc_auc_score(np.r_[np.zeros(50), np.ones(50)], np.r_[natural, adversarial], sample_weight=np.r_[w, w]) for w in weights]
    np.testing.assert_allclose(auroc_draws(natural, weights, adversarial, weights), truth, atol=1e-6)


def test_intervals_are_quantiles_of_the_slow_bootstrap() -> None:
    rng = np.random.default_rng(4)
    ids, n = some_ids(80), 80
    a, b, natural, adversarial = rng.normal(size=n), rng.normal(size=n), tied(rng, n), tied(rng, n) + 0.25
    drawn = Resamples(ids, 400)

    def quantiles(draws: Floats) -> tuple[float, float]:
        return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))

    found = metrics.rate(drawn, ids, [a])
    assert ends(found) == pytest.approx((a.mean(), *quantiles(bootstrap(lambda r: mean(a[r]), ids, 400))), abs=1e-6)
    found = metrics.difference(drawn, ids, [(a, b)])
    assert ends(found) == pytest.approx((a.mean() - b.mean(), *quantiles(bootstrap(lambda r: mean((a - b)[r]), ids, 400))), abs=1e-6)
    found = metrics.auroc_interval(drawn, ids, ids, [(natural, adversarial)])
    slow = bootstrap(lambda r: auroc(natural[r], adversarial[r]), ids, 400)
    assert ends(found) == pytest.approx((auroc(natural, adversarial), *quantiles(slow)), abs=1e-6)
    false, true = natural > 0.5, adversarial > 0.5
    found = metrics.balanced_accuracy(drawn, ids, ids, [(false, true)])
    slow = bootstrap(lambda r: (1 - mean(false[r]) + mean(true[r])) / 2, ids, 400)
    assert ends(found) == pytest.approx(((1 - false.mean() + true.mean()) / 2, *quantiles(slow)), abs=1e-6)


@pytest.mark.parametrize("n", [20, 377, 384])
def test_a_share_stays_a_share(n: int) -> None:
    flags, ids = np.arange(n) > 1, some_ids(n)
    drawn = Resamples(ids)
    most, least = metrics.rate(drawn, ids, [flags]), metrics.rate(drawn, ids, [~flags])
    assert most.hi == 1 and least.lo == 0
    counts = rate_draws(flags, drawn.of(ids)) * n
    np.testing.assert_allclose(counts, counts.round(), rtol=0, atol=1e-9)


def test_small_differences_of_large_numbers_are_kept() -> None:
    rng = np.random.default_rng(13)
    ids, values = some_ids(50), 1e6 + rng.normal(size=50)
    slow = bootstrap(lambda rows: mean(values[rows]), ids, 100)
    np.testing.assert_allclose(rate_draws(values, Resamples(ids, 100).of(ids)), slow, rtol=0, atol=1e-5)


# --- what an interval must not do --------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [2, 5])
def test_copies_never_narrow_an_interval(copies: int) -> None:
    rng = np.random.default_rng(5)
    ids = some_ids(60)
    flags, scores, natural = rng.random(60) < 0.4, tied(rng, 60) + 0.25, tied(rng, 60)
    drawn, many = Resamples(ids), np.repeat(ids, copies)
    one, more = metrics.rate(drawn, ids, [flags]), metrics.rate(drawn, many, [np.repeat(flags, copies)])
    assert ends(more) == ends(one)
    assert (one.n, more.n) == (60, 60 * copies)
    one = metrics.auroc_interval(drawn, ids, ids, [(natural, scores)])
    more = metrics.auroc_interval(drawn, many, many, [(np.repeat(natural, copies), np.repeat(scores, copies))])
    assert ends(more) == pytest.approx(ends(one), abs=1e-12)
    assert one.hi - one.lo > 0.1
    perfect = metrics.rate(drawn, many, [np.ones(60 * copies, bool)])
    assert ends(perfect) == ends(metrics.rate(drawn, ids, [np.ones(60, bool)]))


def test_order_of_the_images_does_not_matter() -> None:
    rng = np.random.default_rng(6)
    ids, order = some_ids(60), rng.permutation(60)
    flags, natural, adversarial = rng.random(60) < 0.4, tied(rng, 60), tied(rng, 60)
    a, b = Resamples(ids), Resamples(ids[order])
    assert ends(metrics.rate(a, ids, [flags])) == ends(metrics.rate(b, ids[order], [flags[order]]))
    there = metrics.auroc_interval(b, ids[order], ids, [(natural[order], adversarial)])
    assert ends(there) == pytest.approx(ends(metrics.auroc_interval(a, ids, ids, [(natural, adversarial)])), abs=1e-12)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    ids = some_ids(200)
    drawn, covered, wide = Resamples(ids), 0, []
    for _ in range(300):
        found = metrics.rate(drawn, ids, [rng.random(200) < 0.3])
        covered += found.lo <= 0.3 <= found.hi
        wide.append(found.hi - found.lo)
    assert 0.90 <= covered / 300 <= 0.99
    assert np.mean(wide) == pytest.approx(2 * 1.96 * math.sqrt(0.3 * 0.7 / 200), rel=0.05)


def test_the_interval_of_clusters_covers_the_truth_too() -> None:
    rng = np.random.default_rng(8)
    ids = np.repeat(some_ids(100), 4)  # four attacks on each image, found together or not at all
    drawn, covered = Resamples(ids), 0
    for _ in range(300):
        found = metrics.rate(drawn, ids, [np.repeat(rng.random(100) < 0.3, 4)])
        covered += found.lo <= 0.3 <= found.hi
    assert 0.90 <= covered / 300 <= 0.99


# --- all and nothing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 300])
def test_all_or_none_found_has_the_exact_bound(n: int) -> None:
    ids = some_ids(n)
    for k in (0, n):
        exact = binomtest(k, n).proportion_ci(0.95, method="exact")
        found = metrics.rate(Resamples(ids, 100), ids, [np.full(n, k > 0)])
        assert ends(found) == pytest.approx((k / n, exact.low, exact.high), abs=1e-12)


def test_the_exact_bound_counts_images_and_not_rows() -> None:
    ids = np.repeat(some_ids(20), 10)
    found = metrics.rate(Resamples(ids, 100), ids, [np.ones(200, bool)])
    assert found.lo == pytest.approx(binomtest(20, 20).proportion_ci(0.95, method="exact").low, abs=1e-12)
    natural, twins = np.zeros(20), np.ones(5)
    found = metrics.auroc_interval(Resamples(ids, 100), ids[::10], ids[:50:10], [(natural, twins)])
    assert ends(found) == pytest.approx((1, binomtest(5, 5).proportion_ci(0.95, method="exact").low, 1), abs=1e-12)
    again = metrics.auroc_interval(Resamples(ids, 100), ids[::10], ids[:50], [(natural, np.ones(50))])
    assert ends(again) == ends(found), "ten attacks on each of five images are five images"
    few = metrics.auroc_interval(Resamples(ids, 100), ids[:50], ids[::10], [(np.zeros(50), natural + 1)])
    assert ends(few) == ends(found), "and so are five naturals"


def test_only_shares_without_a_spread_are_widened() -> None:
    ids = some_ids(30)
    drawn = Resamples(ids, 100)
    assert ends(metrics.rate(drawn, ids, [np.ones(30)])) == (1, 1, 1), "a mean of numbers is no share"
    for same in (Interval(0.5, 0.4, 0.5, 30), Interval(1.0, 0.9, 1.0, 30), Interval(0.0, 0.0, 0.1, 30)):
        assert metrics.share(same, ids) is same
    assert metrics.share(Interval(1.0, 1.0, 1.0, 0), ids[:0]) == Interval(1.0, 1.0, 1.0, 0)


# --- several seeds -----------------------------------------------------------------------------------------------


def test_several_seeds_give_the_interval_of_their_mean() -> None:
    rng = np.random.default_rng(9)
    ids = some_ids(70)
    drawn, runs = Resamples(ids), [rng.normal(size=70) for _ in range(3)]
    found = metrics.rate(drawn, ids, runs)
    assert found.runs == pytest.approx([r.mean() for r in runs], abs=1e-12)
    assert ends(found) == pytest.approx(ends(metrics.rate(drawn, ids, [np.mean(runs, 0)])), abs=1e-6)
    scores = [(tied(rng, 70), tied(rng, 70) + 0.25) for _ in range(3)]
    found = metrics.auroc_interval(drawn, ids, ids, scores)
    draws = np.mean([auroc_draws(n, drawn.of(ids), a, drawn.of(ids)) for n, a in scores], 0)
    assert ends(found) == pytest.approx((np.mean(found.runs), *np.quantile(draws, [0.025, 0.975])), abs=1e-9)
    shifted = [(n + 100 * i, a + 100 * i) for i, (n, a) in enumerate(scores)]
    assert metrics.auroc_interval(drawn, ids, ids, shifted) == found, "scores of different seeds are never pooled"


def test_the_same_seed_twice_is_no_evidence() -> None:
    ids = some_ids(70)
    flags = np.random.default_rng(10).random(70) < 0.4
    once, twice = (metrics.rate(Resamples(ids), ids, [flags] * k) for k in (1, 2))
    assert ends(once) == ends(twice) and twice.n == 70 and twice.runs == once.runs * 2


def test_an_interval_of_nothing_is_nan() -> None:
    ids = some_ids(10)
    drawn, none = Resamples(ids, 50), ids[:0]
    empty = np.zeros(0)
    found = [
        metrics.rate(drawn, none, [empty, empty]),
        metrics.rate(drawn, none, [empty.astype(bool)]),
        metrics.rate(Resamples(none, 50), none, [empty]),
        metrics.difference(drawn, none, [(empty, empty)]),
        metrics.auroc_interval(drawn, ids, none, [(np.zeros(10), empty)]),
        metrics.auroc_interval(drawn, none, ids, [(empty, np.zeros(10))]),
        metrics.balanced_accuracy(drawn, ids, none, [(np.zeros(10, bool), empty.astype(bool))]),
    ]
    for i in found:
        assert np.isnan(ends(i)).all() and np.isnan(i.runs).all()
    assert [i.n for i in found] == [0, 0, 0, 0, 0, 10, 0]


def test_one_seed_without_a_number_leaves_no_number() -> None:
    ids = some_ids(10)
    found = metrics.rate(Resamples(ids, 50), ids, [np.zeros(10), np.full(10, np.nan)])
    assert np.isnan(ends(found)).all() and found.runs[0] == 0 and math.isnan(found.runs[1])


def test_resamples_without_a_row_are_left_out() -> None:
    ids = some_ids(20)
    found = metrics.rate(Resamples(ids), ids[:1], [np.array([0.25])])  # in about one of three resamples it is not drawn
    assert ends(found) == (0.25, 0.25, 0.25)


# --- differences -------------------------------------------------------------------------------------------------


def test_equal_columns_differ_by_nothing_at_all() -> None:
    ids = some_ids(40)
    a = np.random.default_rng(11).normal(size=40)
    assert ends(metrics.difference(Resamples(ids), ids, [(a, a), (a, a)])) == (0, 0, 0)


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(12)
    ids = some_ids(100)
    drawn, hard = Resamples(ids), 5 * rng.normal(size=100)
    a, b = hard + 0.1 * rng.normal(size=100), hard + 0.1 * rng.normal(size=100) - 1
    found = metrics.difference(drawn, ids, [(a, b)])
    alone = [metrics.rate(drawn, ids, [v]) for v in (a, b)]
    assert found.lo < 1 < found.hi and found.hi - found.lo < 0.1 < 1 < min(i.hi - i.lo for i in alone)
    back = metrics.difference(drawn, ids, [(b, a)])
    assert (back.value, back.lo, back.hi) == pytest.approx((-found.value, -found.hi, -found.lo), abs=1e-6)


def test_flags_are_subtracted_as_numbers() -> None:
    ids = some_ids(4)
    a, b = np.array([True, True, False, True]), np.array([False, True, True, False])
    assert metrics.difference(Resamples(ids, 50), ids, [(a, b)]).value == 0.25


def close(found: tuple[float, float], bound: tuple[float, float]) -> bool:
    return found == pytest.approx(bound, abs=1e-12)


def test_equal_flags_are_no_certainty() -> None:
    ids, flags = some_ids(300), np.random.default_rng(13).random(300) < 0.4
    drawn, bound = Resamples(ids), bounded_mean(np.zeros(300), -1.0, 1.0)
    found = metrics.difference(drawn, ids, [(flags, flags)] * 2)
    assert found.value == 0 and close((found.lo, found.hi), bound) and all(close(e, bound) for e in found.each)
    assert found.resampled == (0, 0)
    twice = metrics.difference(Resamples(ids), np.repeat(ids, 3), [(np.repeat(flags, 3), np.repeat(flags, 3))])
    assert close((twice.lo, twice.hi), bound), "three rows of an image are one image"
    means = np.asarray(flags, float) / 2
    same = metrics.difference(drawn, ids, [(means, means)])
    assert close((same.lo, same.hi), bound), "the mean flag of two seeds lies in [0, 1]"
    assert ends(metrics.difference(drawn, ids, [(3 * means, 3 * means)])) == (0, 0, 0), "what may be larger has no such bound"


@pytest.mark.parametrize("differ", [0, 1, 9, 10, 40])
def test_few_discordant_images_have_the_bound_and_many_are_resampled(differ: int) -> None:
    ids, flags = some_ids(300), np.random.default_rng(13).random(300) < 0.4
    other = np.where(np.arange(300) < differ, ~flags, flags)
    found, delta = metrics.difference(Resamples(ids), ids, [(flags, other)]), flags.astype(float) - other
    drawn = tuple(float(v) for v in np.quantile(bootstrap(lambda r: float(delta[r].mean()), ids), [0.025, 0.975]))
    if differ < 10:
        assert close((found.lo, found.hi), bounded_mean(delta, -1.0, 1.0)) and found.resampled == pytest.approx(drawn, abs=1e-6)
    else:
        assert (found.lo, found.hi) == pytest.approx(drawn, abs=1e-6) and found.resampled is None
    assert found.lo < found.value < found.hi
    mixed = metrics.difference(Resamples(ids), ids, [(flags, flags), (flags, other)])
    assert close(mixed.each[0], bounded_mean(np.zeros(300), -1.0, 1.0)) and mixed.each[1] == (found.lo, found.hi), "each seed by itself"


def test_all_images_alike_are_no_certainty_whatever_they_say() -> None:
    ids = some_ids(300)
    drawn, p = Resamples(ids), 1 - 0.025 ** (1 / 300)
    yes, no = np.ones(300, bool), np.zeros(300, bool)
    assert ends(metrics.difference(drawn, ids, [(yes, no)])) == pytest.approx((1, 1 - 2 * p, 1), abs=1e-10)
    assert ends(metrics.balanced_accuracy(drawn, ids, ids, [(no, no)])) == pytest.approx((0.5, 0.5 - p / 2, 0.5 + p / 2), abs=1e-12)
    assert ends(metrics.auroc_interval(drawn, ids, ids, [(no, no)])) == pytest.approx((0.5, 0.5 - p / 2, 0.5 + p / 2), abs=1e-12)
    third = metrics.rate(drawn, ids, [yes, no, no])
    assert ends(third) == pytest.approx((1 / 3, (1 - p) / 3, (1 - p) / 3 + p), abs=1e-12)
    assert np.array(third.each) == pytest.approx(np.array([(1 - p, 1), (0, p), (0, p)]))


def test_an_image_under_several_attacks_is_one_image() -> None:
    ids = some_ids(300)
    delta = np.where(np.arange(300) < 4, 1.0, 0.0)
    alone = metrics.with_few(Interval(4 / 300, 0.0, 0.0, 300, (4 / 300,)), [(ids, [delta])])
    together = metrics.with_few(Interval(4 / 300, 0.0, 0.0, 300, (4 / 300,)), [(ids, [delta])] * 6)
    assert ends(together) == pytest.approx(ends(alone), abs=1e-9), "six attacks that say the same say it of 300 images, not of 1,800"
    part = metrics.with_few(Interval(0.0, 0.0, 0.0, 150, (0.0,)), [(ids[:150], [np.zeros(150)]), (ids, [np.zeros(300)])])
    assert alone.hi - alone.lo > part.hi > 1 - 0.025 ** (1 / 300), "an attack that speaks of half of the images knows less"


def test_from_five_seeds_up_the_interval_is_over_seeds() -> None:
    rng = np.random.default_rng(14)
    ids = some_ids(100)
    drawn, flags = Resamples(ids), [rng.random(100) < p for p in (0.5, 0.6, 0.7, 0.8, 0.9)]
    few, many = metrics.rate(drawn, ids, flags[:4]), metrics.rate(drawn, ids, flags)
    assert (many.lo, many.hi) == pytest.approx(t_interval(many.runs)) and many.hi - many.lo > 1.5 * (few.hi - few.lo)
    assert many.each[:4] == few.each, "and each seed keeps its own, over images"
    sure = metrics.rate(drawn, ids, [np.ones(100, bool)] * 5)
    assert ends(sure) == pytest.approx((1, binomtest(100, 100).proportion_ci(0.95, method="exact").low, 1), abs=1e-12)
    high = metrics.rate(drawn, ids, [np.ones(100, bool)] * 4 + [flags[0]])
    assert high.hi == 1 and t_interval(high.runs)[1] > 1, "a share is no more than 1"


# --- log loss, and two detectors ----------------------------------------------------------------------------------


def test_log_loss_is_scikit_learns_with_equal_classes() -> None:
    rng = np.random.default_rng(20)
    ids = some_ids(60)
    natural, adversarial = rng.normal(size=60) - 1, rng.normal(size=20) + 1

    def losses(natural: Floats, adversarial: Floats) -> Interval:
        runs = [(metrics.log_losses(natural, False), metrics.log_losses(adversarial, True))]
        return metrics.balanced_mean(Resamples(ids), ids, ids[:20], runs)

    found = losses(natural, adversarial)
    scores, labels = np.r_[natural, adversarial], np.r_[np.zeros(60), np.ones(20)]
    truth = log_loss(labels, 1 / (1 + np.exp(-scores)), sample_weight=np.r_[np.full(60, 1 / 60), np.full(20, 1 / 20)])
    assert found.value == pytest.approx(truth, abs=1e-12) and found.lo < truth < found.hi
    nothing = losses(np.zeros(60), np.zeros(20))
    assert ends(nothing) == pytest.approx((math.log(2),) * 3, abs=1e-6)
    assert np.isfinite(metrics.log_losses(np.array([-600.0, 600.0]), True)).all()


def test_two_detectors_are_compared_on_the_same_draw() -> None:
    rng = np.random.default_rng(21)
    ids = some_ids(80)
    drawn, hard = Resamples(ids, 400), rng.normal(size=80)
    mine, theirs = (hard, hard + 1.2), (hard + 0.05 * rng.normal(size=80), hard + 0.8)
    found = metrics.auroc_difference(drawn, ids, ids, [(mine, theirs), (theirs, mine)])
    assert found.runs == pytest.approx([auroc(*mine) - auroc(*theirs), auroc(*theirs) - auroc(*mine)], abs=1e-12)
    assert found.value == pytest.approx(0, abs=1e-12)
    one = metrics.auroc_difference(drawn, ids, ids, [(mine, theirs)])
    slow = bootstrap(lambda rows: auroc(mine[0][rows], mine[1][rows]) - auroc(theirs[0][rows], theirs[1][rows]), ids, 400)
    assert ends(one)[1:] == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=1e-6)
    sure = metrics.auroc_difference(drawn, ids, ids[:30], [((hard, hard[:30] + 9), (hard, hard[:30] + 8))])
    assert ends(sure) == pytest.approx((0, *bounded_mean(np.zeros(30), -1.0, 1.0)), abs=1e-12), (
        "both find everything: 30 images do not say that they always will"
    )
    alone = [metrics.auroc_interval(drawn, ids, ids, [m]) for m in (mine, theirs)]
    assert one.hi - one.lo < min(i.hi - i.lo for i in alone), "paired: what both find hard does not widen it"


def test_the_worst_case_counts_an_image_once() -> None:
    flags = [np.array([True, True, False, False, True]), np.array([True, False, False, True, False])]
    evaluated = [np.array([True, True, True, False, False]), np.array([True, True, False, True, False])]
    detected, attacked = metrics.worst_case(flags, evaluated)
    assert attacked.tolist() == [True, True, True, True, False]
    assert detected[attacked].tolist() == [True, False, False, True], "a flag on an attack that does not count changes nothing"
    for f, e in zip(flags, evaluated, strict=True):
        one, there = metrics.worst_case([f], [e])
        assert np.array_equal(there, e) and np.array_equal(one[e], f[e]), "one attack: its detection rate"
        assert detected[attacked].mean() <= f[e].mean()


def test_each_seed_keeps_its_own_interval() -> None:
    ids = some_ids(100)
    drawn, rng = Resamples(ids), np.random.default_rng(22)
    flags = [rng.random(100) < p for p in (0.3, 0.9)] + [np.ones(100, bool)]
    found = metrics.rate(drawn, ids, flags)
    alone = [metrics.rate(drawn, ids, [f]) for f in flags]
    assert found.each == tuple((a.lo, a.hi) for a in alone)
    assert found.each[2] == pytest.approx((binomtest(100, 100).proportion_ci(0.95, method="exact").low, 1), abs=1e-12)
    assert alone[0].each == ((alone[0].lo, alone[0].hi),)


# --- the same naturals, asked for again and again ----------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 60, 1500])  # sums of the last one are wide
def test_known_sums_change_no_draw(n: int) -> None:
    rng = np.random.default_rng(n)
    ids = some_ids(n)
    drawn = Resamples(ids, 30)
    for natural, adversarial in ((tied(rng, n), tied(rng, n)), (rng.normal(size=n), rng.normal(size=n)), (np.zeros(n), np.zeros(n))):
        fresh = auroc_draws(natural, drawn.of(ids), adversarial, drawn.of(ids))
        known = metrics.summed(natural, drawn.of(ids))
        for _ in range(2):  # the sums are not used up
            assert np.array_equal(auroc_draws(natural, drawn.of(ids), adversarial, drawn.of(ids), known), fresh)
        w = drawn.of(ids)[0].astype(int)
        assert fresh[0] == pytest.approx(auroc(np.repeat(natural, w), np.repeat(adversarial, w)), abs=1e-6)


def test_summed_counts_what_lies_below_each_place() -> None:
    rng = np.random.default_rng(1)
    ids, scores = some_ids(20), tied(rng, 20)
    weights = Resamples(ids, 15).of(ids)
    ranked, below = metrics.summed(scores, weights)
    assert np.array_equal(ranked, np.sort(scores)) and below.shape == (21, 15)
    order = np.argsort(scores, kind="stable")
    for place in range(21):
        assert np.array_equal(below[place], weights[:, order[:place]].sum(1))


def test_sums_are_remembered_for_their_images_and_scores() -> None:
    rng = np.random.default_rng(2)
    ids = some_ids(30)
    drawn, columns = Resamples(ids, 20), [rng.normal(size=30) for _ in range(6)]
    assert drawn.below(ids, columns[0]) is drawn.below(ids, columns[0].copy())
    for _ in range(2):
        for scores in columns:  # more than it remembers
            for at in (np.arange(30), np.arange(30)[::-1], np.arange(0, 30, 2)):
                ranked, below = drawn.below(ids[at], scores[at])
                expected = metrics.summed(scores[at], drawn.of(ids[at]))
                assert np.array_equal(ranked, expected[0]) and np.array_equal(below, expected[1])
    swapped = drawn.below(ids[::-1], columns[0])  # the same scores of other images
    assert not np.array_equal(swapped[1], drawn.below(ids, columns[0])[1])


def test_an_interval_does_not_depend_on_what_was_asked_before() -> None:
    rng = np.random.default_rng(3)
    ids = some_ids(50)
    drawn, natural = Resamples(ids, 200), tied(rng, 50)
    others = [tied(rng, 50) + k / 4 for k in range(5)]
    together = [metrics.auroc_interval(drawn, ids, ids, [(natural, a), (natural + 1, a)]) for a in others]
    assert together == [metrics.auroc_interval(Resamples(ids, 200), ids, ids, [(natural, a), (natural + 1, a)]) for a in others]


def test_a_share_of_two_classes_is_bounded_by_the_smaller_one() -> None:
    sure, many, few_ = Interval(1.0, 1.0, 1.0, 40), some_ids(40), some_ids(6)
    exact = binomtest(6, 6).proportion_ci(0.95, method="exact")
    for behind in ((many, few_), (few_, many), (np.repeat(few_, 9), many)):
        assert ends(metrics.share(sure, *behind)) == pytest.approx((1, exact.low, 1), abs=1e-12)
    assert ends(metrics.share(Interval(0.0, 0.0, 0.0, 40), many, few_)) == pytest.approx((0, 0, 1 - exact.low), abs=1e-12)
    assert metrics.share(sure, many, few_[:0]) is sure


# --- mixtures and ranks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 6])
@pytest.mark.parametrize("n", [0, 1, 5, 12, 100])
def test_a_mixture_takes_row_i_from_column_i_modulo_their_number(n: int, k: int) -> None:
    columns = [1000.0 * j + np.arange(n) for j in range(k)]
    before = [c.copy() for c in columns]
    found = metrics.of_mixture(columns)
    assert found.tolist() == [1000.0 * (i % k) + i for i in range(n)]
    assert all(np.array_equal(a, b) for a, b in zip(columns, before, strict=True))
    assert found is not columns[0] and not np.shares_memory(found, columns[0])
    names = metrics.of_mixture([np.array([f"{j}-{i}" for i in range(n)], dtype="<U8") for j in range(k)])
    assert names.tolist() == [f"{i % k}-{i}" for i in range(n)]


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize(("n", "m", "shift"), [(40, 60, 0.0), (40, 60, 0.5), (60, 40, -0.5), (9, 5, 0.25), (300, 200, 2.0), (1, 1, 1.0)])
def test_rank_test_is_scipys(n: int, m: int, shift: float, ties: bool) -> None:
    rng = np.random.default_rng(n + m)
    first, second = (tied(rng, n) + shift, tied(rng, m)) if ties else (rng.normal(size=n) + shift, rng.normal(size=m))
    found = metrics.rank_test(first, second)
    if ties:  # fourths, the same in float32
        assert metrics.rank_test(first.astype(np.float32), second.astype(np.float32)) == found
    for p, alternative in ((found.two_sided, "two-sided"), (found.greater, "greater")):
        theirs = mannwhitneyu(first, second, alternative=alternative, method="asymptotic")
        assert p == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-300)
        assert found.effect == pytest.approx(2 * theirs.statistic / (n * m) - 1, abs=1e-12)
    back = metrics.rank_test(second, first)
    assert (back.effect, back.two_sided) == pytest.approx((-found.effect, found.two_sided), rel=1e-9)


def test_rank_test_at_its_ends() -> None:
    low, high = np.arange(20.0), np.arange(20.0) + 100
    assert metrics.rank_test(high, low).effect == 1 and metrics.rank_test(low, high).effect == -1
    assert metrics.rank_test(high, low).greater < 1e-6 < 0.999 < metrics.rank_test(low, high).greater
    same = metrics.rank_test(np.ones(5), np.ones(7))
    assert (same.effect, same.two_sided, same.greater) == (0, 1, 1)
    for nothing in (metrics.rank_test(low[:0], high), metrics.rank_test(low, high[:0])):
        assert all(math.isnan(v) for v in (nothing.effect, nothing.two_sided, nothing.greater))


def test_an_interval_is_of_as_many_resamples_as_pages_say() -> None:
    ids = np.array(["a", "b", "c", "b"])
    assert metrics.RESAMPLES == 1000
    assert Resamples(ids).weights.shape == (1000, 3)
    assert len(bootstrap(lambda rows: float(len(rows)), ids)) == 1000


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_medians_of_counted_values_are_those_of_the_values_written_out(n: int, precision: type) -> None:
    r = np.random.default_rng(n)
    values, weights = r.normal(size=n).astype(precision), r.integers(0, 3, (300, n))
    values[r.random(n) < 0.2], weights[0] = np.inf, 0
    expected = [np.median(np.repeat(values, w)) if w.sum() else np.nan for w in weights]
    np.testing.assert_array_equal(median_draws(values, weights), expected)
