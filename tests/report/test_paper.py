from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import shutil
import subprocess
import tomllib
from dataclasses import replace
from html import unescape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from salientry.metrics import Resamples, permutation_p, rate, spearman
from salientry.report import appendix, claims, page, targets, threshold
from salientry.report.cells import side
from salientry.report.compute import Computed, computed
from salientry.report.numbers import Ledger, Number
from salientry.report.paper import unit
from salientry.report.records import Records
from salientry.report.targets import Printed
from salientry.report.verify import problems

from .surgery import CW, Opened

COUNTS = {"table1": 7 * 3, "table2": 6 * 3 * 3, "table3": 2 * 2 * 2 * 3, "table4": 7 * 3, "table5": 15 * 3, "table6": 4 * 3}
PUBLISHED, REPLICA, STRICT = ("published", "paired"), ("published", "replica"), ("strict", "paired")


@pytest.fixture(scope="module")
def found(finished: Path) -> Computed:
    return computed(Records(finished))


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    shutil.copytree(finished, tmp_path / "copy")
    return Opened(tmp_path / "copy")


def means(node: Any) -> list[dict[str, Any]]:
    """Every cell with a mean, wherever it lies."""
    if not isinstance(node, dict):
        return []
    return [node] if "mean" in node else [c for v in node.values() for c in means(v)]


def verdicts(of: Computed) -> dict[tuple[str, str, str, str], str]:
    return {(c.claim, c.slug, *m): f.verdict for c in of.paper.claims for m, f in c.findings.items()}


def again(o: Opened) -> Computed:
    return computed(Records(o.close()))


def scores(o: Opened, detector: dict[str, Any], of: str, values: Any) -> None:
    """Put other scores in place of a detector's on a set."""
    at = (o.set(of)["index"], detector["index"])
    column = next(s["column"] for s in o.body["scores"] if (s["set"], s["detector"]) == at)
    o.arrays[column] = np.asarray(values, o.arrays[column].dtype)


# --- the paper's numbers as package data ---------------------------------------------------------------------------


def test_the_package_carries_177_printed_means() -> None:
    tables = {k: len(means(v)) for k, v in targets.printed().items() if means(v)}
    assert tables == COUNTS
    assert sum(tables.values()) == 177


def test_the_printed_numbers_are_package_data_and_name_no_file() -> None:
    file = resources.files("salientry.results") / "paper.json"
    text = file.read_text("utf-8")
    assert json.loads(text) == targets.printed()
    assert not re.findall(r"\w\.(?:md|json|py|txt|csv|pdf|html)\b|\.\./|/\w+/\w+/", text)
    root = Path(str(file)).parents[2]
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["salientry"]}, "everything in the package that git does not ignore is in the wheel"
    if (root / ".git").exists():
        assert subprocess.run(["git", "check-ignore", "-q", str(file)], cwd=root, check=False).returncode == 1


def test_doubted_cells_keep_their_mark_for_their_data_set_only() -> None:
    rows = targets.printed()["table5"]
    doubted = {k: v["suspect"] for k, v in rows.items() if not k.startswith("_") and "suspect" in v}
    assert doubted == {
        "BIM-DF": "MNIST .01 breaks the triangle inequality with BIM-MIM .02 and MIM-DF .06",
        "DF-JSMA": "CIFAR .02 breaks the triangle inequality with CW-DF .02 and CW-JSMA .07",
    }
    for row, column in (("BIM-DF", "MNIST"), ("DF-JSMA", "CIFAR-10")):
        marked = {c: targets.cell(rows[row], c).suspect for c in ("MNIST", "CIFAR-10", "ASSIRA")}
        assert marked == {c: doubted[row] if c == column else "" for c in marked}


def test_printed_cells_have_the_papers_digits() -> None:
    tables = targets.printed()
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
        cell = targets.cell(row, column, percent=percent)
        assert (cell.text, cell.rounding) == (text, pytest.approx(half / math.sqrt(3)))
    assert targets.cell(tables["table4"]["MIM"], "MNIST", percent=True).mean == pytest.approx(0.22)


# --- beside ours ----------------------------------------------------------------------------------------------------


def test_the_unit_of_a_difference() -> None:
    """By hand: with a spread it is nearly that, without one our error and the rounding are left, without either it is not 0."""
    assert unit(0.48, 0.52, Printed(0.5, 0.03, 2)) == pytest.approx(math.hypot(0.04 / 3.919928, 0.03, 0.005 / 3**0.5))
    assert unit(0.48, 0.52, Printed(0.5, None, 2)) == pytest.approx(math.hypot(0.04 / 3.919928, 0.005 / 3**0.5))
    assert unit(1.0, 1.0, Printed(1.0, 0.0, 2)) == pytest.approx(0.005 / 3**0.5)


