"""C1, C5 to C12, C18 and half of C21: weighted sums of cells of the grid. Figure 2 has no printed numbers, so its text is asked of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..cells import CHANCE, FOUND, Cells, Drawn, Term
from ..choice import DEFENCES
from ..names import attack_title
from ..place import KEY, identify
from .asked import MANNERS, STRICT, Answer, Book, Manner, Question, each, grouped, names

Terms = Callable[[list[str]], list[Term]]  # training attacks to a weighted sum of cells

IMAGE = ("ID", "JSD")
LARGE, SMALL = (0.027, 0.5), (0.025, 0.5)  # L2, Linf: above either of which ID is said to find everything; below both of which it fails
BETTER = 0.02  # a difference in what is found that is called one
SLIGHTLY = 0.05  # a loss that is called slight (C12)
Sizes = dict[str, tuple[float, float]]  # mean L2 and Linf by attack
TRANSFER = "within-norm-minus-across"


@dataclass(frozen=True)
class Spec:
    """A weighted sum of cells over training attacks, and on which side of a boundary the paper sees it.

    Attributes:
        claim: as in :class:`Question`, like ``line`` and ``words``.
        line: likewise.
        words: likewise.
        rows: training attacks.
        terms: the sum, of some training attacks.
        above: whether the paper sees it above the boundary.
        boundary: None: the one above which an attack is found.
        baseline: the detector whose failure to train would make the claim hold.
        why: what is missing where there are no terms.
        transfer: the frame has the paired number already, as a detector's difference within norms and across.
        fails: beyond which the claim does not hold, where it is not the boundary.
        rival: the detector whose failure to train would make the claim not hold.
    """

    claim: str
    line: str
    words: str
    rows: list[str]
    terms: Terms
    above: bool
    boundary: float | None = 0.0
    baseline: str | None = None
    why: str = "no such attack in the records"
    transfer: str | None = None
    fails: float | None = None
    rival: str | None = None


def specs(labels: list[str], attacks: dict[str, dict[str, Any]], sizes: Sizes, every_attack: bool) -> list[Spec]:
    """All of them. ``attacks``: what each is, by label; ``every_attack``: the labels are all attacks that detectors were trained on."""
    weak, strong = ([a for a in labels if attacks[a]["strength"] == s] for s in ("weak", "strong"))
    norms = {a: attacks[a]["norm"] for a in labels}
    sparse = [a for a in labels if norms[a] == "l0"]
    found = [*_gradient(labels), *_between(labels), *_transfers(weak, strong), *_drops(labels, sparse), *_norms(norms, every_attack)]
    return [*found, *_thresholds(labels, sizes), *_minimal(weak, strong), *_combined(labels)]


def even(rows: list[str], of: Callable[[str], list[Term]]) -> list[Term]:
    """The mean over training attacks of a sum of cells."""
    return [(w / len(rows), *at) for a in rows for w, *at in of(a)]  # type: ignore[misc]


def minus(first: str, second: str, labels: list[str]) -> Terms:
    """The mean over the grid of one detector minus another."""
    share = 1 / max(len(labels), 1)
    return lambda rows: even(rows, lambda a: [(w * share, d, a, b) for w, d in ((1.0, first), (-1.0, second)) for b in labels])


def over(detector: str, tests: list[str]) -> Terms:
    """The mean over some tests of a detector."""
    return lambda rows: even(rows, lambda a: [(1 / len(tests), detector, a, b) for b in tests]) if tests else []


def diagonal(detector: str) -> Terms:
    """The mean over some attacks of a detector trained and tested on each."""
    return lambda rows: even(rows, lambda a: [(1.0, detector, a, a)])


def _gradient(labels: list[str]) -> list[Spec]:
    """C1. It holds when JSD is not two points better, does not when it is better and may be that much."""
    words = "mean over the grid, JSD minus ID: below .02 (does not hold: above 0)"
    terms = minus("JSD", "ID", labels)
    return [Spec("C1", "JSD minus ID", words, labels, terms, False, BETTER, "JSD", fails=0.0, rival="ID")]


def _between(labels: list[str]) -> list[Spec]:
    """C5: SPD against the others, mean over the whole grid."""
    words = "mean over the grid, SPD minus {}: above 0"
    return [
        Spec("C5", f"SPD minus {d}", words.format(d), labels, minus("SPD", d, labels), True, baseline=d) for d in DEFENCES if d != "SPD"
    ]


def _transfers(weak: list[str], strong: list[str]) -> list[Spec]:
    """C6: SPD from weaker attacks to stronger ones. C7: ID and JSD from stronger to weaker ones only."""
    out = [
        Spec("C6", f"SPD weak to {a}", f"SPD trained on {names(weak)} finds {attack_title(a)}", weak, over("SPD", [a]), True, None)
        for a in strong
    ]
    for d in IMAGE:
        words = f"{d} trained on {names(weak)} does not find {names(strong)}"
        out.append(Spec("C7", f"{d} weak to strong", words, weak, over(d, strong), False, None, d))
        words = f"{d} trained on {names(strong)} finds {names(weak)}"
        out.append(Spec("C7", f"{d} strong to weak", words, strong, over(d, weak), True, None))
    return out


def _drops(labels: list[str], sparse: list[str]) -> list[Spec]:
    """C8: tested on JSMA, minus tested on the other attacks that it was not trained on either."""

    def drop(d: str) -> Terms:
        def of(a: str) -> list[Term]:
            others = [b for b in labels if b != a and b not in sparse]
            return [*((1 / len(sparse), d, a, b) for b in sparse), *((-1 / len(others), d, a, b) for b in others)]

        return lambda rows: even(rows, of) if sparse else []

    rows = [a for a in labels if a not in sparse] if len(labels) > len(sparse) + 1 else []
    return [Spec("C8", f"{d} on JSMA", f"{d} on JSMA, minus on the other unseen attacks: below 0", rows, drop(d), False) for d in DEFENCES]


def _norms(norms: dict[str, str], every_attack: bool) -> list[Spec]:
    """C9: others of the same norm, minus those of the other norm."""
    norms = {a: n for a, n in norms.items() if n in ("linf", "l2")}  # JSMA's is l0: it has no second attack
    pairs = {same: [(a, b) for a in norms for b in norms if a != b and (norms[a] == norms[b]) == same] for same in (True, False)}

    def gap(d: str) -> Terms:
        if not all(pairs.values()):
            return lambda rows: []
        return lambda rows: [(w / len(pairs[s]), d, a, b) for s, w in ((True, 1.0), (False, -1.0)) for a, b in pairs[s]]

    words = "{} within a norm minus across norms: above 0"
    return [Spec("C9", f"{d} within", words.format(d), list(norms), gap(d), True, transfer=d if every_attack else None) for d in DEFENCES]


def _thresholds(labels: list[str], sizes: Sizes) -> list[Spec]:
    """C10: ID and JSD, each trained on the attack that it is tested on."""
    large = [a for a in labels if a in sizes and (sizes[a][0] > LARGE[0] or sizes[a][1] > LARGE[1])]
    small = [a for a in labels if a in sizes and sizes[a][0] < SMALL[0] and sizes[a][1] < SMALL[1]]
    out = []
    for d in IMAGE:
        words = f"{d} finds attacks with L2 > .027 or L∞ > .5: {names(large)}"
        out.append(Spec("C10", f"{d} large", words, large, diagonal(d), True, None, None, "no attack is so large"))
        words = f"{d} does not find attacks with L2 < .025 and L∞ < .5: {names(small)}"
        out.append(Spec("C10", f"{d} small", words, small, diagonal(d), False, None, d, "no attack is so small"))
    return out


def _minimal(weak: list[str], strong: list[str]) -> list[Spec]:
    """C11, and the second part of C21."""

    def less(rows: list[str]) -> list[Term]:
        return even(rows, lambda a: [(1.0, "ID", a, a)]) + even(weak, lambda a: [(-1.0, "ID", a, a)]) if weak else []

    words = f"ID trained and tested on {names(strong)}, minus on {names(weak)}: below 0"
    each = "ID trained on {} does not find it"
    return [
        *(Spec("C11", f"ID on {a}", each.format(attack_title(a)), [a], diagonal("ID"), False, None, "ID") for a in strong),
        Spec("C21", "ID on them", words, strong, less, False, baseline="ID"),
    ]


def _combined(labels: list[str]) -> list[Spec]:
    """C12, of each detector. Where the specific one did not train, the one for all cannot be worse: such rows are left out."""

    def loss(d: str) -> Terms:
        return lambda rows: even(rows, lambda a: [(1.0, d, a, a), (-1.0, d, "combined", a)])

    words = "{}, trained on each attack minus trained on all, mean over the attacks: below .05"
    return [Spec("C12", f"{d} specific minus combined", words.format(d), labels, loss(d), False, SLIGHTLY, d) for d in DEFENCES]


def architecture(attack: str) -> Spec:
    """C18, for an attack that ID+ was trained on; the rule is that of C1. Nobody gave JSD another architecture."""
    words = f"trained and tested on {attack_title(attack)}, ID+ minus ID: below .02 (does not hold: above 0)"

    def plus(rows: list[str]) -> list[Term]:
        return even(rows, lambda a: [(1.0, "IDPlus", a, a), (-1.0, "ID", a, a)])

    return Spec("C18", f"ID+ on {attack}", words, [attack], plus, False, BETTER, "IDPlus", fails=0.0, rival="ID")


# --- asked ----------------------------------------------------------------------------------------------------------


class Grid:
    """Puts questions to the grid of a run.

    Args:
        cells: its cells.
        book: takes the numbers.
        weak: (protocol, scheme, detector, training attack) of the detectors that did not train.
        on: words on the attacks, where they are not all that the run has: part of the ids of its numbers.
    """

    def __init__(self, cells: Cells, book: Book, weak: set[tuple[str, str, str, str]], on: str = "") -> None:
        self.cells, self.book, self.weak, self.on = cells, book, weak, on

    def ask(self, spec: Spec) -> Question:
        """A question, in every manner."""
        boundary = FOUND if spec.boundary is None else each(spec.boundary)
        answers = {m: self._answer(spec, m, boundary[m[0]]) for m in MANNERS}
        words = spec.words if spec.rows and spec.terms(spec.rows) else ""  # without attacks there is nothing to ask
        return Question(spec.claim, spec.line, words, tuple(spec.rows), each(spec.above), boundary, answers, spec.fails)

    def _answer(self, spec: Spec, manner: Manner, boundary: float) -> Answer:
        protocol, scheme = manner
        terms = spec.terms(spec.rows) if spec.rows else []
        if not terms:
            return Answer(None, why=spec.why)
        known = identify({"kind": "transfer", "protocol": protocol, "title": spec.transfer, "detector": spec.transfer, "measure": TRANSFER})
        id, why = (known, "") if spec.transfer and manner in (STRICT, ("published", "paired")) and known in self.book else (None, "")
        if id is None:
            id, why = self._number(spec, manner, terms)
        if id is None or self.book.side(id, boundary) == "none":
            return Answer(None, why=why or "not finite")
        heads = list(dict.fromkeys((d, a) for _, d, a, _ in terms))
        weak = [at for at in heads if (protocol, scheme, *at) in self.weak]
        silent = grouped(at for at in heads if at not in weak and self._silent(manner, *at))
        where = self._side(id, boundary, spec)
        favoured = {spec.above: spec.baseline, not spec.above: spec.rival}.get(where == "above") if where != "open" else None
        lost = {a for d, a in weak if d == favoured} & set(spec.rows)
        left = [a for a in spec.rows if a not in lost] if lost else []
        trained = self._number(spec, manner, spec.terms(left), "where it trained", self.book[id]["keys"])[0] if left else None
        only = self.cells.cell(protocol, scheme, *heads[0], terms[0][3]) if len(terms) == 1 else ""
        explained = (str(favoured), where) if lost else None
        auroc = only.auroc if isinstance(only, Drawn) else None
        of = tuple((scheme, d, a) for d, a in heads)
        return Answer(id, why=why, trained=trained, lost=explained, weak=grouped(weak), silent=silent, auroc=auroc, heads=of)

    def _side(self, id: str, boundary: float, spec: Spec) -> str:
        """Where a number lies: on the paper's side of the boundary, beyond the other one, or open."""
        where, mine = self.book.side(id, boundary), "above" if spec.above else "below"
        return where if spec.fails is None or where == mine else self.book.side(id, spec.fails) if where != "none" else where

    def _silent(self, manner: Manner, detector: str, attack: str) -> bool:
        """Whether a detector finds nothing of its own training attack: the interval is not above chance."""
        own = self.cells.cell(*manner, detector, attack, attack)
        return isinstance(own, Drawn) and self.book.side(own.id, CHANCE[manner[0]]) != "above"

    def _number(
        self, spec: Spec, manner: Manner, terms: list[Term], part: str | None = None, keys: tuple[str, ...] = ()
    ) -> tuple[str | None, str]:
        """The id of a weighted sum of cells, or why there is none. A single cell has a number already."""
        if len(terms) == 1:
            found = self.cells.cell(*manner, *terms[0][1:])
            return (None, found) if isinstance(found, str) else (found.id, "")
        place: dict[str, Any] = {"scheme": manner[1], "part": "/".join(p for p in (self.on, part) if p) or None}
        if id := self.book.there(spec.claim, spec.line, manner[0], **place):
            return id, ""
        mean = self.cells.mean(*manner, terms)
        if isinstance(mean, str):
            return None, mean
        return self.book.put(spec.claim, spec.line, mean[0], sorted({k[:KEY] for k in (*mean[1], *keys)}), manner[0], **place), ""
