from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from salientry.calibration import COMFORTABLE, allowed, p_value, pac_threshold, smallest_sample, warn_if_small
from salientry.errors import UsageError

LEVELS = (0.05, 0.01, 0.001)


@pytest.mark.parametrize(("level", "count"), [(0.05, 59), (0.01, 299), (0.001, 2995)])
def test_the_smallest_sample(level: float, count: int) -> None:
    assert smallest_sample(level) == count
    exact = Fraction(str(1 - level))
    assert exact**count <= Fraction("0.05") < exact ** (count - 1)


@given(st.floats(0.002, 0.9), st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99]))
def test_the_smallest_sample_will_do_and_one_less_will_not(level: float, confidence: float) -> None:
    count = smallest_sample(level, confidence)
    assert allowed(count, level, confidence) >= 0
    if count > 1:
        with pytest.raises(UsageError, match=f"{count - 1} calibration images .*; {count} can"):
            allowed(count - 1, level, confidence)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_allowed_is_the_largest_k_that_keeps_the_guarantee(level: float, confidence: float) -> None:
    for count in (*range(3000, 3010), 299, 300, 400, 800, 5000, 59, 60, 93):
        ks = np.arange(-1, count)
        possible = ks[binom.cdf(ks, count, level) <= 1 - confidence]
        if possible.max() >= 0:
            assert allowed(count, level, confidence) == possible.max()
        else:
            with pytest.raises(UsageError, match=r"can$"):
                allowed(count, level, confidence)


def test_allowed_grows_with_the_sample_and_stays_under_the_level() -> None:
    ks = [allowed(n, 0.05) for n in range(59, 1500)]
    assert (np.diff(ks) >= 0).all() and (np.diff(ks) <= 1).all() and ks[0] == 0
    assert all(k < 0.05 * n for k, n in zip(ks, range(59, 1500), strict=True))


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(UsageError, match="strictly between 0 and 1"):
        allowed(1000, level)


# --- the guarantee -----------------------------------------------------------------------------------------------


def draws(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(20_260_101).random((2000, count))


@pytest.mark.parametrize(("level", "count"), [(0.05, 59), (0.05, 200), (0.05, 800), (0.01, 299), (0.01, 1000)])
def test_the_guarantee_holds(level: float, count: int) -> None:
    exceedance = np.array([1 - pac_threshold(s, level) for s in draws(count)])  # of uniform scores
    kept = float((exceedance <= level).mean())
    exact = 1 - binom.cdf(allowed(count, level), count, level)
    assert exact >= 0.95
    assert kept >= 0.94
    assert kept == pytest.approx(exact, abs=4 * np.sqrt(0.05 * 0.95 / 2000))


@pytest.mark.parametrize("count", [93, 800])
def test_the_next_smaller_threshold_would_break_the_guarantee(count: int) -> None:
    k = allowed(count, 0.05)
    kept = np.mean([1 - np.sort(s)[::-1][k + 1] <= 0.05 for s in draws(count)])
    assert kept < 0.95 and 1 - binom.cdf(k + 1, count, 0.05) < 0.95


def test_the_guarantee_holds_with_ties() -> None:
    kept = 0
    for s in draws(200):
        threshold = pac_threshold(np.floor(s * 50), 0.05)
        kept += (49 - threshold) / 50 <= 0.05 + 1e-12  # share of naturals strictly above
    assert kept / 2000 >= 0.94


@pytest.mark.parametrize("count", [59, 60, 92, 93, 500])
def test_exactly_the_allowed_number_lies_above(count: int) -> None:
    scores = np.random.default_rng(count).normal(size=count)
    threshold = pac_threshold(scores, 0.05)
    assert threshold in scores
    assert int((scores > threshold).sum()) == allowed(count, 0.05)


def test_the_threshold_follows_the_scores() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=400)
    threshold = pac_threshold(scores, 0.05)
    assert pac_threshold(rng.permutation(scores), 0.05) == threshold
    assert pac_threshold(2 * scores + 1, 0.05) == 2 * threshold + 1
    assert pac_threshold(np.exp(scores), 0.05) == np.exp(threshold)
    assert pac_threshold(scores, 0.05, 0.99) >= threshold >= pac_threshold(scores, 0.05, 0.5)
    assert pac_threshold(scores, 0.01) > threshold
    assert pac_threshold(scores.astype(np.float32), 0.05) == pytest.approx(threshold, abs=1e-6)
    assert pac_threshold(np.full(100, 3), 0.05) == 3


def test_the_scores_are_left_as_they_were() -> None:
    scores = np.random.default_rng(2).normal(size=100)
    before = scores.copy()
    pac_threshold(scores, 0.05)
    assert np.array_equal(scores, before)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "count", "can"), [(0.05, 58, 59), (0.01, 298, 299), (0.001, 2994, 2995), (0.05, 0, 59)])
def test_too_few_images_are_reported_how_many_can(level: float, count: int, can: int) -> None:
    with pytest.raises(
        UsageError, match=rf"^{count} calibration images cannot guarantee .* of {100 * level:g} % with 95 % confidence; {can} can$"
    ):
        pac_threshold(np.arange(count), level)
    assert pac_threshold(np.arange(can), level) == can - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    scores = np.zeros(100)
    scores[[3, 50]] = bad
    with pytest.raises(UsageError, match="2 of 100 calibration scores are not finite"):
        pac_threshold(scores, 0.05)


@pytest.mark.parametrize(("level", "comfortable"), [(0.05, 1_000), (0.01, 5_000), (0.001, 10_000)])
def test_a_small_sample_is_warned_of(level: float, comfortable: int) -> None:
    assert COMFORTABLE[level] == comfortable
    with pytest.warns(UserWarning, match=f"^{comfortable - 1} calibration images .* {comfortable:,} lose less power"):
        warn_if_small(comfortable - 1, level)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_small(comfortable, level)
        warn_if_small(comfortable + 1, level)
        warn_if_small(60, 0.3)


# --- p-values ----------------------------------------------------------------------------------------------------


def test_p_value() -> None:
    calibration = np.array([0.0, 1.0, 1.0, 2.0])
    assert [p_value(calibration, s) for s in (-1, 0, 0.5, 1, 1.5, 2, 3)] == [1, 1, 0.8, 0.8, 0.4, 0.4, 0.2]


def test_p_values_of_new_naturals_are_never_small_too_often() -> None:
    rng = np.random.default_rng(3)
    found = np.array([p_value(s[:-1], s[-1]) for s in rng.random((4000, 20))])
    for share in np.arange(1, 21) / 20:  # 19 + 1: exactly uniform on these
        assert (found <= share + 1e-12).mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
