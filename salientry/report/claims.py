"""What the paper claims and what came of it: the verdicts, and a section of a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..rates import given
from ..results.claims import MANNERS, NOT_RUN, OPEN, claims, sentences, verdicts
from ..results.names import in_words
from ..results.place import records
from ..results.scores import Scores
from ..results.warnings import COLLAPSED
from ..store import JSON
from . import render
from .page import Block
from .spec import number_of

ASKED = {
    ("published", "replica"): "published, trained as the paper trains",
    ("published", "paired"): "published, batch norm",
    ("published", ""): "published",
    ("strict", "paired"): "strict",
    ("strict", ""): "strict",
    ("any", ""): "both",
}
NOTE = """Published: the paper's protocol, accuracy at the head's own 0, in the paper's own manner of training first, then with batch norm
and each natural beside its own adversarial. Strict: 8-bit images that were right before and are wrong now, detection rate at a
false-positive rate of 5 %. In brackets: 95 % interval {over}. *Holds*, *does not hold*: the
whole interval lies on that side of the boundary, after Holm's correction over the list; *undecided*: it holds the boundary, or
the run seeds disagree. *Not at the paper's size*: the heads had fewer steps than the paper's, or other nets; what then does not
hold or did not train says nothing of the paper's. *Not run*: the records, or one of the run seeds, lack what it asks. Run seeds
of a data set are judged together on the attacks that all of them have."""
IMAGES = "over images, given these nets and this split"
Rows = list[dict[str, Any]]


def note(frames: Iterable[Any]) -> str:
    """How to read the verdicts on runs with these numbers."""
    seeds = {len(x) for frame in frames for x in frame["seeds"][frame["source"] != "paper"]}
    return NOTE.replace("{over}", render.over(seeds, IMAGES))


class Verdicts:
    """The verdicts on some runs.

    Attributes:
        lines: one row a line asked, manner and run seed (None: all run seeds of a data set together).
        words: one row a claim, manner and run seed.
        known: numbers by id.
    """

    def __init__(self, runs: Sequence[tuple[Scores, Any]], timing: JSON | None = None) -> None:
        found, more = verdicts(list(runs), timing)
        self.lines: Rows = _plain(found)
        self.words: Rows = _plain(claims(found))
        rows = [r for _, f in runs for r in records(f)]
        self.known: dict[tuple[Any, Any, str], Mapping[str, Any]] = {
            (r.get("dataset"), r.get("run_seed"), r["id"]): r for r in (*rows, *more)
        }

    def word(self, claim: str, dataset: str, seed: int | None, manner: tuple[str, str]) -> str:
        """The verdict on a claim."""
        return next((str(r["verdict"]) for r in self._asked(claim, dataset, manner) if r["run_seed"] == seed), NOT_RUN)

    def _asked(self, claim: str, dataset: str, manner: tuple[str, str]) -> Rows:
        return [r for r in self.words if (r["claim"], r["dataset"], (r["protocol"], r["scheme"])) == (claim, dataset, manner)]

    def full(self, claim: str, dataset: str, seed: int | None, manner: tuple[str, str]) -> str:
        """The verdict with the training budget and the nets that it depends on, or with each run seed's where together there is none."""
        word, rows = self.word(claim, dataset, seed, manner), self._asked(claim, dataset, manner)
        each = {f"seed {r['run_seed']}": r["verdict"] for r in rows if r["run_seed"] is not None} if seed is None else {}
        if word in (NOT_RUN, OPEN) and len(set(each.values())) > 1:
            return f"{word} ({'; '.join(f'{k}: {v}' for k, v in each.items())})"
        size = next((r["size"] for r in rows if r["run_seed"] == seed), "")
        return f"{word} ({size})" if size else word

    def short(self, claim: str, dataset: str, seed: int | None) -> tuple[str, str]:
        """Published, with batch norm's verdict where it is another one than the paper's manner's; and strict."""
        words = {self.word(claim, dataset, seed, m) for m in MANNERS[:2]}
        first, second, strict = (self.full(claim, dataset, seed, m) for m in MANNERS)
        alike = first == second or (len(words) == 1 and words.isdisjoint((NOT_RUN, OPEN)))
        return first if alike else f"as the paper trains: {first}; batch norm: {second}", strict

    def of(self, claim: str, dataset: str, seed: int | None) -> Rows:
        """The lines of a claim."""
        return [r for r in self.lines if (r["claim"], r["dataset"], r["run_seed"]) == (claim, dataset, seed)]

    def number(self, line: Mapping[str, Any], id: str | None) -> Mapping[str, Any] | None:
        """A number of the run that a line is of."""
        return None if id is None else self.known.get((line["dataset"], line["run_seed"], id))


def _plain(frame: Any) -> Rows:
    """Rows with None for a missing run seed."""
    out = []
    for r in records(frame):
        seed = r.get("run_seed")
        out.append(r | {"run_seed": None if seed is None or seed != seed else int(seed)})
    return out


def how(r: Mapping[str, Any]) -> str:
    """How the number of a line is printed: C3's is a share of attacks, which no interval over images belongs to."""
    return f"of{len(r['over'])}" if r["claim"] == "C3" and r["over"] else ""


