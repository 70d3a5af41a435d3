"""The tutorial runs; the site is built without a broken link, and fetches nothing from elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import time
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import salientry

from .report import browser

ROOT = Path(__file__).parents[1]
CELLS = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())["cells"]


def shape(text: str) -> list[str]:
    """What was printed, but for the numbers and the order of what is as large."""
    words = (re.sub(r"[\d.]+", "0", re.sub(r"- \(of 0\)|[\d.]+ \(\d+ of \d+\)", "0", " ".join(line.split()))) for line in text.splitlines())
    return [w for w in words if not re.match(r"(a |an |another |JPEG|WebP|Gaussian|uniform|random|brightness|contrast|gamma|0 other)", w)]


def test_the_tutorial_is_well_formed_and_its_code_compiles() -> None:
    assert {c["cell_type"] for c in CELLS} == {"markdown", "code"}
    assert len({c["id"] for c in CELLS}) == len(CELLS)
    for c in CELLS:
        if c["cell_type"] == "code":
            compile("".join(c["source"]), c["id"], "exec")
            assert all(out["output_type"] == "stream" for out in c["outputs"]), "an error was left in it"


@pytest.mark.nightly
def test_the_tutorial_runs_and_prints_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in order, in one session; the shares that it prints may differ a little on another processor."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        for c in (c for c in CELLS if c["cell_type"] == "code"):
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile("".join(c["source"]), c["id"], "exec"), names)
            shown = "".join(text for out in c["outputs"] for text in out["text"])
            assert shape(said.getvalue()) == shape(shown), c["id"]
    assert "True" in said.getvalue(), "a guard that was loaded says the same"


class Fetched(HTMLParser):
    """What a page loads by itself: scripts, styles, pictures, fonts, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next"):
            return
        if tag in ("script", "link", "img", "iframe", "source", "object", "embed"):
            self.found += [v for k in ("src", "href", "data") if (v := given.get(k))]


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra `docs`: `make docs`")
def test_the_site_has_no_broken_link_all_public_names_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.glob("*.html"))
    assert {p.stem for p in pages} >= {
        "index",
        "start",
        "tutorial",
        "guard",
        "attack",
        "paper",
        "contributing",
        "evaluate",
        "api",
        "RESULTS",
    }
    for page in pages:
        read = Fetched()
        read.feed(page.read_text())
        assert not [at for at in read.found if re.match(r"(https?:)?//", at)], page.name
    assert not re.search(r'(href|src)="/|": "/', (tmp_path / "404.html").read_text()), "it works wherever the site lies"
    api = (tmp_path / "api.html").read_text()
    assert "Examples:" in api and "doctest:" not in api
    for name in (n for n in salientry.__all__ if not n.isupper()):
        assert f'id="salientry.{name}"' in api or f'id="salientry.errors.{name}"' in api, name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(.?https?:", style.read_text()), style.name
    if browser.PROGRAM is not None:
        with browser.opened() as tab:
            assert "matching documents" in searched(tab, tmp_path / "index.html", "threshold"), "it is opened from a folder"


def searched(tab: browser.Tab, page: Path, word: str) -> str:
    """What the site's search says first of a word."""
    tab.open(page)
    field, found = (f"document.querySelector('[data-md-component=search-{name}]')" for name in ("query", "result"))
    tab.ask(f"{field}.focus()")
    tab.ask(f"{field}.value = {word!r}; {field}.dispatchEvent(new KeyboardEvent('keyup', {{key: 'd', bubbles: true}}))")
    for _ in range(100):
        if "matching" in (said := str(tab.ask(f"{found}.querySelector('.md-search-result__meta').innerText"))):
            break
        time.sleep(0.1)
    return said


@pytest.mark.nightly
@pytest.mark.skipif(browser.PROGRAM is None, reason="needs chromium")
def test_tables_are_sorted_by_the_column_that_is_chosen(tmp_path: Path) -> None:
    """By number where most cells begin with one, whatever stands behind it; else by text; with the keyboard alone, too."""
    rows = [
        ("noise", ".833 [.698, .925], .3", "2.7 x"),
        ("ours", "1.000 [.926, 1.000]", "15.0 x"),
        ("LID", "−.003", "–"),
        ("a", "<.01", "+3 x"),
    ]
    cells = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in r) + "</tr>" for r in rows)
    table = f"<table><thead><tr><th>detector</th><th>passed</th><th>time</th></tr></thead><tbody>{cells}</tbody></table>"
    going_on = table.replace("<td>ours</td>", "<td>″</td>")
    (tmp_path / "page.html").write_text(
        f"<meta charset=utf-8><main>{table}{going_on}</main><script>{(ROOT / 'docs' / 'sort.js').read_text()}</script>"
    )
    with browser.opened() as tab:
        tab.open(tmp_path / "page.html")
        first = "Array.from(document.querySelectorAll('table')[0].tBodies[0].rows, (r) => r.cells[0].textContent).join()"

        def after(act: str) -> list[str]:
            tab.ask(act)
            return str(tab.ask(first)).split(",")

        head = "document.querySelectorAll('th')[{}]"
        assert after("0") == ["noise", "ours", "LID", "a"]
        assert after(f"{head.format(1)}.click()") == ["ours", "noise", "a", "LID"]
        assert after(f"{head.format(1)}.click()") == ["LID", "a", "noise", "ours"]
        assert after(f"{head.format(2)}.click()") == ["ours", "a", "noise", "LID"], "no number comes last"
        assert after(f"{head.format(2)}.click()") == ["noise", "a", "ours", "LID"]
        assert (
            tab.ask(f"{head.format(2)}.getAttribute('aria-sort')") == "ascending"
            and tab.ask("document.querySelectorAll('[aria-sort]').length") == 1
        )
        tab.ask(f"{head.format(0)}.focus()")
        tab.press("Enter")
        assert str(tab.ask(first)).split(",") == ["ours", "noise", "LID", "a"]
        assert tab.ask("document.querySelectorAll('th[tabindex]').length") == 3, "rows that go on with the row above are left"
