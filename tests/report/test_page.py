from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

from salientry.cli import app
from salientry.renamed import STEPS
from salientry.report import gallery, labels, plots, report
from salientry.report.naming import EXPLAINED, Namer, listing
from salientry.report.render import percent
from salientry.report.report import Made, listed
from salientry.results.names import attack_title, detector_words
from salientry.results.scores import Scores

from .reading import ledger, plain, printed
from .surgery import Opened

ROOT = Path(__file__).parents[2]
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


def decimals(text: str) -> int:
    """How many decimals a printed number has."""
    return len(re.sub(r"\D+$", "", text).partition(".")[2])


def text_of(value: float, percent: bool, places: int | None = None) -> str:
    """As a reader would write it: three decimals, or one of a percentage; nothing below nothing."""
    digits = f"{100 * value:.{places or 1}f}\u202f%" if percent else f"{value:.{places or 3}f}"
    if float(digits.split("\u202f")[0]) == 0:
        digits = digits.removeprefix("-")
    return (digits if percent else re.sub(r"^(-?)0\.", r"\1.", digits)).replace("-", "\u2212")


def test_every_number_of_the_page_is_in_the_ledger_and_says_the_same(html: str, finished: Path) -> None:
    known, found = ledger(finished), printed(html)
    assert len(found) > 1000
    for p in found:
        assert p.at is not None, p
        n = known[p.at]
        assert p.n == n["n"]
        if n["value"] is None:
            assert p.text == "–"
        elif p.text == "<10⁻⁴":
            assert "/p-" in n["id"]
            assert n["value"] < 1e-4
        elif n["id"].endswith(COUNTS):
            assert p.text == f"{n['value']:,.0f}"
        elif " to " in p.text:
            ends = [v for v in n["runs"] if v is not None]
            assert p.text == f"{text_of(min(ends), '%' in p.text)} to {text_of(max(ends), '%' in p.text)}", n["id"]
        elif counted := re.fullmatch(r"(\d+) of (\d+) attacks?(?: \(\d+ certain, \d+ possible\))?", p.text):
            assert n["id"].startswith("paper/C3/") and int(counted[1]) == round(n["value"] * int(counted[2]))
        else:
            assert p.text == text_of(n["value"], "%" in p.text, decimals(p.text)), n["id"]
            assert p.lo or decimals(p.text) <= 3, "more decimals are those of an interval"


def test_every_interval_of_the_page_is_that_of_the_ledger(html: str, finished: Path) -> None:
    known, found = ledger(finished), [p for p in printed(html) if p.lo]
    assert len(found) > 500
    for p in found:
        n = known[p.at or 0]
        assert [p.lo, p.hi] == [text_of(n[k], "%" in p.text, decimals(p.lo)) for k in ("lo", "hi")], n["id"]
        usual = {text_of(n[k], "%" in p.text) for k in ("lo", "hi")}
        assert (len(usual) == 1) is (decimals(p.lo) > (1 if "%" in p.text else 3)), "the usual ones tell the ends apart"


