"""Exact bounds of shares, bounds of means where few images say anything, an interval over seeds, the correction for many questions.

Why seeds are not resampled: 2 or 3 seeds, drawn again and again, give an interval that covers the mean of all seeds in .50 and .75 of
the cases instead of .95 (``tests/test_inference.py`` simulates it). Below five seeds each is shown for itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv, stdtrit

LEVEL = 0.95
FEW = 10  # images that differ from all others, below which resampling sees too little of a difference: tests/test_inference.py simulates it
LEAST_SEEDS = 5  # below these an interval never speaks of other seeds
Floats = NDArray[np.float64]


def exact_share(k: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's (1934) interval of a share, k of n: it covers at least as often as it says, whatever the share."""
    tail = (1 - LEVEL) / 2
    lo = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    return lo, 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))


def bounded_mean(values: Floats, low: float, high: float) -> tuple[float, float]:
    """Gaffke's (2005) interval of the mean of what lies in [low, high], from (n,) values, one an image.

    Each end is a quantile of the values' mean with weights drawn from Dirichlet(1, ..., 1), one image more among them that has the worst
    value, low or high. Of flags it is :func:`exact_share`; of a paired difference of flags without any discordant pair of 300 it is
    [-.012, .012]. That it covers at least as often as it says is proved for two values and only conjectured for more: no
    counterexample is known (Phan, Thomas and Learned-Miller 2021), and tests simulate it.
    """
    found, counts = np.unique(np.round(np.asarray(values, np.float64), 12), return_counts=True)
    at, of = tuple(found.tolist()), tuple(counts.tolist())
    return -_upper(tuple(-v for v in at), of, -low), _upper(at, of, high)


@functools.lru_cache(maxsize=4096)
def _upper(values: tuple[float, ...], counts: tuple[int, ...], worst: float) -> float:
    """The upper end, where ``values`` occur ``counts`` times."""
    x, c = np.array([*values, worst]), np.array([*counts, 1.0])
    if np.ptp(x) < 1e-9:  # up to the rounding of sums
        return worst
    end = 1e-12 * np.ptp(x)
    return float(brentq(lambda t: _below(x, c, t) - (1 + LEVEL) / 2, x.min() + end, x.max() - end, xtol=1e-13))


_STEP = 0.02  # of the frequencies' logarithm; the sum is the integral to 1e-10 up to 10,000 images, at .05 it is not
_LOG = np.arange(-30.0, 20.0, _STEP)


def _below(x: Floats, c: Floats, t: float) -> float:
    """P(sum of w x <= t) with w from Dirichlet(c): of gammas, P(sum of g (x - t) <= 0), by Imhof's (1961) integral."""
    u = np.exp(_LOG)
    turn, log_size = np.zeros_like(u), np.zeros_like(u)
    for a, k in zip(x - t, c, strict=True):
        turn += k * np.arctan(a * u)
        log_size += k / 2 * np.log1p((a * u) ** 2)
    return float(0.5 - _STEP / math.pi * np.sum(np.sin(turn) * np.exp(-log_size)))


def few_differ(values: Floats) -> bool:
    """Whether most images, all but a few, have one value, so that resampling them sees too little."""
    if not len(values):
        return False
    _, counts = np.unique(np.round(values, 9), return_counts=True)
    others = int(len(values) - counts.max())
    return others < FEW and 2 * others < len(values)


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