def test_every_difference_is_ours_minus_the_papers(found: Computed) -> None:
    paper, ledger = found.paper, found.ledger
    assert (paper.column, paper.digits) == ("MNIST", True)
    assert [t.number for t in paper.tables] == [1, 2, 3, 4, 5, 6]
    seen = set()
    for t in paper.tables:
        for line in t.lines:
            for c in line.cells:
                if c.ours is None or c.difference is None or c.units is None:
                    assert c.ours is None and c.difference is None and c.units is None
                    continue
                seen.add(t.number)
                n, gap = ledger[c.ours], ledger[c.difference]
                assert n.value is not None and n.lo is not None and n.hi is not None
                assert (gap.value, gap.lo, gap.hi) == pytest.approx([v - c.printed.mean for v in (n.value, n.lo, n.hi)])
                assert ledger.value(c.units) == pytest.approx((n.value - c.printed.mean) / unit(n.lo, n.hi, c.printed))
                assert (gap.n, gap.keys) == (n.n, n.keys)
    assert seen == {1, 2, 4, 5, 6}


def test_ours_stand_in_the_right_rows(found: Computed) -> None:
    rows = {t.number: {line.label or line.title: [c.ours for c in line.cells] for line in t.lines} for t in found.paper.tables}
    assert rows[2]["FGSM"] == [f"published/attack/FGSM/{k}" for k in ("l0", "rms", "linf")]
    assert rows[4]["natural"] == ["any/natural/accuracy"]
    assert {"FGSM", CW, "DeepFool-steps=2", "BIM", "JSMA"} <= set(rows[4])
    assert rows[4]["BIM"] == [None]
    assert rows[6]["SPD"] == [f"published/{d}/combined/combined/accuracy" for d in ("SPD", "SPD (replica)")]
    (pair,) = rows[5][f"FGSM|{CW}"]
    assert pair is not None and pair.endswith(f"/FGSM|{CW}")
    (first,) = rows[1]["different images"]
    assert first is not None and first.endswith("/other")
    assert all(ours == [None, None] for ours in rows[3].values())


def test_the_page_shows_the_papers_cells_and_says_what_was_not_run(finished: Path, found: Computed) -> None:
    html = (finished / "report.html").read_text()
    part = html[html.index('<h2 id="paper">') :]
    for t in found.paper.tables:
        assert f"<h3>Table {t.number}: {t.name}</h3>" in part
        for line in t.lines:
            assert all(f">{c.printed.text}<" in part for c in line.cells), line.title
    assert "no white-box attack in the records" in part
    assert "MNIST .01 breaks the triangle inequality" in part
    assert "CIFAR .02 breaks" not in part
    assert "5,000 images of MNIST" in part
    assert found.paper.unit in unescape(part)
    for c in found.paper.claims:
        assert c.words in unescape(part)
    assert part.count('<b class="verdict">') == sum(len(c.findings) for c in found.paper.claims)


def test_small_sizes_are_shown_with_the_papers_digits(opened: Opened) -> None:
    for s in opened.body["sets"]:
        s["facts"]["dataset"] = "cifar10"
    of = again(opened)
    assert of.paper.column == "CIFAR-10"
    html = page.write(opened.folder).read_text()
    shown = re.findall(r'<span class="fine" data-id="([^"]+)"[^>]*>([\d.]+) <small>\[([\d.]+), ([\d.]+)\]', html)
    assert shown
    for id, *texts in shown:
        n = of.ledger[unescape(id)]
        assert texts == [f"{v:.4f}" for v in (n.value, n.lo, n.hi)]
    assert "CIFAR .02 breaks" in html


def test_an_attack_with_another_budget_is_not_the_papers(opened: Opened) -> None:
    assert {k: targets.budget("ASSIRA", k) for k in ("FGSM", "BIM", "CW")} == {"FGSM": 0.025, "BIM": 0.025, "CW": None}
    assert targets.budget("CIFAR-10", "MIM") == 0.15
    for s in opened.body["sets"]:
        s["facts"]["dataset"] = "assira"
    folder = opened.close()
    assert "FGSM" not in targets.attacks_of(Records(folder), "ASSIRA")
    assert targets.attacks_of(Records(folder), "MNIST") == {"FGSM": "FGSM", CW: "CW", "DeepFool-steps=2": "DF"}
    table = next(t for t in computed(Records(folder)).paper.tables if t.number == 4)
    assert [line.label for line in table.lines if line.title == "FGSM"] == [""]


