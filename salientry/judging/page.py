"""A verdict as one page of HTML: no script, nothing from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader

if TYPE_CHECKING:
    from .result import Judgement


def page(judgement: Judgement) -> str:
    """HTML of :meth:`Judgement.sections`."""
    pages = Environment(loader=PackageLoader("salientry.judging", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style = PackageLoader("salientry.report", "templates").get_source(pages, "style.css")[0]
    own = [n for n in judgement.verdicts if n in judgement.facts["own"]]
    return pages.get_template("verdict.html.jinja").render(
        title=f"Verdict: {', '.join(own)}", text=str(judgement), sections=judgement.sections(), style=style
    )
