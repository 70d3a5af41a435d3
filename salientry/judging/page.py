"""A verdict as one page of HTML: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from ..store import JSON
from .words import most, said, sections

WIDTH, HEIGHT, LEFT, BOTTOM = 446, 300, 56, 40
FLAGS = ((0.05, "a circle: at most .05"), (0.2, "a square: at most .2"), (1.0, "a triangle: more"))  # extra flags on a harmless change
SHAPES = (
    '<circle class="dot" cx="{x}" cy="{y}" r="5"/>',
    '<path class="dot" d="M{l} {t}H{r}V{b}H{l}Z"/>',
    '<path class="dot" d="M{x} {t}L{r} {b}H{l}Z"/>',
)


def page(verdicts: dict[str, JSON], facts: JSON) -> str:
    """HTML: what is said of each detector, all side by side, and :func:`~salientry.judging.words.sections`."""
    pages = Environment(loader=PackageLoader("salientry.judging", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style = PackageLoader("salientry.report", "templates").get_source(pages, "style.css")[0]
    own = [n for n in verdicts if n in facts["own"]]
    tables = sections(verdicts, facts)
    compared = len(verdicts) > 1
    return pages.get_template("verdict.html.jinja").render(
        title=f"Verdict: {', '.join(own)}",
        classifier=facts["classifier"],
        said=[(n, said(verdicts[n])) for n in own],
        compared=tables[0] if compared else None,
        plots=plots(verdicts, own),
        flags=FLAGS,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        bottom=BOTTOM,
        sections=tables[1:] if compared else tables,
        left_out=facts.get("left_out", []),
        style=style,
    )


def plots(verdicts: dict[str, JSON], own: list[str]) -> list[JSON]:
    """Two pictures with a mark a detector: how much it detects, against what it flags of harmless changes and against what it costs."""
    marks = []
    for i, (name, v) in enumerate(verdicts.items()):
        level = next(iter(v["thresholds"]))
        mean, worst, cost = v["summary"][level]["attacks"]["mean"], most(v["harmless"]), v.get("cost")
        if mean is not None and worst is not None:
            flags = max(worst["extra"]["share"], 0.0)
            marks.append(
                {"name": name, "own": name in own, "number": i + 1, "mean": mean, "flags": flags, "cost": cost and cost["1"]["times"]}
            )
    found = [_plot(marks, "flags", "most extra flags on a harmless change", [(k / 4, f"{k / 4:g}") for k in range(5)], lambda v: v)]
    priced = [m for m in marks if m["cost"]]
    if len(priced) > 1:
        top = max(2.0, max(m["cost"] for m in priced))
        ends = [2.0**k for k in range(int(np.ceil(np.log2(top))) + 1)]
        ticks = [(float(np.log2(t)) / np.log2(ends[-1]), f"{t:g}") for t in ends]
        words = "time of one image over the classifier's alone"
        found.append(_plot(priced, "cost", words, ticks, lambda v: float(np.log2(max(v, 1.0)) / np.log2(ends[-1]))))
    return found


def _plot(marks: list[JSON], key: str, words: str, ticks: list[tuple[float, str]], place: Callable[[float], float]) -> JSON:
    """One picture; the shape of a mark says how much harmless changes are flagged."""
    wide, high = WIDTH - LEFT - 12, HEIGHT - BOTTOM - 10
    placed = []
    for m in marks:
        x, y = round(LEFT + wide * min(place(m[key]), 1.0), 1), round(10 + high * (1 - m["mean"]), 1)
        kind = sum(m["flags"] > limit for limit, _ in FLAGS[:-1])
        shape = SHAPES[kind].format(x=x, y=y, l=round(x - 5, 1), r=round(x + 5, 1), t=round(y - 5, 1), b=round(y + 5, 1))
        placed.append({"x": x, "y": y, "shape": Markup(shape), "left": x > WIDTH - 40} | {n: m[n] for n in ("name", "own", "number")})
    return {
        "words": words,
        "marks": placed,
        "across": [(round(LEFT + wide * at, 1), name) for at, name in ticks],
        "up": [(round(10 + high * (1 - k / 4), 1), f"{k / 4:g}") for k in range(5)],
    }