def test_a_data_set_that_the_paper_does_not_have(opened: Opened) -> None:
    for s in opened.body["sets"]:
        s["facts"]["dataset"] = "Arrays"
    folder = opened.close()
    assert "The paper has no data set Arrays." in page.write(folder).read_text()
    assert not problems(folder)


def test_reduced_attacks_keep_their_mark(opened: Opened) -> None:
    for a in opened.body["attacks"]:
        a["reduced"] = a["label"] == CW
    html = page.write(opened.close()).read_text()
    part = html[html.index('<h2 id="paper">') : html.index('<h2 id="adds">')]
    assert part.count(f'<th title="{CW}">C&amp;W*</th>') == 3  # Tables 1, 2, 4
    assert "FGSM – C&amp;W <small>* one of them</small>" in part
    assert ">FGSM*<" not in part


# --- bold ------------------------------------------------------------------------------------------------------------


def test_the_rule_of_the_bold_cells() -> None:
    bold = {(a, b): threshold.Size(a, b).bold for a in (0.0249, 0.025) for b in (0.499, 0.5)}
    assert bold == {(0.0249, 0.499): False, (0.0249, 0.5): False, (0.025, 0.499): False, (0.025, 0.5): True}
    rows = targets.printed()["table2"]
    for column, names in (("MNIST", ["JSMA"]), ("CIFAR-10", ["JSMA"]), ("ASSIRA", [])):
        cells = {k: threshold.Size(*(rows[k][s][column]["mean"] for s in ("L2", "Linf"))) for k in rows if not k.startswith("_")}
        assert [k for k, size in cells.items() if size.bold] == names


def test_bold_beside_what_id_finds(opened: Opened) -> None:
    """FGSM is made bold and found, C&W small: exactly the bold one. Then C&W is found as well: no longer."""
    for a, rms, linf in (("FGSM", 0.1, 0.6), (CW, 0.01, 0.1)):
        for k, v in (("rms", rms), ("linf", linf)):
            opened.column(f"published/test/{a}", k)[:] = v
    n = len(opened.score(opened.detector("ID", "published", "FGSM"), "any/test/natural"))
    for a in ("FGSM", CW, "DeepFool-steps=2"):
        d = opened.detector("ID", "published", a)
        scores(opened, d, "any/test/natural", -np.ones(n))
        scores(opened, d, f"published/test/{a}", np.ones(n) if a == "FGSM" else -np.ones(n))
    for role in ("detector_train", "validation"):  # so that it counts as trained
        d = opened.detector("ID", "published", CW)
        for a, v in ((f"any/{role}/natural", -1.0), (f"published/{role}/{CW}", 1.0)):
            scores(opened, d, a, np.full(len(opened.score(d, a)), v))
    of = again(opened)
    one = next(b for b in of.paper.bold if (b.defence, b.form) == ("ID", "paired"))
    assert (one.bold, one.extra, one.lacking, one.open) == (["FGSM"], [], [], [])
    assert one.word == ("yes, but for want of training" if one.untrained else "yes")
    assert CW not in one.untrained
    table = next(t for t in of.paper.tables if t.number == 2)
    assert {line.label: line.bold for line in table.lines if line.label} == {
        "FGSM": (True, False),
        CW: (False, False),
        "DeepFool-steps=2": (False, False),
    }
    html = page.write(opened.folder).read_text()
    assert html.count('<b class="ours"><span class="num" data-id="published/attack/FGSM/rms"') == 1
    assert f'<b class="ours"><span class="num" data-id="published/attack/{CW}/rms"' not in html
    assert html.count('<b class="theirs">') == 2  # JSMA's L2 and L-infinity
    scores(opened, opened.detector("ID", "published", CW), f"published/test/{CW}", np.ones(n))
    (changed,) = [b for b in again(opened).paper.bold if (b.defence, b.form) == ("ID", "paired")]
    assert (changed.word, changed.extra) == ("no", [CW])


# --- rank correlation -------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=8))
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(v, float) for v in zip(*pairs, strict=True))
    found = float(spearman(a, b))
    if len(set(a)) < 2 or len(set(b)) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(a, b).statistic)


