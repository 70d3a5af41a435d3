"""Every number of the recorded reports, computed again from the recorded scores: nothing may differ, nothing may be missing."""

from __future__ import annotations

import math
from typing import Any

import pytest

from salientry.results.numbers import numbers
from salientry.results.scores import Scores

from .oracle import ROOT, differences, printed

FAST = ("assira", "assira-seed1", "cifar10", "cifar10-seed1", "mnist", "mnist-seed1")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_every_number_of_a_recorded_run(name: str) -> None:
    expected = printed(ROOT / "fast" / name, lambda _: True)
    assert len(expected) > 2000
    found = numbers(Scores.read(ROOT / "fast" / name))
    assert differences(expected, found.to_dict("records"), lambda _: True) == []


def test_the_comparison_sees_a_difference() -> None:
    theirs = {"value": 0.5, "lo": None, "hi": 0.6, "n": 3, "runs": [0.5, None], "keys": ["a"], "protocol": "strict"}
    row = {"id": "i", "source": "run", "value": 0.5, "lo": math.nan, "hi": 0.6, "n": 3, "seeds": (0.5, math.nan), "keys": ("a",)}
    row |= {"protocol": "strict"}

    def parts(**changed: Any) -> list[str]:
        return differences({"i": theirs}, [row | changed], lambda _: True)

    assert parts() == []
    changes = {"value": 0.5 + 2e-9, "lo": 0.1, "hi": math.nan, "n": 4, "seeds": (0.5, 0.5), "keys": (), "protocol": "any"}
    assert all(len(parts(**{k: v})) == 1 for k, v in changes.items())
    assert parts(lo=0.4, hi=0.7, resampled=(math.nan, 0.6)) == [], "a bound in place of the very percentiles that were recorded"
    assert len(parts(lo=0.4, hi=0.7, resampled=(math.nan, 0.6 + 2e-9))) == 2
    assert len(parts(lo=0.4, hi=0.7)) == 2
    assert parts(seeds=(0.5,)) != []
    assert parts(id="j") == ["i is missing", "j was not printed"]
    assert differences({"i": theirs}, [row, row], lambda _: True) == ["i stands twice"]
