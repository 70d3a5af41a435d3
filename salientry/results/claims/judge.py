"""ONE judge: where the numbers of a question lie after Holm's correction, what that says of the claim, and what run seeds say together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...inference import holm
from .asked import Answer, Book, Manner, Question
from .size import Size

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "undecided", "not run"
SIZE = "not at the paper's size"  # for "does not hold", and for a baseline that did not train, in a run that is smaller
UNTRAINED = "holds only against a baseline that did not train"
LEVEL = 0.05
Side = Callable[[str, float], str]  # of a number and a boundary: above, below, open or none


def compared(q: Question, a: Answer, protocol: str) -> list[tuple[str, float]]:
    """(id, boundary) of all that decides a question in a manner; the rank tests of ``most`` come by their own p."""
    if a.id is None:
        return []
    at = q.boundary[protocol] if q.rule != "half" else 0.0  # of a share of attacks the attacks decide, each against 0
    ids = a.compared[:1] if q.rule == "most" else a.compared or (a.id,)
    edges = [at] if q.fails is None else [at, q.fails]
    return [(i, e) for i in ids for e in edges]


def corrected(book: Book, questions: list[Question]) -> tuple[Side, dict[str, float], dict[tuple[str, float], float]]:
    """Holm's correction over everything that a list of questions compares in a run: the side of each number (uncorrected where a question
    is asked again without the detectors that did not train), the corrected p of each rank test by its id, and that of each comparison.
    """
    asked = [(q, a, m[0]) for q in questions for m, a in q.answers.items()]
    pairs = list(dict.fromkeys(c for q, a, p in asked for c in compared(q, a, p)))
    tests = list(dict.fromkeys(i for q, a, _ in asked if q.rule == "most" for i in a.compared[2::2]))
    found = holm([*(book.p(*c) for c in pairs), *(float(book[i]["value"]) for i in tests)])
    p = dict(zip(pairs, (float(v) for v in found), strict=False))

    def side(id: str, boundary: float) -> str:
        where = book.side(id, boundary)
        return where if where == "none" or p.get((id, boundary), 0.0) < LEVEL else "open"

    return side, dict(zip(tests, (float(v) for v in found[len(pairs) :]), strict=True)), p


def one(where: str, above: bool) -> str:
    """What one number says: where it lies, and where the paper sees it."""
    if where in ("open", "none"):
        return OPEN if where == "open" else NOT_RUN
    return HOLDS if (where == "above") == above else FAILS


def together(verdicts: list[str]) -> str:
    """Of questions that all have to hold: the first of does not hold, not at the paper's size, undecided, an untrained baseline, holds;
    those that were not run are passed over.
    """
    return next((v for v in (FAILS, SIZE, OPEN, UNTRAINED, HOLDS) if v in verdicts), NOT_RUN)


def of_seeds(verdicts: list[str]) -> str:
    """What run seeds say together, asked the same: not run where one lacks what is asked, undecided where they disagree."""
    if not verdicts or NOT_RUN in verdicts:
        return NOT_RUN
    return verdicts[0] if len(set(verdicts)) == 1 else OPEN


def number(id: str, boundary: float, fails: float | None, above: bool, side: Side) -> str:
    """What a number says with one boundary, or with another one beyond which it does not hold; the first goes before."""
    word = one(side(id, boundary), above)
    if fails is None or word in (HOLDS, NOT_RUN):
        return word
    return FAILS if side(id, fails) == ("below" if above else "above") else OPEN


def most(share: float, mean: str) -> str:
    """C2: more than half of the attacks holds, fewer does not; undecided where the whole interval of the mean lies on the other side."""
    word = HOLDS if share > 0.5 else FAILS
    return OPEN if mean == ("below" if word == HOLDS else "above") else word


def half(sides: list[str]) -> str:
    """C3: holds when half of the attacks or more are certain, does not when fewer are possible."""
    certain, possible = (sum(s in kind for s in sides) / len(sides) for kind in (("above",), ("above", "open")))
    return HOLDS if certain >= 0.5 else FAILS if possible < 0.5 else OPEN


def premise(first: str, then: str) -> str:
    """C17, by where JSD minus ID lies and where JSD with its gradient zeroed minus ID does, to 0."""
    if first != "below":
        return FAILS if first == "above" else OPEN
    return one(then, False)


def plain(q: Question, manner: Manner, book: Book, side: Side, tests: dict[str, float]) -> str:
    """What the numbers say, whatever the run's size."""
    a, at, above = q.answers[manner], q.boundary[manner[0]], q.above[manner[0]]
    if a.id is None or a.doubted:
        return NOT_RUN
    ids = a.compared or (a.id,)
    if q.rule == "half":
        return half([side(i, 0.0) for i in ids])
    if q.rule == "then":
        return premise(*(side(i, at) for i in ids))
    if q.rule == "most":
        effects = zip(ids[1::2], ids[2::2], strict=True)
        clear = [book[e]["value"] > 0 and tests[t] < LEVEL for e, t in effects]
        return most(sum(clear) / len(clear), side(ids[0], at))
    return together([number(i, at, q.fails, above, side) for i in ids])


def judged(q: Question, manner: Manner, book: Book, side: Side, tests: dict[str, float], size: Size) -> tuple[str, str]:
    """The verdict on a question in a manner, and why where that is more than its number."""
    a, word = q.answers[manner], plain(q, manner, book, side, tests)
    if word == NOT_RUN:
        return word, a.doubted or a.why
    alone = False
    if a.lost and word in (HOLDS, FAILS):
        again = number(a.trained, q.boundary[manner[0]], q.fails, q.above[manner[0]], side) if a.trained else NOT_RUN
        alone = again != word
    why = f"only because the AUROC of {a.lost[0]} on its own training pairs is below .6" if alone and a.lost else a.why
    if word == FAILS:
        return (SIZE if size.reduced else FAILS), why
    return (SIZE if size.reduced else UNTRAINED) if alone else word, why


def row_of(
    q: Question, manner: Manner, book: Book, verdict: tuple[str, str], size: Size, p: dict[tuple[str, float], float]
) -> dict[str, Any]:
    """The columns of a verdict."""
    a, (protocol, scheme) = q.answers[manner], manner
    n = book[a.id] if a.id else {"value": math.nan, "lo": math.nan, "hi": math.nan, "n": None}
    least = [p[c] for c in compared(q, a, protocol) if c in p and c[0] == a.id]
    asked = {
        "claim": q.claim,
        "line": q.line,
        "words": q.words,
        "over": q.over,
        "extra": q.extra,
        "shared": q.shared,
        "protocol": protocol,
        "scheme": scheme,
    }
    found = {"id": a.id, **{c: n[c] for c in ("value", "lo", "hi", "n")}, "p": min(least, default=math.nan)}
    edges = {"boundary": q.boundary[protocol], "fails": q.fails}
    marks = {"auroc": a.auroc, "beside": a.beside, "trained": a.trained, "weak": a.weak, "silent": a.silent}
    run = {"size": size.words if a.id else "", "steps": size.steps if a.id else None}
    return asked | {"verdict": verdict[0], **run, "why": verdict[1]} | found | edges | marks
