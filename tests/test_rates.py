"""The one format of numbers, and shares with their intervals."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from salientry.rates import (
    between,
    escaped_table,
    given,
    grey_levels,
    interval,
    lasting,
    least_to_most,
    long,
    measured,
    percent,
    points,
    rate,
    rate_in_percent,
    row,
    share,
    share_of,
    short,
    signed,
    table,
)

ROOT = Path(__file__).parents[1]
OTHERS = {"sanity.py", "guard_files.py"}  # what is recorded with a step, and three numbers of a network by which it is known
EXACT = {
    "inference.py",
    "metrics.py",
    "rates.py",
    "adaptive.py",
    "agreement.py",
}  # the last two: recorded as two ends; a bound that decides
PAPERS = {"paper_numbers.py"}  # a number with the digits that the paper prints


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
    assert [measured(v) for v in (0.7649, -0.0001, 1.0)] == ["76 %", "0 %", "100 %"]
    assert [least_to_most(*v) for v in ((0.306, 0.333), (0.306, 0.3099))] == ["31 to 33 %", "31 %"]
    assert [points(v) for v in (0.0341, -0.0001)] == ["3.4", "0.0"]
    assert [grey_levels(v) for v in (8 / 255, 1.0, 0.05, 0.0)] == ["8/255", "255/255", "", "0/255"]
    assert [long(v, 4) for v in (0.01234, -0.00001, -0.5)] == ["0.0123", "0.0000", "−0.5000"]
    assert [lasting(s) for s in (40, 720, 9_000)] == ["40 s", "12 min", "2.5 h"]


def test_an_interval_has_the_decimals_that_tell_its_ends_apart() -> None:
    assert interval(0.101, 0.148) == "[.101, .148]"
    assert interval(-0.01, None) == interval(None, 0.2) == interval(math.nan, 0.5) == interval(0.5, 0.5) == "", "none, or none with a width"
    assert rate(share(20_000, 20_000)) == "1.0000 [.9998, 1.0000] (20,000 of 20,000)"
    assert between(-0.00004, -0.00009, -0.00001, sign=True) == "−.00004 [−.00009, −.00001]", "no end is printed as 0 that is not"
    assert between(0.0, -0.01, 0.012, sign=True) == ".000 [−.010, .012]"
    assert between(0.25, None, None) == between(0.25, 0.25, 0.25) == ".250"
    assert between(None, None, None) == "–"


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
    assert rate_in_percent(share(3, 20)) == "15.0 % [3.2, 37.9] of 20"


def test_tables_of_markdown() -> None:
    assert row("a|b", "c*") == "| a\\|b | c* |"
    assert table(["a"], [["b"]]) == ["| a |", "| --- |", "| b |", ""]
    assert escaped_table(["a|\nb"], [["*_<\\"]]) == ["| a\\| b |", "| --- |", "| \\*\\_\\<\\\\ |", ""]


def test_no_other_file_of_the_package_writes_such_numbers_in_a_format_of_its_own() -> None:
    ours = {p: p.read_text() for p in sorted((ROOT / "salientry").rglob("*.py"))}
    assert {p.name for p, text in ours.items() if re.search(r":[+>]?\d*\.3f", text)} <= OTHERS
    assert {p.name for p, text in ours.items() if "exact_share(" in text} == EXACT
    assert {p.name for p, text in ours.items() if re.search(r":\.0f\}/255|lstrip\(.0.\)|removeprefix\(.0.\)", text)} == {"rates.py"}
    both = ours | {p: p.read_text() for p in (ROOT / "benchmarks").glob("*.py")}
    percents = {p.name for p, text in both.items() if re.search(r"\{100 \* |:\d*\.\d%\}", text)}
    assert percents == {"rates.py"} | PAPERS, "a share in percent is written in one place"
