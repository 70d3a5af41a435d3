"""The alarm for drift: the bets are what they are said to be, the alarm's promise holds, and it hears what it should."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from salientry.drift import FlagRate, rates
from salientry.errors import UsageError


def told(flags: Any, level: float = 0.05, alpha: float = 0.01) -> FlagRate:
    watch = FlagRate(level, alpha)
    watch.update(flags)
    return watch


def wealth(watch: FlagRate) -> float:
    return float(10 ** watch.summary()["log10_wealth"])


def by_hand(flags: list[bool], level: float) -> float:
    """The definition: of each rate a fifth bet from the start, and a part whenever its best bet has grown tenfold, once a climb."""
    whole, every = 0.0, rates(level)
    half = min(range(len(every)), key=lambda i: abs(math.log(every[i] / (2 * level))))
    for at, q in enumerate(every):
        weight = 1.0 if len(every) == 1 else 0.5 if at == half else 0.5 / (len(every) - 1)
        bets, waiting, best, climbed, k = [0.2], 0.8, 1.0, False, 0
        for f in flags:
            factor = 1 + (q - level) / (level * (1 - level)) * (f - level)
            bets, best = [b * factor for b in bets], best * factor
            if best <= 1:
                best, climbed = 1.0, False
            elif best >= 10 and not climbed:
                k, climbed = k + 1, True
                bets.append(0.8 / math.log2(k + 1) - 0.8 / math.log2(k + 2))
                waiting -= bets[-1]
        whole += weight * (sum(bets) + waiting)
    return whole


@pytest.mark.parametrize("level", [0.001, 0.05, 0.3, 0.9])
def test_the_wealth_is_that_of_the_definition(level: float) -> None:
    flags = (np.random.default_rng(0).random(400) < max(2 * level, 0.02)).tolist()
    assert wealth(told(flags, level)) == pytest.approx(by_hand(flags, level), rel=1e-9)


@pytest.mark.parametrize("level", [0.05, 0.4])
def test_no_bet_grows_in_expectation(level: float) -> None:
    """Over all sequences of ten flags: exactly 1 at the level, less below it, more above it."""
    every = list(itertools.product([False, True], repeat=10))
    ends = np.array([wealth(told(list(f), level)) for f in every])
    flagged = np.array([sum(f) for f in every])

    def mean(rate: float) -> float:
        return float((ends * rate**flagged * (1 - rate) ** (10 - flagged)).sum())

    assert mean(level) == pytest.approx(1, abs=1e-9)
    assert mean(level / 2) < 1 < mean(1.5 * level)


def test_rates_lie_above_the_level_and_below_one() -> None:
    for level in (1e-6, 0.01, 0.05, 0.5, 0.99):
        found = rates(level)
        assert level < found[0] and found[-1] == (1 + level) / 2 < 1 and (np.diff(found) > 0).all()


def test_how_many_come_at_once_does_not_matter() -> None:
    flags = np.random.default_rng(1).random(9_000) < 0.07
    whole, pieces = told(flags), FlagRate(0.05)
    for part in np.split(flags, [1, 2, 5, 300, 301, 8_000]):
        pieces.update(part)
    one, other = whole.summary(), pieces.summary()
    assert whole.alarm
    assert one.pop("log10_wealth") == pytest.approx(other.pop("log10_wealth"), rel=1e-9)
    assert one == other


def test_at_the_level_it_hardly_ever_rings() -> None:
    rng = np.random.default_rng(2)
    assert sum(told(rng.random(10_000) < 0.05).alarm for _ in range(100)) <= 3


@pytest.mark.parametrize(("level", "most"), [(0.05, 500), (0.01, 2_000)])
def test_twice_the_level_is_heard(level: float, most: int) -> None:
    rng = np.random.default_rng(3)
    delays = [told(rng.random(10_000) < 2 * level, level).rang_at or math.inf for _ in range(50)]
    assert np.median(delays) <= most


@pytest.mark.parametrize(("before", "natural"), [(1_000, 0.033), (10_000, 0.033), (10_000, 0.02)])
def test_twice_the_level_is_heard_as_soon_after_many_images(before: int, natural: float) -> None:
    rng, delays = np.random.default_rng(8), []
    for _ in range(50):
        watch = told(rng.random(before) < natural)
        assert not watch.alarm
        watch.update(rng.random(5_000) < 0.1)
        delays.append((watch.rang_at or math.inf) - before)
    assert np.median(delays) <= 500


def test_a_bet_starts_after_the_image_that_made_it_climb_and_once_a_climb() -> None:
    """On images that tell it nothing its stake is still whole; what was bet and what waits are 1 together."""
    watch = FlagRate(0.05)
    watch.update_shares([0.05] * 3)
    assert wealth(watch) == pytest.approx(1)
    watch.update([True] * 4)
    one, begun = wealth(watch), watch._begun.copy()
    assert begun.max() == 2 and begun.min() >= 1
    watch.update_shares([0.05] * 3)
    assert wealth(watch) == pytest.approx(one) and (watch._begun == begun).all()
    watch.update([False] * 2_000)
    watch.update([True] * 4)
    assert watch._begun.max() == 3


def test_a_long_quiet_time_does_not_make_it_deaf() -> None:
    """20,000 images at half the level; one bet that began with the first would have to win back 1e90."""
    rng = np.random.default_rng(4)
    delays, starts = [], []
    for _ in range(20):
        watch = told(rng.random(20_000) < 0.025)
        assert not watch.alarm
        watch.update(rng.random(5_000) < 0.15)
        delays.append((watch.rang_at or math.inf) - 20_000)
        starts.append(watch.summary()["since"] - 20_000)
    assert np.median(delays) <= 300
    assert abs(np.median(starts)) <= 30


def test_it_goes_on_ringing_and_says_since_when() -> None:
    watch = told([False] * 100 + [True] * 10)
    assert watch.alarm and watch.rang_at is not None and 100 < watch.rang_at <= 110
    assert watch.summary()["since"] == 100
    watch.update([False] * 3_000)
    found = watch.summary()
    assert watch.alarm and found["log10_wealth"] < 0 and found["alarm_at"] == watch.rang_at <= 110
    assert (found["seen"], found["flagged"], found["rate"]) == (3_110, 10, 10 / 3_110)


def test_nothing_seen_says_nothing() -> None:
    watch = told([])
    assert watch.summary() == {
        "seen": 0,
        "flagged": 0,
        "rate": None,
        "log10_wealth": pytest.approx(0),
        "alarm": False,
        "alarm_at": None,
        "since": None,
    }


def test_shares_of_blocks_are_bet_on_as_one_each() -> None:
    """Flags are shares of 0 and 1; the bets on others lie on the lines between, so that none grows where the mean is the level."""
    flags = np.random.default_rng(6).random(500) < 0.1
    whole, blocks = told(flags), FlagRate(0.05)
    blocks.update_shares(flags.astype(float))
    assert blocks.summary() == whole.summary()
    one = FlagRate(0.05)
    one.update_shares([0.3])
    assert wealth(one) == pytest.approx(0.3 * wealth(told([True])) + 0.7 * wealth(told([False])))
    assert one.summary()["rate"] == 0.3 and FlagRate.load(one.save()).summary() == one.summary()


@pytest.mark.parametrize(("before", "needed"), [(0, 4), (20, 5), (10_000, 5)])
def test_how_many_flagged_blocks_ring_is_what_the_page_says(before: int, needed: int) -> None:
    watch = told([False] * before)
    watch.update_shares([1.0] * (needed - 1))
    assert not watch.alarm
    watch.update_shares([1.0])
    assert watch.alarm


@pytest.mark.parametrize("shares", [[1.1], [-0.1], [float("nan")], [[0.5]], 0.5])
def test_shares_lie_between_0_and_1(shares: Any) -> None:
    with pytest.raises(UsageError, match=r"shares must lie in \[0, 1\], one a block; found"):
        FlagRate(0.05).update_shares(shares)


def test_a_verdicts_flags_are_taken_as_they_are() -> None:
    flags = torch.tensor([True, False, True])
    assert wealth(told(flags)) == wealth(told(flags.tolist())) == wealth(told(flags.numpy()))


def test_it_goes_on_from_what_was_saved() -> None:
    flags = np.random.default_rng(5).random(4_000) < 0.08
    whole, first = told(flags), told(flags[:1_500])
    again = FlagRate.load(json.loads(json.dumps(first.save())))
    assert again.summary() == first.summary()
    again.update(flags[1_500:])
    assert again.summary() == pytest.approx(whole.summary())


@pytest.mark.parametrize("level", [0, 1, -0.1, float("nan"), True, "5 %"])
def test_a_level_is_a_share(level: Any) -> None:
    with pytest.raises(UsageError, match="level must lie strictly between 0 and 1; found"):
        FlagRate(level)
    with pytest.raises(UsageError, match="alpha must lie strictly between 0 and 1; found"):
        FlagRate(0.05, level)


@pytest.mark.parametrize("flags", [[0.2, 0.3], [[True]], [0, 1], "True", True])
def test_flags_are_truth_values(flags: Any) -> None:
    with pytest.raises(UsageError, match="flags must be True or False, one an image; found"):
        told(flags)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 9},
        {"wealth": [0.0]},
        {"best": None},
        {"seen": -1},
        {"flagged": 11},
        {"level": 2},
        {"alarm_at": 99},
        {"start": ["x"]},
        {"begun": [0] * 7},
        {"begun": [1e300] * 7},
        {"best": [-1.0] * 7},
        {"start": [99] * 7},
    ],
)
def test_what_was_not_saved_is_refused(change: dict[str, Any]) -> None:
    body = told([True, False] * 5).save() | change
    with pytest.raises(UsageError, match=r"not what FlagRate\.save\(\) wrote"):
        FlagRate.load(body)
    with pytest.raises(UsageError, match=r"not what FlagRate\.save\(\) wrote"):
        FlagRate.load({})


def test_a_state_of_an_earlier_version_says_so_and_what_to_do() -> None:
    body = told([True] + [False] * 30).save() | {"schema": 1}
    with pytest.raises(UsageError, match=r"earlier version \(schema 1; no alarm\).*begin again with FlagRate"):
        FlagRate.load(body)
    with pytest.raises(UsageError, match="an alarm after 7 images"):
        FlagRate.load(body | {"alarm_at": 7})
