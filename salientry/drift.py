"""Whether a guard that runs flags more than it promised: a bet on its flags, with a bound on false alarms for streams of any length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

SCHEMA = 1
STEP = math.sqrt(2)  # from one rate that is bet on to the next
AT_ONCE = 4096  # flags of one pass


class FlagRate:
    """An alarm for a guard whose flags come more often than its level.

    A guard's threshold promises that natural images like the calibration images are flagged with probability ``level`` at most. Where more
    are flagged, the images are not like those any more (another camera, another mixture, attacks), and the promise no longer holds. The
    alarm tests the hypothesis that each image is flagged with probability ``level`` or less, given all images before it, by betting
    against it (a test martingale; Shafer, Shen, Vereshchagin, Vovk 2011; Waudby-Smith and Ramdas 2023): a bet on a rate q > ``level``
    multiplies its wealth by q / level for a flagged image and by (1 - q) / (1 - level) for another, which is 1 + lambda (flagged - level)
    with lambda = (q - level) / (level (1 - level)). If the hypothesis is true, no bet grows in expectation.

    Rates: ``level`` times the powers of the root of 2, and one halfway to 1, with equal shares. Starts: one bet a rate starts before each
    image, so that a long time of few flags, which uses up the older bets, does not make the alarm deaf; the start after t images has the
    share 1 / log2(t + 2) - 1 / log2(t + 3), and all shares together are 1 (a mixture of start times, as in the e-detectors of Shin,
    Ramdas, Rinaldo 2023, but with shares that sum to 1). There is an alarm, for good, once the wealth of all bets has reached
    1 / ``alpha``.

    Guarantee: by Ville's inequality, if the hypothesis is true, an alarm *ever* comes with probability ``alpha`` at most, however long
    the stream. That a threshold keeps its level is itself promised with 95 % confidence (:func:`~salientry.calibration.pac_threshold`):
    over calibration images and a stream of independent natural images like them, an alarm comes with probability ``alpha`` + 5 % at most.
    For images that come in series of one scene, whose flags come together, nothing is promised: take one of each series, or
    :meth:`update_shares`.

    Delay: with a rate q from the first image on, about log(1 / ``alpha``) / KL(q, ``level``) images at best, KL in nats between coins of
    these rates. At twice the level and ``alpha`` .01 that is 223 images for level .05 and 1,180 for level .01, and no alarm with the same
    guarantee is faster by more than a little. After t images without a change the delay grows by about log(t) / KL.

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
        self._wealth = np.full(len(self._rates), _share(np.zeros(1))[0])  # log of each rate's wealth over its starts so far
        self._best, self._start = np.zeros(len(self._rates)), np.zeros(len(self._rates), np.int64)

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
        q, after = self._rates[:, None], self.seen + np.arange(1, len(x) + 1)  # images seen, after each of these
        grown = np.log1p((q - self.level) / (self.level * (1 - self.level)) * (x - self.level)).cumsum(1)  # (rates, N): log of a unit
        begun = np.concatenate([self._wealth[:, None], _share(after) - grown], 1)
        each = grown + np.logaddexp.accumulate(begun, 1)[:, 1:]
        whole = _log_wealth(each, after)
        if self.rang_at is None and (over := np.flatnonzero(whole >= -math.log(self.alpha))).size:
            self.rang_at = int(after[over[0]])
        self._wealth = each[:, -1]
        possible = np.concatenate([self._best[:, None], -grown], 1)
        at = possible.argmax(1)
        self._start = np.where(at > 0, self.seen + at, self._start)
        self._best = possible.max(1) + grown[:, -1]
        self.seen += len(x)

    def summary(self) -> dict[str, Any]:
        """What it knows, as JSON.

        ``seen`` and ``flagged``: images; ``rate``: their quotient, None of no image; ``log10_wealth``: of all bets, now; ``alarm``;
        ``alarm_at``: after how many images it came; ``since``: after how many the rate seems to have risen (the start and rate of the
        highest likelihood: an estimate without a guarantee). The last two are None while there is no alarm.
        """
        wealth = float(_log_wealth(self._wealth[:, None], np.array([self.seen]))[0])
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
        return body | {"alarm_at": self.rang_at} | arrays

    @classmethod
    def load(cls, body: dict[str, Any]) -> FlagRate:
        """Go on where :meth:`save` left off.

        Raises:
            UsageError: for what :meth:`save` did not write.
        """
        try:
            if body["schema"] != SCHEMA:
                raise ValueError(f"schema {body['schema']}")
            found = cls(body["level"], body["alpha"])
            size, seen, flagged, rang_at = len(found._rates), int(body["seen"]), body["flagged"], body["alarm_at"]
            arrays = [np.array(body[k], float) for k in ("wealth", "best", "start")]
            if not 0 <= flagged <= seen or any(a.shape != (size,) or not np.isfinite(a).all() for a in arrays):
                raise ValueError(f"{flagged} flagged of {seen}, {[a.shape for a in arrays]} numbers for {size} rates")
            if rang_at is not None and not 1 <= int(rang_at) <= seen:
                raise ValueError(f"an alarm after {rang_at} of {seen} images")
        except (KeyError, TypeError, ValueError) as e:
            raise UsageError(f"this is not what FlagRate.save() wrote: {type(e).__name__}: {e}") from None
        found.seen, found.flagged, found.rang_at = seen, flagged, None if rang_at is None else int(rang_at)
        found._wealth, found._best, found._start = arrays[0], arrays[1], arrays[2].astype(np.int64)
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


def _share(seen: NDArray[Any]) -> NDArray[np.float64]:
    """Log of the share of the start after ``seen`` images: 1 / log2(seen + 2) - 1 / log2(seen + 3), without cancellation."""
    t = seen.astype(float)
    return np.asarray(np.log(np.log1p(1 / (t + 2)) * math.log(2) / (np.log(t + 2) * np.log(t + 3))), np.float64)


def _log_wealth(each: NDArray[np.float64], seen: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) log of the wealth of all rates (rates, N) after ``seen`` (N,) images, and of the bets that have not started."""
    waiting = math.log(math.log(2)) - np.log(np.log(seen + 3.0))
    return np.asarray(np.logaddexp(np.logaddexp.reduce(each, 0) - math.log(len(each)), waiting), np.float64)


__all__ = ["FlagRate", "as_flags", "rates"]
