"""How far two runs differ: by hand on a few numbers, and on recorded runs."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from salientry.errors import UsageError
from salientry.results import against
from salientry.results.place import frame
from tests.cli.conftest import Cli
from tests.report.surgery import Opened

from .oracle import ROOT


def number(measure: str, title: str, value: float, lo: float = math.nan, hi: float = math.nan, **more: Any) -> dict[str, Any]:
    place = {"id": f"{title}/{measure}", "kind": "detection", "source": "run", "measure": measure, "title": title}
    return place | {"value": value, "lo": lo, "hi": hi} | more


A = frame([number("auroc", "x", 0.5, 0.4, 0.6), number("auroc", "y", 0.7, 0.6, 0.8), number("n", "x", 5.0), number("auroc", "z", 0.1)])
B = frame(
    [
        number("auroc", "x", 0.55, 0.52, 0.6),  # inside A's interval; A's value is outside of this one
        number("auroc", "y", 0.9, 0.85, 0.95),  # both outside
        number("n", "x", 5.0),
        number("auroc", "w", 0.1),
        number("mean", "x", 0.3, source="paper"),
    ]
)


def test_numbers_of_both_runs_side_by_side() -> None:
    both = against.joined(A, B).set_index("id")
    assert set(both.index) == {"x/auroc", "y/auroc", "x/n"}, "numbers of one run alone, and the paper's, are not compared"
    assert both["difference"].to_dict() == pytest.approx({"x/auroc": 0.05, "y/auroc": 0.2, "x/n": 0.0})
    assert both["outside"].to_dict() == pytest.approx({"x/auroc": 0.5, "y/auroc": 1.0, "x/n": math.nan}, nan_ok=True)
    assert both.loc["y/auroc", "beyond"] == pytest.approx(1.0)


def test_a_line_for_each_measure() -> None:
    found = against.by_measure(against.joined(A, B))
    assert found.index.tolist() == ["detection auroc", "detection n"]
    auroc, n = (found.loc[f"detection {m}"] for m in ("auroc", "n"))
    assert auroc.to_dict() == pytest.approx({"numbers": 2, "equal": 0, "median": 0.125, "largest": 0.2, "outside": 0.75})
    assert (n["numbers"], n["equal"], n["largest"]) == (1, 1, 0) and pd.isna(n["outside"])


def test_a_run_against_itself_and_against_one_with_other_scores(finished: Path, tmp_path: Path) -> None:
    result = Cli("report", finished, "--against", finished)
    assert result.code == 0, result.err
    assert next(line for line in result.lines if line.startswith("all ")).split()[2:] == ["100", "%", ".0000", ".0000", "0", "%"]
    assert not any(" against " in line for line in result.lines)
    other = Opened(Path(shutil.copytree(finished, tmp_path / "other")))
    other.score(other.detector("SPD", "strict", "FGSM"), "strict/test/FGSM")[:] *= -1
    result = Cli("report", finished, "--against", other.close())
    assert result.code == 0, result.err
    assert any(line.startswith("strict/SPD/FGSM/FGSM/") for line in result.lines if " against " in line), result.lines


def test_runs_of_two_data_sets_are_not_compared() -> None:
    with pytest.raises(
        UsageError, match=r"one recipe on one data set can be compared; .*assira-seed1 holds fast on assira, .* fast on mnist"
    ):
        against.compared((ROOT / "fast" / "assira-seed1", ROOT / "fast" / "mnist-seed1"))
