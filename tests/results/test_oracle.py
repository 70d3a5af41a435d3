"""Every number of the recorded reports, computed again from the recorded scores: nothing may differ, nothing may be missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from salientry.results.numbers import numbers
from salientry.results.scores import Scores
from salientry.store import read_json

RECORDED = Path(__file__).parents[2] / "results"
FAST = ("assira", "assira-seed1", "cifar10", "cifar10-seed1", "mnist", "mnist-seed1")
ELSEWHERE = ("paper/", "headline/")  # not made yet
LATER = ("strict/spoiled", "strict/fusion (", "swap/", "sweep/", "ladder/")  # not made yet
LATER_MEASURES = ("combined-minus-specific", "within-norm-minus-across", "tpr")


def printed(folder: Path) -> dict[str, dict[str, Any]]:
    return {n["id"]: n for n in read_json(folder / "report.json")["numbers"]}


def same(a: float | None, b: float | None) -> bool:
    """None as printed is NaN in the frame."""
    return (a is None or math.isnan(a)) if b is None or math.isnan(b) else a is not None and abs(a - b) <= 1e-9


def wrong(theirs: dict[str, Any], ours: Any) -> list[str]:
    """The parts of a number that are not what was printed."""
    parts = {k: same(theirs[k], getattr(ours, k)) for k in ("value", "lo", "hi", "n")}
    parts["seeds"] = len(theirs["runs"]) == len(ours.seeds) and all(map(same, theirs["runs"], ours.seeds))
    parts |= {"keys": theirs["keys"] == list(ours.keys), "protocol": theirs["protocol"] == ours.protocol}
    return [k for k, right in parts.items() if not right]


def made(id: str) -> bool:
    """Whether the frame holds numbers of this kind by now."""
    return not id.startswith(ELSEWHERE + LATER) and id.split("/")[-1] not in LATER_MEASURES


@pytest.mark.parametrize("name", FAST)
def test_every_number_of_a_recorded_run(name: str) -> None:
    theirs, ours = printed(RECORDED / "fast" / name), numbers(Scores.read(RECORDED / "fast" / name))
    assert ours["id"].is_unique
    assert set(theirs) - set(ours["id"]) == {i for i in theirs if not made(i)}
    assert set(ours["id"]) - set(theirs) == set()
    assert {r.id: bad for r in ours.itertuples() if (bad := wrong(theirs[r.id], r))} == {}
    assert len(ours) > 1700


def test_the_comparison_sees_a_difference() -> None:
    theirs = {"value": 0.5, "lo": None, "hi": 0.6, "n": 3, "runs": [0.5, None], "keys": ["a"], "protocol": "strict"}
    row = {"value": 0.5, "lo": math.nan, "hi": 0.6, "n": 3, "seeds": (0.5, math.nan), "keys": ("a",), "protocol": "strict"}

    def parts(**changed: Any) -> list[str]:
        return wrong(theirs, next(pd.DataFrame([row | changed]).itertuples()))

    assert parts() == []
    changes = {"value": 0.5 + 2e-9, "lo": 0.1, "hi": math.nan, "n": 4, "seeds": (0.5, 0.5), "keys": (), "protocol": "any"}
    assert {k: parts(**{k: v}) for k, v in changes.items()} == {k: [k] for k in changes}
    assert parts(seeds=(0.5,)) == ["seeds"]
