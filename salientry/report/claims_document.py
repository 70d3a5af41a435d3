"""What came of the paper's claims in several runs: one Markdown document, or all of it as JSON."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..rates import row
from ..results.claims import FAILS, HOLDS, MANNERS, NOT_RUN, OPEN, SIZE, UNTRAINED, sentences
from ..results.claims.size import paper_steps
from ..results.names import attack_title, in_words
from ..results.numbers import numbers
from ..results.paper_numbers import COLUMNS, attacks_of
from ..results.scores import Scores
from ..store import JSON, read_json, write_json, write_text
from . import render
from .claims import ASKED, Rows, Verdicts, details, how, in_manner, note, question
from .spec import number_of
from .words import said as said_of

ALONE = r"\* of the first run seed alone: the others lack what is asked"
SIGNS = {HOLDS: "✓", FAILS: "✗", SIZE: "(✗)", OPEN: "?", NOT_RUN: "–", UNTRAINED: "(✓)"}  # of the overview
Seeds = dict[int | None, Rows]  # a question's rows in each manner, by run seed; None: all run seeds of a data set together


def write(folders: list[Path], out: Path, timing: Path | None = None) -> Path:
    """Write :func:`text` to a file, or :func:`data` to one that ends in ``.json``.

    Raises:
        UsageError: when a folder holds no records.
        DataDamaged: when the timing is none.
        StoreError: when it cannot be written.
    """
    if out.suffix == ".json":
        write_json(out, data(folders, timing))
    else:
        write_text(out, text(folders, timing))
    return out


def single(folders: list[Path], claims: Path | None, timing: Path | None, other: str) -> tuple[Path, Path | None]:
    """The folder, for what is made of one, and the one with the white box beside it.

    Args:
        folders: as given.
        claims: where a document shall go.
        timing: what shall stand in it.
        other: the option that asks for something else, empty where there is none.

    Raises:
        UsageError: when there are several, or the options do not go together.
    """
    if claims is not None:
        raise UsageError(f"--claims writes a document and does nothing else: leave {other} away")
    if timing is not None:
        raise UsageError("--timing goes into the document of --claims FILE")
    if len(folders) > (1 if other else 2):
        beside = "" if other else " and perhaps the one with the white box on the same classifier"
        raise UsageError(f"a report is of one folder{beside}; found {len(folders)} (several are for --claims FILE)")
    return folders[0], folders[1] if len(folders) == 2 else None


def text(folders: list[Path], timing: Path | None = None) -> str:
    """The document: a table of all verdicts on one screen, a section a claim, where the paper contradicts itself, the runs."""
    found, v = judged(tuple(folders), timing)
    runs = [s for s, _ in found]
    typed = " ".join(["salientry report", *map(str, folders), *(["--timing", str(timing)] if timing else []), "--claims FILE"])
    said, asked = sentences(), _asked(v, runs)
    whole = {d: seed for d, seed in asked.items() if any(s.has_naturals for s in runs if s.dataset == d)}
    white = [said_of("dataset", d) for d in asked if d not in whole]
    parts = [
        "# What the paper claims, and what came of it",
        "By the paper's protocol / by the stricter one of this project (one sign where they agree), of all run seeds of a data set "
        "together. A claim's name leads to its sentence, to what was asked, and to each run seed's verdict and number.",
        "\n".join(_summary(v, whole, said["titles"])),
        "; ".join(f"{sign} {word}" for word, sign in SIGNS.items())
        + f"; {ALONE}. *Not at the paper's size*: it speaks against the claim, but "
        "these nets are smaller and trained less than the paper's.",
        *([f"On {', '.join(white)} the white box alone was run: it stands in the sections."] if white else []),
        "## How to read it",
        note(frame for _, frame in found)
        + " The verdict on a claim is that of all its lines together: where one line does not hold, the claim does not. "
        "What the words mean: [Words on these pages](evaluate.md#words-on-these-pages).",
        *("\n".join(_section(v, list(asked), whole, k, sentence)) for k, sentence in said["claims"].items()),
        "## Where the paper's text contradicts itself",
        "\n".join(f"- {where}: {what}." for where, what in said["contradictions"]),
        "## The runs",
        f"Every verdict and number follows from the records by `{typed}`; nothing here is typed by hand. A FILE that ends in `.json` "
        "gets every "
        "line of every run seed, with its boundary, p value, and what makes it doubtful.",
        "\n".join(_runs(runs)),
        "\n".join(_sizes(v, asked)),
    ]
    return "\n\n".join(parts) + "\n"


def data(folders: list[Path], timing: Path | None = None) -> dict[str, JSON]:
    """The same for scripts: ``claims``, sentences by name; ``lines``, one for each question, manner and run seed (none: all together)."""
    found, v = judged(tuple(folders), timing)
    keys = ("claim", "dataset", "run_seed", "protocol", "scheme", "line", "verdict", "extra", "boundary", "fails", "p", "why")
    lines: list[JSON] = []
    for r in v.lines:
        n = v.number(r, r["id"])
        number = {k: _plain(n[k]) for k in ("value", "lo", "hi", "n")} if n is not None else None
        number = number | {"n": len(r["over"])} if number and how(r) else number  # attacks
        lines.append({k: _plain(r.get(k)) for k in keys} | {"asked": r["words"], "number": number, "beside": list(details(v, r))})
    return {"claims": sentences()["claims"], "runs": [str(s.folder) for s, _ in found], "lines": lines}


def _plain(value: Any) -> JSON:
    """A value as JSON has it."""
    if value is None or isinstance(value, str | bool):
        return value
    number = float(value)
    return None if not math.isfinite(number) else int(number) if number == int(number) else number


@functools.lru_cache(1)
def judged(folders: tuple[Path, ...], timing: Path | None = None) -> tuple[list[tuple[Scores, Any]], Verdicts]:
    """The records of some folders with their numbers, and the verdicts on them."""
    body = None if timing is None else read_json(timing)
    runs = Scores.read_all(folders)
    found = [(s, numbers(s)) for s in runs]
    return found, Verdicts(found, body)


@functools.cache
def _rule(n: int) -> str:
    return row(*["---"] * n)


def _runs(runs: Sequence[Scores]) -> Iterator[str]:
    yield row("run", "records", "made by", "test images", "attacks of the paper")
    yield _rule(5)
    stars = False
    for s in runs:
        reduced = {a["label"] for a in s.body["attacks"] if a["reduced"]}
        named = attacks_of(s)
        attacks = ", ".join(attack_title(a) + "*" * (a in reduced) for a in (s.labels if s.has_naturals else []) if a in named)
        stars = stars or "*" in attacks
        both = [s] if s.beside is None else [s, s.beside]
        commands, folders = (
            " and ".join(f"`{w}`" for w in words) for words in zip(*((b.run.get("command", "?"), str(b.folder)) for b in both), strict=True)
        )
        images = len(s.natural("test")["id"]) if s.has_naturals else max(i["n"] for i in s.images.values())
        title = f"{said_of('dataset', s.dataset)}, seed {s.run_seed}" + ("" if s.has_naturals else ", white box alone")
        yield row(title, folders, commands, f"{images:,}", attacks or "none")
    if stars:
        yield "\n\\* reduced settings"


def _asked(v: Verdicts, runs: Sequence[Scores]) -> dict[str, int]:
    """The data sets on which anything was judged, the paper's order, and the first run seed of each."""
    out: dict[str, int] = {}
    order = {name: k for k, name in enumerate(COLUMNS)}
    for s in sorted(runs, key=lambda s: (order.get(s.dataset, len(order)), s.run_seed)):
        if s.has_naturals or any(r["verdict"] != NOT_RUN for r in v.words if r["dataset"] == s.dataset):
            out.setdefault(s.dataset, s.run_seed)
    return out


