"""The paper's printed means as rows, what they are, and ours beside them."""

from __future__ import annotations

import json
import math
import re
import subprocess
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from salientry.metrics import permutation_p
from salientry.results import headline, paper_numbers
from salientry.results.names import attack_title
from salientry.results.numbers import numbers
from salientry.results.paper_numbers import bold, budget, cell, column_of, printed, printed_text, rounding, unit
from salientry.results.place import records, select
from salientry.results.scores import Scores

from .oracle import ROOT

COUNTS = {"table1": 7 * 3, "table2": 6 * 3 * 3, "table3": 2 * 2 * 2 * 3, "table4": 7 * 3, "table5": 15 * 3, "table6": 4 * 3}
CW = "CarliniWagner-steps=60-lr=0.01-initial_const=0.1-confidence=0.05"
BIM = "BIM-eps=0.025-step_size=0.0025"


@pytest.fixture(scope="module")
def recorded() -> tuple[Scores, pd.DataFrame]:
    """ASSIRA with two of the paper's attacks. Read only."""
    s = Scores.read(ROOT / "fast" / "assira-seed1")
    return s, numbers(s)


def means(node: Any) -> list[dict[str, Any]]:
    """Every cell with a mean, wherever it lies."""
    if not isinstance(node, dict):
        return []
    return [node] if "mean" in node else [c for v in node.values() for c in means(v)]


# --- as data ----------------------------------------------------------------------------------------------------------


def test_the_package_carries_177_printed_means() -> None:
    tables = {k: len(means(v)) for k, v in printed().items() if means(v)}
    assert tables == COUNTS
    assert sum(tables.values()) == 177


def test_the_printed_numbers_are_package_data_and_name_no_file() -> None:
    file = resources.files("salientry.results") / "paper.json"
    text = file.read_text("utf-8")
    assert json.loads(text) == printed()
    assert not re.findall(r"\w\.(?:md|json|py|txt|csv|pdf|html)\b|\.\./|/\w+/\w+/", text)
    root = Path(str(file)).parents[2]
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["salientry"]}, "everything in the package that git does not ignore is in the wheel"
    if (root / ".git").exists():
        assert subprocess.run(["git", "check-ignore", "-q", str(file)], cwd=root, check=False).returncode == 1


def test_doubted_cells_keep_their_mark_for_their_data_set_only() -> None:
    rows = printed()["table5"]
    doubted = {k: v["suspect"] for k, v in rows.items() if not k.startswith("_") and "suspect" in v}
    assert [list(d) for d in doubted.values()] == [["MNIST"], ["CIFAR-10"]]
    assert set(doubted) == {"BIM-DF", "DF-JSMA"}
    for row, column in (("BIM-DF", "MNIST"), ("DF-JSMA", "CIFAR-10")):
        marked = {c: cell(rows[row], c)["suspect"] for c in ("MNIST", "CIFAR-10", "ASSIRA")}
        assert marked == {c: doubted[row][c] if c == column else "" for c in marked}


def test_printed_cells_have_the_papers_digits() -> None:
    tables = printed()
    expected = [
        (tables["table1"]["FGSM"], "CIFAR-10", False, "0.083 (0.027)", 0.0005),
        (tables["table1"]["FGSM"], "MNIST", False, "0.09 (0.03)", 0.005),
        (tables["table2"]["CW"]["L2"], "CIFAR-10", False, "0.0017", 0.00005),
        (tables["table2"]["DF"]["L2"], "ASSIRA", False, "0.0020", 0.00005),
        (tables["table2"]["FGSM"]["Linf"], "MNIST", False, "0.20", 0.005),
        (tables["table4"]["MIM"], "MNIST", True, "22.00\u202f%", 0.00005),
        (tables["table6"]["ID"], "CIFAR-10", False, "0.61 (0.16)", 0.005),
    ]
    for row, column, percent, text, half in expected:
        found = cell(row, column, percent=percent)
        assert printed_text(found | {"value": found["found"]}) == text
        assert rounding(found["decimals"]) == pytest.approx(half / math.sqrt(3))


