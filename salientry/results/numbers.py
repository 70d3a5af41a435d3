"""Every number that follows from a run's records, as one table."""

from __future__ import annotations

import pandas as pd

from . import ablations, detection, images, paper_attacks, steps, transfer, white_box
from .place import frame
from .scores import Scores

WHITE_BOX = (white_box, paper_attacks)
WHOLE = (detection, images, transfer, ablations, steps)  # of records with natural test images


def numbers(s: Scores) -> pd.DataFrame:
    """One row a number: see :mod:`salientry.results.place` for the columns.

    Raises:
        UsageError: when the records lack natural images of a role.
    """
    rows = [r for module in (*WHITE_BOX, *(WHOLE if s.whole else ())) for r in module.rows(s)]
    found = frame({"dataset": s.dataset, "run_seed": s.run_seed} | r for r in rows)
    twice = found["id"][found["id"].duplicated()]
    assert twice.empty, f"two numbers are called {twice.iloc[0]}"
    return found
