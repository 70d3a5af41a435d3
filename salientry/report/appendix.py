"""The paper's Appendix G as a file: every cell of the grid with its value for each seed. It follows from the numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from ..errors import DataDamaged, StoreError
from ..store import read_text, write_text
from .detection import Cell, Row, Table
from .grid import DEFENCES
from .numbers import KEY, Ledger

NAME = "grid.csv"
HEAD = (
    "protocol defence form trained_on tested_on n measure value lo hi seeds std auroc auroc_lo auroc_hi auroc_seeds auroc_std heads id why"
)


def text(ledger: Ledger, tables: list[Table]) -> str:
    """The whole file: one line for each protocol, defence, form, training and test attack.

    Columns: ``measure`` is ``accuracy`` (published) or ``tpr@`` and its level (strict); ``lo``, ``hi`` the 95 % interval over images;
    ``seeds`` the value of each seed and ``std`` their sample standard deviation, empty for one; ``heads`` the keys of the fitted
    detectors; ``id`` the number's name in report.json; ``why`` says why a line has no value.
    """
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(HEAD.split())
    for t in tables:
        for r in t.rows:
            if r.group.detector in DEFENCES:
                lines.writerows(_line(ledger, t, r, c) for c in r.cells)
    return out.getvalue()


def _line(ledger: Ledger, t: Table, r: Row, c: Cell) -> list[str]:
    level = t.levels[0]
    id = c.accuracy or c.tpr.get(level)
    measure = "accuracy" if level == "own" else f"tpr@{level}"
    heads = " ".join(run.key[:KEY] for run in r.group.runs)
    ends = [heads, id or "", "" if id else f"{c.n} adversarials count, too few"]
    return [
        t.protocol,
        r.group.detector,
        r.group.form,
        t.trained_on,
        c.attack,
        str(c.n),
        measure,
        *_five(ledger, id),
        *_five(ledger, c.auroc),
        *ends,
    ]


def _five(ledger: Ledger, id: str | None) -> list[str]:
    """Value, interval, seeds, their spread."""
    if id is None:
        return [""] * 5
    n = ledger[id]
    runs = [r for r in n.runs if r is not None]
    return [
        _plain(n.value),
        _plain(n.lo),
        _plain(n.hi),
        " ".join(map(_plain, runs)),
        _plain(float(np.std(runs, ddof=1)) if len(runs) > 1 else None),
    ]


def _plain(value: float | None) -> str:
    """Nine decimals: rounding noise of another machine lies far below."""
    return "" if value is None else f"{value + 0.0:.9f}"


def write(folder: Path, ledger: Ledger, tables: list[Table]) -> None:
    """Write it into a folder.

    Raises:
        StoreError: when it cannot be written.
    """
    write_text(folder / NAME, text(ledger, tables))


def problems(folder: Path, ledger: Ledger, tables: list[Table]) -> list[str]:
    """Where the file of a folder is not what follows from the numbers, one line each."""
    try:
        found = read_text(folder / NAME)
    except StoreError:
        return [f"{NAME} is missing"]
    except DataDamaged as e:
        return [str(e)]
    expected = text(ledger, tables)
    if found == expected:
        return []
    a, b = found.split("\n"), expected.split("\n")
    wrong = [i + 1 for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y] or [min(len(a), len(b)) + 1]
    return [f"{NAME} is not what follows from the records: line {wrong[0]}" + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")]