def test_the_rule_of_the_bold_cells() -> None:
    assert {(a, b): bold(a, b) for a in (0.0249, 0.025) for b in (0.499, 0.5)} == {
        (0.0249, 0.499): False,
        (0.0249, 0.5): False,
        (0.025, 0.499): False,
        (0.025, 0.5): True,
    }
    rows = printed()["table2"]
    for column, names in (("MNIST", ["JSMA"]), ("CIFAR-10", ["JSMA"]), ("ASSIRA", [])):
        attacks = [k for k in rows if not k.startswith("_")]
        assert [k for k in attacks if bold(*(rows[k][s][column]["mean"] for s in ("L2", "Linf")))] == names


def test_the_unit_of_a_difference() -> None:
    """By hand: with a spread it is nearly that, without one our error and the rounding are left, without either it is not 0."""
    assert unit(0.48, 0.52, 0.03, 2) == pytest.approx(math.hypot(0.04 / 3.919928, 0.03, 0.005 / 3**0.5))
    assert unit(0.48, 0.52, None, 2) == pytest.approx(math.hypot(0.04 / 3.919928, 0.005 / 3**0.5))
    assert unit(1.0, 1.0, 0.0, 2) == pytest.approx(0.005 / 3**0.5)


# --- in the frame -----------------------------------------------------------------------------------------------------


def test_every_row_of_the_papers_is_a_value_that_it_prints(recorded: tuple[Scores, pd.DataFrame]) -> None:
    """Each of ASSIRA's 59 means stands in the frame as often as something of ours stands beside it, or once; and nothing else does."""
    theirs = select(recorded[1], source="paper")
    assert set(theirs["kind"]) == {"paper table"}
    known = {c["mean"] for c in means({k: {r: v for r, v in t.items()} for k, t in _of("ASSIRA").items()})}
    values = {round(100 * v, 9) if percent else v for v, percent in zip(theirs["value"], theirs["percent"], strict=True)}
    assert values == known
    tables = records(recorded[1][recorded[1]["kind"] == "paper table"])
    assert {r["title"] for r in tables} == {
        r["name"] if r["title"] == r["name"] else f"{attack_title(r['attack'])} · {r['name']}" for r in tables
    }
    assert any(r["title"] != r["name"] for r in tables), "an attack at our settings has a name beside the paper's"
    once = theirs.drop_duplicates(["table", "title", "cell", "ours"])
    assert {t: len(g) for t, g in once[once["scheme"] != "paired"].groupby("table")} == {1: 2 * 7 - 4, 2: 18, 3: 8, 4: 7, 5: 15 + 1, 6: 4}


def _of(column: str) -> dict[str, Any]:
    """The printed tables with one data set's cells."""

    def only(node: Any) -> Any:
        return {k: v if k == column else only(v) for k, v in node.items() if k == column or (isinstance(v, dict) and "mean" not in v)}

    return {k: only(v) for k, v in printed().items() if k in COUNTS}


def test_every_difference_is_ours_minus_the_papers(recorded: tuple[Scores, pd.DataFrame]) -> None:
    f = recorded[1].set_index("id")
    theirs = select(recorded[1], source="paper")
    seen = set()
    for p in theirs.to_dict("records"):
        same = [f[c] == p[c] if p[c] is not None else f[c].isna() for c in ("table", "row", "cell", "saliency")]
        mine = f[np.logical_and.reduce([*same, f["kind"] == "paper table", f["source"] == "run"])].set_index("measure")
        assert (len(mine) == 2) == (p["ours"] in f.index)
        if len(mine):
            n, gap = f.loc[p["ours"]], mine.loc["difference"]
            assert [gap[c] for c in ("value", "lo", "hi")] == pytest.approx([n[c] - p["value"] for c in ("value", "lo", "hi")])
            assert mine.loc["units", "value"] == pytest.approx((n["value"] - p["value"]) / unit(n["lo"], n["hi"], p["std"], p["decimals"]))
            assert (gap["n"], gap["keys"]) == (n["n"], n["keys"])
            seen.add(p["table"])
    assert seen == {1, 2, 4, 5, 6}


def test_ours_stand_in_the_right_rows(recorded: tuple[Scores, pd.DataFrame]) -> None:
    theirs = select(recorded[1], source="paper")
    rows = {k: list(g["ours"]) for k, g in theirs.groupby(["table", "row"], sort=False)}
    assert rows[2, BIM] == [f"published/attack/{BIM}/{k}" for k in ("l0", "rms", "linf")]
    assert rows[4, "natural"] == ["any/natural/accuracy"]
    assert rows[4, "FGSM"] == [None], "it was not run"
    assert rows[6, "SPD"] == [f"published/{d}/combined/combined/accuracy" for d in ("SPD (replica)", "SPD")], "the paper's own manner first"
    assert all(set(i.rsplit("/", 1)[1].split("|")) == {BIM, CW} for i in rows[5, f"{BIM}|{CW}"])
    assert len(rows[5, f"{BIM}|{CW}"]) == 2, "two learnt maps"
    assert all(i.endswith("/other") for i in rows[1, "different images"])
    assert {r["title"] for r in theirs.to_dict("records") if r["row"] == CW} == {"C&W"}


