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
FEW_PAIRS = 5  # discordant pairs below which the bootstrap of a paired difference is too narrow
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


def interval_over(seeds: int) -> str:
    """What an interval of so many seeds speaks of, in words that stand beside a number."""
    if seeds >= LEAST_SEEDS:
        return f"over {seeds} seeds, on these images"
    return "over images, given this net" if seeds <= 1 else f"over images, given each of these {seeds} nets"


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
