"""How far two runs of one recipe differ: on another machine, with another run seed, by another version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import UsageError
from ..rates import NONE, between, measured, short
from .numbers import numbers
from .place import select
from .scores import Scores

COMPARED = ("value", "lo", "hi")
MEASURES, MOST = 20, 12  # lines of the table; the numbers that differ most, one by one


def compared(folders: tuple[Path, Path]) -> list[str]:
    """What `salientry report A --against B` prints: what differs in how the runs were made, a line for each measure, and the numbers
    that differ most.

    Raises:
        UsageError: when the runs are of different recipes or data sets, or have no number in common.
        DataDamaged: when records are unreadable.
    """
    first, second = (Scores.read(f) for f in folders)
    _same_recipe(first, second)
    both = joined(numbers(first), numbers(second))
    if both.empty:
        raise UsageError(f"the runs in {folders[0]} and {folders[1]} have no number in common")
    lines = [f"A: {folders[0]}, {_made(first)}", f"B: {folders[1]}, {_made(second)}"]
    lines += [*_other_parameters(first, second), *_header()]
    found = by_measure(both)
    lines += [_line(str(m), r) for m, r in found.head(MEASURES).iterrows()]
    rest = both[~(both["kind"] + " " + both["measure"]).isin(found.index[:MEASURES])]
    lines += [_line(f"{len(found) - MEASURES} other measures", summary(rest))] if len(rest) else []
    lines += [_line("all", summary(both))]
    worst = both[both["outside"] > 0].nlargest(MOST, "beyond")
    lines += (
        ["", f"outside the other's interval by most of its widths, {len(worst)} of {int((both['outside'] > 0).sum())}:"]
        if len(worst)
        else []
    )
    return lines + [f"{r['id']}: {_text(r, '_a')} against {_text(r, '_b')}" for _, r in worst.iterrows()]


def joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The numbers of both runs side by side (``value_a``, ``lo_b`` ...), those that are finite in both. The paper's own rows, and what
    compares with them, are left out.

    ``difference``: B minus A. ``outside``: the share, 0, .5 or 1, of the two values that lie outside the other's interval; NaN where
    one has none. ``beyond``: the difference over the wider interval's width.
    """
    mine, theirs = (select(f, source="run")[["id", "kind", "measure", *COMPARED]] for f in (first, second))
    both = mine.merge(theirs.drop(columns=["kind", "measure"]), on="id", suffixes=("_a", "_b"))
    both = both[both["value_a"].notna() & both["value_b"].notna()]
    both["difference"] = both["value_b"] - both["value_a"]
    misses = [(both[f"value_{v}"] < both[f"lo_{i}"]) | (both[f"value_{v}"] > both[f"hi_{i}"]) for v, i in ("ab", "ba")]
    known = both[["lo_a", "hi_a", "lo_b", "hi_b"]].notna().all(axis=1)
    both["outside"] = ((misses[0].astype(float) + misses[1]) / 2).where(known)
    width = (both["hi_a"] - both["lo_a"]).combine(both["hi_b"] - both["lo_b"], max)
    both["beyond"] = both["difference"].abs() / width.where(width > 0, 1e-9)
    return both


def summary(both: pd.DataFrame) -> pd.Series:
    """Of some numbers: how many, their median and largest absolute difference, and the share outside the other's interval."""
    sizes = both["difference"].abs()
    found = {"numbers": len(both), "equal": (sizes == 0).mean(), "median": sizes.median(), "largest": sizes.max()}
    return pd.Series(found | {"outside": both["outside"].mean()})


def by_measure(both: pd.DataFrame) -> pd.DataFrame:
    """:func:`summary` of each kind of number and measure, the most numerous first."""
    kinds = both["kind"] + " " + both["measure"]
    found = pd.DataFrame({m: summary(g) for m, g in both.groupby(kinds)}).T
    return found.sort_values("numbers", ascending=False, kind="stable")


def _same_recipe(first: Scores, second: Scores) -> None:
    of = [(s.body["recipe"]["recipe"], s.dataset) for s in (first, second)]
    if of[0] != of[1]:
        said = [f"{s.folder} holds {recipe} on {dataset}" for s, (recipe, dataset) in zip((first, second), of, strict=True)]
        raise UsageError(f"two runs of one recipe on one data set can be compared; {said[0]}, {said[1]}")


def _other_parameters(first: Scores, second: Scores) -> list[str]:
    """Parameters that differ between the runs; one line, or none."""
    a, b = (s.body["recipe"]["parameters"] for s in (first, second))
    other = [f"{k} ({a.get(k, 'default')}, {b.get(k, 'default')})" for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
    return [f"other parameters (A, B): {', '.join(other)}; only numbers of both are compared"] if other else []


def _made(s: Scores) -> str:
    """Run seed, processor and versions."""
    machine: dict[str, Any] = s.run.get("machine", {})
    parts = [str(machine[k]) for k in ("processor", "instructions") if k in machine] or ["processor not recorded"]
    versions = [f"salientry {s.run['salientry']}"] if "salientry" in s.run else []
    versions += [f"torch {machine['torch']}"] if "torch" in machine else []
    return ", ".join([f"run seed {s.run_seed}", *parts, *versions])


def _header() -> list[str]:
    return ["", f"{'measure':62} {'numbers':>8} {'equal':>6} {'median':>8} {'largest':>8} {'outside':>8}"]


def _line(name: str, r: pd.Series) -> str:
    outside = NONE if pd.isna(r["outside"]) else measured(r["outside"])
    sizes = "".join(f"{short(r[k], digits=4):>9}" for k in ("median", "largest"))
    return f"{name:62} {int(r['numbers']):8,} {measured(r['equal']):>6}{sizes} {outside:>8}"


def _text(r: pd.Series, of: str) -> str:
    return between(r["value" + of], r["lo" + of], r["hi" + of])