def test_spearman_of_many_rows_is_that_of_each() -> None:
    a, b = np.random.default_rng(0).integers(0, 4, (2, 50, 6))
    assert spearman(a, b) == pytest.approx([float(spearman(x, y)) for x, y in zip(a, b, strict=True)], nan_ok=True)


@pytest.mark.parametrize("values", [(3.0, 1.0, 2.0, 5.0, 4.0), (1.0, 2.0, 2.0, 4.0, 5.0, 6.0)])
def test_the_exact_p_counts_all_orders(values: tuple[float, ...]) -> None:
    first = np.arange(float(len(values)))
    strong = abs(spearmanr(first, values).statistic)
    orders = [abs(spearmanr(first, o).statistic) for o in itertools.permutations(values)]
    assert permutation_p(first, np.array(values)) == pytest.approx(np.mean([o >= strong - 1e-12 for o in orders]))
    assert permutation_p(first, first) == pytest.approx(2 / math.factorial(len(values)))
    assert math.isnan(permutation_p(first, np.ones(len(values))))


def three(o: Opened) -> list[str]:
    """The tiny run with BIM beside FGSM and C&W, each of another size, with scores of noise that lean by attack."""
    o.also("FGSM", "BIM")
    o.noise()
    labels = ["FGSM", "BIM", CW]
    for a, rms, linf, lean in zip(labels, (0.15, 0.09, 0.03), (0.2, 0.15, 0.4), (0.2, 0.3, 0.1), strict=True):
        s = o.set(f"published/test/{a}")
        s["facts"]["eps"] = {"FGSM": 0.2, "BIM": 0.15}.get(a)
        for k, v in (("rms", rms), ("linf", linf)):
            o.arrays[f"set/{s['index']:03d}/{k}"] = np.full(len(o.column(s["name"], k)), v, np.float32)
        d = o.detector("SPD", "published", a)
        scores(o, d, s["name"], o.score(d, s["name"]) + lean)
    return labels


def test_the_correlation_of_what_is_found_with_size(opened: Opened) -> None:
    labels = three(opened)
    accuracy = []
    for a in labels:
        d = opened.detector("SPD", "published", a)
        accuracy.append(((opened.score(d, "any/test/natural") <= 0).mean() + (opened.score(d, f"published/test/{a}") > 0).mean()) / 2)
    of = again(opened)
    line = next(c for c in of.paper.correlations if (c.defence, c.over) == ("SPD", "diagonal"))
    assert (line.points, line.smallest) == (3, pytest.approx(2 / 6))
    for name, sizes in (("L2", (0.15, 0.09, 0.03)), ("L∞", (0.2, 0.15, 0.4))):
        n = of.ledger[line.rho[name]]
        assert n.value == pytest.approx(spearmanr(accuracy, sizes).statistic)
        assert n.lo is not None and n.hi is not None and n.lo <= n.value <= n.hi
        assert n.lo < n.hi, "the accuracies lie near each other: their order is not certain"
        p = of.ledger[line.p[name]]
        assert (p.value, p.n) == (pytest.approx(permutation_p(np.array(accuracy), np.array(sizes))), 3)
    rows = [c for c in of.paper.correlations if c.over != "diagonal"]
    assert len(rows) == 4 * 3
    assert all((c.points, c.rho) == (2, {}) and "are needed" in c.why for c in rows)


def test_no_correlation_of_two_points(found: Computed) -> None:
    assert all(not c.rho and c.why.startswith(f"{c.points} attacks") for c in found.paper.correlations)
    assert not [i for i in found.ledger.numbers if i.startswith("paper/correlation")]


# --- claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lo", "hi", "above", "word"),
    [
        (0.1, 0.2, True, claims.HOLDS),
        (0.1, 0.2, False, claims.FAILS),
        (-0.2, -0.1, True, claims.FAILS),
        (-0.2, -0.1, False, claims.HOLDS),
        (-0.1, 0.1, True, claims.OPEN),
        (0.0, 0.0, False, claims.OPEN),
        (None, None, True, claims.NOT_RUN),
    ],
)
def test_what_an_interval_says_of_a_claim(lo: float | None, hi: float | None, above: bool, word: str) -> None:
    n = Number("x", None if lo is None or hi is None else (lo + hi) / 2, lo, hi, 9, "strict", [], [])
    assert claims.verdict(side(n, 0.0), above) == word


