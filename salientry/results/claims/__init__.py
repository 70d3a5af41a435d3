"""The paper's 21 claims, asked of recorded runs: questions with their numbers, and a verdict on each.

A verdict asks the same question of each run seed of a data set; where seeds disagree it is undecided, where one lacks what is asked it is
not run. Comparisons are corrected for being many (Holm 1979), inside the list of one run. A run that is smaller than the paper's, or has
other nets, cannot show that a claim does not hold: it says ``not at the paper's size``.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from ..cells import Cells
from ..paper_numbers import attacks_of, column_of
from ..place import Row, records, select
from ..scores import Scores
from . import single, white
from .asked import EVERY, MANNERS, NO_TIMING, STRICT, Book, Question, names, unknown
from .grid import Grid, architecture, specs
from .judge import FAILS, HOLDS, NOT_RUN, OPEN, SIZE, UNTRAINED, corrected, judged, of_seeds, row_of, together
from .single import NO_ATTACK
from .size import size_of

__all__ = ["FAILS", "HOLDS", "MANNERS", "NOT_RUN", "OPEN", "SIZE", "UNTRAINED", "claims", "questions", "rows", "sentences", "verdicts"]

TOTAL = 21
NO_OTHER = "no ID+ and no other architecture in the records"
COLLAPSED = 0.6  # AUROC on its own training pairs below which a head did not train
Runs = list[tuple[Scores, pd.DataFrame]]


@functools.cache
def sentences() -> dict[str, Any]:
    """``claims``: the paper's claims in words, by name; ``titles``: each in a few words; ``contradictions``: (place, what contradicts
    what) of its text.
    """
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath("claims.json").read_text("utf-8"))
    return found


def rows(s: Scores, numbers: pd.DataFrame) -> list[Row]:
    """The numbers that the questions add to those of a run."""
    return list(questions(s, numbers)[1].added.values())


def questions(s: Scores, numbers: pd.DataFrame, labels: list[str] | None = None, timing: Any = None) -> tuple[list[Question], Book]:
    """All questions to a run in the order of the claims, each claim with one at least, and their numbers.

    Args:
        s: the scores.
        numbers: the frame of numbers.
        labels: the attacks to ask of, where they are not all of the paper's that the run has.
        timing: a file of ``benchmarks.guard``, for C4.
    """
    further = (r for r in s.recorded if r["kind"] == "claim")
    book, column = Book(numbers, s.dataset, s.run_seed, further), column_of(s.dataset)
    if column is None:
        return [unknown(f"C{k + 1}", "", EVERY, f"the paper has no data set {s.dataset}") for k in range(TOTAL)], book
    found = white.questions(s, numbers, book, column)
    if s.has_naturals:
        found += _black_box(s, numbers, book, labels)
    c4 = unknown("C4", "the guard with SPD, images a second", EVERY, NO_TIMING)
    found.append(single.timed(book, timing, s.dataset) if timing is not None else c4)
    known = {q.claim for q in found}
    why = NO_ATTACK if s.has_naturals else "the records hold the white box alone"
    missing = (f"C{k + 1}" for k in range(TOTAL) if f"C{k + 1}" not in known)
    found += [unknown(c, "", EVERY, why) for c in missing]
    return sorted(found, key=lambda q: int(q.claim[1:])), book


def _black_box(s: Scores, numbers: pd.DataFrame, book: Book, given: list[str] | None) -> list[Question]:
    labels = _attacks(s) if given is None else given
    attacked = _attacked(s, labels) if given is None else given
    cells, weak = Cells(s, numbers), _collapsed(numbers)
    on = "" if labels == _attacks(s) else f"on {names(labels)}"
    grid, every_attack = Grid(cells, book, weak, on), labels == s.labels
    sets = {str(i["attack"]): i for i in s.attacked("published")}
    sizes = {a: tuple(float(np.mean(sets[a][c], dtype=np.float64)) for c in ("rms", "linf")) for a in labels if a in sets}
    plus = [g.trained_on for g in s.trained if (g.protocol, g.scheme, g.detector) == (*STRICT, "IDPlus") and g.trained_on != "combined"]
    return [
        *(grid.ask(spec) for spec in specs(labels, s.attacks, sizes, every_attack)),  # type: ignore[arg-type]
        *([*map(grid.ask, map(architecture, plus)), *single.searched(book, numbers)] or [unknown("C18", "ID+ minus ID", EVERY, NO_OTHER)]),
        *single.shifts(s, book, labels, on),
        *single.zeroed(s, cells, book, weak),
        single.vanishing(book),
        single.success(book, attacked),
        single.smaller(s, book, attacked, [a for a in attacked if s.attacks[a]["strength"] == "strong"]),
    ]


def _collapsed(numbers: pd.DataFrame) -> set[tuple[str, str, str, str]]:
    """(protocol, scheme, detector, training attack) of the detectors of which a seed did not train."""
    found = select(numbers, kind="detection", measure="train-auroc")
    found = found[np.array([any(v < COLLAPSED for v in seeds) for seeds in found["seeds"]], bool)]
    return set(zip(*(found[c] for c in ("protocol", "scheme", "detector", "trained_on")), strict=True))


# --- verdicts -------------------------------------------------------------------------------------------------------


def verdicts(runs: Runs, timing: Any = None) -> tuple[pd.DataFrame, list[Row]]:
    """A row for each question, manner and run seed, and one with ``run_seed`` None for all run seeds of a data set together.

    Several run seeds of a data set are asked what each of them is asked, and beside it the same on those attacks that all of them have.

    Returns:
        the verdicts; and the numbers that are in no run's frame: on shared attacks, and of a timing.
    """
    out: list[dict[str, Any]] = []
    added: dict[str, Row] = {}
    for dataset in dict.fromkeys(s.dataset for s, _ in runs):
        mine = [(s, n) for s, n in runs if s.dataset == dataset]
        asked = [_attacks(s) for s, _ in mine if s.has_naturals]
        shared = [a for a in asked[0] if all(a in b for b in asked)] if len(asked) > 1 else []
        found = [_of_run(s, n, shared, timing) for s, n in mine]
        for (s, n), (_, book) in zip(mine, found, strict=True):
            known = set(n["id"])
            added |= {f"{s.folder}/{i}": r for i, r in book.added.items() if i not in known}
        out += [r for rows, _ in found for r in rows.values()] + _together([rows for rows, _ in found], dataset)
    columns = dict.fromkeys(c for r in out for c in r)
    return pd.DataFrame({c: pd.Series([r[c] for r in out], dtype=object) for c in columns}), list(added.values())


def _attacks(s: Scores) -> list[str]:
    named = attacks_of(s)
    return [a for a in s.labels if a in named]


def _attacked(s: Scores, labels: list[str]) -> list[str]:
    """These attacks, and of every other kind that the paper has and that ran without a detector the first."""
    named, out = attacks_of(s), list(labels)
    for a in (str(i["attack"]) for i in s.attacked("published")):
        if a in named and s.attacks[a]["method"] not in {s.attacks[b]["method"] for b in out}:
            out.append(a)
    return out


def _of_run(s: Scores, numbers: pd.DataFrame, shared: list[str], timing: Any) -> tuple[dict[Any, dict[str, Any]], Book]:
    """The verdicts of one run by what was asked: claim, line, attacks, protocol, scheme."""
    found, book = questions(s, numbers, timing=timing)
    if shared and s.has_naturals and set(shared) != set(_attacks(s)):
        known = {_asked(q) for q in found}
        more, other = questions(s, numbers, shared)
        more = [q for q in more if _asked(q) not in known and any(a.id for a in q.answers.values())]
        found += [replace(q, words=f"{q.words} (of {names(shared)} alone)", shared=True) for q in more]
        used = {i for q in more for a in q.answers.values() for i in (a.id, a.trained, *a.compared, *a.beside.values())}
        new = {i: r for i, r in other.added.items() if i in used}
        book.known, book.added = new | book.known, new | book.added
    side, tests, p = corrected(book, found)
    out = {}
    for q in found:
        for m, a in q.answers.items():
            size = size_of(s, q, a, m[0])
            of = {"dataset": s.dataset, "run_seed": s.run_seed}
            out[*_asked(q), *m] = row_of(q, m, book, judged(q, m, book, side, tests, size), size, p) | of
    return out, book


def _asked(q: Question) -> tuple[str, str, tuple[str, ...]]:
    """What two runs must have in common to be asked the same."""
    return q.claim, q.line, tuple(sorted(q.over))


def _together(each: list[dict[Any, dict[str, Any]]], dataset: str) -> list[dict[str, Any]]:
    """What the run seeds of a data set say together to each question; one that lacks it was not run."""
    out = []
    for k in dict.fromkeys(k for found in each for k in found):
        rows = [found[k] for found in each if k in found]
        words = [found[k]["verdict"] if k in found else NOT_RUN for found in each]
        blank = {"id": None, "value": math.nan, "lo": math.nan, "hi": math.nan, "n": None, "p": math.nan, "auroc": None, "trained": None}
        marks: dict[str, Any] = {"beside": {}, "weak": (), "silent": (), "why": "; ".join(words) if len(set(words)) > 1 else ""}
        shown = rows[0] if len(each) == 1 else rows[0] | blank | marks
        out.append(shown | {"run_seed": None, "dataset": dataset, "verdict": of_seeds(words)})
    return out


def claims(found: pd.DataFrame) -> pd.DataFrame:
    """One word a claim, data set, run seed (None: together) and manner, of all its lines but the extra ones; of :func:`verdicts`."""
    out = []
    counted = [r for r in records(found) if not r["extra"]]
    for dataset, seed in dict.fromkeys((r["dataset"], r["run_seed"]) for r in counted):
        mine = [r for r in counted if (r["dataset"], r["run_seed"]) == (dataset, seed)]
        for claim, sentence in sentences()["claims"].items():
            for protocol, scheme in MANNERS:
                lines = [
                    r
                    for r in mine
                    if r["claim"] == claim
                    and not (r["shared"] and seed is not None)
                    and r["protocol"] in (protocol, "any")
                    and r["scheme"] in (scheme, "")
                ]
                word = together([r["verdict"] for r in lines])
                known = [r for r in lines if r["verdict"] == word and r["size"]]
                sizes, steps = "; ".join(dict.fromkeys(r["size"] for r in known)), known[0]["steps"] if known else None
                place = {"claim": claim, "sentence": sentence, "dataset": dataset, "run_seed": seed}
                out.append(place | {"protocol": protocol, "scheme": scheme, "verdict": word, "size": sizes, "steps": steps})
    return pd.DataFrame({c: pd.Series([r[c] for r in out], dtype=object) for c in (out[0] if out else ())})
