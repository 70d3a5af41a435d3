"""The part of docs/RESULTS.md on runs at the paper's own size, from what lies in results/paper."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from salientry.rates import row
from salientry.report.claims import Verdicts
from salientry.report.collection import source
from salientry.report.columns import Collection, DataSetColumn, read
from salientry.report.paper_tables import PaperColumn
from salientry.report.render import text
from salientry.report.report import Made
from salientry.report.spec import number_of
from salientry.report.words import attack_title
from salientry.results.claims import MANNERS, NOT_RUN, sentences
from salientry.results.names import architecture_of, in_words
from salientry.results.paper_numbers import TABLES, printed_text
from salientry.results.warnings import ALIKE

from .recorded import PAPER, ROOT, made

SIZES = TABLES[2][1]
Row = Mapping[str, Any]


@functools.cache
def collected() -> Collection:
    """All of them."""
    with contextlib.chdir(ROOT):  # the page names the folder as it is given
        return read(PAPER.relative_to(ROOT))


def at_size() -> str:
    """For each data set what attacks did, beside the paper's Tables 2 and 4, and the claims that could be judged."""
    return "\n\n".join("\n".join(_column(c)) for c in collected().columns if c.run)


def _column(c: DataSetColumn) -> list[str]:
    assert c.run
    s = source(c)
    heads = ["accuracy", *SIZES.values()]
    images = sorted({int(ours["n"]) for _, ours, _ in s.accuracies() if ours})
    return [
        f"### {c.title}",
        "",
        row("", *(f"{h}, {whose}" for h in heads for whose in ("ours", "paper"))),
        row(*["---"] * (1 + 2 * len(heads))),
        *(_row(s, words, ours, theirs) for words, ours, theirs in s.accuracies()),
        "",
        f"n = {' or, where it is said, '.join(str(n) for n in reversed(images))} test images. In brackets 95 % intervals over images, "
        "given this one net. The paper says nothing of its number of images.",
        "",
        *_judged(c),
        "",
        *(_source(m) for m in c.runs if not _architectures(m)),
        *(line for m in (*c.runs, *collected().others) if m.scores.dataset == c.slug for line in _heads(m)),
    ]


def _source(m: Made) -> str:
    return f"`{m.command}`, run seed {m.scores.run_seed}, salientry {m.scores.run['salientry']}, {made(m.scores.run)}."


def _architectures(m: Made) -> list[Row]:
    return [r for r in m.rows if r["kind"] == "architecture" and r["measure"] == "accuracy"]


def _heads(m: Made) -> list[str]:
    """Image detectors with the paper's own architecture: accuracy, and between what their scores lie."""
    rows = _architectures(m)
    if not rows:
        return []
    found = m.scores.frame
    heads = "detector", "trained and tested on", "accuracy", "extra false alarms on harmless noise as large", "its scores of test images"
    lines = ["", row(*heads), row(*["---"] * len(heads))]
    for r in rows:
        mine = found[(found["title"] == r["title"]) & found["set"].str.contains("/test/")]
        low, high = min(x.min() for x in mine["scores"]), max(x.max() for x in mine["scores"])
        said = "one for all images: it has died" if high - low < ALIKE else f"{low:.1f} to {high:.1f}".replace("-", "−")
        title = f"{r['detector']}, {architecture_of(r['scheme'])}"
        noise = m.make.find("architecture", title=r["title"], measure="noise/excess-flags-on-unchanged")
        lines.append(row(title, attack_title(r["tested_on"]), text(number_of(r)), text(noise) if noise else "", said))
    margin = m.make.find("detection", title="Margin2", measure="accuracy")
    beside = f"; the logit margin, a baseline: {text(margin)}" if margin else ""
    what = "Accuracy on half natural, half attacked images, each detector's own threshold"
    return [*lines, "", f"{what}; n = {rows[0]['n']} of each, one seed{beside}.", "", _source(m)]


def _row(s: PaperColumn, words: str, ours: Row | None, theirs: Row) -> str:
    """An attack: the accuracy that it leaves, then the sizes of its change, each beside the paper's."""
    sizes = {r["cell"]: r for r in s.theirs if r["table"] == 2 and r["row"] == theirs["row"]}
    cells = [text(number_of(ours), "percent") if ours else "not run", printed_text(theirs)]
    for k in SIZES:
        mine = s.ids.get(sizes[k]["ours"]) if sizes else None
        cells += [text(number_of(mine), f"d{max(3, sizes[k]['decimals'])}") if mine else "", printed_text(sizes[k]) if sizes else ""]
    most = max(r["n"] for r in s.ids.values() if r["kind"] == "attack" or r["measure"] == "accuracy")
    few = f" (n = {ours['n']})" if ours and ours["n"] < most else ""
    return row((attack_title(theirs["attack"]) if theirs.get("attack") else words) + few, *cells)


def _judged(c: DataSetColumn) -> list[str]:
    """The claims about which these records say anything, with the verdict as the paper trains and the numbers that decide."""
    assert c.run
    assert c.judged[0]
    v = Verdicts([c.judged[0]])
    return [
        f"- {k}, {sentence.rstrip('.')}: **{word}** at this size ({'; '.join(_numbers(v, k, c))})."
        for k, sentence in sentences()["claims"].items()
        if (word := v.word(k, c.run.scores.dataset, c.run.scores.run_seed, MANNERS[0])) != NOT_RUN
    ]


def _numbers(v: Verdicts, claim: str, c: DataSetColumn) -> list[str]:
    """What was asked, and the number."""
    assert c.run
    lines = v.of(claim, c.run.scores.dataset, c.run.scores.run_seed)
    mine = [r for r in lines if (r["protocol"], r["scheme"]) in (MANNERS[0], ("published", ""), ("any", ""))]
    return [f"{in_words(r['words'])}: {text(number_of(n))}" for r in mine if (n := v.number(r, r["id"])) is not None]
