"""Every number that follows from a run's records, as one table."""

from __future__ import annotations

import pandas as pd

from . import (
    ablations,
    architectures,
    claims,
    detection,
    headline,
    images,
    paper_attacks,
    paper_numbers,
    part_adds,
    size_correlation,
    steps,
    transfer,
    white_box,
    worst_case,
)
from .place import frame
from .scores import Scores

WHITE_BOX = (white_box, paper_attacks)
WHOLE = (
    detection,
    images,
    transfer,
    ablations,
    architectures,
    steps,
    headline,
    worst_case,
    part_adds,
)  # of records with natural test images
LATER = ("worst case", "undetected", "false positives", "part adds")  # kinds that reports of earlier versions do not hold
OF_SCORES = ("correlation", "claim")  # kinds of these that depend on scores as well
NOT_OF_SCORES = ("white box", "weak detector", "table 3", "hardened", "paper table")  # kinds that depend on none
OF_NUMBERS = (paper_numbers, size_correlation, claims)  # what depends on the other numbers


def numbers(s: Scores) -> pd.DataFrame:
    """One row a number: see :mod:`salientry.results.place` for the columns. Where some scores are not kept: what depends on scores as
    it was computed before.

    Raises:
        UsageError: when the records lack natural images of a role.
        DataDamaged: when recorded numbers are not what was written.
    """
    of = {"dataset": s.dataset, "run_seed": s.run_seed}
    rows = [of | {"apart": s.apart or None} | r for module in WHITE_BOX for r in module.rows(s)]
    rows += [of | r for module in (WHOLE if s.has_naturals and not s.not_kept else ()) for r in module.rows(s)]
    rows += [r for r in s.recorded if r["kind"] not in OF_SCORES]
    first = frame(rows)
    found = frame([*rows, *(of | r for module in OF_NUMBERS for r in module.rows(s, first))])
    twice = found["id"][found["id"].duplicated()]
    assert twice.empty, f"two numbers are called {twice.iloc[0]}"
    return found