def _heading(claim: str) -> str:
    """Of a claim's section: its name, and the claim in a few words."""
    return f"{claim}: {sentences()['titles'][claim]}"


def anchor(heading: str) -> str:
    """The name by which a link finds a heading, on a site made by MkDocs as well as on GitHub."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _summary(v: Verdicts, asked: Mapping[str, int], words: Mapping[str, str]) -> Iterator[str]:
    yield row("claim", "in short", *(said_of("dataset", d) for d in asked))
    yield _rule(2 + len(asked))
    for k, title in words.items():
        yield row(f"[{k}](#{anchor(_heading(k))})", title, *(_verdicts(v, k, d, seed, SIGNS) for d, seed in asked.items()))


def _verdicts(v: Verdicts, claim: str, dataset: str, seed: int, words: Mapping[str, str]) -> str:
    """Published and strict, once where they are the same; with a star of the first run seed alone, where the others lack what is asked.
    Published is as the paper trains; with batch norm where nothing else was run. ``words``: what stands for a verdict.
    """

    def one(manner: tuple[str, str]) -> str:
        word, alone = (v.word(claim, dataset, s, manner) for s in (None, seed))
        return words.get(alone, alone) + "\\*" if word == NOT_RUN != alone else words.get(word, word)

    published = [one(m) for m in MANNERS[:-1]]
    none = words.get(NOT_RUN, NOT_RUN)
    return " / ".join(dict.fromkeys([next((w for w in published if w != none), none), one(MANNERS[-1])]))


def _section(v: Verdicts, asked: Sequence[str], whole: Mapping[str, int], claim: str, sentence: str) -> Iterator[str]:
    """The verdicts of the overview in words; then a row a question and data set: the verdict of all run seeds, each one's, its number."""
    yield f"## {_heading(claim)}\n\n{sentence}\n"
    yield "; ".join(f"{said_of('dataset', d)}: {_verdicts(v, claim, d, seed, {})}" for d, seed in whole.items()) + ".\n"
    rows, lacking = [], list[str]()
    for dataset in asked:
        for of in _questions(v, claim, dataset):
            first = next(iter(of.values()))[0]
            if all(r["verdict"] == NOT_RUN for rs in of.values() for r in rs):
                lacking += [f"{said_of('dataset', dataset)}: {in_words(first['why'] or first['words'])}"] if dataset in whole else []
                continue
            rows.append((question(first), said_of("dataset", dataset), *(_cell(v, of, m) for m in MANNERS)))
    if rows:
        yield row("asked", "data set", *(ASKED[m] for m in MANNERS))
        yield _rule(2 + len(MANNERS))
    for words in dict.fromkeys(cells[0] for cells in rows):
        for k, (_, *cells) in enumerate(c for c in rows if c[0] == words):
            yield row(words if k == 0 else "as above", *cells)
    if lacking:
        yield "\nNot run: " + "; ".join(dict.fromkeys(lacking)) + "."


