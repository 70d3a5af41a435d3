"""One self-contained page, and the numbers beside it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..errors import DataDamaged, StoreError
from ..metrics import RESAMPLES
from ..store import JSON, packed, read_json, write_json, write_text
from . import algorithms, appendix, detection, figures, plots, targets
from .compute import Computed, computed
from .counts import counts
from .fusion import Fusion, Part
from .records import TITLES, Records, attack_title
from .shown import Shown, percent
from .spoiled import WORDS
from .stamps import MEANING
from .summary import summary
from .white_box import MOVED

SCHEMA = 1


@dataclass(frozen=True)
class Made:
    """Everything that a page is written from.

    Attributes:
        records: of the run.
        found: their numbers.
        command: that made the records.
    """

    records: Records
    found: Computed
    command: str

    @property
    def numbers(self) -> list[dict[str, JSON]]:
        """As they stand in ``report.json``."""
        return [n | {"command": self.command} for n in self.found.ledger.json()]


def write(folder: Path | str, command: str | None = None, beside: Path | None = None) -> Path:
    """Compute every number of the records in ``folder`` and write ``report.json``, ``grid.csv`` and ``report.html`` beside them.

    Args:
        folder: holds ``records.json``.
        command: what was typed, when it is not what ``run.json`` says.
        beside: a folder with the records of the white box on the same classifier; the report remembers where it lies, and the next one
            finds it there.

    Returns:
        The page's path.

    Raises:
        UsageError: when there are no records.
        StoreError: when it cannot be written.
    """
    return put(made(folder, command, beside))


def made(folder: Path | str, command: str | None = None, beside: Path | None = None) -> Made:
    """Read and compute, as :func:`write`, and write nothing."""
    records = Records(folder, beside=beside or remembered(Path(folder)))
    return Made(records, computed(records), command or records.run.get("command", "salientry report"))


def put(one: Made) -> Path:
    """Write the page and what stands beside it into the folder of its records."""
    folder, beside = one.records.folder, one.records.beside
    body = {"schema": SCHEMA, "recipe": one.records.recipe, "command": one.command, "numbers": one.numbers}
    body |= {} if beside is None else {"beside": os.path.relpath(beside.folder, folder)}
    write_json(folder / "report.json", body)
    appendix.write(folder, one.found.ledger, one.found.tables)
    page = folder / "report.html"
    write_text(page, html(one.records, one.found, one.command))
    return page


def remembered(folder: Path) -> Path | None:
    """Where the white box lay when the report was last written, if it is still there."""
    where = None
    with contextlib.suppress(StoreError, DataDamaged, AttributeError):  # whatever is there is written anew
        where = read_json(folder / "report.json").get("beside")
    return folder / where if where and packed(folder / where / "records.json").exists() else None


def templates() -> jinja2.Environment:
    """Where pages are rendered; what prints numbers is given by each page."""
    loader = jinja2.PackageLoader("salientry.report", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {
        "title": attack_title,
        "percent": percent,
        "missing": lambda why: Markup('<span class="none" title="{}">–</span>').format(why),
        "meaning": MEANING,
    }
    environment.filters |= {"title_of": attack_title, "name_of": lambda name: TITLES.get(name, name)}
    return environment


def html(records: Records, found: Computed, command: str) -> str:
    """The page."""
    environment, show = templates(), Shown(found.ledger)
    environment.globals |= {
        "num": show.number,
        "bare": show.bare,
        "count": show.count,
        "runs": show.runs,
        "small": show.small,
        "ours": show.ours,
        "settled": lambda id: (found.ledger[id].value or 0.0) <= MOVED + 1e-9,
        "printed": lambda line: _table3(found, line),
    }
    seen = {m for m in MEANING for s in _stamps(found) if s.startswith(m)}
    both = ("published", "strict")
    parts = summary(records, found, show.number, percent)
    given = {"records": records, "run": records.run, "command": command, "found": found, "summary": parts, "steps": _by_step(records.run)}
    given["counted"] = counts(records)
    given["reduced"] = [a["label"] for a in records.settings if a["reduced"]]
    if not records.whole:
        return environment.get_template("white_page.html.jinja").render(**given)
    pictures = figures.Gallery(records)
    return environment.get_template("page.html.jinja").render(
        **given,
        sentences=sentences(records, found, show),
        pictures={"maps": pictures.maps(), "noise": pictures.noise(), "gradients": pictures.gradients()},
        plots={
            "bars": {p: plots.bars(found.ledger, found.grid, p) for p in both},
            "heat": {p: plots.heat(found.tables, p, found.grid.labels) for p in both},
            "learning": {p: plots.learning(records, p) for p in both},
            "sweep": plots.sweep(found.ledger, found.sweep) if found.sweep else None,
        },
        curves={t.trained_on: plots.curves(records, t) for t in found.tables if t.protocol == "strict"},
        maps=figures.MAPS,
        figure_numbers=figures.numbers(found.paper.column),
        spoiled=WORDS,
        shade=lambda id, protocol: plots.shade(found.ledger.value(id), protocol),
        whole_noise=lambda: show.number(_whole_noise(found)),
        taken=lambda part: taken(part, found),
        resamples=RESAMPLES,
        stamps=sorted(seen),
        natural=records.natural("test"),
    )


def _table3(found: Computed, line: algorithms.Line) -> str:
    """What the paper prints beside a line of ours: only of its own attack, before adversarial training."""
    if line.variant != "as printed" or line.defence not in ("SMD", "SPD") or found.paper.column is None:
        return ""
    rows = targets.printed()["table3"]["before_adversarial_training"]
    cells = [targets.cell(rows[f"{k}_accuracy"][line.defence], found.paper.column).text for k in ("classifier", "detector")]
    return " · ".join(cells)


def _whole_noise(found: Computed) -> str | None:
    """More flags of the whole fusion on noise."""
    rows = [r for t in found.tables if (t.protocol, t.trained_on) == ("strict", "combined") for r in t.rows if r.group.family == "fusion"]
    return rows[0].noise.specificity if rows and rows[0].noise else None


def taken(part: Part, found: Computed) -> str:
    """The members that a part is made of."""
    if found.fusion is None:
        return ""
    first = found.fusion.of(part.base)[0].members
    more, fewer = (first, part.members) if part.base == "whole" else (part.members, first)
    return ", ".join(TITLES.get(m, m) for m in more if m not in fewer)


def sentences(records: Records, found: Computed, show: Shown) -> list[Markup]:
    """What the run says, in words; every number in it is one of the ledger's."""
    natural = Markup("The classifier has {} of {:,} test images right").format(
        show.number(found.natural, True), len(records.natural("test"))
    )
    left = [
        Markup("{} leaves {}").format(attack_title(a.attack), show.bare(a.accuracy, True)) for a in found.attacks if a.protocol == "strict"
    ]
    out = [Markup("{}; {}.").format(natural, Markup(", ").join(left))]
    for t in found.tables:
        if t.protocol == "strict" and t.rows and t.trained_on == "combined":
            out.append(_detection_sentence(t, found, show))
            out.append(_specificity_sentence(t, show))
    if found.fusion:
        out.append(_fusion_sentence(found.fusion, show))
    if any(t.missing for t in found.tables):
        out.append(Markup("Some detection numbers are not printed: a mandatory control is missing."))
    return out


