"""Recorded reports are what today's code has to give again: every number, its interval, its seeds, what it depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from salientry.results.numbers import LATER
from salientry.store import read_json

ROOT = Path(__file__).parents[2] / "results"
TOLERANCE = 1e-9


def printed(folder: Path, wanted: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
    """The numbers of a recorded report.json by id."""
    return {n["id"]: n for n in read_json(folder / "report.json")["numbers"] if wanted(n["id"])}


def differences(expected: dict[str, dict[str, Any]], rows: Iterable[dict[str, Any]], of: Callable[[str], bool]) -> list[str]:
    """What differs between the recorded numbers and rows of the frame, one line each; ``of``: ids that the rows must not add to."""
    found: dict[str, dict[str, Any]] = {}
    out = []
    for r in rows:
        out += [f"{r['id']} stands twice"] if r["id"] in found else []
        found |= {r["id"]: r} if r["source"] == "run" and (r.get("kind") not in LATER or r["id"] in expected) else {}
    out += [f"{i} is missing" for i in expected if i not in found]
    out += [f"{i} was not printed" for i in found if of(i) and i not in expected]
    names = {"value": "value", "lo": "lo", "hi": "hi", "n": "n", "protocol": "protocol", "runs": "seeds", "keys": "keys"}
    for i in expected.keys() & found.keys():
        skipped = ("lo", "hi") if was_resampled(expected[i], found[i]) else ()
        out += [
            f"{i}: {theirs} was {expected[i][theirs]}, is {found[i][ours]}"
            for theirs, ours in names.items()
            if theirs not in skipped and not same(expected[i][theirs], found[i][ours])
        ]
    return out


def was_resampled(printed: dict[str, Any], now: dict[str, Any]) -> bool:
    """Recorded reports print the percentiles of resamples, to the last digit, where an exact bound stands since."""
    before = now.get("resampled")
    return before is not None and same([printed["lo"], printed["hi"]], list(before))


def same(x: Any, y: Any) -> bool:
    """Whether two values, or lists of values, are the same to 1e-9; None is NaN."""
    if isinstance(x, list | tuple) and isinstance(y, list | tuple):
        return len(x) == len(y) and all(same(p, q) for p, q in zip(x, y, strict=True))
    x, y = (None if isinstance(v, float) and not math.isfinite(v) else v for v in (x, y))
    if isinstance(x, int | float) and isinstance(y, int | float):
        return abs(x - y) <= TOLERANCE
    return bool(x == y)
