"""A page as a browser lays it out: heights, widths, type, print."""

from __future__ import annotations

import contextlib
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from salientry.report import collection
from salientry.report.report import write
from tests.results.oracle import ROOT

from . import browser

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.figures,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no chromium on this machine"),
]
OPEN = "document.querySelectorAll('details').forEach((d) => { d.open = true; }); document.documentElement.scrollHeight"
TYPE = """(() => { const w = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT), out = []; let n;
while ((n = w.nextNode())) { const e = n.parentElement; if (!n.textContent.trim() || e.closest('script, noscript')) continue;
const svg = e.closest('svg'), zoom = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
if (svg && !svg.getBoundingClientRect().width) continue;
out.push([parseFloat(getComputedStyle(e).fontSize) * zoom, n.textContent.trim().slice(0, 30)]); }
return out.sort((a, b) => a[0] - b[0])[0]; })()"""
LOST = """[...document.querySelectorAll('.scroll, #found')].filter((s) => s.scrollWidth > s.clientWidth + 1).length"""
HIDDEN = (
    """[...document.querySelectorAll('.inside table')].filter((t) => !t.closest('.whole') && !t.getBoundingClientRect().height).length"""
)
BEYOND = """[...document.querySelectorAll('th, td')].filter((c) => c.getBoundingClientRect().right > innerWidth + 1).length"""
PRINTED = """(() => { const shown = new Set(), all = new Set();
document.querySelectorAll('.num').forEach((e) => { const at = `${e.dataset.of} ${e.dataset.n}`; all.add(at);
if (e.getBoundingClientRect().width) shown.add(at); }); return [all.size, [...all].filter((a) => !shown.has(a)).length]; })()"""
SMALLEST = 10  # pixels of a type of 7.5 points


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Tab]:
    with browser.opened() as t:
        yield t


@pytest.fixture(scope="module")
def page(finished: Path) -> Path:
    return finished / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heights_widths_and_type(tab: browser.Tab, page: Path, width: int, scheme: str) -> None:
    tab.size(width)
    tab.media(scheme=scheme)
    tab.open(page)
    assert tab.ask("document.documentElement.scrollHeight") < (1500 if width == 1280 else 3000), "as it is delivered"
    assert tab.ask("document.querySelector('.part').getBoundingClientRect().top") < (1000 if width == 1280 else 2400), "the first screen"
    assert tab.ask("document.documentElement.scrollWidth") == width
    assert tab.ask(OPEN) < (45_000 if width == 1280 else 70_000)
    assert tab.ask("document.documentElement.scrollWidth") == width, "what is wide scrolls in a box of its own"
    smallest, words = tab.ask(TYPE)
    assert smallest >= 11.99, words
    assert not tab.said, "nothing is refused by the page's policy"


def whole_in_print(tab: browser.Tab, page: Path, script: bool) -> None:
    """Everything is open, no column is cut, every number is there, and in a type that can be read."""
    tab.size(1047, 718)  # A4, landscape, without its margins
    tab.media()
    tab.open(page)
    if script:
        tab.ask("dispatchEvent(new Event('beforeprint'))")
    tab.media("print")
    smallest, words = tab.ask(TYPE)
    assert smallest >= SMALLEST, words
    assert tab.ask(HIDDEN) == 0
    assert tab.ask(LOST) == 0
    assert tab.ask(BEYOND) == 0
    assert tab.ask("document.documentElement.scrollWidth") <= 1047
    there, lost = tab.ask(PRINTED)
    assert there > 50 and not lost
    tab.media()


def test_a_print_opens_everything_and_cuts_no_column(tab: browser.Tab, page: Path) -> None:
    whole_in_print(tab, page, script=True)
    tab.ask("dispatchEvent(new Event('afterprint'))")
    assert tab.ask("document.querySelectorAll('details[open]').length") == 0, "and closes it again"


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of several data sets: the second seeds of fast, and what is recorded at the paper's size."""
    folder = tmp_path_factory.mktemp("printed")
    for name in ("cifar10-seed1", "assira-seed1", "mnist-seed1"):
        shutil.copytree(ROOT / "fast" / name, folder / "fast" / name)
    shutil.copytree(ROOT / "paper", folder / "paper")
    for kind in ("fast", "paper"):
        collection.write(folder / kind)
    return folder


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("name", ["fast", "paper", "fast/cifar10-seed1", "paper/cifar10-attacks"])
def test_no_table_is_too_wide_or_too_small_in_print(tab: browser.Tab, collections: Path, name: str, script: bool) -> None:
    whole_in_print(tab, collections / name / "report.html", script)


def test_no_type_is_too_small_in_a_pdf(tab: browser.Tab, collections: Path, tmp_path: Path) -> None:
    """The browser lays a sheet out at full size: it would shrink one that is wider than the paper."""
    tab.size(1280)
    tab.open(collections / "paper" / "report.html")
    tab.pdf(tmp_path / "paper.pdf")
    sheets = 0
    for found in re.finditer(rb"stream\r?\n(.*?)endstream", (tmp_path / "paper.pdf").read_bytes(), re.S):
        with contextlib.suppress(zlib.error):
            drawn = re.match(rb"([.\d]+) 0 0 -[.\d]+ 0 [.\d]+ cm\s+q\s+([.\d]+) 0 0", zlib.decompress(found[1]))
            if drawn:
                assert float(drawn[1]) * float(drawn[2]) == pytest.approx(0.75, abs=1e-3), "points of a pixel"
                sheets += 1
    assert sheets > 3


@pytest.mark.parametrize("recorded", ["fast/mnist", "fast/cifar10", "paper/cifar10-heads-deepfool"])
def test_the_first_sheet_of_a_print_holds_the_whole_answer(tab: browser.Tab, tmp_path: Path, recorded: str) -> None:
    """Sentences, picture and table: what does not fit would leave most of the sheet white."""
    write(Path(shutil.copytree(ROOT / recorded, tmp_path / "run")))
    tab.size(1047, 718)  # A4, landscape, without its margins
    tab.media()
    tab.open(tmp_path / "run" / "report.html")
    tab.media("print")
    assert tab.ask("document.querySelector('.first').getBoundingClientRect().bottom") < 718
    tab.media()


def test_the_table_of_all_numbers_searches_and_sorts(tab: browser.Tab, page: Path) -> None:
    tab.size(1280)
    tab.media()
    tab.open(page)
    tab.ask("document.getElementById('numbers').closest('details').open = true; new Promise((r) => setTimeout(r, 1000))")
    rows = "[...document.querySelectorAll('#found tbody tr')].map((r) => r.textContent)"
    assert len(tab.ask(rows)) == 100
    tab.ask("(() => { const i = document.querySelector('.search input'); i.value = 'spd Strict'; i.dispatchEvent(new Event('input')); })()")
    found = tab.ask(rows)
    assert len(found) == 100
    assert all("SPD" in r and "strict" in r for r in found)
    value = "[...document.querySelectorAll('#found tbody tr')].map((r) => r.children[7].textContent)"
    click = "[...document.querySelectorAll('#found th button')].find((b) => b.textContent === 'value').click()"
    for turn in (1, -1):
        tab.ask(click)
        values = [float(v) * turn for v in tab.ask(value) if v]
        assert values == sorted(values)


def test_a_link_to_a_section_opens_it(tab: browser.Tab, page: Path) -> None:
    tab.size(1280)
    tab.open(page)
    tab.ask("location.hash = 'controls'; new Promise((r) => setTimeout(r, 200))")
    assert tab.ask("document.getElementById('controls').closest('details').open")