def test_the_page_needs_nothing_from_elsewhere_and_its_policy_forbids_it(html: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+"', html)
    assert not re.findall(r"@import|url\(", html)
    assert 'name="viewport"' in html
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    given = dict(part.strip().split(" ", 1) for part in unescape(policy).split(";"))
    assert given["default-src"] == "'none'"
    assert "unsafe" not in policy
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert given[kind] == f"'sha256-{digest}'"
    assert not re.findall(r"<[^>]*\s(?:style|on[a-z]+)=", html), "the policy would drop it"
    assert set(re.findall(r"<script( [^>]*)?>", html)) == {"", ' type="application/gzip" id="packed"'}


def test_the_first_screen_is_question_answer_picture_and_table_and_all_else_is_folded(html: str) -> None:
    first, rest = html.split('<details class="part">', 1)
    assert re.findall(r"<h1>([^<]+)</h1>", first) == ["How well are adversarial examples detected?"]
    assert len(re.findall(r"<li>(?!<svg)", first)) == 3
    assert first.count('<svg class="plot"') == 1
    assert first.count("<table") == 1
    assert first.count("<tr>") <= 18
    assert "<details" not in first
    assert "<details open" not in html
    titles = re.findall(r'<details class="part"><summary><h2>([^<]+)</h2>', html)
    order = ["attacks", "looked", "notices", "paper", "knows", "Controls", "numbers", "run"]
    assert [next(k for k, w in enumerate(order) if w in t) for t in titles] == list(range(8)), titles
    assert rest.split("</main>")[0].count("<details") == rest.split("</main>")[0].count("</details>") - 1
    assert len(html) < 2e6


def test_no_name_of_the_code_is_shown(html: str, finished: Path) -> None:
    """Text, what is said of pictures and marks, and the table of all numbers; commands and files are marked as code."""
    body = re.sub(r"<code>.*?</code>", " ", html, flags=re.S).replace("<", " <")
    said = " ".join(re.findall(r'(?:title|alt|aria-label)="([^"]*)"', body))
    for shown in (plain(body), unescape(said), (finished / "numbers.csv").read_text()):
        found = re.findall(r"\w+_\w+|\b\w+=\w+|\b[A-Z][a-z]+[A-Z]\w*|\breplica\b|\bfloor\b", shown)
        assert set(found) <= {"DeepFool"}


def test_every_step_has_words() -> None:
    known = json.loads((ROOT / "salientry" / "recipes" / "seconds.json").read_text())
    assert {step for steps in known.values() for step in steps} <= set(STEPS)
    assert not [w for w in STEPS.values() if "_" in w]


def test_the_sentences_are_the_ledgers_numbers(finished: Path, html: str) -> None:
    """Each sentence of the first screen, said again from report.json alone."""
    known = {n["id"]: n for n in ledger(finished)}
    first, second, third = (plain(s) for s in re.findall(r"<li>((?!<svg).*?)</li>", html, re.S)[:3])
    rates = {i.split("/")[1]: n for i, n in known.items() if re.fullmatch(r"strict/[^/]+/combined/combined/tpr@0\.05", i)}
    n = {r["n"] for r in rates.values()}
    assert first.startswith(f"Detection rate on {n.pop():,} attacked images") and not n
    assert "at most 5\u202f% of natural images" in first
    inside = {
        "SMD": " (a net that sees only the saliency map, where the classifier looks)",
        "SPD": " (a net that sees the image weighted by this map)",
        "fusion": " (the scores of all detectors combined)",
    }
    for title, words in inside.items():
        assert f"{title}{words} {text_of(rates[title]['value'], True)}" in first
    baselines = ("SortedLogits", "PooledActivations", "Margin", "Margin2", "ClassPresence", "SecondNet", "BlackShare", "HighFrequency")
    best = max((b for b in baselines if b in rates), key=lambda b: known[f"strict/{b}/combined/select-auroc"]["value"])
    inside_best = f"(best baseline, a simple detector to compare with, chosen on validation images: {EXPLAINED[best]})"
    assert f"{detector_words(best)} {inside_best} {text_of(rates[best]['value'], True)}" in first
    assert "trainings" not in first, "there is one"
    assert "(detectors are trained and tested on all attacks)" in first
    most = max(rates[b]["value"] for b in baselines if b in rates)
    above = [t for t, r in rates.items() if t not in baselines and "(" not in t and r["value"] > most]
    stripped = re.sub(r" \([^)]*\)", "", second)
    assert all(re.search(rf"\. .*{re.escape(detector_words(t))}.* better than every baseline", stripped) for t in above)
    assert ("No detector here is better than every baseline." in second) != bool(above)
    assert third == "An attacker who knows the detector was not tried here (salientry run whitebox dataset=digits)."


def test_the_small_table_holds_every_detector_of_sentences_and_picture(html: str) -> None:
    first = html.split('<details class="part">')[0]
    rows = set(re.findall(r"<tr><td><b>([^<]+)</b>", first))
    drawn = re.search(r'aria-label="[^"]*: ([^"]*)"', first)
    assert drawn
    named = {re.sub(r" \S+ at \S+$", "", p) for p in drawn[1].split("; ")}
    assert named == rows
    said = " ".join(plain(s) for s in re.findall(r"<li>((?!<svg).*?)</li>", first, re.S))
    assert {d for d in map(detector_words, EXPLAINED) if re.search(rf"(?<![\w+]){re.escape(d)} [(−.\d]", said)} <= rows


def test_a_name_is_explained_once() -> None:
    named = Namer()
    assert named("SPD") == "SPD (a net that sees the image weighted by the saliency map, where the classifier looks)"
    assert named("SMD (trunk)") == "SMD (trunk) (a net that sees only this map)"
    assert (named("SPD"), named("SMD")) == ("SPD", "SMD")
    assert named("Margin2", "best") == "logit margin (best: how far the classifier's two best classes lie apart, and the square of that)"
    assert listing(["ID"]) == "ID"
    assert listing(["ID", "JSD", "fusion"]) == "ID, JSD and fusion"
    assert listing(["ID, as printed", "JSD, as printed"]) == "ID, as printed; and JSD, as printed"


def test_no_key_of_a_setting_stands_on_the_page_or_in_its_file(html: str, finished: Path) -> None:
    for text in (plain(html), *re.findall(r'(?:title|alt|aria-label)="([^"]*)"', html), (finished / "numbers.csv").read_text()):
        said = re.sub(r"salientry run [^\n<;]*|\w+=\S* \(default", "", text)
        assert not re.findall(r"\w*(?:=|->)[\w.]+-\w+=?|UNet|CarliniWagner|PooledActivations|SortedLogits|BlackShare|Margin2", said)


def test_words_are_those_of_the_field(html: str) -> None:
    said = plain(html)
    for words in ("detection rate", "false-positive rate", "baseline", "classifier accuracy", "extra false alarms", "harmless", "Ablation"):
        assert words in said, words
    assert not re.findall(r"\b[Ff]ound at\b|[Mm]ore flags|naturals flagged|[Ss]hare found", said)


def test_all_numbers_are_packed_into_the_page_and_stand_in_the_file(html: str, finished: Path) -> None:
    text = (finished / "numbers.csv").read_text()
    (packed,) = re.findall(r'id="packed">([^<]+)<', html)
    assert gzip.decompress(base64.b64decode(packed)).decode() == text
    rows = list(csv.DictReader(text.splitlines()))
    known = ledger(finished)
    assert len(rows) == len(known)
    for column, key in (("value", "value"), ("low", "lo"), ("high", "hi"), ("n", "n")):
        mine = sorted(float(r[column]) for r in rows if r[column])
        theirs = sorted(n[key] for n in known if n[key] is not None)
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-9)
    places = ["|".join(r[c] for c in ("about", "detector", "trained on", "tested on", "of", "measure", "protocol")) for r in rows]
    assert [p for p, k in Counter(places).items() if k > 1] == [], "two numbers are called the same"


