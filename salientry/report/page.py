"""One self-contained page, and the numbers beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..store import JSON, write_json, writing
from . import detection, figures
from .compute import Computed, computed
from .numbers import Number
from .records import Records
from .stamps import MEANING

SCHEMA = 1


def write(folder: Path | str, command: str | None = None) -> Path:
    """Compute every number of the records in ``folder`` and write ``report.json`` and ``report.html`` beside them.

    Args:
        folder: holds ``records.json``.
        command: what was typed, when it is not what ``run.json`` says.

    Returns:
        The page's path.

    Raises:
        UsageError: when there are no records.
        StoreError: when it cannot be written.
    """
    records = Records(folder)
    found = computed(records)
    typed = command or records.run.get("command", "salientry report")
    numbers = [n | {"command": typed} for n in found.ledger.json()]
    body = {"schema": SCHEMA, "recipe": records.recipe, "command": typed, "numbers": numbers}
    write_json(records.folder / "report.json", body)
    page = records.folder / "report.html"
    with writing(page):
        page.write_text(html(records, found, typed))
    return page


def html(records: Records, found: Computed, command: str) -> str:
    """The page."""
    loader = jinja2.PackageLoader("salientry.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    show = Shown(found)
    environment.globals |= {
        "num": show.number,
        "bare": show.bare,
        "count": show.count,
        "runs": show.runs,
        "title": attack_title,
        "percent": percent,
        "meaning": MEANING,
    }
    seen = {s.split(" ")[0] if not s.startswith(("GATE", "NOISE", "WEAK")) else s for s in _stamps(found)}
    return environment.get_template("page.html.jinja").render(
        records=records,
        run=records.run,
        command=command,
        found=found,
        sentences=sentences(records, found, show),
        gallery=figures.gallery(records),
        curves={(t.protocol, t.trained_on): figures.curves(records, t) for t in found.tables},
        stamps=sorted(seen),
        natural=records.natural("test"),
        steps=_by_step(records.run),
    )


def attack_title(name: str) -> str:
    """``DeepFool-steps=2`` as ``DeepFool (steps=2)``."""
    head, *settings = name.split("-")
    return f"{head} ({', '.join(settings)})" if settings else head


def percent(level: str) -> str:
    """``0.05`` as ``5 %``."""
    return f"{100 * float(level):g}\u202f%"


class Shown:
    """Numbers as they are printed, each marked with its id."""

    def __init__(self, found: Computed) -> None:
        self.ledger = found.ledger

    def number(self, id: str | None, percent: bool = False) -> Markup:
        """Value and interval."""
        if id is None:
            return Markup('<span class="none" title="not printed: too few images">–</span>')
        n = self.ledger[id]
        ends = "" if n.lo is None or n.hi is None else f" <small>[{_text(n.lo, percent)}, {_text(n.hi, percent)}]</small>"
        return Markup('<span class="num" data-id="{}" title="{} · n = {}">{}{}</span>').format(
            id, id, n.n, _text(n.value, percent), Markup(ends)
        )

    def bare(self, id: str | None, percent: bool = False) -> Markup:
        """The value alone."""
        if id is None:
            return Markup("–")
        n = self.ledger[id]
        return Markup('<span class="num" data-id="{}" title="{} · n = {}">{}</span>').format(id, id, n.n, _text(n.value, percent))

    def count(self, id: str | None) -> Markup:
        """A whole number."""
        return Markup("–") if id is None else Markup('<span class="num" data-id="{}">{:,.0f}</span>').format(id, self.ledger.value(id))

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
        return f"{100 * value:.1f}\u202f%".replace("-", "\u2212")
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1).replace("-", "\u2212") if abs(value) < 1 else text.replace("-", "\u2212")


def sentences(records: Records, found: Computed, show: Shown) -> list[Markup]:
    """What the run says, in words; every number in it is one of the ledger's."""
    natural = Markup("The classifier has {} of {:,} test images right").format(
        show.number(found.natural, True), len(records.natural("test"))
    )
    left = [
        Markup("{} leaves {}").format(attack_title(a.attack), show.number(a.accuracy, True))
        for a in found.attacks
        if a.protocol == "strict"
    ]
    out = [Markup("{}; {}.").format(natural, Markup(", ").join(left))]
    for t in found.tables:
        if t.protocol == "strict" and t.rows:
            out.append(_detection_sentence(t, show))
    if any(t.missing for t in found.tables):
        out.append(Markup("Some detection numbers are not printed: a mandatory control is missing."))
    return out


def _detection_sentence(t: detection.Table, show: Shown) -> Markup:
    level = t.levels[0]

    def tpr(row: detection.Row) -> str | None:
        return next((c.tpr.get(level) for c in row.cells if c.attack == t.trained_on), None)

    heads = [r for r in t.rows if r.group.family != "floor"]
    found = [Markup("{} {}").format(r.group.title, show.number(tpr(r), True)) for r in heads]
    floor = next((r for r in t.rows if r.group.title == t.best_floor), None)
    noise = [Markup("{} {}").format(r.group.title, show.bare(r.noise.specificity, True)) for r in heads if r.noise and r.noise.specificity]
    text = Markup("<b>{}</b>, false alarms held to {}: of its successful 8-bit images {} are found").format(
        attack_title(t.trained_on), percent(level), Markup(", ").join(found)
    )
    if floor is not None:
        text += Markup("; the floor that was best on <i>select</i>, {}, finds {}").format(floor.group.title, show.number(tpr(floor), True))
    if noise:
        text += Markup(". Noise of the same size that changes no prediction raises flags by {}").format(Markup(", ").join(noise))
    return text + Markup(".")


def _stamps(found: Computed) -> list[str]:
    return [s for t in found.tables for r in t.rows for s in r.stamps] + [s for m in found.maps for s in m.stamps]


def _by_step(run: JSON) -> list[dict[str, Any]]:
    """Seconds and number of results by step, the longest first."""
    out: dict[str, dict[str, Any]] = {}
    for s in run.get("steps", []):
        entry = out.setdefault(s["step"], {"step": s["step"], "count": 0, "seconds": 0.0})
        entry["count"] += 1
        entry["seconds"] += s["seconds"]
    return sorted(out.values(), key=lambda e: -e["seconds"])
