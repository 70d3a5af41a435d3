"""Thresholds with a guaranteed false-positive rate."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from .errors import UsageError
from .rates import percent

CONFIDENCE = 0.95
COMFORTABLE = {0.05: 1_000, 0.01: 5_000, 0.001: 10_000}  # below these the threshold costs noticeable power


def smallest_sample(level: float, confidence: float = CONFIDENCE) -> int:
    """The fewest calibration images from which ``level`` can be guaranteed: 59, 299, 2,995 for 5, 1, 0.1 %."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - level))


def allowed(count: int, level: float, confidence: float = CONFIDENCE) -> int:
    """How many of ``count`` calibration images may lie above the threshold.

    The largest k with P[Binomial(count, level) <= k] <= 1 - confidence.

    Raises:
        UsageError: when not even 0 will do: says how many images would.
    """
    if not 0 < level < 1:
        raise UsageError(f"a false-positive rate lies strictly between 0 and 1; found {level!r}")
    cumulative = bdtr(np.arange(count + 1), count, level)
    k = int(np.searchsorted(cumulative, 1 - confidence, "right")) - 1
    if k < 0:
        need = smallest_sample(level, confidence)
        raise UsageError(
            f"{count} calibration images cannot guarantee a false-positive rate of {percent(level)} with {percent(confidence)} confidence; "
            f"{need} can"
        )
    return k


def pac_threshold(scores: NDArray[Any], level: float, confidence: float = CONFIDENCE) -> float:
    """The smallest observed score such that, with ``confidence`` over the draw of the calibration images, at most ``level``
    of all naturals score above it (a probably-approximately-correct, or Neyman-Pearson, order-statistic rule).

    The guarantee is for naturals exchangeable with the calibration images; it says nothing of adversarial or drifted ones.

    Args:
        scores: (n,) of natural calibration images; flagged means ``score > threshold``.
        level: false-positive rate.
        confidence: of the guarantee.

    Raises:
        UsageError: too few images, or scores that are not finite.
    """
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise UsageError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} calibration scores are not finite")
    k = allowed(len(scores), level, confidence)
    return float(np.sort(scores)[::-1][k])


def warn_if_small(count: int, level: float) -> None:
    """Warn when the guarantee holds but costs power for want of images."""
    comfortable = COMFORTABLE.get(level, 0)
    if count < comfortable:
        warnings.warn(
            f"{count} calibration images for a false-positive rate of {percent(level)}: it holds, but {comfortable:,} lose less power",
            stacklevel=3,
        )


def p_value(calibration: NDArray[Any], score: float) -> float:
    """Conformal p-value of one score: share of naturals at least as suspicious, (1 + #{calibration >= score}) / (1 + n)."""
    return (1 + int((np.asarray(calibration) >= score).sum())) / (1 + len(calibration))
