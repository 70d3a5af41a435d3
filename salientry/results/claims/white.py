"""C13 to C16: what the paper says of its white box, asked of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from ..paper_attacks import AT_ONCE, PASSES, PRINTED, THEIRS, TRUE, change, disbelieved, of_reading, trainings
from ..place import select
from ..scores import Scores
from ..white_box import AttackedDetector, targets
from .asked import PUBLISHED, STRICT, Answer, Book, Question, each

HALF, NOTHING = 0.5, 0.03
NONE, OTHER = "no white-box attack in the records", "asked of the paper's attacks alone"
WEAK = "attack too weak, nothing to report"


def questions(s: Scores, numbers: pd.DataFrame, book: Book, column: str | None) -> list[Question]:
    """The lines of C13 to C16; ``column``: the paper's for this data set. Of other weights than the run's nothing is judged."""
    found = [
        *(_fools(s, numbers, d, column) for d in ("SMD", "SPD")),
        *(_recovers(s, numbers, d) for d in ("SPD", "SMD")),
        *(_by_turns(s, book, d) for d in ("SMD", "SPD")),
        *(_longer(s, book, d, v) for v in (PRINTED, TRUE) for d in ("SMD", "SPD")),
    ]
    return [_apart(q, s.apart) for q in found] if s.apart else found


def _apart(q: Question, why: str) -> Question:
    """The same where the attacked nets are not the run's: the numbers are shown and decide nothing."""
    return replace(q, answers={m: replace(a, doubted=why) if a.id else a for m, a in q.answers.items()})


def _first(numbers: pd.DataFrame, **where: Any) -> dict[str, Any]:
    """The first row at a place; empty where there is none."""
    found = select(numbers, **where)
    return {str(k): v for k, v in found.iloc[0].to_dict().items()} if len(found) else {}


def _answer(id: str | None, detector: str, why: str = "") -> Answer:
    return Answer(id, why=why if id else why or NONE, heads=(("paired", detector, "combined"),))


def _fools(s: Scores, numbers: pd.DataFrame, d: str, column: str | None) -> Question:
    """C13: the paper's detectors fall on MNIST and ASSIRA and stand on CIFAR-10. Strict: of the share that gets past, so the other way."""
    stands = column == "CIFAR-10"
    words = f"{d} flags {'half or more' if stands else 'less than half'} of the images of its own white-box attack (T = {PASSES})"
    printed = _first(numbers, kind="table 3", part=PRINTED, step=PASSES, detector=d, measure="detector")
    target = next((t for t in targets(s) if t.place["detector"] == d), None)
    best = _best(numbers, d, float(printed.get("eps", 1.0)))
    said = f"share of images that the best of our attacks gets past classifier and detector, budget {best.get('budget')}" if best else ""
    strict = _answer(best.get("id"), d, said or (WEAK if target and _blank(target) else ""))
    answers = {PUBLISHED: _answer(printed.get("id"), d), STRICT: strict}
    return Question("C13", f"{d} before", words, (), {"published": stands, "strict": not stands}, each(HALF), answers)


def _blank(t: AttackedDetector) -> bool:
    return all(t.doubts.values())


def _best(numbers: pd.DataFrame, d: str, eps: float) -> dict[str, Any]:
    """Success of all our attacks at the largest Linf budget that is no larger than the paper's; the smallest where all are."""
    every = select(numbers, kind="white box", norm="linf", measure="success")
    sizes = sorted(set(every["eps"]))
    at = max((e for e in sizes if e <= eps + 1e-6), default=sizes[0] if sizes else None)
    return _first(every[every["eps"] == at], detector=d, attack="union") if at is not None else {}


def _recovers(s: Scores, numbers: pd.DataFrame, d: str) -> Question:
    """C14: after adversarial training SPD flags most of what attacks it, SMD less than half."""
    above = d == "SPD"
    words = f"after adversarial training {d} flags {'more' if above else 'less'} than half of what that attack makes"
    last = {against: max(h["round"] for h in rounds) for (of, against), rounds in trainings(s).items() if of == d}
    theirs = _first(numbers, kind="hardened", detector=d, against=THEIRS, round=last.get(THEIRS, -1), measure="detector")
    best = _first(numbers, kind="hardened", detector=d, against="selective", when="after", attack="any")
    said = "share of images that an independent attack gets past classifier and hardened strict detector" if best else ""
    strict = _answer(best.get("id"), d, said)
    if best and above and (wrong := disbelieved(s, d, "selective")):
        strict = replace(strict, doubted="attack too weak: " + "; ".join(wrong))
    answers = {PUBLISHED: _answer(theirs.get("id"), d), STRICT: strict}
    return Question("C14", f"{d} after", words, (), {"published": above, "strict": not above}, each(HALF), answers)


def _changed(book: Book, d: str, found: Any, claim: str, line: str, **place: Any) -> Answer:
    if found is None:
        return _answer(None, d)
    gap, keys = found
    return _answer(book.put(claim, line, gap, keys, "published", **place), d)


def _by_turns(s: Scores, book: Book, d: str) -> Question:
    """C15."""
    found = change(of_reading(s, d, PRINTED), of_reading(s, d, AT_ONCE), "detector", (PASSES, PASSES))
    words = f"{d} flags fewer images of alternating steps than of simultaneous ones (Eq. 5): difference below 0"
    answers = {PUBLISHED: _changed(book, d, found, "C15", d), STRICT: Answer(None, why=OTHER)}
    return Question("C15", d, words, (), each(False), each(0.0), answers)


def _longer(s: Scores, book: Book, d: str, reading: str) -> Question:
    """C16."""
    sets = of_reading(s, d, reading)
    found = change(sets, sets, "joint", (4 * PASSES, PASSES))
    words = f"{4 * PASSES} passes get no more images past classifier and {d} than {PASSES}, {reading}: difference below .03"
    answers = {PUBLISHED: _changed(book, d, found, "C16", d, part=reading), STRICT: Answer(None, why=OTHER)}
    return Question("C16", f"{d}, {reading}", words, (), each(False), each(NOTHING), answers, extra=reading == TRUE)
