"""Exact bounds of shares, an interval over seeds, and the correction for many questions.

Why seeds are not resampled: 2 or 3 seeds, drawn again and again, give an interval that covers the mean of all seeds in .50 and .75 of
the cases instead of .95 (``tests/test_inference.py`` simulates it). Below five seeds each is shown for itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

LEVEL = 0.95
LEAST_SEEDS = 5  # below these an interval never speaks of other seeds
Floats = NDArray[np.float64]


def exact_share(k: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's (1934) interval of a share, k of n: it covers at least as often as it says, whatever the share."""
    tail = (1 - LEVEL) / 2
    lo = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    return lo, 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))


def exact_difference(more: int, fewer: int, n: int) -> tuple[float, float]:
    """Bound on the paired difference of two shares with few discordant pairs, from the exact intervals of both kinds of pairs.

    Without any discordant pair of 300 it is [-.012, .012], not [0, 0]. Wide: it covers in more than 95 of 100 cases.

    Args:
        more: images with the first flag alone.
        fewer: images with the second alone.
        n: all images.
    """
    (a, b), (c, d) = exact_share(more, n), exact_share(fewer, n)
    return a - d, b - c


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's interval of the mean over seeds: of the nets that another seed would have given, on these images.

    Raises:
        ValueError: below five seeds, where nothing is said about other seeds.
    """
    if (k := len(values)) < LEAST_SEEDS:
        raise ValueError(f"an interval over seeds needs {LEAST_SEEDS} of them; found {k}")
    half = float(stdtrit(k - 1, (1 + LEVEL) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(k)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def beside(seeds: Sequence[float], lo: float, hi: float) -> tuple[float, float, str]:
    """What stands beside a value, and what it speaks of in words.

    Args:
        seeds: the value of each detector seed.
        lo: of the value's interval.
        hi: of the value's interval.

    Returns:
        The interval over images of one seed; of two to four seeds their smallest and largest value, which is what a sentence may
        quote: the interval of their mean over images knows nothing of other seeds; from five up the interval over seeds.
    """
    if len(seeds) >= LEAST_SEEDS:
        return lo, hi, f"over {len(seeds)} seeds, on these images"
    if len(seeds) < 2:
        return lo, hi, "over images, given this net"
    return min(seeds), max(seeds), f"range of {len(seeds)} seeds, given these nets"


def holm(p: Sequence[float]) -> Floats:
    """(N,) p-values corrected for being N questions (Holm 1979): each is below a level only if the family holds at it. NaN stays NaN,
    and is no question.
    """
    found = np.asarray(p, np.float64)
    asked = np.flatnonzero(np.isfinite(found))
    order = asked[np.argsort(found[asked], kind="stable")]
    out = np.full(len(found), np.nan)
    out[order] = np.minimum(1.0, np.maximum.accumulate(found[order] * np.arange(len(order), 0, -1)))
    return out
