"""The paper's "strong correlation" of what is found with the size of the perturbation (section 4.2), over the attacks.

Kind ``correlation``, published, with batch norm: ``detector``; ``trained_on`` an attack, tested on the others, or ``diagonal``: each attack
by the detector trained on it; ``part`` the size (``rms``, ``linf``); measure ``spearman`` with an interval that resamples images, given
these attacks, and ``p-exact``: the share of all orders of the attacks that correlate as strongly or more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..metrics import Floats, Interval, permutation_p, rate_draws, spearman
from .cells import Cells, Drawn
from .choice import DEFENCES
from .paper_numbers import attacks_of
from .place import KEY, Row, row
from .scores import Scores
from .trained import Images

FEWEST_POINTS, MOST_POINTS = 3, 8
DECIMALS = 6  # of a size before it is ranked: BIM's and MIM's Linf are equal but for float32
DIAGONAL = "diagonal"


def rows(s: Scores, numbers: pd.DataFrame) -> Iterator[Row]:
    """All four detectors: the diagonal, then each training attack's other attacks."""
    named = attacks_of(s)
    labels = [a for a in s.labels if a in named] if s.has_naturals else []
    if not FEWEST_POINTS <= len(labels) <= MOST_POINTS:
        return
    if s.not_kept:
        yield from (r for r in s.recorded if r["kind"] == "correlation")
        return
    cells = Cells(s, numbers)
    for d in DEFENCES:
        for over in (DIAGONAL, *labels):
            yield from _correlation(s, cells, labels, d, over)


def _correlation(s: Scores, cells: Cells, labels: list[str], detector: str, over: str) -> Iterator[Row]:
    at = [(a, a) for a in labels] if over == DIAGONAL else [(over, b) for b in labels if b != over]
    found = [cells.cell("published", "paired", detector, *pair) for pair in at]
    drawn = [d for d in found if isinstance(d, Drawn)]
    if len(drawn) < len(at) or len(at) < FEWEST_POINTS:
        return
    keys = sorted({k[:KEY] for d in drawn for k in d.keys})
    place = {"protocol": "published", "detector": detector, "title": detector, "scheme": "paired", "trained_on": over}
    for column in ("rms", "linf"):
        value, p = _ranked(drawn, [_sizes(s, s.images[f"published/test/{b}"], column) for _, b in at])
        yield row("correlation", "spearman", value, keys, None, part=column, **place)
        yield row("correlation", "p-exact", p, keys, len(at), part=column, **place)


def _sizes(s: Scores, i: Images, column: str) -> tuple[float, Floats]:
    """Mean size, and in each resample."""
    values = i[column].astype(np.float64)
    return float(values.mean()), rate_draws(values, s.draws.of(i["id"]))


def _ranked(drawn: list[Drawn], sizes: list[tuple[float, Floats]]) -> tuple[Interval, float]:
    """Spearman's correlation of the seeds' mean accuracies, its interval over images (widened to hold the value), and the exact p."""
    accuracy, size = (np.round(v, DECIMALS) for v in ([np.mean(d.runs) for d in drawn], [v for v, _ in sizes]))
    value = float(spearman(accuracy, size))
    draws = spearman(np.round(np.stack([d.draws for d in drawn], -1), DECIMALS), np.round(np.stack([d for _, d in sizes], -1), DECIMALS))
    draws = draws[np.isfinite(draws)]
    seeds = {len(d.runs) for d in drawn}
    runs = [float(spearman(np.round([d.runs[k] for d in drawn], DECIMALS), size)) for k in range(seeds.pop())] if len(seeds) == 1 else []
    n, nan = min(d.n for d in drawn), float("nan")
    if not np.isfinite(value) or not len(draws):
        return Interval(nan, nan, nan, n, tuple(runs)), nan
    lo, hi = np.quantile(draws, (0.025, 0.975))
    return Interval(value, min(float(lo), value), max(float(hi), value), n, tuple(runs)), permutation_p(accuracy, size)