def test_links_lead_to_sections_of_the_page(html: str) -> None:
    targets, ids = re.findall(r'href="#([^"]+)"', html), re.findall(r'\sid="([^"]+)"', html)
    assert set(targets) <= set(ids)
    assert len(ids) == len(set(ids)) > 8


def test_pictures_can_be_read_and_have_words(html: str) -> None:
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', html)
    assert len(found) == html.count("<img ") > 30
    colours = 0
    for data, alt in found:
        assert alt.strip()
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.load()
            assert picture.size == (28, 28)
            colours += len(picture.convert("L").getcolors(1000)) > 2  # type: ignore[arg-type]
    assert colours > len(found) / 2


def test_every_plot_tells_its_series_apart_without_colour(html: str) -> None:
    plots = re.findall(r'<div class="plots"><ul class="key">(.*?)</ul>(.*?)</div>', html, re.S)
    assert len(plots) >= 6  # the first screen's, Figure 2 and learning curves of both protocols, ROC curves
    for key, body in plots:
        looks = [re.sub(r'class="k\d+"|stroke-width="[^"]*"', "", s) for s in re.findall(r"<li>(<svg.*?</svg>)", key, re.S)]
        assert len(looks) == len(set(looks)), "two series look alike in grey"
        for svg in re.findall(r'<svg class="plot".*?</svg>', body, re.S):
            root = ElementTree.fromstring(svg)
            assert root.get("aria-label")
            assert root.get("role") == "img"
            assert "style" not in svg


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
    assert not {"ID", "linear margin", "black pixels"} & found


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


