from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from salientry.report import report
from salientry.report.render import percent
from salientry.report.report import listed
from salientry.results.names import attack_title
from salientry.results.scores import Scores

from .surgery import Opened

COUNTS = ("/counts", "/natural-wrong", "/unchanged", "/over-budget", "/fooled-in-float-only")


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return (finished / "report.html").read_text()


@pytest.fixture(scope="module")
def numbers(finished: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    return {n["id"]: n for n in json.loads((finished / "report.json").read_text())["numbers"]}


@pytest.fixture
def opened(finished: Path, tmp_path: Path) -> Opened:
    """A copy that may be changed."""
    shutil.copytree(finished, tmp_path / "copy")
    return Opened(tmp_path / "copy")


def text_of(value: float, percent: bool) -> str:
    """As a reader would write it: three decimals, or one of a percentage; nothing below nothing."""
    digits = f"{100 * value:.1f}\u202f%" if percent else f"{value:.3f}"
    if float(digits.split("\u202f")[0]) == 0:
        digits = digits.removeprefix("-")
    return (digits if percent else re.sub(r"^(-?)0\.", r"\1.", digits)).replace("-", "\u2212")


def test_every_number_of_the_page_is_in_the_ledger_and_says_the_same(html: str, numbers: dict[str, dict]) -> None:  # type: ignore[type-arg]
    shown = re.findall(r'<span class="num" data-id="([^"]+)"[^>]*>([^<]*)<', html)
    assert len(shown) > 1000
    assert {unescape(name) for name, _ in shown} <= set(numbers)
    for name, text in shown:
        value = numbers[unescape(name)]["value"]
        if value is None:
            assert text == "–"
        elif text == "&lt;10⁻⁴":
            assert "/p-" in name
            assert value < 1e-4
        elif name.endswith(COUNTS):
            assert text == f"{value:,.0f}"
        else:
            assert text.strip(" ") == text_of(value, "%" in text), name


def test_every_interval_of_the_page_is_that_of_the_ledger(html: str, numbers: dict[str, dict]) -> None:  # type: ignore[type-arg]
    shown = re.findall(r'<span class="num" data-id="([^"]+)"[^>]*>([^<]*) <small>\[([^,]+), ([^\]]+)\]</small>', html)
    assert len(shown) > 500
    for name, text, *ends in shown:
        n = numbers[unescape(name)]
        assert ends == [text_of(n[k], "%" in text) for k in ("lo", "hi")], name


def test_the_page_needs_nothing_from_elsewhere(html: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+"', html)
    assert not re.findall(r"@import|url\((?!data:)", html)
    assert "<script" not in html
    assert 'name="viewport"' in html
    assert "@media print" in html


def test_links_lead_to_sections_of_the_page(html: str) -> None:
    targets, ids = re.findall(r'href="#([^"]+)"', html), re.findall(r'\sid="([^"]+)"', html)
    assert len(targets) >= 7
    assert set(targets) <= set(ids)
    assert len(ids) == len(set(ids))


def test_figures_are_pictures_and_have_words(html: str) -> None:
    found = re.findall(r'<img src="data:image/(png|svg\+xml);base64,([^"]+)" alt="([^"]+)"', html)
    assert len(found) == html.count("<img ")
    kinds = [kind for kind, _, _ in found]
    assert kinds.count("png") == 3
    assert kinds.count("svg+xml") >= 6  # Figure 2 and learning curves of both protocols, ROC curves of each strict training
    for kind, data, alt in found:
        content = base64.b64decode(data, validate=True)
        assert alt.strip()
        if kind == "png":
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                assert min(picture.size) > 100
                assert len(picture.convert("L").getcolors()) > 2
        else:
            assert ElementTree.fromstring(content).tag.endswith("svg")


def marked(html: str, words: str) -> set[str]:
    """Titles of the rows that carry a warning in these words."""
    return set(re.findall(r"<tr[^>]*>(?:<th>[^<]*</th>)?<th>([^<]+)(?:</th>|<div)(?:(?!</tr>).)*" + re.escape(words), html, re.S))


def test_a_gate_that_failed_is_said_and_marked(finished: Path, html: str) -> None:
    (gate,) = json.loads((finished / "records.json").read_text())["gates"]
    assert not gate["passed"], "the tiny map is none"
    assert "failed its sanity check" in html
    assert escape(gate["wrong"][0]) in html
    found = marked(html, "its map failed the sanity check")
    assert {"SMD", "SPD"} <= found
    assert not {"ID", "Margin", "BlackShare"} & found


def test_a_gate_that_passed_is_not_marked_and_reduced_attacks_have_a_star(opened: Opened) -> None:
    for gate in opened.body["gates"]:
        gate["passed"], gate["wrong"] = True, []
    for a in opened.body["attacks"]:
        a["reduced"] = a["label"] == "FGSM"
    body = report.write(opened.close()).read_text()
    assert "its map failed the sanity check" not in body
    assert "failed its sanity check" not in body
    assert body.count(">FGSM*</th>") >= 4
    assert "C&amp;W*" not in body
    assert "reduced settings (*)" in body


def test_no_star_without_a_reduced_attack(opened: Opened) -> None:
    for a in opened.body["attacks"]:
        a["reduced"] = False
    body = report.write(opened.close()).read_text()
    assert not re.search(r">[^<>]+\*</th>", body)
    assert "reduced settings" not in body


def test_labels_are_text_and_never_markup(opened: Opened) -> None:
    opened.rename("FGSM", "FG<i>S&M")
    opened.body["recipe"]["recipe"] = "<script>alert(1)</script>"
    (opened.folder / "gallery.safetensors").unlink()
    folder = opened.close()
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"command": 'salientry run "><script>x</script>', "out": "<b>out"}))
    body = report.write(folder).read_text()
    assert "<script" not in body
    assert "<i>S" not in body
    assert "<b>out" not in body
    assert "FG&lt;i&gt;S&amp;M" in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body


