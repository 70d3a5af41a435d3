"""Numbers as a page prints them, each marked with its id."""

from __future__ import annotations

import math

from markupsafe import Markup

from .numbers import Ledger, Number


def percent(level: str) -> str:
    """``0.05`` as ``5 %``."""
    return f"{100 * float(level):g}\u202f%"


class Shown:
    """Numbers as they are printed, each marked with its id.

    Args:
        ledger: the numbers.
        of: the run that they are of, where a page shows several; it is marked too.

    Attributes:
        seen: ids of what was printed.
    """

    def __init__(self, ledger: Ledger, of: str = "") -> None:
        self.ledger, self.of = ledger, of
        self.seen: set[str] = set()

    def _mark(self, id: str) -> Markup:
        self.seen.add(id)
        return Markup('{}data-id="{}"').format(Markup('data-of="{}" ').format(self.of) if self.of else "", id)

    def number(self, id: str | None, percent: bool = False) -> Markup:
        """Value and interval."""
        if id is None:
            return Markup('<span class="none" title="not printed: too few images">–</span>')
        n = self.ledger[id]
        ends = "" if n.lo is None or n.hi is None else f" <small>[{_text(n.lo, percent)}, {_text(n.hi, percent)}]</small>"
        return Markup('<span class="num" {} title="{} · n = {}">{}{}</span>').format(
            self._mark(id), id, n.n, _text(n.value, percent), Markup(ends)
        )

    def bare(self, id: str | None, percent: bool = False) -> Markup:
        """The value alone."""
        if id is None:
            return Markup("–")
        n = self.ledger[id]
        return Markup('<span class="num" {} title="{} · n = {}">{}</span>').format(self._mark(id), id, n.n, _text(n.value, percent))

    def ours(self, id: str | None, percent: bool, decimals: int) -> Markup:
        """Value, interval and seeds beside a cell of the paper's; with as many decimals where the paper prints more than three."""
        if id is None:
            return Markup('<span class="none">not run</span>')
        if decimals <= 3 or percent:
            return self.number(id, percent) + self.runs(id)
        n = self.ledger[id]
        value, lo, hi = ("–" if v is None else f"{v:.{decimals}f}" for v in (n.value, n.lo, n.hi))
        form = Markup('<span class="fine" {} title="{} · n = {}">{} <small>[{}, {}]</small></span>')
        return form.format(self._mark(id), id, n.n, value, lo, hi)

    def small(self, id: str) -> Markup:
        """A p-value."""
        value = self.ledger.value(id)
        text = "–" if math.isnan(value) else "<10⁻⁴" if value < 1e-4 else _text(value, False)
        return Markup('<span class="num" {}>{}</span>').format(self._mark(id), text)

    def count(self, id: str | None) -> Markup:
        """A whole number."""
        return Markup("–") if id is None else Markup('<span class="num" {}>{:,.0f}</span>').format(self._mark(id), self.ledger.value(id))

    def runs(self, id: str | None) -> Markup:
        """The value of each seed, where there are several."""
        n: Number | None = self.ledger[id] if id is not None else None
        if n is None or len(n.runs) < 2:
            return Markup("")
        return Markup('<small class="runs">{}</small>').format(" · ".join(_text(r, False) for r in n.runs))


def _text(value: float | None, percent: bool) -> str:
    if value is None or math.isnan(value):
        return "–"
    if percent:
        return f"{round(100 * value, 1) + 0.0:.1f}\u202f%".replace("-", "\u2212")  # adding 0 takes the sign off a zero
    text = f"{round(value, 3) + 0.0:.3f}"
    return text.replace("0.", ".", 1).replace("-", "\u2212") if abs(value) < 1 else text.replace("-", "\u2212")