def test_claims_speak_of_what_was_run(found: Computed) -> None:
    said = verdicts(found)
    assert {c for c, *_ in said} == {f"C{k}" for k in range(1, 22)}
    assert {(protocol, form) for c, _, protocol, form in said if c in {f"C{k}" for k in range(5, 12)}} == {PUBLISHED, REPLICA, STRICT}
    assert set(said.values()) <= {claims.HOLDS, claims.FAILS, claims.OPEN, claims.UNTRAINED, claims.NOT_RUN}
    assert {v for (c, *_), v in said.items() if c in ("C8", "C9")} == {claims.NOT_RUN}, "no JSMA, and one attack of each norm"
    for c in found.paper.claims:
        for f in c.findings.values():
            assert (f.id is None) == (f.verdict == claims.NOT_RUN)
            assert f.id is None or found.ledger[f.id].keys
            assert f.id is not None or f.why


def test_a_mean_over_the_grid(opened: Opened) -> None:
    """C5 against plain numpy."""
    o, labels = opened, ["FGSM", CW]
    opened.noise()

    def accuracy(defence: str, a: str, b: str) -> float:
        d = o.detector(defence, "published", a)
        return float(((o.score(d, "any/test/natural") <= 0).mean() + (o.score(d, f"published/test/{b}") > 0).mean()) / 2)

    expected = np.mean([accuracy("SPD", a, b) - accuracy("ID", a, b) for a in labels for b in labels])
    of = again(opened)
    n = of.ledger["paper/C5/published/paired/SPD minus ID"]
    assert n.value == pytest.approx(expected)
    assert n.lo is not None and n.hi is not None and n.lo < n.value < n.hi
    assert n.runs == [pytest.approx(expected)]


def boundary(o: Opened, defence: str) -> tuple[Any, dict[str, Any]]:
    """Strict scores of a defence on C&W such that its rate lies just below what is found: one more flag makes it undecided."""
    d, s = o.detector(defence, "strict", CW), o.set(f"strict/test/{CW}")
    counts = np.logical_and.reduce([o.column(s["name"], c).astype(bool) for c in ("right", "changed", "in_budget")])
    records = Records(o.folder)
    where, ids, draws = np.flatnonzero(counts), records.sets[s["name"]].ids[counts], Resamples(records.natural("test").ids)
    limit = d["thresholds"]["0.05"]
    for k in range(len(where)):
        flags = np.arange(len(where)) < k
        if rate(draws, ids, [flags]).hi >= 0.5:
            break
    values = np.full(len(counts), limit - 1.0)
    values[where[: k - 1]] = limit + 1.0
    scores(o, d, s["name"], values)
    return where[k - 1], d


def trained(o: Opened, d: dict[str, Any], protocol: str, attack: str) -> None:
    """Make a detector one that trained: its scores tell the training pairs apart."""
    for role in ("detector_train", "validation"):
        for name, v in ((f"any/{role}/natural", -1.0), (f"{protocol}/{role}/{attack}", 1.0)):
            scores(o, d, name, np.full(len(o.score(d, name)), v))


def test_one_corrupted_score_changes_the_verdict_it_feeds_and_no_other(opened: Opened) -> None:
    at, d = boundary(opened, "ID")
    trained(opened, d, "strict", CW)
    before = again(opened)
    line = ("C11", f"ID on {CW}", *STRICT)
    assert verdicts(before)[line] == claims.HOLDS
    values = opened.score(d, f"strict/test/{CW}").copy()
    values[at] = 1e6
    scores(opened, d, f"strict/test/{CW}", values)
    after = again(opened)
    assert verdicts(after)[line] == claims.OPEN
    assert {k for k, v in verdicts(before).items() if v != verdicts(after)[k]} == {line}
    moved = {i for i, n in before.ledger.numbers.items() if i.startswith("paper/") and n != after.ledger[i]}
    assert moved
    assert all("/strict/paired/" in i for i in moved), "what the published protocol says does not move"


def test_a_claim_over_a_baseline_that_did_not_train_says_so(opened: Opened) -> None:
    _, d = boundary(opened, "ID")
    trained(opened, d, "strict", CW)
    line = ("C11", f"ID on {CW}", *STRICT)
    assert verdicts(again(opened))[line] == claims.HOLDS
    for role in ("detector_train", "validation"):
        for name in (f"any/{role}/natural", f"strict/{role}/{CW}"):
            scores(opened, d, name, np.random.default_rng(0).standard_normal(len(opened.score(d, name))))
    of = again(opened)
    assert verdicts(of)[line] == claims.UNTRAINED
    finding = next(c for c in of.paper.claims if c.slug == line[1]).findings[STRICT]
    assert (finding.stamped, finding.trained) == (["ID: C&W"], None)
    html = page.write(opened.folder).read_text()
    assert "holds only against a baseline that did not train" in html


