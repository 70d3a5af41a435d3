from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from salientry import inference
from salientry.inference import bounded_mean, exact_share, few_differ, holm, t_interval


def resampled(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the means of all ways to draw as many seeds from these."""
    means = np.sort([np.mean(pick) for pick in np.stack(np.meshgrid(*[values] * len(values)), -1).reshape(-1, len(values))])
    lo, hi = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    return float(lo), float(hi)


# --- over seeds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [5, 6, 10])
def test_the_interval_over_seeds_covers_as_often_as_it_says(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    ends = [t_interval(v) for v in rng.normal(0.7, 0.1, (6000, seeds)).tolist()]
    covered = np.mean([lo <= 0.7 <= hi for lo, hi in ends])
    assert 0.94 <= covered <= 0.96


@pytest.mark.parametrize(("seeds", "covers"), [(2, 0.5), (3, 0.75)])
def test_two_or_three_resampled_seeds_cover_far_too_seldom(seeds: int, covers: float) -> None:
    """The reason why nothing is resampled below five seeds, and why a t interval of two (12.7 spreads wide) is no way out."""
    rng = np.random.default_rng(seeds)
    ends = [resampled(v) for v in rng.normal(0.7, 0.1, (4000, seeds))]
    assert np.mean([lo <= 0.7 <= hi for lo, hi in ends]) == pytest.approx(covers, abs=0.03)


def test_the_interval_over_seeds_is_students() -> None:
    values = [0.7, 0.75, 0.6, 0.9, 0.8, 0.71]
    truth = ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx((truth.low, truth.high), abs=1e-12)


def test_below_five_seeds_nothing_is_said_about_others() -> None:
    assert inference.LEAST_SEEDS == 5
    for few in ([], [0.5], [0.1, 0.2, 0.3, 0.4]):
        with pytest.raises(ValueError, match=f"needs 5 of them; found {len(few)}"):
            t_interval(few)
    assert inference.beside([0.7], 0.6, 0.8) == (0.6, 0.8, "over images, given this net")
    assert inference.beside([0.653, 0.882, 0.796], 0.754, 0.798) == (0.653, 0.882, "range of 3 seeds, given these nets")
    assert inference.beside([0.7] * 5, 0.6, 0.8) == (0.6, 0.8, "over 5 seeds, on these images")


# --- exact bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 300), (300, 300), (1, 300), (7, 20), (150, 300)])
def test_the_exact_interval_of_a_share_is_scipys(k: int, n: int) -> None:
    truth = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert exact_share(k, n) == pytest.approx((truth.low, truth.high), abs=1e-12)


def flips(more: int, fewer: int, n: int) -> NDArray[np.float64]:
    """(n,) paired differences of flags."""
    return np.repeat([1.0, -1.0, 0.0], [more, fewer, n - more - fewer])


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 300), (300, 300), (1, 300), (7, 20), (150, 300), (5, 1000), (9, 10000)])
def test_the_bound_of_a_mean_of_flags_is_clopper_and_pearsons(k: int, n: int) -> None:
    assert bounded_mean(np.arange(n) < k, 0.0, 1.0) == pytest.approx(exact_share(k, n), abs=1e-10 / n)


@pytest.mark.parametrize("values", [flips(3, 1, 50), np.array([0.0] * 90 + [1 / 3] * 4 + [-2 / 3] * 2 + [1.0]), np.arange(5) / 5])
def test_the_bound_is_the_quantile_of_dirichlet_weights(values: NDArray[np.float64]) -> None:
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(values) + 1), 100_000)
    ends = [np.quantile(drawn[:, :-1] @ values + end * drawn[:, -1], q) for end, q in ((-1, 0.025), (1, 0.975))]
    assert bounded_mean(values, -1.0, 1.0) == pytest.approx(ends, abs=0.02 * (ends[1] - ends[0]))


def test_no_discordant_pair_is_no_certainty() -> None:
    lo, hi = bounded_mean(flips(0, 0, 300), -1.0, 1.0)
    assert (lo, hi) == pytest.approx((-(1 - 0.025 ** (1 / 300)), 1 - 0.025 ** (1 / 300)), abs=1e-12)
    assert bounded_mean(flips(0, 0, 30), -1.0, 1.0)[1] > 9 * hi, "fewer images, less is known"
    back = bounded_mean(flips(1, 3, 50), -1.0, 1.0)
    assert bounded_mean(flips(3, 1, 50), -1.0, 1.0) == pytest.approx((-back[1], -back[0]), abs=1e-12)
    assert bounded_mean(np.ones(30), -1.0, 1.0) == pytest.approx((1 - 2 * (1 - 0.025 ** (1 / 30)), 1), abs=1e-10)


@functools.cache
def ends_of(more: int, fewer: int, n: int) -> tuple[float, float]:
    """As :func:`salientry.metrics.difference`: the bound where few pairs differ, else percentiles of resamples."""
    if few_differ(flips(more, fewer, n)):
        return bounded_mean(flips(more, fewer, n), -1.0, 1.0)
    drawn = np.random.default_rng(0).multinomial(n, [more / n, fewer / n, 1 - (more + fewer) / n], 1000)
    lo, hi = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return float(lo), float(hi)


@pytest.mark.parametrize("expected", [0.1, 0.6, 1.5, 3, 5, 7, 10, 12, 15, 20])
@pytest.mark.parametrize("n", [50, 300, 1000])
def test_a_paired_difference_covers_whatever_the_number_of_discordant_pairs(n: int, expected: float) -> None:
    """Resampling alone covers .07 of the cases with .1 expected, .45 with .6, .90 with 4."""
    for one_sided in (1.0, 0.8, 0.5):
        more, fewer = expected * one_sided / n, expected * (1 - one_sided) / n
        drawn, times = np.unique(np.random.default_rng(n).multinomial(n, [more, fewer, 1 - more - fewer], 2000), axis=0, return_counts=True)
        ends = np.array([ends_of(int(b), int(c), n) for b, c, _ in drawn])
        covered = (ends[:, 0] <= more - fewer + 1e-12) & (more - fewer - 1e-12 <= ends[:, 1])
        assert np.average(covered, weights=times) >= 0.93
        if expected <= 3:  # pairs' worth of width: no more than 10 where resampling does not cover
            assert np.average(ends[:, 1] - ends[:, 0], weights=times) * n < 10.5


@pytest.mark.parametrize("expected", [0.5, 2, 5, 9])
def test_a_mean_over_attacks_covers_though_attacks_share_their_images(expected: float) -> None:
    """Six attacks on 300 images; an image that is hard is hard for some of them together."""
    rng, n, attacks = np.random.default_rng(0), 300, 6
    covered = []
    for _ in range(300):
        hard = rng.random(n) < expected / n
        sign = rng.choice([1.0, -1.0], n, p=[0.8, 0.2])
        values = (hard * sign)[:, None] * (rng.random((n, attacks)) < 0.4)
        mean = np.asarray(values.mean(1))
        lo, hi = bounded_mean(mean, -1.0, 1.0)
        covered.append(lo <= expected / n * 0.6 * 0.4 <= hi)
    assert np.mean(covered) >= 0.95


# --- many questions ----------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]).tolist() == [0.2] and holm([]).tolist() == []
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    found = holm([0.01, math.nan, 0.04])
    assert found[[0, 2]] == pytest.approx([0.02, 0.04]) and math.isnan(found[1]), "what was not run is no question"


def test_holm_finds_nothing_in_noise_more_often_than_it_says() -> None:
    p = np.random.default_rng(0).random((3000, 8))
    alone, corrected = np.mean(p.min(1) < 0.05), np.mean([holm(row).min() < 0.05 for row in p.tolist()])
    assert alone > 0.3 and 0.035 <= corrected <= 0.062
    order = np.random.default_rng(1).permutation(8)
    assert np.array_equal(holm(p[0][order]), holm(p[0])[order])


def test_values_that_are_the_worst_up_to_rounding_have_the_worst_as_their_end() -> None:
    lo, hi = bounded_mean(np.full(103, 1.0), -0.9999999999999999, 0.9999999999999999)
    assert hi == pytest.approx(1) and lo == pytest.approx(0.9288, abs=1e-3), "the exact lower end of a mean of 103 ones in [-1, 1]"


def test_two_answers_of_sixteen_images_are_not_few() -> None:
    assert not few_differ(np.repeat([0.0, 1.0], 8)) and few_differ(np.repeat([0.0, 1.0], [13, 3]))