def test_too_few_adversarials_are_counted_and_not_rated(opened: Opened) -> None:
    """With 49 that count there is an n and no rate."""
    index = opened.set("strict/test/FGSM")["index"]
    for column in ("right", "evaluated"):
        value = opened.arrays[f"set/{index:03d}/{column}"].astype(bool)
        opened.arrays[f"set/{index:03d}/{column}"] = value & (np.cumsum(opened.column("strict/test/FGSM", "evaluated")) <= 49)
    folder = opened.close()
    body = report.write(folder).read_text()
    ledger = {n["id"]: n for n in json.loads((folder / "report.json").read_text())["numbers"]}
    assert ledger["strict/attack/FGSM/counts"]["value"] == 49
    assert not [i for i in ledger if re.match(r"strict/[^/]+/[^/]+/FGSM/(tpr|auroc|gap)", i)]
    assert [i for i in ledger if re.match(r"published/[^/]+/[^/]+/FGSM/auroc", i)]
    assert "FGSM has no column: 49 of its images count." in body
    lines, whole = listed(folder, "figure2")
    assert whole
    refused = [line for line in lines if line.endswith("tested on FGSM: 49 adversarials count, 50 are needed")]
    assert len(refused) == 2 * 4
    assert all("none: strict/" in line for line in refused)


def test_the_page_says_where_it_comes_from(html: str, finished: Path) -> None:
    run = json.loads((finished / "run.json").read_text())
    for text in (run["command"], run["machine"]["torch"], run["machine"]["device"], "seconds", "--verify"):
        assert text in html
    assert f"{run['core_seconds']} s of one thread" in html


def test_numbers_carry_what_a_reader_needs(numbers: dict[str, dict]) -> None:  # type: ignore[type-arg]
    for n in numbers.values():
        assert n["protocol"] in ("any", "published", "strict")
        assert n["keys"]
        assert all(re.fullmatch(r"[0-9a-f]{12}", k) for k in n["keys"])
        assert n["command"]
        if n["lo"] is not None:
            assert n["lo"] <= n["value"] + 1e-9
            assert n["value"] <= n["hi"] + 1e-9


def test_the_null_control_changes_no_score(numbers: dict[str, dict]) -> None:  # type: ignore[type-arg]
    nulls = [n["value"] for i, n in numbers.items() if i.endswith("null-difference")]
    assert len(nulls) > 30
    assert set(nulls) == {0.0}


def test_the_report_is_made_without_torch_and_is_the_same(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns("report.*"))
    code = "import sys; from salientry.report.report import write; write(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(out)], check=True)
    assert (out / "report.json").read_bytes() == (finished / "report.json").read_bytes()
    assert (out / "report.html").read_bytes() == (finished / "report.html").read_bytes()


def test_words() -> None:
    assert attack_title("DeepFool-steps=2") == "DeepFool 2"
    assert attack_title("CarliniWagner-steps=60-lr=0.1") == "C&W"
    assert attack_title("FGSM") == "FGSM"
    assert percent("0.001") == "0.1\u202f%"


def test_a_page_without_scores_and_pictures_still_says_what_the_attacks_did(finished: Path, tmp_path: Path) -> None:
    for name in ("records.json", "records.safetensors"):
        shutil.copy(finished / name, tmp_path / name)
    body = report.write(tmp_path).read_text()
    assert "Table 4" in body
    assert body.count("No pictures") == 1
    for shard in Scores.read(tmp_path).absent:
        assert f"{escape(shard)} is missing" in body
    numbers = {n["id"] for n in json.loads((tmp_path / "report.json").read_text())["numbers"]}
    assert {"any/natural/accuracy", "strict/attack/FGSM/changed"} <= numbers
    assert not [i for i in numbers if "/auroc" in i or "/tpr@" in i]


def test_without_pandas_a_run_keeps_its_records_and_the_report_says_what_to_install(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("report.*"))
    lacking = "import sys; from pathlib import Path; sys.modules['pandas'] = None; "
    run = "from salientry.cli.running import _write_page; _write_page(Path(sys.argv[1]), print)"
    result = subprocess.run([sys.executable, "-c", lacking + run, str(tmp_path / "out")], capture_output=True, text=True, check=True)
    assert result.stdout.count("warning: ") == 1
    assert "pip install 'salientry[report]'" in result.stdout
    assert not (tmp_path / "out" / "report.html").exists()
    command = "from salientry.cli import app; app(['report', sys.argv[1]])"
    refused = subprocess.run([sys.executable, "-c", lacking + command, str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: the tables of a report need pandas")
