"""The paper's Figure 2 as a file: every cell with its value for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataDamaged, StoreError
from ..results.choice import DEFENCES
from ..results.detection import Together, together
from ..results.scores import Scores, Trained
from ..store import read_text
from .page import GROUPS
from .render import delimited

NAME = "grid.csv"
HEAD = (
    "protocol defence form trained_on tested_on n measure value lo hi seeds std auroc auroc_lo auroc_hi auroc_seeds auroc_std heads id why"
)
KEY = 12
Known = Mapping[tuple[str, str, str, str], Mapping[str, Any]]


def by_place(numbers: Sequence[Mapping[str, Any]]) -> Known:
    """(protocol, title, trained on, tested on / measure) to the number of a detector."""
    rows = (r for r in numbers if r["kind"] == "detection")
    return {(r["protocol"], r["title"], r["trained_on"], f"{r['tested_on']}/{r['measure']}"): r for r in rows}


def csv(s: Scores, numbers: Sequence[Mapping[str, Any]]) -> str:
    """The whole file: one line for each protocol, defence, training scheme, training and test attack.

    Columns: ``measure`` is ``accuracy`` (published) or ``tpr@`` and its level (strict); ``lo``, ``hi`` the 95 % interval over images;
    ``seeds`` the value of each seed and ``std`` their sample standard deviation, empty for one; ``heads`` the keys of the fitted
    detectors; ``id`` the number's name in report.json; ``why`` says why a line has no value.
    """
    known = by_place(numbers)
    lines = [
        _line(s, known, t, g, attack)
        for t in (together(s) if s.has_naturals else [])
        for g in sorted(t.trained, key=lambda g: (GROUPS.index(g.group) if g.group in GROUPS else len(GROUPS), g.scheme == "replica"))
        if g.detector in DEFENCES and not t.missing
        for attack in _tested(s, g)
    ]
    return delimited(HEAD.split(), lines)


def _tested(s: Scores, g: Trained) -> list[str]:
    found = [str(i["attack"]) for i in s.attacked(g.protocol) if len(g.on(i["name"])) == len(g.seeds)]
    own = s.like(g)
    return found + ([g.trained_on] if own is not None and own["mixture"] else [])


def _line(s: Scores, known: Known, t: Together, g: Trained, attack: str) -> list[str]:
    measure = _measure(t)
    cell, auroc = (known.get((g.protocol, g.title, g.trained_on, f"{attack}/{m}")) for m in (measure, "auroc"))
    n = _count(s, g.protocol, attack)
    why = "" if cell else f"{n} adversarials count, too few"
    place = [g.protocol, g.detector, g.scheme, g.trained_on, attack, str(n), measure]
    return [*place, *_five(cell), *_five(auroc), " ".join(r.key[:KEY] for r in g.seeds), cell["id"] if cell else "", why]


def _measure(t: Together) -> str:
    return "accuracy" if t.levels[0] == "own" else f"tpr@{t.levels[0]}"


def _count(s: Scores, protocol: str, attack: str) -> int:
    return int(s.images[f"{protocol}/test/{attack}"]["evaluated"].sum())


def _five(n: Mapping[str, Any] | None) -> list[str]:
    """Value, interval, seeds, their spread."""
    if n is None:
        return [""] * 5
    runs = [v for v in n["seeds"] if np.isfinite(v)]
    spread = float(np.std(runs, ddof=1)) if len(runs) > 1 else np.nan
    return [_plain(n["value"]), _plain(n["lo"]), _plain(n["hi"]), " ".join(map(_plain, runs)), _plain(spread)]


def _plain(value: float) -> str:
    """Nine decimals: rounding noise of another machine lies far below."""
    return f"{value + 0.0:.9f}" if np.isfinite(value) else ""


def problems(folder: Path, expected: str) -> list[str]:
    """Where the file of a folder is not what follows from the numbers, one line each."""
    try:
        found = read_text(folder / NAME)
    except StoreError:
        return [f"{NAME} is missing"]
    except DataDamaged as e:
        return [str(e)]
    if found == expected:
        return []
    a, b = found.split("\n"), expected.split("\n")
    wrong = [i + 1 for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y] or [min(len(a), len(b)) + 1]
    return [f"{NAME} is not what follows from the records: line {wrong[0]}" + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")]