def test_a_claim_over_many_rows_is_asked_again_where_the_baseline_trained(opened: Opened) -> None:
    """SPD finds everything, ID nothing. With one ID head untrained the other row still carries C5; with both, none does."""
    n = len(opened.column("any/test/natural", "right"))
    heads = {(d, a): opened.detector(d, "published", a) for d in ("SPD", "ID") for a in ("FGSM", CW)}
    for (d, a), head in heads.items():
        trained(opened, head, "published", a)
        scores(opened, head, "any/test/natural", -np.ones(n))
        for b in ("FGSM", CW):
            scores(opened, head, f"published/test/{b}", np.full(n, 1.0 if d == "SPD" else -1.0))

    def finding() -> claims.Finding:
        return next(c for c in again(opened).paper.claims if c.slug == "SPD minus ID").findings[PUBLISHED]

    assert (finding().verdict, finding().stamped, finding().trained) == (claims.HOLDS, [], None)
    assert finding().silent == ["ID: FGSM, C&W"]
    for a, word, stamped in (("FGSM", claims.HOLDS, "ID: FGSM"), (CW, claims.UNTRAINED, "ID: FGSM, C&W")):
        for name in ("any/detector_train/natural", f"published/detector_train/{a}"):
            scores(opened, heads["ID", a], name, np.zeros(len(opened.score(heads["ID", a], name))))
        got = finding()
        assert (got.verdict, got.stamped) == (word, [stamped])
        assert (got.trained is None) == (a == CW)


# --- Appendix G ---------------------------------------------------------------------------------------------------------


def test_the_grid_file_holds_what_the_ledger_holds(finished: Path, found: Computed) -> None:
    lines = list(csv.DictReader(io.StringIO((finished / "grid.csv").read_text())))
    spoken = {(line["protocol"], line["defence"], line["form"], line["trained_on"], line["tested_on"]) for line in lines}
    assert len(spoken) == len(lines)
    grid = {
        (p, d, f, a, b)
        for p, f in (PUBLISHED, REPLICA, STRICT)
        for d in ("SPD", "SMD", "ID", "JSD")
        for a in ("FGSM", CW)
        for b in ("FGSM", CW)
    }
    assert grid <= spoken
    for line in lines:
        if not line["id"]:
            assert line["why"] and not line["value"]
            continue
        n = found.ledger[line["id"]]
        assert line["measure"] in ("accuracy", "tpr@0.05") and line["id"].endswith(line["measure"])
        assert [float(line[k]) for k in ("value", "lo", "hi")] == pytest.approx([n.value, n.lo, n.hi], abs=1e-9)
        assert int(line["n"]) == n.n
        assert [float(v) for v in line["seeds"].split()] == pytest.approx(n.runs, abs=1e-9)
        assert line["std"] == "", "one seed has no spread"
        rank = found.ledger[re.sub(r"[^/]+$", "auroc", line["id"])]
        assert float(line["auroc"]) == pytest.approx(rank.value, abs=1e-9)
        assert set(line["heads"].split()) <= set(n.keys)


def test_the_spread_of_two_seeds(found: Computed) -> None:
    id = "published/SPD/FGSM/FGSM/accuracy"
    two = Ledger()
    two.numbers = found.ledger.numbers | {id: replace(found.ledger[id], runs=[0.5, 0.7])}
    line = next(line for line in appendix.text(two, found.tables).splitlines() if f",{id}," in line)
    assert ",0.500000000 0.700000000,0.141421356," in line


@pytest.mark.parametrize("what", ["changed", "missing", "longer"])
def test_a_changed_grid_file_is_found(finished: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    file = tmp_path / "copy" / "grid.csv"
    assert not problems(tmp_path / "copy")
    raw = bytearray(file.read_bytes())
    if what == "changed":
        at = raw.rindex(b"0.")
        raw[at + 2] = ord("8") if raw[at + 2] != ord("8") else ord("7")
        line = raw[:at].count(b"\n") + 1
        file.write_bytes(raw)
        assert problems(tmp_path / "copy") == [f"grid.csv is not what follows from the records: line {line}"]
    elif what == "missing":
        file.unlink()
        assert problems(tmp_path / "copy") == ["grid.csv is missing"]
    else:
        file.write_bytes(raw + b"x\n")
        assert [p.split(":")[0] for p in problems(tmp_path / "copy")] == ["grid.csv is not what follows from the records"]