def _detection_sentence(t: detection.Table, found: Computed, show: Shown) -> Markup:
    """Of each attack what the map's detector finds, and what the best floor finds."""
    level = t.levels[0]

    def tpr(row: detection.Row | None, attack: str) -> str | None:
        return next((c.tpr.get(level) for c in row.cells if c.attack == attack), None) if row else None

    def row(title: str | None) -> detection.Row | None:
        return next((r for r in t.rows if r.group.title == title), None)

    shown = [name for name in ("SPD", "SMD", "ID+", t.best_floor) if row(name)]
    heads = Markup("").join(Markup("<th>{}</th>").format(attack_title(a)) for a in found.grid.labels)
    lines = [
        Markup("<tr><th>{}</th>{}</tr>").format(
            n if n != t.best_floor else f"{n}, best floor",
            Markup("").join(Markup("<td>{}</td>").format(show.bare(tpr(row(n), a), True)) for a in found.grid.labels),
        )
        for n in shown
    ]
    text = Markup("Trained on all attacks, false alarms held to {}, of the successful 8-bit images are found:").format(percent(level))
    table = Markup('<div class="scroll"><table><thead><tr><th></th>{}</tr></thead><tbody>{}</tbody></table></div>')
    return text + table.format(heads, Markup("").join(lines))


def _specificity_sentence(t: detection.Table, show: Shown) -> Markup:
    """Who flags what is no attack."""
    rows = [r for r in t.rows if r.group.title in ("SPD", "SMD", "ID", "JSD", "ID+", "fusion") and r.noise and r.noise.specificity]
    noise = [Markup("{} {}").format(r.group.title, show.bare(r.noise.specificity, True)) for r in rows if r.noise]
    others = [(r, r.controls.get("Transplant")) for r in rows]
    moved = [Markup("{} {}").format(r.group.title, show.bare(c.specificity, True)) for r, c in others if c and c.specificity]
    text = Markup("Noise as large as the attacks that changes no prediction raises flags by {}").format(Markup(", ").join(noise) or "–")
    return text + (Markup("; another image's perturbation by {}.").format(Markup(", ").join(moved)) if moved else Markup("."))


def _fusion_sentence(fusion: Fusion, show: Shown) -> Markup:
    """What the map adds to everything else, to the logits alone, and which detector the guard keeps."""
    whole = fusion.of("whole")[0]
    text = Markup("A fusion of all detectors finds {} on average over the attacks; the map's two detectors add {} to it.").format(
        show.number(whole.finds, True), show.number(fusion.gain("whole", "the map"), True)
    )
    alone = next((p for p in fusion.of("logits") if p.name == "alone"), None)
    if alone is not None:
        text += Markup(" The logits alone find {}; the map adds {} to them, the image {}, the second net without a map {}.").format(
            show.number(alone.finds, True),
            *(show.number(fusion.gain("logits", k), True) for k in ("the map", "the image", "the second net")),
        )
    if fusion.choice:
        text += Markup(
            " The guard keeps <b>{}</b>: on <i>select</i> it has the best rate on its worst attack that it was not trained on."
        ).format(TITLES.get(fusion.choice["chosen"], fusion.choice["chosen"]))
    return text


def _stamps(found: Computed) -> list[str]:
    return (
        [s for t in found.tables for r in t.rows for s in r.stamps]
        + [s for m in found.maps for s in m.stamps]
        + [s for t in found.tables for r in t.rows for c in r.controls.values() for s in c.stamps]
    )


def _by_step(run: JSON) -> list[dict[str, Any]]:
    """Seconds and number of results by step, the longest first."""
    out: dict[str, dict[str, Any]] = {}
    for s in run.get("steps", []):
        entry = out.setdefault(s["step"], {"step": s["step"], "count": 0, "seconds": 0.0})
        entry["count"] += 1
        entry["seconds"] += s["seconds"]
    return sorted(out.values(), key=lambda e: -e["seconds"])
