"""The leaderboard's page says what its records say, and a record says enough to be repeated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import leaderboard
from benchmarks.leaderboard import PAGE, ROOT, _passed, merged, options, page, records, unlike
from salientry.rates import short
from tests.report import browser

RECORDS = records()


def test_the_page_is_made_of_the_records() -> None:
    assert RECORDS and PAGE.read_text() == page(), "python -m benchmarks.leaderboard"


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
    monkeypatch.setattr(leaderboard, "records", lambda: {name: both})
    assert "a.x:build: `python -m" in page()
    assert merged(second, first | {"images": {}}) == (second, ["a.x:build"])


def test_submissions_that_other_images_would_lose_are_said_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "python -m benchmarks.leaderboard digits --images 2000 --adaptive 48 --minutes 300 --detector a.x:build"
    before = {"detectors": {"energy": {}, "a.x:build": {}}, "command": command}
    same, other, again = (
        options().parse_args(words.split()) for words in ("digits --images 2000", "digits", "digits --detector a.x:build")
    )
    assert unlike(before, same) == unlike({}, other) == unlike(before, again) == ""
    assert unlike(before, other) == "the record has a.x:build, judged with --images 2000"
    monkeypatch.setattr(leaderboard, "records", lambda: {"digits": before})
    with pytest.raises(SystemExit):
        leaderboard.main(["digits"])
    assert "--anew leaves them out" in capsys.readouterr().err


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
