"""What a claim of the paper asks of a run: a question, its answers, and the numbers that they depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ...metrics import Interval
from ..names import TITLES, attack_title
from ..place import Row, identify, records, row

MANNERS = (("published", "replica"), ("published", "paired"), ("strict", "paired"))  # protocol and scheme; the paper's own manner first
PUBLISHED, STRICT = ("published", "paired"), ("strict", "paired")
EVERY = ("any", "")  # the same under both protocols, whatever the training scheme
NOISE = 1e-6  # of resamples, whose sums are float32: closer to a boundary is on it
NO_TIMING = "no timing was given (--timing)"
Manner = tuple[str, str]


@dataclass(frozen=True)
class Answer:
    """What a run has to say to a question in one manner.

    Attributes:
        id: the number that is shown, None where the run lacks what is asked.
        compared: ids of the numbers that decide, where it is not that one.
        why: what is missing, or what was taken.
        trained: the same number over those training attacks on which the baseline trained; None where none is left.
        lost: the detector whose weakness would explain the answer, and what it explains: ``above`` or ``below``.
        weak: detectors in it with an AUROC below .6 on their own training pairs, with their training attacks.
        silent: likewise those above it that are no better than chance on the attack that they were trained on.
        auroc: of the cell, where the number is a single one.
        beside: words to the id of a number that bears on it as well.
        heads: (scheme, detector, training attack) of the detectors in it.
        doubted: why it does not count, though there is a number: the attack was too weak.
    """

    id: str | None
    compared: tuple[str, ...] = ()
    why: str = ""
    trained: str | None = None
    lost: tuple[str, str] | None = None
    weak: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    auroc: str | None = None
    beside: dict[str, str] = field(default_factory=dict)
    heads: tuple[tuple[str, str, str], ...] = ()
    doubted: str = ""


@dataclass(frozen=True)
class Question:
    """One line of a claim: what is asked of the numbers, and where the paper sees them.

    Attributes:
        claim: ``C5``.
        line: which detector or comparison.
        words: what is asked.
        over: the attacks that it is asked of: two runs are asked the same only where these are the same.
        above: by protocol, whether the paper sees the numbers above the boundary.
        boundary: by protocol.
        answers: by manner (protocol, scheme). The scheme is empty where no detector is asked.
        fails: beyond which it does not hold, where it is not the boundary.
        rule: of the numbers compared: ``all`` of them, ``half`` of them, ``most`` (significant, unless the first lies on the other side),
            ``then`` (the first is a premise).
        extra: not what the paper says it of: shown, but not counted in the verdict on the claim.
        shared: asked only so that run seeds are asked the same: of the attacks that all of them have.
        stands: on ``heads``, ``maps``, or ``nets`` (classifier and attacks alone).
    """

    claim: str
    line: str
    words: str
    over: tuple[str, ...]
    above: dict[str, bool]
    boundary: dict[str, float]
    answers: dict[Manner, Answer]
    fails: float | None = None
    rule: str = "all"
    extra: bool = False
    shared: bool = False
    stands: str = "heads"


class Book:
    """Numbers by id: those of a run, and what questions add to them."""

    def __init__(self, numbers: pd.DataFrame, dataset: str, run_seed: int, further: Iterable[Row] = ()) -> None:
        columns = ["id", "value", "lo", "hi", "n", "seeds", "keys", "protocol"]
        self.known: dict[str, Any] = {r["id"]: r for r in records(numbers.loc[numbers["source"] == "run", columns])}
        self.added: dict[str, Row] = {}
        self._further = {r["id"]: r for r in further}  # recorded ones, beside those of the frame
        self._of: dict[str, Any] = {"dataset": dataset, "run_seed": run_seed}

    def __contains__(self, id: object) -> bool:
        return id in self.known

    def __getitem__(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.known[id]
        return found

    def there(self, claim: str, line: str, protocol: str, **place: Any) -> str | None:
        """The id of a number that was computed before; None where it was not."""
        id = identify({"kind": "claim", "measure": "value", "claim": claim, "line": line, "protocol": protocol} | place)
        if id not in self.known and id in self._further:
            self.added[id] = self.known[id] = self._further[id]
        return id if id in self.known else None

    def put(self, claim: str, line: str, found: Interval | float, keys: Iterable[str], protocol: str, **place: Any) -> str:
        """Enter a number; its id comes back. The same number may be asked for twice."""
        r = row("claim", "value", found, keys, claim=claim, line=line, protocol=protocol, **self._of | place)
        self.added[r["id"]] = self.known[r["id"]] = r
        return str(r["id"])

    def side(self, id: str, boundary: float) -> str:
        """``above`` or ``below`` when the whole interval is, ``open`` when it holds the boundary, ``none`` without a number."""
        n = self.known[id]
        if not all(math.isfinite(n[c]) for c in ("value", "lo", "hi")):
            return "none"
        return "above" if n["lo"] > boundary + NOISE else "below" if n["hi"] < boundary - NOISE else "open"

    def p(self, id: str, boundary: float) -> float:
        """Two-sided p of the number being the boundary, normal, of the half interval on that side: .05 where its end is on the boundary."""
        n = self.known[id]
        value, lo, hi = (float(n[c]) for c in ("value", "lo", "hi"))
        if not all(math.isfinite(v) for v in (value, lo, hi)):
            return math.nan
        spread = (value - lo if value > boundary else hi - value) / 1.959964
        gap = abs(value - boundary)
        return 1.0 if gap <= NOISE else math.erfc(gap / spread / math.sqrt(2)) if spread > 0 else 0.0


def each(value: Any) -> dict[str, Any]:
    """The same under every protocol."""
    return dict.fromkeys(("published", "strict", "any"), value)


def unknown(claim: str, words: str, manner: Manner, why: str) -> Question:
    """A question to which there is no answer in the records."""
    return Question(claim, "not run", words, (), each(True), each(0.0), {manner: Answer(None, why=why)})


def names(labels: Iterable[str]) -> str:
    """Attacks as they are shown, with commas between them."""
    return ", ".join(attack_title(a) for a in labels) or "none"


def grouped(heads: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """(detector, training attack) pairs as ``ID: FGSM, BIM``, one for each detector."""
    known = list(heads)
    return tuple(f"{TITLES.get(d, d)}: {names([a for e, a in known if e == d])}" for d in dict.fromkeys(d for d, _ in known))
