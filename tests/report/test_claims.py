"""The claims on a page and in the document of `--claims`; the paper's tables and the white box on a page."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import warnings
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.recorded import FOLDERS
from salientry.cli import app
from salientry.errors import UsageError
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.report import claims_document, report
from salientry.report.claims import Verdicts, how
from salientry.report.render import text as text_of
from salientry.report.report import Made
from salientry.report.spec import number_of
from salientry.report.verification import problems, verify
from salientry.results.claims import MANNERS, sentences
from salientry.results.names import in_words
from salientry.results.paper_numbers import MEANS, TABLES, UNIT, printed_text
from salientry.results.scores import Scores
from salientry.results.weights import OTHER
from tests.shared import shared
from tests.tiny import tiny

from .reading import ids, ledger, printed, section
from .surgery import CW, Opened, sealed

ABOUT = {"recipe": "tiny", "parameters": {}, "seed": 0, "numerics": "float32", "command": "tests.tiny"}
ROOT = Path(__file__).parents[2]
RECORDED = list(FOLDERS)
TIMING = Path("results/benchmarks/guard.json")
EVERY = [f"C{k}" for k in range(1, 22)]


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    shutil.copytree(finished, tmp_path / "copy")
    return Opened(tmp_path / "copy")


@pytest.fixture(scope="module")
def one(finished: Path) -> Made:
    return Made(Scores.read(finished), "")


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return (finished / "report.html").read_text()


# --- claims on the page --------------------------------------------------------------------------------------------------


def test_all_21_stand_on_the_page_in_order_with_their_numbers(html: str, one: Made, finished: Path) -> None:
    part, v = unescape(section(html, "claims")), Verdicts([(one.scores, one.frame)])
    shown = set(ids(section(html, "claims"), ledger(finished)))
    assert re.findall(r'<tr class="first"><th>(C\d+)</th>', part) == EVERY
    assert set(EVERY) == {r["claim"] for r in v.lines}
    for words in sentences()["claims"].values():
        assert words in part
    for r in (r for r in v.lines if r["run_seed"] == 0):
        assert in_words(r["words"]) in part
        assert r["verdict"] in part
        assert r["id"] is None or r["id"] in shown
    assert {v.word(k, "digits", 0, m) for k in EVERY for m in MANNERS} >= {"not run"}


def test_verify_finds_a_changed_claim(opened: Opened) -> None:
    folder = opened.close()
    report.write(folder)
    assert not problems(folder)
    body = json.loads((folder / "report.json").read_text())
    mine = next(n for n in body["numbers"] if n["id"].startswith("paper/C12/strict"))
    mine["value"] += 0.01
    (folder / "report.json").write_text(json.dumps(body))
    (result,) = problems(folder)
    assert result.startswith(mine["id"])


# --- the document --------------------------------------------------------------------------------------------------------


def timing(p50: float = 10.0) -> dict[str, Any]:
    row = {"subject": "guard: SPD", "batch": 1, "threads": 1, "calls": 500, "p50_ms": p50, "p50_ms_interval": [p50 - 1, p50 + 1]}
    row |= {"p99_ms": 2 * p50, "ratio": 4.0, "ratio_interval": [3.9, 4.1]}
    about = {
        "command": "python -m benchmarks.guard",
        "plan": "fast dataset=digits, untrained",
        "machine": {"cpu": "a"},
        "warnings": ["busy"],
    }
    return about | {"rows": [row | {"threads": 2, "p50_ms": 1.0}, row]}


@pytest.mark.nightly  # minutes of resampling
def test_the_document_is_what_the_recorded_runs_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """`salientry report results/... --timing results/benchmarks/guard.json --claims docs/claims.md` writes it again."""
    monkeypatch.chdir(ROOT)
    assert Path("results/fast/cifar10") in RECORDED
    assert (ROOT / "docs/claims.md").read_text() == claims_document.text(RECORDED, TIMING)


def test_a_document_of_a_run(finished: Path, one: Made, tmp_path: Path) -> None:
    (tmp_path / "timing.json").write_text(json.dumps(timing()))
    out = tmp_path / "new" / "claims.md"
    given = ["report", str(finished), "--claims", str(out), "--timing", str(tmp_path / "timing.json")]
    result = CliRunner().invoke(app, given)
    assert (result.exit_code, result.output) == (0, f"wrote {out}\n")
    text = out.read_text()
    assert re.findall(r"^## (C\d+): ", text, re.M) == EVERY
    links, headings = re.findall(r"^\| \[C\d+\]\(#([^)]+)\)", text, re.M), re.findall(r"^## (C\d+: .*)$", text, re.M)
    plain = [re.sub(r"[^a-z0-9 _-]", "", h.lower()) for h in headings]
    assert links == [re.sub("[ -]+", "-", h) for h in plain] == [h.replace(" ", "-") for h in plain], "as MkDocs and GitHub name them"
    assert re.findall(r"^\| \[(C\d+)\]", text, re.M) == EVERY
    rows = {k: text[text.index(f"## {k}: ") :].split("\n## ")[0] for k in EVERY}
    assert "**holds** 100.000 [90.909, 111.111]" in rows["C4"]
    assert re.search(r"\*\*[a-z' ]+\*\* \d of \d attacks?( \(| \|)", rows["C3"]) and "[" not in rows["C3"].partition("asked")[2]
    v = Verdicts([(one.scores, one.frame)])
    for k, words in sentences()["claims"].items():
        assert words in rows[k]
        for line in {r["line"]: [x for x in v.of(k, "digits", 0) if x["line"] == r["line"]] for r in v.of(k, "digits", 0)}.values():
            if k == "C4" or all(r["verdict"] == "not run" for r in line):
                continue
            cells = next(x for x in rows[k].splitlines() if x.startswith(f"| {in_words(line[0]['words'])}")).split(" | ")[2:]
            for r in line:
                n = v.number(r, r["id"])
                said = f"**{r['verdict']}**" + (f" {text_of(number_of(n), how(r))}" if n is not None and r["verdict"] != "not run" else "")
                assert any(said == c.removesuffix(" |") for c in cells), (k, r["words"])
    assert not re.findall(r"UNet|CarliniWagner|IDPlus", text), "no key of a setting"
    screen = text.split("\n## ")[0]
    assert len(screen.splitlines()) < 35 and len(screen) < 4000, "the overview is one screen"
    for where, what in sentences()["contradictions"]:
        assert f"- {where}: {what}." in text
    widths = {len(re.findall(r"(?<!\\)\|", r)) for r in rows["C5"].splitlines() if r.startswith("|")}
    assert len(widths) == 1, "every row has as many cells"


def test_the_document_for_scripts_holds_every_line(finished: Path, one: Made, tmp_path: Path) -> None:
    out = tmp_path / "claims.json"
    assert CliRunner().invoke(app, ["report", str(finished), "--claims", str(out)]).exit_code == 0
    body, v = json.loads(out.read_text()), Verdicts([(one.scores, one.frame)])
    assert list(body["claims"]) == EVERY
    assert [(r["claim"], r["line"], r["verdict"]) for r in body["lines"]] == [(r["claim"], r["line"], r["verdict"]) for r in v.lines]
    for mine, r in zip(body["lines"], v.lines, strict=True):
        n = v.number(r, r["id"])
        assert (mine["number"] is None) == (n is None)
        if n is not None and math.isfinite(n["value"]):
            assert mine["number"]["value"] == pytest.approx(n["value"])


def test_a_timing_of_another_data_set_is_not_taken(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(timing() | {"plan": "fast dataset=cifar10, untrained"}))
    assert "the timing is of fast dataset=cifar10, untrained" in claims_document.text([finished], tmp_path / "t.json")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a", "b", "c"], "a report is of one folder and perhaps the one with the white box on the same classifier; found 3"),
        (["a", "b", "--verify"], "a report is of one folder; found 2"),
        (["a", "--claims", "c.md", "--verify"], "--claims writes a document and does nothing else: leave --verify away"),
        (["a", "--claims", "c.md", "--cells", "figure2"], "leave --cells away"),
        (["a", "--timing", "t.json"], "--timing goes into the document of --claims FILE"),
        (["a", "--claims", "c.md"], "no records in a"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", *given])
    assert result.exit_code == 2
    assert says in result.output
    assert not list(tmp_path.iterdir())


# --- the paper's tables --------------------------------------------------------------------------------------------------


def test_the_page_shows_the_papers_cells_and_ours_in_their_rows(html: str, one: Made, finished: Path) -> None:
    part = unescape(section(html, "paper"))
    theirs = [r for r in one.rows if r["kind"] == "paper table" and r["source"] == "paper"]
    known = {n["id"] for n in one.rows}
    for number, (name, _) in TABLES.items():
        assert f'id="table{number}"><summary>Table {number}: {name}</summary>' in part
        table = unescape(section(html, f"table{number}"))
        shown = ids(section(html, f"table{number}"), ledger(finished))
        assert MEANS[number] in table
        for r in (r for r in theirs if r["table"] == number):
            row = next(x for x in re.findall(r"<tr>.*?</tr>", table, re.S) if f"<th>{r['title'].rpartition(' · ')[2]}</th>" in x)
            assert printed_text(r) in row
            assert r["ours"] is None or r["ours"] not in known or r["ours"] in shown
    assert "MNIST .01 breaks the triangle inequality" in part
    assert "CIFAR .02 breaks" not in part
    assert UNIT in part


def test_small_sizes_are_shown_with_the_papers_digits(opened: Opened) -> None:
    for s in opened.body["sets"]:
        s["facts"]["dataset"] = "cifar10"
    page = section(report.write(opened.close()).read_text(), "paper")
    known, found = ledger(opened.folder), [p for p in printed(page) if re.fullmatch(r"0\.\d{4}", p.text) and p.lo]
    assert found
    for p in found:
        assert [p.text, p.lo, p.hi] == [f"{known[p.at or 0][k]:.4f}" for k in ("value", "lo", "hi")]
    assert "CIFAR .02 breaks" in page


def test_a_data_set_that_the_paper_does_not_have(opened: Opened) -> None:
    for s in opened.body["sets"]:
        s["facts"]["dataset"] = "Arrays"
    folder = opened.close()
    assert "The paper has no data set Arrays." in report.write(folder).read_text()
    assert not problems(folder)


def test_reduced_attacks_keep_their_mark(opened: Opened) -> None:
    for a in opened.body["attacks"]:
        a["reduced"] = a["label"] == CW
    part = report.write(opened.close()).read_text()
    for number in (1, 2, 4, 5):
        table = section(part, f"table{number}")
        marked = {x[0] for x in re.findall(r"<tr><th>([^<]+)</th>((?:(?!</tr>).)*)</tr>", table, re.S) if "reduced settings" in x[1]}
        assert marked == ({"FGSM – C&amp;W", "C&amp;W – DeepFool 2"} & marked if number == 5 else {"C&amp;W"}), number
        assert marked


# --- the white box -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attacked(finished_store: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the white box alone, on the tiny run's networks."""

    def attack(folder: Path) -> None:
        shutil.copytree(finished_store, folder / "store", copy_function=os.link)  # others count what is in it
        run = Run(folder / "store")
        every = tiny(run, whitebox=True)
        outputs = Outputs(classifier=every.classifier, white_box=every.white_box, hardened=every.hardened)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 80 calibration images
            outcome = run.compute(list(outputs))
        export(run, outputs, outcome, folder / "out", ABOUT | {"out": str(folder / "out")})
        shutil.rmtree(folder / "store")

    return Path(shutil.copytree(shared("attacked", attack) / "out", tmp_path_factory.mktemp("attacked") / "out"))


