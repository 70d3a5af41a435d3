"""The leaderboard's page says what its records say, and a record says enough to be repeated."""

from __future__ import annotations

import json
import lzma
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import leaderboard, leaderboard_page
from benchmarks.boards import BOARDS
from benchmarks.leaderboard import merged, options, sized, unlike
from benchmarks.leaderboard_page import PAGE, ROOT, _passed, page, records
from salientry.judging import PUBLISHED, QUICK
from salientry.judging.baselines import ASKING
from salientry.judging.standing import STANDINGS, shortened
from salientry.rates import short
from salientry.store import read_json
from tests.report import browser

RECORDS = records()


def test_the_page_is_made_of_the_records() -> None:
    assert RECORDS and PAGE.read_text() == page(), "python -m benchmarks.leaderboard"
    assert read_json(STANDINGS) == shortened(RECORDS), "python -m benchmarks.leaderboard"


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_how_it_was_made_and_holds_no_share_without_its_counts(name: str) -> None:
    body = RECORDS[name]
    assert body["command"].startswith(f"python -m benchmarks.leaderboard {name}") and body["processor"] and body["torch"]
    for v in body["detectors"].values():
        shares = [*v["worst_case"].values(), *(a["success"] for a in v["attacks"]), *(c["flagged"] for c in v["harmless"])]
        assert all(s["count"] <= s["of"] and (s["of"] == 0 or s["share"] == s["count"] / s["of"]) for s in shares)
        assert v["natural"]["0.05"]["all"]["of"] == body["images"]["test"] and v["calibration"] == body["images"]["calibration"]


@pytest.mark.parametrize("name", RECORDS)
def test_who_is_passed_least_stands_first(name: str) -> None:
    body = RECORDS[name]
    part = page().partition(f"## {body['title']}\n")[2].partition("\n## ")[0]
    lines = [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("| ")][2:]
    assert sorted(lines) == sorted(body["detectors"])
    order = [_passed(body["detectors"][n]) for n in lines]
    assert order == sorted(order)


@pytest.mark.parametrize("name", RECORDS)
def test_least_rate_and_extra_false_alarms_have_their_intervals(name: str) -> None:
    body = RECORDS[name]
    part = page().partition(f"## {body['title']}\n")[2].partition("\n## ")[0]
    cells = {r[0]: r for r in ([c.strip() for c in line.strip("| ").split(" | ")] for line in part.splitlines() if line.startswith("| "))}
    for detector, v in body["detectors"].items():
        least = min(
            (a for a in v["attacks"] if not a["encoding"] and a["detected"]["0.05"]["of"] >= 20),
            key=lambda a: a["detected"]["0.05"]["share"],
        )
        extra = max(v["harmless"], key=lambda c: c["extra"]["share"])["extra"]
        for column, found in ((6, least["detected"]["0.05"]), (8, extra)):
            low, high = (short(found[end]) for end in ("low", "high"))
            assert f"[{low},\u00a0{high}]" in cells[detector][column], (detector, column)
        if not v["adaptive"]["evaluated"]:
            assert "--minutes" in part and detector in part.partition("Not evaluated: ")[2], "why stands under the table"


def test_a_second_submission_keeps_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(RECORDS))
    body = RECORDS[name]
    some = dict(list(body["detectors"].items())[:2])
    first = body | {"detectors": some | {"a.x:build": next(iter(some.values()))}, "command": f"{body['command']} --detector a.x:build"}
    second = body | {"detectors": some | {"b.x:build": next(iter(some.values()))}, "date": "2027-01-01"}
    both, lost = merged(second, first)
    assert [*both["detectors"]] == [*some, "b.x:build", "a.x:build"] and not lost
    assert both["detectors"]["a.x:build"]["made"]["command"].endswith("--detector a.x:build")
    third, _ = merged(second | {"detectors": some}, both)
    assert third["detectors"]["a.x:build"]["made"] == both["detectors"]["a.x:build"]["made"], "how it was made goes with it"
    monkeypatch.setattr(leaderboard_page, "records", lambda: {name: both})
    assert "a.x:build: `python -m" in page()
    assert merged(second, first | {"images": {}}) == (second, ["a.x:build"])


