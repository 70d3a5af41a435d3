from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from salientry import inference
from salientry.inference import exact_difference, exact_share, holm, t_interval


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


def test_no_discordant_pair_is_no_certainty() -> None:
    lo, hi = exact_difference(0, 0, 300)
    assert (lo, hi) == pytest.approx((-(1 - 0.025 ** (1 / 300)), 1 - 0.025 ** (1 / 300)), abs=1e-12)
    assert exact_difference(0, 0, 30)[1] > 9 * hi, "fewer images, less is known"
    assert exact_difference(3, 1, 50) == tuple(-v for v in reversed(exact_difference(1, 3, 50)))


@pytest.mark.parametrize(("more", "fewer"), [(0.0, 0.0), (0.004, 0.0), (0.02, 0.0), (0.01, 0.01), (0.05, 0.02)])
@pytest.mark.parametrize("n", [40, 300])
def test_the_bound_of_a_difference_covers_at_least_as_often_as_it_says(more: float, fewer: float, n: int) -> None:
    rng = np.random.default_rng(n)
    drawn = rng.multinomial(n, [more, fewer, 1 - more - fewer], 1000)
    ends = {(b, c): exact_difference(b, c, n) for b, c in {(b, c) for b, c, _ in drawn.tolist()}}
    covered = np.mean([ends[b, c][0] <= more - fewer <= ends[b, c][1] for b, c, _ in drawn.tolist()])
    assert covered >= 0.95


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
