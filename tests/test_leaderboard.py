"""The leaderboard's page says what its records say, and a record says enough to be repeated."""

from __future__ import annotations

import pytest

from benchmarks.leaderboard import PAGE, _passed, page, records

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