def test_submissions_that_other_images_would_lose_are_said_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "python -m benchmarks.leaderboard digits --images 2000 --adaptive 48 --minutes 300 --detector a.x:build"
    before = {"detectors": {"energy": {}, "a.x:build": {}}, "command": command}
    same, other, again = (
        sized(options().parse_args(words.split()), BOARDS["digits"])
        for words in ("digits", "digits --images 900", "digits --detector a.x:build")
    )
    assert unlike(before, same) == unlike({}, other) == unlike(before, again) == ""
    assert unlike(before, other) == "the record has a.x:build, judged with --images 2000"
    monkeypatch.setattr(leaderboard, "records", lambda: {"digits": before})
    with pytest.raises(SystemExit):
        leaderboard.main(["digits", "--images", "900"])
    assert "--anew leaves them out" in capsys.readouterr().err


def test_every_board_has_a_second_network_of_another_kind_and_one_has_224_pixels() -> None:
    for name, board in BOARDS.items():
        assert set(board.detectors) | dict(board.without).keys() == {*QUICK, *PUBLISHED, *ASKING}
        assert type(board.second) is not type(board.classifier or type(None)), name
    assert BOARDS["assira-224"].settings.size == 224


def test_one_detector_of_a_board_is_judged_again_beside_the_others(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    name = next(iter(RECORDS))
    body = RECORDS[name]
    some = dict(list(body["detectors"].items())[:3])
    first, last = body | {"detectors": some}, [*some][-1]
    new = body | {
        "detectors": {last: some[last], "second opinion": some[last]},
        "date": "2027-01-01",
        "command": "x --only",
        "second": "another",
    }
    found, lost = merged(new, first, part=True)
    assert not lost and sorted(found["detectors"]) == sorted([*some, "second opinion"])
    assert found["command"] == body["command"] and found["date"] == body["date"], "the head is that of the others"
    assert [n for n, v in found["detectors"].items() if "made" in v] == [last, "second opinion"]
    assert found["detectors"][last]["made"]["date"] == "2027-01-01"
    monkeypatch.setattr(leaderboard_page, "records", lambda: {name: found})
    assert "The second opinion is that of another." in page()
    (line,) = [line for line in page().splitlines() if "`x --only`" in line]
    assert sorted(line.partition(": ")[0].split(", ")) == sorted([last, "second opinion"])
    assert merged(new, {}, part=True) == (new, [])
    with pytest.raises(SystemExit):
        leaderboard.main(["assira-224", "--only", "PASA"])
    assert "where it is left out: 62 passes of such pictures" in capsys.readouterr().err


def test_a_submission_that_is_no_detector_is_refused_in_a_line_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SALIENTRY_HOME", str(tmp_path))
    monkeypatch.setattr(leaderboard, "recorded", lambda *a, **k: pytest.fail("a classifier was trained"))
    for word, why in (("sklearn.linear_model:LogisticRegression", "estimator of arrays"), ("no.such:thing", "cannot import detector")):
        with pytest.raises(SystemExit, match=f"error: .*{why}"):
            leaderboard.main(["digits", "--detector", word])


TINY = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmarks import leaderboard, leaderboard_page
from salientry.classifiers import CompactCNN
out = Path(sys.argv[1])
for module in (leaderboard, leaderboard_page):
    module.OUT, module.PAGE = out, out / "page.md"
leaderboard.STANDINGS = out / "standings.json"
leaderboard.BOARDS["digits"] = replace(leaderboard.BOARDS["digits"], second=CompactCNN(width=8, epochs=2), images=200, adaptive=8)
leaderboard.main(["digits", "--only", "energy", "--only", "second opinion", "--only", "PASA", *sys.argv[2:]])
"""


def tiny(folder: Path, *words: str, after: float | None = None) -> tuple[int, str]:
    """Record a small board, and kill it after some seconds."""
    home = {"SALIENTRY_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-W", "ignore", "-c", TINY, str(folder / "out"), *words]
    with subprocess.Popen(call, cwd=ROOT, env=os.environ | home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            return process.wait(after), process.stderr.read() if process.stderr else ""
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(), ""


def without_times(file: Path) -> Any:
    """A record but for what differs each time."""
    body = json.loads(lzma.decompress(file.read_bytes()))
    return body | {"command": "", "detectors": {n: v | {"cost": None} for n, v in body["detectors"].items()}}


@pytest.mark.nightly
def test_a_board_that_is_killed_and_one_in_slices_end_as_one_that_is_not(tmp_path: Path) -> None:
    code, said = tiny(tmp_path / "whole")
    assert code == 0, said
    lines = [line for line in said.splitlines() if "expected" in line]
    assert "min of one core to train CompactCNN" in lines[0] and "expected: about" in lines[1] and "of one core" in lines[1]
    rng, killed = random.Random(), 0
    for _ in range(4):
        killed += tiny(tmp_path / "killed", after=rng.uniform(6, 20))[0] == -signal.SIGKILL
    assert killed, "nothing was killed"
    assert tiny(tmp_path / "killed")[0] == 0
    codes = [tiny(tmp_path / "slices", "--slice", "0.15")[0] for _ in range(3)]
    assert leaderboard.LEFT in codes and set(codes) <= {leaderboard.LEFT, 0}
    assert tiny(tmp_path / "slices")[0] == 0
    whole, *others = (without_times(tmp_path / n / "out" / "digits.json.xz") for n in ("whole", "killed", "slices"))
    assert others == [whole, whole]
    assert set(whole["detectors"]) == {"energy", "second opinion", "PASA"}
    assert all(v["adaptive"]["evaluated"] for n, v in whole["detectors"].items() if n != "PASA")


@pytest.mark.nightly
@pytest.mark.skipif(browser.PROGRAM is None, reason="needs chromium")
def test_all_columns_are_seen_in_a_window_of_1280_pixels_and_on_paper(tmp_path: Path) -> None:
    """With the site's style, in the room that its theme leaves beside one column of links, and on a sheet."""
    rows = [line.strip("| ").split(" | ") for line in page().splitlines() if line.startswith("| ") and "---" not in line]
    cells = ["".join(f"<td>{c}</td>" for c in r) for r in rows]
    lines = "".join(f"<tr>{c}</tr>" for c in cells[1:])
    table = f"<table><thead><tr>{cells[0].replace('td>', 'th>')}</tr></thead><tbody>{lines}</tbody></table>"
    theme = "html { font-size: 20px; } body { margin: 0; font: 16px sans-serif; } table { font-size: .64rem; border-collapse: collapse; }"
    theme += " @media screen { .md-main { display: flex; width: 1020px; } article { flex: 1; min-width: 0; } aside { width: 240px; } }"
    theme += " @media print { aside { display: none; } }"
    style = f"<style>{theme} {(ROOT / 'docs' / 'site.css').read_text()}</style>"
    article = f'<article class="md-typeset"><h1 id="leaderboard">Leaderboard</h1>{table}</article>'
    body = f'<div class="md-main">{article}<aside class="md-sidebar--secondary"></aside></div>'
    (tmp_path / "page.html").write_text(f"<meta charset=utf-8>{style}{body}")
    ends = "[...document.querySelectorAll('th, td')].map((c) => c.getBoundingClientRect().right).reduce((a, b) => Math.max(a, b))"
    with browser.opened() as tab:
        tab.size(1280)
        tab.open(tmp_path / "page.html")
        assert tab.ask(ends) <= 1020
        tab.size(1047, 718)  # A4, landscape, without its margins
        tab.media("print")
        assert tab.ask(ends) <= 1047
        assert float(tab.ask("parseFloat(getComputedStyle(document.querySelector('td')).fontSize)")) >= 9.99, "7.5 points"
        tab.media()
        tab.pdf(tmp_path / "page.pdf")
    sheets = re.findall(rb"MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", (tmp_path / "page.pdf").read_bytes())
    assert sheets and all(float(wide) > float(high) for wide, high in sheets), "turned on its side"
