"""What came of the paper's claims in several runs: one Markdown document."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..results.claims import sentences
from ..results.names import attack_title
from ..results.numbers import numbers
from ..results.paper_numbers import attacks_of
from ..results.scores import Scores
from ..store import read_json, write_text
from . import render
from .claims import ASKED, NOTE, Verdicts, details
from .spec import number_of


def write(folders: list[Path], out: Path, timing: Path | None = None) -> Path:
    """Write :func:`text` to a file.

    Raises:
        UsageError: when a folder holds no records.
        DataDamaged: when the timing is none.
        StoreError: when it cannot be written.
    """
    found = text(folders, timing)
    write_text(out, found)
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
    """The document: runs, a table of all verdicts, a section for each claim, and what the paper's text contradicts itself in."""
    found, v = judged(tuple(folders), timing)
    runs = [s for s, _ in found]
    typed = " ".join(["salientry report", *map(str, folders), *(["--timing", str(timing)] if timing else []), "--claims FILE"])
    said = sentences()
    parts = [
        "# What the paper claims, and what came of it",
        f"Every verdict and number follows from the records by `{typed}`; nothing here is typed by hand.",
        "\n".join(_runs(runs)),
        "## All claims",
        "\n".join(_summary(v, list(dict.fromkeys(s.dataset for s in runs)), said["claims"])),
        NOTE,
    ]
    parts += ["\n".join(_section(v, runs, k, sentence)) for k, sentence in said["claims"].items()]
    parts += ["## Where the paper's text contradicts itself", "\n".join(f"- {where}: {what}." for where, what in said["contradictions"])]
    return "\n\n".join(parts) + "\n"


@functools.lru_cache(1)
def judged(folders: tuple[Path, ...], timing: Path | None = None) -> tuple[list[tuple[Scores, Any]], Verdicts]:
    """The records of some folders with their numbers, and the verdicts on them."""
    body = None if timing is None else read_json(timing)
    runs = Scores.read_all(folders)
    found = [(s, numbers(s)) for s in runs]
    return found, Verdicts(found, body)


@functools.cache
def _rule(n: int) -> str:
    return render.row(*["---"] * n)


def _runs(runs: Sequence[Scores]) -> Iterator[str]:
    yield render.row("run", "records", "made by", "test images", "attacks of the paper")
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
        title = f"{s.dataset}, seed {s.run_seed}" + ("" if s.has_naturals else ", white box alone")
        yield render.row(title, folders, commands, f"{images:,}", attacks or "none")
    if stars:
        yield "\n\\* reduced settings"


def _summary(v: Verdicts, datasets: list[str], words: Mapping[str, str]) -> Iterator[str]:
    yield render.row("claim", "", *(f"{d}: {p}" for d in datasets for p in ("published", "strict")))
    yield _rule(2 + 2 * len(datasets))
    for k, sentence in words.items():
        yield render.row(f"[{k}](#{k.lower()})", sentence, *(w for d in datasets for w in v.short(k, d, None)))


def _section(v: Verdicts, runs: Sequence[Scores], claim: str, sentence: str) -> Iterator[str]:
    yield f"## {claim}\n\n{sentence}\n"
    yield render.row("run", "asked", "protocol", "verdict", "number", "n", "")
    yield _rule(7)
    places = [(s.dataset, seed) for d in dict.fromkeys(s.dataset for s in runs) for s in runs if s.dataset == d for seed in (s.run_seed,)]
    for dataset, seed in dict.fromkeys([*places, *((d, None) for d, _ in places)]):
        before = None
        for r in v.of(claim, dataset, seed):
            n = v.number(r, r["id"])
            shown = render.text(number_of(n)) if n is not None else ""
            words = r["words"] + (" (beside the paper's: not counted)" if r["extra"] else "")
            small = "; ".join(details(v, r))
            title = f"{dataset}, " + ("all run seeds" if seed is None else f"seed {seed}")
            manner = ASKED[r["protocol"], r["scheme"]]
            count = f"{n['n']:,}" if n is not None else ""
            yield render.row(
                title,
                "″" if words == before else words,
                manner,
                f"**{r['verdict']}**",
                shown,
                count,
                f"<small>{small}</small>" if small else "",
            )
            before = words
    yield "\nMade by " + "; ".join(f"`{s.run.get('command', '?')}` ({s.dataset}, seed {s.run_seed})" for s in runs) + "."