def test_pictures_that_were_made_apart_say_when_and_where(opened: Opened) -> None:
    folder = opened.close()
    before = report.write(folder).read_text()
    facts = json.loads((folder / "gallery.json").read_text())
    (folder / "gallery.json").write_text(json.dumps(facts | {"made": "2026-01-02, some processor"}))
    assert "Made 2026-01-02, some processor." in report.write(folder).read_text() and "Made 20" not in before


def test_labels_are_text_and_never_markup(opened: Opened) -> None:
    opened.rename("FGSM", "FG<i>S&M")
    opened.body["recipe"]["recipe"] = "<script>alert(1)</script>"
    (opened.folder / "gallery.safetensors").unlink()
    folder = opened.close()
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"command": 'salientry run "><script>x</script>', "out": "<b>out"}))
    body = report.write(folder).read_text()
    assert body.count("<script") == 2
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
    assert "FGSM has no column (strict): 49 of its images count, 50 are needed." in body
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


def test_steps_that_look_at_each_image_say_how_fast(html: str, finished: Path) -> None:
    steps = json.loads((finished / "run.json").read_text())["steps"]
    kinds = {s["step"] for s in steps if "images" in s}
    assert {"look", "attack_images", "settle"} <= kinds and not kinds & {"train_classifier", "fit_detector"}
    for s in (s for s in steps if s["step"] in kinds):
        assert s["images_per_second"] == pytest.approx(s["images"] / s["seconds"], abs=0.06)
    mine = [s for s in steps if s["step"] == "attack_images"]
    speed = f"{sum(s['images'] for s in mine) / sum(s['seconds'] for s in mine):,.0f}"
    assert re.search(rf"<td>{len(mine)}</td><td>[\d.]+</td><td>{speed}</td><td>", html)


def test_steps_whose_operations_are_known_say_which_share_of_a_product_of_matrices_they_reach(html: str, finished: Path) -> None:
    steps = json.loads((finished / "run.json").read_text())["steps"]
    known = [s for s in steps if "share_of_peak" in s]
    assert {"look", "differentiate"} <= {s["step"] for s in known} and all("images" in s for s in known)
    rates = [s["operations_per_image"] * s["images"] / s["seconds"] / s["share_of_peak"] for s in known if s["share_of_peak"] > 0.01]
    assert max(rates) / min(rates) < 1.02, "one machine, one peak"
    assert all(0 <= s["share_of_peak"] < 1.5 for s in known)
    mine = [s for s in known if s["step"] == "look"]
    share = 100 * sum(s["share_of_peak"] * s["seconds"] for s in mine) / sum(s["seconds"] for s in mine)
    assert f"<td>{share:.0f} %</td>" in html and "share of what products of matrices reach" in html


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


CELL = re.compile(r'data-n="(\d+)" title="([^"]*)">[^<]* <small>\[([^,<]+), ([^\]<]+)\]</small></span>(<small class="seeds">)?')


def test_no_interval_lacks_a_width_and_none_hides_its_seeds(html: str, finished: Path) -> None:
    assert all(low != high for _, _, low, high, _ in CELL.findall(html))
    one = Made(Scores.read(finished), "")
    count = len(one.frame)
    each = [((0.1, 0.3), (0.4, 0.6), (0.7, 0.9))] * count
    three = Made(one.scores, "", computed=one.frame.assign(seeds=[(0.2, 0.5, 0.8)] * count, each=each))
    cells = CELL.findall(three.text)
    assert len(cells) > 100
    for at, title, _, _, shown in cells:
        n = three.ours[int(at)]
        assert "seeds .2" in title or "seeds 0.2" in title or "seeds 20.0" in title, title
        assert shown or sum(not n["lo"] <= v <= n["hi"] for v in n["runs"]) < 2, n["id"]
    assert all(n["each"] == [[0.1, 0.3], [0.4, 0.6], [0.7, 0.9]] for n in three.ours)
    assert all("each" not in n for n in one.ours if len(n["runs"]) < 2), "of one seed it is the interval"
    rows = list(csv.DictReader(io.StringIO(three.csv)))
    assert {r["seeds' intervals"] for r in rows} == {"[0.1 0.3] [0.4 0.6] [0.7 0.9]"}


