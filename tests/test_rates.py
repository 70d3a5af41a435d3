"""The one format of numbers, and shares with their intervals."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from salientry.rates import escaped_table, given, interval, percent, rate, row, share, share_of, short, signed, table

ROOT = Path(__file__).parents[1]
OTHERS = {"sanity.py", "guard_files.py"}  # what is recorded with a step, and three numbers of a network by which it is known


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1354, ".135"), (1.0, "1.000"), (-0.0004, ".000"), (-0.25, "−.250"), (10.5, "10.500"), (-1.5, "−1.500"), (None, "–"), (np.nan, "–")],
)
def test_a_number(value: float | None, text: str) -> None:
    assert short(value) == text


def test_other_forms_of_a_number() -> None:
    assert short(0.00163, digits=4) == ".0016"
    assert (short(0.1354, percent=True), short(-0.0001, percent=True)) == ("13.5\u202f%", "0.0\u202f%")
    assert [signed(v) for v in (0.012, -0.012, 0.0002, -0.0002, 0.0, None)] == ["+.012", "−.012", ".000", ".000", ".000", "–"]
    assert [given(v) for v in (0.05, 0.5, 10.5, -0.3, 2.0, 0.0)] == [".05", ".5", "10.5", "−.3", "2", "0"]
    assert [percent(v) for v in ("0.05", 0.01, 0.03664, 1.0)] == ["5 %", "1 %", "3.66 %", "100 %"]
    assert interval(-0.01, None) == "[−.010, –]"


@pytest.mark.parametrize(("count", "of"), [(0, 6), (3, 20), (2500, 2500)])
def test_a_share_has_the_exact_interval_of_another_library(count: int, of: int) -> None:
    found = share(count, of)
    theirs = binomtest(count, of).proportion_ci(0.95, "exact")
    assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert found == share_of(np.arange(of) < count)


def test_shares_as_text() -> None:
    assert rate(share(3, 20)) == ".150 [.032, .379] (3 of 20)"
    assert rate(share(1500, 2000), ends=False) == ".750 (1,500 of 2,000)"
    assert rate(share(0, 0)) == "– (of 0)"


def test_tables_of_markdown() -> None:
    assert row("a|b", "c*") == "| a\\|b | c* |"
    assert table(["a"], [["b"]]) == ["| a |", "| --- |", "| b |", ""]
    assert escaped_table(["a|\nb"], [["*_<\\"]]) == ["| a\\| b |", "| --- |", "| \\*\\_\\<\\\\ |", ""]


def test_no_other_file_of_the_package_writes_such_numbers_in_a_format_of_its_own() -> None:
    other = [p.name for p in sorted((ROOT / "salientry").rglob("*.py")) if re.search(r":[+>]?\d*\.3f", p.read_text())]
    assert set(other) <= OTHERS
    exact = [p.name for p in sorted((ROOT / "salientry").rglob("*.py")) if "exact_share(" in p.read_text()]
    assert set(exact) == {"inference.py", "metrics.py", "rates.py", "accuracy.py", "confidence.py", "adaptive.py"}  # those three: recorded
