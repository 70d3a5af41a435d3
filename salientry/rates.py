"""Shares with their exact intervals, and the one format of numbers: on pages, in documents and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .inference import exact_share

NONE = "–"  # where there is no number
THIN = "\u202f"


def share(count: int, of: int) -> dict[str, Any]:
    """``count`` of ``of``, their share and its exact 95 % interval (:func:`~salientry.inference.exact_share`); None of no image."""
    low, high = exact_share(count, of) if of else (None, None)
    return {"count": count, "of": of, "share": count / of if of else None, "low": low, "high": high}


def share_of(flags: Any) -> dict[str, Any]:
    """How many of these flags are set, as :func:`share`."""
    return share(int(flags.sum()), len(flags))


def short(value: float | None, percent: bool = False, digits: int | None = None) -> str:
    """``.135``, or ``13.5 %``; a dash where there is none, and the minus sign of typography. ``digits``: decimals, by default 3 or 1."""
    if value is None or not math.isfinite(value):
        return NONE
    digits = digits or (1 if percent else 3)
    if percent:
        return f"{round(100 * value, digits) + 0.0:.{digits}f}{THIN}%".replace("-", "−")  # adding 0 takes the sign off a zero
    return _typeset(f"{round(value, digits) + 0.0:.{digits}f}", value)


def signed(value: float | None) -> str:
    """A difference: ``+.012`` or ``−.003``; nothing rounds to a zero with a sign."""
    text = short(value)
    return f"+{text}" if value is not None and value > 0 and text != ".000" else text


def given(value: float) -> str:
    """A number that was set and not measured, with the digits that it has: ``.05``, ``2``."""
    return _typeset(f"{value:g}", value)


def _typeset(text: str, value: float) -> str:
    return (text.replace("0.", ".", 1) if abs(value) < 1 else text).replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """``[.101, .148]``."""
    return f"[{short(low)}, {short(high)}]"


def rate(found: Mapping[str, Any], ends: bool = True) -> str:
    """A :func:`share` as ``.123 [.101, .148] (37 of 300)``."""
    if not found["of"]:
        return f"{NONE} (of 0)"
    between = f" {interval(found['low'], found['high'])}" if ends else ""
    return f"{short(found['share'])}{between} ({found['count']:,} of {found['of']:,})"


def percent(level: str | float) -> str:
    """``0.05`` as ``5 %``."""
    return f"{100 * float(level):.3g} %"


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def plain(text: str) -> str:
    """Text of others that ends no cell and no line of Markdown, and is no markup."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "\\<").replace("_", "\\_")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown, and an empty line."""
    return [row(*heads), row(*["---"] * len(heads)), *(row(*line) for line in rows), ""]


def escaped_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The same where others named what stands in it."""
    lines = [[plain(str(c)) for c in line] for line in (heads, ["---"] * len(heads), *rows)]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]
