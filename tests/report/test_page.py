from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from salientry.metrics import auroc
from salientry.report import page
from salientry.report.page import attack_title, percent
from salientry.report.records import Records


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return (finished / "report.html").read_text()


@pytest.fixture(scope="module")
def numbers(finished: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    return {n["id"]: n for n in json.loads((finished / "report.json").read_text())["numbers"]}


def test_every_number_of_the_page_is_in_the_ledger_and_says_the_same(html: str, numbers: dict[str, dict]) -> None:  # type: ignore[type-arg]
    shown = re.findall(r'<span class="num" data-id="([^"]+)"[^>]*>([^<]*)<', html)
    assert len(shown) > 150
    for name, text in shown:
        value = numbers[name]["value"]
        if value is None:
            assert text == "–"
            continue
        printed = float(text.replace("\u2212", "-").replace("\u202f%", "").replace(",", ""))
        assert printed == pytest.approx(
            100 * value if "%" in text else value, abs=0.051 if "%" in text else 0.00051 + (0.5 if value > 30 else 0)
        )


def test_the_page_needs_nothing_from_elsewhere(html: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]+"', html)
    assert "<script" not in html
    assert 'name="viewport"' in html
    assert "@media print" in html


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


def test_a_number_is_what_its_name_says(finished: Path, numbers: dict[str, dict]) -> None:  # type: ignore[type-arg]
    """Recomputed here by hand from the columns."""
    r = Records(finished)
    g = r.group("strict", "SPD", "DeepFool")
    assert g is not None
    attacked, natural = r.sets["strict/test/DeepFool"], r.sets["any/test/natural"]
    counts = attacked.columns["right"] & attacked.columns["changed"] & attacked.columns["in_budget"]
    assert (counts == attacked.counts).all()
    s, n, threshold = g.scores(attacked)[0][counts], g.scores(natural)[0], g.thresholds("0.05")[0]
    head = "strict/SPD/DeepFool"
    assert numbers[f"{head}/DeepFool/tpr@0.05"]["value"] == pytest.approx((s > threshold).mean())
    assert numbers[f"{head}/DeepFool/tpr@0.05"]["n"] == counts.sum()
    assert numbers[f"{head}/fpr@0.05"]["value"] == pytest.approx((n > threshold).mean())
    assert numbers[f"{head}/DeepFool/auroc"]["value"] == pytest.approx(auroc(n, s))
    noise = next(c for c in r.controls("strict", "MatchedNoise") if c.facts["of"] == "DeepFool")
    same = noise.columns["predicted"] == natural.columns["predicted"]
    if f"{head}/noise/excess-flags-on-unchanged" in numbers:
        excess = (g.scores(noise)[0][same] > threshold).mean() - (n[same] > threshold).mean()
        assert numbers[f"{head}/noise/excess-flags-on-unchanged"]["value"] == pytest.approx(excess)
    calibration = r.sets["any/calibrate/natural"]
    assert (g.scores(calibration)[0] > threshold).mean() <= 0.05


def test_the_null_control_changes_no_score(numbers: dict[str, dict]) -> None:  # type: ignore[type-arg]
    nulls = [n["value"] for i, n in numbers.items() if i.endswith("null-difference")]
    assert len(nulls) > 30
    assert set(nulls) == {0.0}


def test_the_report_is_made_without_torch_and_is_the_same(finished: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("records.json", "records.safetensors", "run.json", "gallery.json", "gallery.safetensors"):
        if (finished / name).exists():
            shutil.copy(finished / name, tmp_path / name)
    code = "import sys; from salientry.report.page import write; write(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "report.json").read_bytes() == (finished / "report.json").read_bytes()
    assert (tmp_path / "report.html").read_bytes() == (finished / "report.html").read_bytes()


def test_words() -> None:
    assert attack_title("DeepFool-steps=2") == "DeepFool (steps=2)"
    assert attack_title("FGSM") == "FGSM"
    assert percent("0.001") == "0.1\u202f%"


def test_a_page_without_pictures_says_so(finished: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("records.json", "records.safetensors"):
        shutil.copy(finished / name, tmp_path / name)
    assert page.write(tmp_path).read_text().count("No pictures") == 1
