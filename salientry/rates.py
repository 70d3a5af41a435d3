"""Shares with their exact intervals, and the one format of numbers: on pages, in documents and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .inference import exact_share

NONE = "–"  # where there is no number
THIN = "\u202f"
MORE = 4  # decimals that an interval may need beyond the usual ones: one narrower than that has no width
WHOLE = 1e-6  # grey levels, by which a size may miss a whole number of them


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
    if percent:
        return f"{_rounded(100 * value, 1 if digits is None else digits)}{THIN}%".replace("-", "−")
    return _typeset(_rounded(value, 3 if digits is None else digits), value)


def _rounded(value: float, digits: int) -> str:
    """With so many decimals; no zero has a sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def long(value: float, digits: int) -> str:
    """With a digit before the point, too, as the paper prints the smallest sizes: ``0.0123``."""
    return _rounded(value, digits).replace("-", "−")


def signed(value: float | None, digits: int | None = None) -> str:
    """A difference: ``+.012`` or ``−.003``; nothing rounds to a zero with a sign."""
    text = short(value, digits=digits)
    return f"+{text}" if value is not None and value > 0 and text.strip(".0") else text


def given(value: float) -> str:
    """A number that was set and not measured, with the digits that it has: ``.05``, ``2``."""
    return _typeset(f"{value:g}", value)


def _typeset(text: str, value: float) -> str:
    return (text.replace("0.", ".", 1) if abs(value) < 1 else text).replace("-", "−")


def more_decimals(low: float | None, high: float | None, text: Callable[[float, int], str] | None = None) -> int | None:
    """How many more decimals than usual the ends of an interval need to be told apart, and then also from 0; None where there is no
    interval, or none with a width. ``text``: a number with so many decimals more; by default as :func:`short`.
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    said = text or _with_more
    for k in range(MORE + 1):
        one, zero, other = (said(v, k) for v in (low, 0.0, high))
        if one != other and (k == 0 or ((one != zero or low == 0) and (other != zero or high == 0))):
            return k
    return None


def _with_more(value: float, more: int) -> str:
    return short(value, digits=3 + more)


def interval(low: float | None, high: float | None) -> str:
    """``[.101, .148]``, with as many decimals as tell its ends apart; empty where there is none, or none with a width."""
    more = more_decimals(low, high)
    return "" if more is None else f"[{short(low, digits=3 + more)}, {short(high, digits=3 + more)}]"


def between(value: float | None, low: float | None, high: float | None, sign: bool = False) -> str:
    """A number and its interval, ``.123 [.101, .148]``; ``sign``: of a difference, ``+.012 [−.003, .027]``."""
    digits = 3 + (more_decimals(low, high) or 0)
    return f"{(signed if sign else short)(value, digits=digits)} {interval(low, high)}".rstrip()


def rate(found: Mapping[str, Any], ends: bool = True) -> str:
    """A :func:`share` as ``.123 [.101, .148] (37 of 300)``."""
    if not found["of"]:
        return f"{NONE} (of 0)"
    said = between(found["share"], found["low"], found["high"]) if ends else short(found["share"])
    return f"{said} ({found['count']:,} of {found['of']:,})"


def rate_in_percent(found: Mapping[str, Any]) -> str:
    """The same as ``12.3 % [10.1, 14.8] of 300``."""
    low, high = (_rounded(100 * found[end], 1) for end in ("low", "high"))
    return f"{measured(found['share'], 1)} [{low}, {high}] of {found['of']:,}"


def percent(level: str | float, digits: int = 3) -> str:
    """A share that was set, ``0.05``, as ``5 %``, with so many digits that count at most."""
    return f"{100 * float(level):.{digits}g} %"


def measured(share: float | None, digits: int = 0) -> str:
    """A share that was measured, in a sentence: ``76 %``."""
    return short(share, True, digits).replace(THIN, " ")


def least_to_most(low: float, high: float) -> str:
    """Two measured shares as ``31 to 33 %``; once where they are printed alike."""
    ends = dict.fromkeys(_rounded(100 * v, 0) for v in (low, high))
    return f"{' to '.join(ends)} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points: ``3.4``."""
    return _rounded(100 * difference, 1)


def grey_levels(size: float) -> str:
    """A size in [0, 1] as ``8/255`` where it is a whole number of grey levels; else empty."""
    levels = 255 * size
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < WHOLE else ""


def lasting(seconds: float) -> str:
    """``40 s``, ``12 min``, ``1.5 h``."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


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
