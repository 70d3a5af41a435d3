"""What a test reads off a page."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

NUMBER = re.compile(
    r'<span class="num"(?: data-of="([^"]+)")?(?: data-n="(\d+)")? title="n = (\d+)[^"]*">([^<]*)'
    r"(?: <small>\[([^,]+), ([^\]]+)\]</small>)?</span>"
)


class Printed(NamedTuple):
    """A number as it stands on a page; ``at``: its place in the report.json of its run, None where it has none."""

    of: str
    at: int | None
    n: int
    text: str
    lo: str
    hi: str


def printed(html: str) -> list[Printed]:
    return [
        Printed(unescape(of), int(at) if at else None, int(n), unescape(t).strip(), lo, hi) for of, at, n, t, lo, hi in NUMBER.findall(html)
    ]


def ids(html: str, ledger: list[dict[str, Any]]) -> list[str]:
    """The ids of the numbers on a piece of page."""
    return [ledger[p.at]["id"] for p in printed(html) if p.at is not None]


def ledger(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "report.json").read_text())["numbers"])


def section(html: str, anchor: str) -> str:
    """A section of the page by its anchor; or a block by its own."""
    part = html[re.search(rf'id="{anchor}"', html).start() :]  # type: ignore[union-attr]
    return part.split('<details class="part">')[0] if f'class="inside" id="{anchor}"' in html else part.split("</details>")[0]


def plain(html: str) -> str:
    """What a reader sees: no style, no script, no packed data, no marks."""
    body = re.sub(r"<(style|script)\b.*?</\1>", "", html, flags=re.S)
    return unescape(re.sub(r"<[^>]+>", "", body))