def test_the_page_of_the_white_box_alone_is_written_and_verified(attacked: Path, tmp_path: Path) -> None:
    shutil.copytree(attacked, tmp_path / "alone")
    page = unescape(report.write(tmp_path / "alone").read_text())
    assert "What does it cost an attacker to evade a known detector?" in page
    for title in (
        "An attacker who knows classifier, map, detector and threshold",
        "The paper's own white box (Table 3)",
        "Adversarial training (C14)",
    ):
        assert f"{title}</h3>" in page or f"<summary>{title}</summary>" in page
    assert re.search(r"<th[^>]*>at [\d.]+\u202f%</th>", page) and "its own 0</th>" not in page, (
        "the attacked thresholds are calibrated ones"
    )
    assert not re.search(r"<tbody>\s*</tbody>", page), "no table is empty"
    assert re.search(r"Each attack: \d+ steps, (no restart|\d restarts?); without a budget \d+ steps", page)
    assert verify(tmp_path / "alone") > 500


def test_it_goes_beside_the_black_box_of_the_same_classifier(attacked: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "black")
    shutil.copytree(attacked, tmp_path / "white")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "black"), str(tmp_path / "white")])
    assert result.exit_code == 0, result.output
    assert "An attacker who knows the detector" in (tmp_path / "black" / "report.html").read_text()
    both = verify(tmp_path / "black")
    report.write(tmp_path / "white")
    assert both > verify(tmp_path / "white")
    before = (tmp_path / "black" / "report.json").read_bytes()
    report.write(tmp_path / "black")
    assert (tmp_path / "black" / "report.json").read_bytes() == before, "it remembers where the white box lies"
    (one,) = Scores.read_all([tmp_path / "black", tmp_path / "white"])
    assert one.beside is not None
    body = (tmp_path / "white" / "records.json").read_text()
    (tmp_path / "white" / "records.json").write_text(sealed(json.loads(body.replace(str(one.classifier), "0" * 64))))
    with pytest.raises(UsageError, match="different classifiers"):
        Scores.read(tmp_path / "black", beside=tmp_path / "white")


def test_a_run_alone_finds_the_white_box_that_its_collection_finds(attacked: Path, finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "fast" / "one", ignore=shutil.ignore_patterns("report.*")))
    shutil.copytree(attacked, tmp_path / "whitebox" / "one")
    assert "was not tried here" not in report.headline(folder)["sentences"][2]
    page = report.write(folder).read_text()
    assert "gets past" in page.split('<details class="part">')[0]
    assert verify(folder) > 500
    other = json.loads((tmp_path / "whitebox" / "one" / "records.json").read_text())
    assert other["weights"] == json.loads((folder / "records.json").read_text())["weights"]
    (tmp_path / "whitebox" / "one" / "records.json").write_text(sealed(other | {"weights": "f" * 64}))
    page = report.write(folder).read_text()
    first = page.split('<details class="part">')[0]
    assert "gets past" not in first and "attacker who knows it" not in first and OTHER in first
    assert page.count(OTHER[1:]) > 2, "at the section and at the claims"
    assert "not run" in section(page, "claims") and verify(folder) > 500
    shutil.rmtree(tmp_path / "whitebox")
    assert "was not tried here" in report.headline(folder)["sentences"][2]
