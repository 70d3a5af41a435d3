"""A verdict as one page of HTML: no script, nothing from elsewhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from ..store import JSON
from .picture import BOTTOM, FLAGS, HEIGHT, LEFT, WIDTH, plots
from .standing import standing
from .words import said, sections


def page(verdicts: dict[str, JSON], facts: JSON) -> str:
    """HTML: what is said of each detector, all side by side, and :func:`~salientry.judging.words.sections`."""
    pages = Environment(loader=PackageLoader("salientry.judging", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters["coded"] = coded
    style = PackageLoader("salientry.report", "templates").get_source(pages, "style.css")[0]
    own = [n for n in verdicts if n in facts["own"]]
    tables = sections(verdicts, facts)
    compared = len(verdicts) > 1
    return pages.get_template("verdict.html.jinja").render(
        title=f"Verdict: {', '.join(own)}",
        classifier=facts["classifier"],
        said=[(n, [*said(verdicts[n]), *standing(n, verdicts, facts)]) for n in own],
        best=facts.get("best"),
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


def coded(text: str) -> Markup:
    """What stands between backticks as code."""
    pieces = [escape(piece) for piece in text.split("`")]
    if len(pieces) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(pieces))
