"""A verdict as one page of HTML: no script, nothing from elsewhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader

from ..store import JSON
from .words import most, said, sections

WIDTH, HEIGHT, LEFT, BOTTOM = 446, 300, 56, 40


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
        dots=dots(verdicts, own),
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        bottom=BOTTOM,
        sections=tables[1:] if compared else tables,
        left_out=facts.get("left_out", []),
        style=style,
    )


def dots(verdicts: dict[str, JSON], own: list[str]) -> list[JSON]:
    """Where each detector stands in the picture: right the more it flags harmless changes, up the more attacks it detects."""
    found = []
    for i, (name, v) in enumerate(verdicts.items()):
        level = next(iter(v["thresholds"]))
        mean, worst = v["summary"][level]["attacks"]["mean"], most(v["harmless"])
        if mean is None or worst is None:
            continue
        x = LEFT + (WIDTH - LEFT - 12) * min(max(worst["extra"]["share"], 0.0), 1.0)
        y = 10 + (HEIGHT - BOTTOM - 10) * (1 - mean)
        found.append({"x": round(x, 1), "y": round(y, 1), "name": name, "own": name in own, "number": i + 1})
    return found