def test_from_five_seeds_on_the_notes_speak_of_seeds(finished: Path) -> None:
    one = Made(Scores.read(finished), "")
    five = Made(one.scores, "", computed=one.frame.assign(seeds=[(0.5, 0.6, 0.7, 0.8, 0.9)] * len(one.frame)))
    for made, says in ((one, "over images"), (five, "over 5 seeds, on these images")):
        text = plain(made.text)
        assert f"In brackets 95 % intervals {says}" in text
        assert f"mean of the detector seeds, 95 % intervals {says}; a grey line" in text
        assert text.count(f"In brackets: 95 % interval {says}") == 2, "beside the paper's tables and at the claims"


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


@pytest.mark.parametrize(
    ("run", "gates", "says"),
    [
        (
            {"steps": [{"step": "gallery", "seconds": 1.0}], "command": "salientry run x"},
            None,
            "but these records of it were kept without; salientry run x makes them again",
        ),
        ({"steps": [{"step": "read_data"}]}, [{"failed": "message"}], "the saliency model failed its check"),
        ({"steps": [{"step": "read_data"}]}, [], "this run of recipe tiny made none"),
        ({}, [], "the records do not say whether any were made"),
    ],
)
def test_a_missing_picture_says_why(finished: Path, tmp_path: Path, run: dict, gates: list | None, says: str) -> None:  # type: ignore[type-arg]
    lacking = Scores.read(finished)
    lacking.folder, lacking.run = tmp_path, run
    lacking.body |= {} if gates is None else {"gates": gates}
    (block,) = gallery.figures(lacking)
    assert says in plain(str(block.body))  # type: ignore[union-attr]
    assert "where the classifier looks" in block.body  # type: ignore[union-attr]
    shutil.copy(finished / "gallery.json", tmp_path)
    save_file({"label": np.zeros(0, np.int64)}, tmp_path / "gallery.safetensors")
    assert gallery.missing(lacking) == "no test image is fooled by every attack, and only such images are shown"


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


def test_the_headline_for_scripts_is_the_pages_first_screen(html: str, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    result = CliRunner().invoke(app, ["report", "--json", str(out)])
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before, "nothing is written"
    first = html.split('<details class="part">')[0]
    assert body["question"] in plain(first)
    sentences = [" ".join(plain(s).split()) for s in re.findall(r"<li>((?!<svg).*?)</li>", first, re.S)]
    assert [" ".join(s.split()) for s in body["sentences"]] == sentences
    known = {n["id"]: n for n in ledger(finished)}
    assert all(known[n["id"]] == n for n in body["numbers"])
    assert {ledger(finished)[p.at or 0]["id"] for p in printed(first)} - {"any/natural/accuracy"} == {n["id"] for n in body["numbers"]}
    (copy,) = json.loads(CliRunner().invoke(app, ["report", "--json", str(tmp_path)]).stdout)
    assert copy["sentences"] == body["sentences"], "of a folder of folders a list"
    refused = CliRunner().invoke(app, ["report", "--json", "--verify", str(out)])
    assert refused.exit_code == 2
    assert "--verify and --json do not go together" in refused.output


@pytest.mark.parametrize("seed", range(4))
def test_names_in_a_plot_lie_on_no_point_no_other_name_and_no_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    near = rng.choice([0.0, 0.4, 0.9], 12) + rng.normal(0, 0.04, 12)
    points = [
        plots.Dot(f"name {k}" * (1 + k % 2), "g", float(x), float(y))
        for k, (x, y) in enumerate(zip(near, rng.uniform(0.1, 0.95, 12), strict=True))
    ]
    drawn = str(plots.scatter([("", points)], "x", "y"))
    names = {
        unescape(w): (
            float(x) - (end == "end") * labels.LETTER * len(w),
            float(y) - 12,
            float(x) + (end == "start") * labels.LETTER * len(w),
            float(y) + 2,
        )
        for x, y, end, w in re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(start|end)">(name [^<]+)</text>', drawn)
    }
    assert len(names) == len(points)
    boxes = list(names.values())
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if labels.meet(a, b)]
    lines = [
        tuple(map(float, v)) for v in re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)" class="leader"/>', drawn)
    ]
    assert lines
    assert sum(labels.crosses(line, b) for line in lines for b in boxes) == 0  # type: ignore[arg-type]