def _questions(v: Verdicts, claim: str, dataset: str) -> list[Seeds]:
    """What was asked of a data set, the run seeds in order; the same question of other attacks is another."""
    out: dict[Any, Seeds] = {}
    for r in (r for r in v.lines if (r["claim"], r["dataset"]) == (claim, dataset)):
        out.setdefault((r["line"], tuple(sorted(r["over"]))), {}).setdefault(r["run_seed"], []).append(r)
    return [dict(sorted(of.items(), key=lambda x: (x[0] is None, x[0] or 0))) for of in out.values()]


def _cell(v: Verdicts, of: Seeds, manner: tuple[str, str]) -> str:
    """The verdict on a question in a manner, with the number; of several run seeds the verdict of all together and each one's own."""
    found = {seed: r for seed, rows in of.items() if (r := in_manner(rows, manner)) is not None}
    each = {seed: r for seed, r in found.items() if seed is not None}
    if not each:
        return ""
    if len(each) == 1:
        (r,) = each.values()
        alone = bool(found.get(None, r)["verdict"] != r["verdict"])
        return f"**{r['verdict']}**" + r"\*" * alone + _number(v, r)
    same = len({r["verdict"] for r in each.values()}) == 1
    own = "; ".join(f"seed {s}{'' if same else ' ' + r['verdict']}{_number(v, r)}" for s, r in each.items())
    return f"**{found[None]['verdict'] if None in found else NOT_RUN}**: {own}"


def _number(v: Verdicts, r: Mapping[str, Any]) -> str:
    n = v.number(r, r["id"])
    return f" {render.text(number_of(n), how(r))}" if n is not None and r["verdict"] != NOT_RUN else ""


def _sizes(v: Verdicts, asked: Mapping[str, int]) -> Iterator[str]:
    """What was smaller than the paper's."""
    for d in asked:
        known = [r["steps"] for r in v.words if r["dataset"] == d and r["run_seed"] is not None]
        steps = [int(n) for n in known if n is not None and n == n]
        if steps:
            ends = f"{min(steps):,} to {max(steps):,}"
            yield f"- {said_of('dataset', d)}: {ends} of the paper's about {paper_steps(d):,} steps a head, other nets"
