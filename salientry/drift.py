"""Whether a guard that runs flags more than it promised: a bet on its flags, with a bound on false alarms for streams of any length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

SCHEMA = 2
STEP = math.sqrt(2)  # from one rate that is bet on to the next
AT_ONCE = 4096  # flags of one pass
FIRST = 0.2  # of a rate's share is bet from the first image on
CLIMB = math.log(10)  # of the best bet on a rate so far, which starts another


class FlagRate:
    """An alarm for a guard whose flags come more often than its level.

    A guard's threshold promises that natural images like the calibration images are flagged with probability ``level`` at most. Where more
    are flagged, the images are not like those any more (another camera, another mixture, attacks), and the promise no longer holds. The
    alarm tests the hypothesis that each image is flagged with probability ``level`` or less, given all images before it, by betting
    against it (a test martingale; Shafer, Shen, Vereshchagin, Vovk 2011; Waudby-Smith and Ramdas 2023): a bet on a rate q > ``level``
    multiplies its wealth by q / level for a flagged image and by (1 - q) / (1 - level) for another, which is 1 + lambda (flagged - level)
    with lambda = (q - level) / (level (1 - level)). If the hypothesis is true, no bet grows in expectation.

    Rates: ``level`` times the powers of the root of 2, and one halfway to 1; half of all shares on twice the level (on the rate next to
    it), the rest equally. Starts: a fifth of a rate's share is bet from the first image on. The rest waits, and a part of it, ever smaller,
    is bet whenever the flags begin to look like that rate: when the best bet on it so far, over all times at which it might have begun (the
    CUSUM of Page 1954), has grown tenfold, once for each climb from 1. The k-th of these starts, k from 1, gets .8 (1 / log2(k + 1) -
    1 / log2(k + 2)), .8 in all. So a long time of few flags uses up hardly anything, and does not make the alarm deaf. There is an alarm,
    for good, once the wealth, of all bets and of what waits, has reached 1 / ``alpha``.

    Why that is a fair game: whether a bet starts, and with what, is settled by images *before* the first that it is made on, and what
    starts was put aside at the beginning. So the wealth begins at 1, is never negative, and each of its parts either waits or is multiplied
    by a factor that, given the past, is at most 1 in expectation: a supermartingale, whatever the rule that starts bets (Doob 1936; Shafer
    and Vovk 2019). The e-detectors of Shin, Ramdas, Rinaldo (2023) mix over starts, too; their shares do not sum to 1, which bounds how
    *often* false alarms come, not whether one comes at all.

    Guarantee: by Ville's inequality, if the hypothesis is true, an alarm *ever* comes with probability ``alpha`` at most, however long
    the stream. That a threshold keeps its level is itself promised with 95 % confidence (:func:`~salientry.calibration.pac_threshold`):
    over calibration images and a stream of independent natural images like them, an alarm comes with probability ``alpha`` + 5 % at most.
    For images that come in series of one scene, whose flags come together, nothing is promised: take one of each series, or
    :meth:`update_shares`.

    Delay: with a rate q from the first image on, about log(1 / ``alpha``) / KL(q, ``level``) images at best, KL in nats between coins of
    these rates. At twice the level and ``alpha`` .01 that is 223 images for level .05 and 1,180 for level .01, and no alarm with the same
    guarantee is faster by more than a little. It takes longer by what the climb and the shares cost: after k climbs on the rate q there is
    an alarm once the best bet on q has grown to 10 (q / ``level``) / (``alpha`` times the shares of q and of start k + 1). Natural images
    that are flagged at less than the level hardly climb: on twice the level some 4 times in 10,000 images at two thirds of it, some 14
    times at just the level.

    Not on p-values: those of one guard compare every image with the same calibration images, so that they depend on one another and are
    uniform on average over calibration sets only; a martingale that bets on them grows without end from the accidents of one set. A flag
    asks only whether the level is kept, which the threshold promises for this one set.

    Memory and time an image do not grow with the stream. One thread at a time.

    Args:
        level: the false-positive rate that the guard was calibrated for, ``guard.level``.
        alpha: bound of the probability of a false alarm.

    Attributes:
        alarm: whether there was one; it stays so. After the reason is found, and the guard calibrated again, begin a new one.
        seen: images so far.
        flagged: how many of them were flagged.

    Raises:
        UsageError: for a level or an alpha that does not lie strictly between 0 and 1.
    """

    def __init__(self, level: float, alpha: float = 0.01) -> None:
        for name, value in (("level", level), ("alpha", alpha)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
                raise UsageError(f"{name} must lie strictly between 0 and 1; found {value!r}")
        self.level, self.alpha = float(level), float(alpha)
        self.seen = 0
        self.flagged: float = 0
        self.rang_at: int | None = None
        self._rates = rates(self.level)
        size = len(self._rates)
        at = np.abs(np.log(self._rates / (2 * self.level))).argmin()
        self._weights = np.log(np.where(np.arange(size) == at, 0.5, 0.5 / max(size - 1, 1)) if size > 1 else np.ones(1))
        self._wealth = np.full(size, math.log(FIRST))  # log of the wealth of each rate's bets so far
        self._begun, self._climbed = np.ones(size, np.int64), np.zeros(size, np.bool_)  # bets; whether this climb has started one
        self._best, self._start = np.zeros(size), np.zeros(size, np.int64)  # log of the best bet; since when

    @property
    def alarm(self) -> bool:
        """Whether it has rung."""
        return self.rang_at is not None

    def update(self, flagged: Sequence[bool]) -> None:
        """Take note of images, in their order; in how many calls does not matter.

        Args:
            flagged: (N,) bool, such as ``guard(images).flagged``.

        Raises:
            UsageError: for anything else.
        """
        x = as_flags(flagged)
        self._take(x.astype(float))
        self.flagged += int(x.sum())

    def update_shares(self, shares: Sequence[float]) -> None:
        """Take note of blocks of images, each as one: what share of it was flagged.

        For images that come in series, as the frames of a video do. Asked is of blocks what is asked of single images: that the share of
        each that is flagged is ``level`` or less in expectation, given all blocks before it. How the images *within* a block depend on one
        another does not matter. ``seen`` then counts blocks, and ``flagged`` is the sum of their shares.

        Args:
            shares: (N,) in [0, 1].

        Raises:
            UsageError: for anything else.
        """
        x = np.asarray(shares, np.float64)
        if x.ndim != 1 or not ((x >= 0) & (x <= 1)).all():
            raise UsageError(f"shares must lie in [0, 1], one a block; found {shares!r}")
        self._take(x)
        self.flagged += float(x.sum())

    def _take(self, whole: NDArray[np.float64]) -> None:
        for k in range(0, len(whole), AT_ONCE):
            self._bet(whole[k : k + AT_ONCE])

    def _bet(self, x: NDArray[np.float64]) -> None:
        q = self._rates[:, None]
        grown = np.log1p((q - self.level) / (self.level * (1 - self.level)) * (x - self.level)).cumsum(1)  # (rates, N): log of a unit
        low = np.minimum.accumulate(np.concatenate([-self._best[:, None], grown], 1), 1)[:, 1:]
        best, begins = grown - low, self._begins(grown - low)
        count = self._begun[:, None] + begins.cumsum(1)
        shares = np.where(begins, _log_share(count - 1), -np.inf)
        each = grown + np.logaddexp.accumulate(np.concatenate([self._wealth[:, None], shares - grown], 1), 1)[:, 1:]
        whole = self._whole(each, count)
        if self.rang_at is None and (over := np.flatnonzero(whole >= -math.log(self.alpha))).size:
            self.rang_at = self.seen + int(over[0]) + 1
        self._wealth, self._begun, self._best = each[:, -1], count[:, -1], best[:, -1]
        ends = np.where(best == 0, np.arange(1, len(x) + 1), 0).max(1)
        self._start = np.where(ends > 0, self.seen + ends, self._start)
        self.seen += len(x)

    def _begins(self, best: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(rates, N) after which images a bet starts: those at which a climb (rates, N) comes to CLIMB for the first time."""
        found = np.zeros(best.shape, np.bool_)
        for k, line in enumerate(best):
            climb, high = (line == 0).cumsum(), np.flatnonzero(line >= CLIMB)
            numbers, first = np.unique(climb[high], return_index=True)
            found[k, high[first[(numbers > 0) | ~self._climbed[k]]]] = True
            self._climbed[k] = bool((numbers == climb[-1]).any()) or (climb[-1] == 0 and self._climbed[k])
        return found

    def _whole(self, each: NDArray[np.float64], begun: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N,) log of the wealth of all rates, from that of their bets (rates, N), and how many have begun, (rates, N)."""
        return np.asarray(np.logaddexp.reduce(np.logaddexp(each, _log_waiting(begun)) + self._weights[:, None], 0), np.float64)

    def summary(self) -> dict[str, Any]:
        """What it knows, as JSON.

        ``seen`` and ``flagged``: images; ``rate``: their quotient, None of no image; ``log10_wealth``: of all bets, now; ``alarm``;
        ``alarm_at``: after how many images it came; ``since``: after how many the rate seems to have risen (the start and rate of the
        highest likelihood: an estimate without a guarantee). The last two are None while there is no alarm.
        """
        wealth = float(self._whole(self._wealth[:, None], self._begun[:, None])[0])
        return {
            "seen": self.seen,
            "flagged": self.flagged,
            "rate": self.flagged / self.seen if self.seen else None,
            "log10_wealth": wealth / math.log(10),
            "alarm": self.alarm,
            "alarm_at": self.rang_at,
            "since": int(self._start[self._best.argmax()]) if self.alarm else None,
        }

    def save(self) -> dict[str, Any]:
        """All of it as JSON, for :meth:`load`."""
        body: dict[str, Any] = {"schema": SCHEMA, "level": self.level, "alpha": self.alpha, "seen": self.seen, "flagged": self.flagged}
        arrays = {"wealth": self._wealth.tolist(), "best": self._best.tolist(), "start": self._start.tolist()}
        arrays |= {"begun": self._begun.tolist(), "climbed": self._climbed.tolist()}
        return body | {"alarm_at": self.rang_at} | arrays

    @classmethod
    def load(cls, body: dict[str, Any]) -> FlagRate:
        """Go on where :meth:`save` left off.

        Raises:
            UsageError: for what :meth:`save` did not write.
        """
        if isinstance(body, dict) and body.get("schema") == 1:
            rang = body.get("alarm_at")
            raise UsageError(
                f"a state of an earlier version (schema 1; {f'an alarm after {rang} images' if rang else 'no alarm'}), whose bets start "
                "otherwise: begin again with FlagRate(level, alpha)"
            )
        try:
            if body["schema"] != SCHEMA:
                raise ValueError(f"schema {body['schema']}")
            found = cls(body["level"], body["alpha"])
            size, seen, flagged, rang_at = len(found._rates), int(body["seen"]), body["flagged"], body["alarm_at"]
            arrays = [np.array(body[k], float) for k in ("wealth", "best", "start", "begun", "climbed")]
            if not 0 <= flagged <= seen or any(a.shape != (size,) or not np.isfinite(a).all() for a in arrays):
                raise ValueError(f"{flagged} flagged of {seen}, {[a.shape for a in arrays]} numbers for {size} rates")
            if not 1 <= arrays[3].min() <= arrays[3].max() <= seen + 1 or not 0 <= arrays[2].min() <= arrays[2].max() <= seen:
                raise ValueError(f"of {seen} images: bets that have begun {body['begun']}, since {body['start']}")
            if arrays[1].min() < 0:
                raise ValueError(f"best bets: {body['best']}")
            if rang_at is not None and not 1 <= int(rang_at) <= seen:
                raise ValueError(f"an alarm after {rang_at} of {seen} images")
        except (KeyError, TypeError, ValueError) as e:
            raise UsageError(f"this is not what FlagRate.save() wrote: {type(e).__name__}: {e}") from None
        found.seen, found.flagged, found.rang_at = seen, flagged, None if rang_at is None else int(rang_at)
        found._wealth, found._best, found._start = arrays[0], arrays[1], arrays[2].astype(np.int64)
        found._begun, found._climbed = arrays[3].astype(np.int64), arrays[4].astype(np.bool_)
        return found


def rates(level: float) -> NDArray[np.float64]:
    """The rates that are bet on: ``level`` times the powers of the root of 2, as long as they lie below halfway to 1, and that."""
    half = (1 + level) / 2
    count = max(0, math.ceil(math.log(half / level) / math.log(STEP)) - 1)
    return np.append(level * STEP ** np.arange(1, count + 1), half)


def as_flags(flagged: Sequence[bool] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) of truth values in any container, also a tensor.

    Raises:
        UsageError: for anything else.
    """
    found = np.asarray(flagged)
    if found.ndim != 1 or (found.size and found.dtype != np.bool_):
        raise UsageError(f"flags must be True or False, one an image; found {found.dtype} of shape {found.shape}")
    return found.astype(np.bool_)


def _log_waiting(begun: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log of the part of a rate's share that waits when so many of its bets have begun, from 1."""
    return np.asarray(math.log((1 - FIRST) * math.log(2)) - np.log(np.log(begun + 1.0)), np.float64)


def _log_share(k: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log of the part that start k gets, from 1: what waits before it minus what waits after it, without cancellation."""
    k = np.maximum(k, 1).astype(np.float64)
    apart = np.log(np.log1p(1 / (k + 1)) / (np.log(k + 1) * np.log(k + 2)))
    return np.asarray(math.log((1 - FIRST) * math.log(2)) + apart, np.float64)


__all__ = ["FlagRate", "as_flags", "rates"]