def details(v: Verdicts, r: Mapping[str, Any]) -> Iterator[str]:
    """What stands beside a verdict, as text."""
    if r["id"] is not None and math.isfinite(r["boundary"] if r["boundary"] is not None else math.nan):
        edge = given(r["boundary"])
        beyond = "" if r["fails"] is None or r["fails"] != r["fails"] else f", does not hold beyond {given(r['fails'])}"
        if not any(f"{side} {edge}" in r["words"] for side in ("above", "below")):
            yield f"boundary {edge}{beyond}"
    if r.get("p") is not None and r["p"] == r["p"]:
        yield f"p {render.parts(number_of(dict(r, value=r['p'], lo=math.nan, hi=math.nan, seeds=())), 'p')[0]} (Holm)"
    yield from (in_words(r[c]) for c in ("size", "why") if r.get(c))
    for words, id in (("AUROC", r.get("auroc")), *dict(r.get("beside") or {}).items(), ("without these", r.get("trained"))):
        if (n := v.number(r, id)) is not None:
            yield f"{words} {render.text(number_of(n))}"
    if r.get("weak"):
        yield f"AUROC below {given(COLLAPSED)} on its own training pairs: {in_words('; '.join(r['weak']))}"
    if r.get("silent"):
        yield f"no better than chance on its own attack: {in_words('; '.join(r['silent']))}"


def in_manner(rows: Rows, manner: tuple[str, str]) -> dict[str, Any] | None:
    """The row of a manner, of its protocol, or the same in all."""
    return next((r for m in (manner, (manner[0], ""), ("any", "")) for r in rows if (r["protocol"], r["scheme"]) == m), None)


def question(r: Mapping[str, Any]) -> str:
    """What a line asks."""
    return in_words(r["words"]) + (" (beside the paper's: not counted)" if r["extra"] else "")


# --- on a page ------------------------------------------------------------------------------------------------------------


def blocks(s: Scores, frame: Any) -> list[Block]:
    """The section of one run's page, of its scores and numbers: a table of all claims, then each line with its number."""
    v = Verdicts([(s, frame)])
    if not v.lines:
        return []
    words = sentences()["claims"]
    heads = Markup("").join(Markup("<th>{}</th>").format(ASKED[m]) for m in MANNERS)
    body = Markup("\n").join(_claim(v, s, k, sentence) for k, sentence in words.items())
    table = Markup(
        '<div class="scroll"><table class="text claims"><thead><tr><th>claim</th>'
        "<th>what the paper says, and what is asked</th>{}</tr></thead>"
        "<tbody>{}</tbody></table></div>"
    )
    return [Block("", table.format(heads, body), note([frame]).replace("*", ""))]


def _claim(v: Verdicts, s: Scores, claim: str, sentence: str) -> Markup:
    cells = [v.word(claim, s.dataset, s.run_seed, m) for m in MANNERS]
    out = Markup('<tr class="first"><th>{}</th><td><b>{}</b></td>{}</tr>').format(
        claim, sentence, _cells(Markup("<b>{}</b>").format(c) for c in cells)
    )
    lines: dict[str, Rows] = {}
    for r in v.of(claim, s.dataset, s.run_seed):
        lines.setdefault(r["line"], []).append(r)
    silent = dict.fromkeys(rows[0]["why"] for rows in lines.values() if not rows[0]["words"])  # nothing was asked: it says why, once
    for why in silent:
        out += Markup('\n<tr><th></th><td colspan="{}"><small>{}</small></td></tr>').format(1 + len(MANNERS), in_words(why))
    for rows in (rows for rows in lines.values() if rows[0]["words"]):
        out += Markup("\n<tr><th></th><td>{}</td>{}</tr>").format(question(rows[0]), _cells(_answer(v, rows, m) for m in MANNERS))
    return out


def _cells(cells: Iterable[Markup]) -> Markup:
    return Markup("").join(Markup("<td>{}</td>").format(c) for c in cells)


def _answer(v: Verdicts, rows: Rows, manner: tuple[str, str]) -> Markup:
    """The answer of a line in a manner."""
    if (r := in_manner(rows, manner)) is None:
        return Markup("")
    n = v.number(r, r["id"])
    number = Markup(" {}").format(render.mark(number_of(n), how(r))) if n is not None else Markup("")
    return Markup('<span class="verdict">{}</span>{}{}').format(
        r["verdict"], number, Markup(" <small>{}</small>").format("; ".join(details(v, r)))
    )


def together(columns: Sequence[tuple[str, tuple[Scores, Any] | None, str]]) -> Block:
    """One word a claim and data set: title, its run's scores and numbers (None: there is none, and why)."""
    found = {c[0]: Verdicts([c[1]]) for c in columns if c[1]}
    top = Markup("").join(Markup('<th colspan="2">{}</th>').format(t) for t, *_ in columns)
    below = Markup("<th>published</th><th>strict</th>") * len(columns)
    lines = Markup("")
    for k, sentence in sentences()["claims"].items():
        cells = Markup("")
        for name, one, why in columns:
            none = Markup('<td colspan="2"><span class="none">{}</span></td>').format(why or "the paper has no such data set")
            there = one is not None and bool(found[name].lines)
            cells += _cells(map(Markup.escape, found[name].short(k, one[0].dataset, one[0].run_seed))) if there and one else none
        lines += Markup("<tr><th>{}</th><td>{}</td>{}</tr>\n").format(k, sentence, cells)
    head = Markup('<tr><th rowspan="2">claim</th><th rowspan="2">what the paper says</th>{}</tr><tr>{}</tr>').format(top, below)
    table = Markup('<div class="scroll"><table class="text"><thead>{}</thead><tbody>{}</tbody></table></div>').format(head, lines)
    said = note(one[1] for _, one, _ in columns if one)
    return Block("", table, said.replace("*", "") + " The lines, their numbers and boundaries stand on the data sets' own pages.")