def test_an_attack_with_another_budget_is_not_the_papers() -> None:
    assert {k: budget("ASSIRA", k) for k in ("FGSM", "BIM", "CW")} == {"FGSM": 0.025, "BIM": 0.025, "CW": None}
    assert budget("CIFAR-10", "MIM") == 0.15
    assert [column_of(d) for d in ("digits", "CIFAR10", "assira-7", "Arrays")] == ["MNIST", "CIFAR-10", "ASSIRA", None]
    s = Scores.read(ROOT / "fast" / "assira-seed1")
    assert paper_numbers.attacks_of(s) == {CW: "CW", BIM: "BIM"}
    for i in s.images.values():
        i["dataset"] = "cifar10"
    assert paper_numbers.attacks_of(s) == {CW: "CW"}
    theirs = select(numbers(s), source="paper", table=4)
    assert {r["title"]: r["ours"] is not None for r in theirs.to_dict("records")}["BIM"] is False


# --- the headline -----------------------------------------------------------------------------------------------------


def test_what_the_headline_compares(recorded: tuple[Scores, pd.DataFrame]) -> None:
    s, f = recorded
    flags = {d: s.one("strict", d, CW) for d in ("SPD", "IDPlus")}
    i = s.images[f"strict/test/{CW}"]
    rates = {d: np.mean([x[i["evaluated"]].mean() for x in g.flags(i["name"], g.level)]) for d, g in flags.items() if g is not None}
    gap = select(f, kind="headline", trained_on=CW, title="SPD minus ID+").iloc[0]
    assert gap["value"] == pytest.approx(rates["SPD"] - rates["IDPlus"])
    signs = select(f, kind="headline", protocol="published", measure="difference")
    assert list(signs["scheme"]) == ["replica", "paired"], "the paper's own manner first"
    for scheme in signs["scheme"]:
        two = select(f, kind="headline", protocol="published", scheme=scheme, measure="accuracy").set_index("title")["value"]
        assert select(signs, scheme=scheme)["value"].iloc[0] == pytest.approx(two["SPD"] - two["ID"])


def test_without_a_fusion_there_is_no_headline() -> None:
    s = Scores.read(ROOT / "fast" / "assira-seed1")
    s.trained = [g for g in s.trained if g.detector != "Fused"]
    assert list(headline.rows(s)) == []


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_the_correlation_of_what_is_found_with_size() -> None:
    """Six attacks, the diagonal and one row of the grid, against scipy."""
    s = Scores.read(ROOT / "fast" / "assira")
    f = numbers(s)
    named, labels = paper_numbers.attacks_of(s), s.labels
    assert set(labels) <= set(named)
    for over, pairs in (("diagonal", [(a, a) for a in labels]), (labels[0], [(labels[0], b) for b in labels[1:]])):
        accuracy = [
            select(f, kind="detection", protocol="published", title="SPD", trained_on=a, tested_on=b, measure="accuracy")["value"].iloc[0]
            for a, b in pairs
        ]
        for part in ("rms", "linf"):
            sizes = [round(float(s.images[f"published/test/{b}"][part].mean(dtype=np.float64)), 6) for _, b in pairs]
            found = select(f, kind="correlation", detector="SPD", trained_on=over, part=part).set_index("measure")
            assert found.loc["spearman", "value"] == pytest.approx(spearmanr(np.round(accuracy, 6), sizes).statistic)
            assert found.loc["spearman", "lo"] <= found.loc["spearman", "value"] <= found.loc["spearman", "hi"]
            assert found.loc["p-exact", "value"] == pytest.approx(permutation_p(np.round(accuracy, 6), np.array(sizes)))
            assert found.loc["p-exact", "n"] == len(pairs)


def test_no_correlation_of_two_points(recorded: tuple[Scores, pd.DataFrame]) -> None:
    assert select(recorded[1], kind="correlation").empty
