"""What a claim of the paper is, when it holds, and C5 to C11: Figure 2 has no printed numbers, so its text is asked of our grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .cells import CHANCE, FOUND, MANNERS, Cells, Drawn, Term, side
from .grid import DEFENCES, NORMS
from .numbers import Ledger, Number
from .records import TITLES, attack_title
from .threshold import Size

Terms = Callable[[list[str]], list[Term]]  # training attacks to a weighted sum of cells

HOLDS, FAILS, OPEN, UNTRAINED, NOT_RUN = (
    "holds",
    "does not hold",
    "undecided",
    "holds only against a baseline that did not train",
    "not run",
)
WEAK, STRONG, IMAGE = ("FGSM", "BIM", "MIM"), ("CW", "DF"), ("ID", "JSD")
LARGE, SMALL = (0.027, 0.5), (0.025, 0.5)  # L2 and Linf above either of which ID is said to find everything; below both of which it fails


@dataclass(frozen=True)
class Finding:
    """A claim under one protocol and form.

    Attributes:
        id: the number that decides, None where it was not run.
        verdict: one of five words.
        boundary: what its interval is compared with.
        why: what is missing, or what decided beside that number.
        stamped: defences in it that did not train, with their training attacks: ``ID: FGSM, BIM``.
        silent: likewise those that trained, and are no better than chance on the attack that they were trained on.
        trained: the same number over those training attacks on which the baseline trained.
        auroc: of the cell, where the number is a single one.
        fails: beyond which it does not hold, where that is not the same boundary.
        beside: words to the id of a number that bears on it as well.
    """

    id: str | None
    verdict: str
    boundary: float
    why: str = ""
    stamped: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    trained: str | None = None
    auroc: str | None = None
    fails: float | None = None
    beside: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, said of one defence or comparison.

    Attributes:
        claim: ``C5``.
        slug: which defence or comparison.
        words: what is asked of our numbers.
        findings: by (protocol, form). The form is empty where no detector is asked, the protocol ``any`` where it is the same in both.
        extra: not what the paper says it of: shown, but not counted in the verdict on the claim.
    """

    claim: str
    slug: str
    words: str
    findings: dict[tuple[str, str], Finding]
    extra: bool = False


@dataclass(frozen=True)
class Spec:
    """What is asked: a weighted sum of cells over training attacks, and on which side of a boundary the paper sees it.

    Attributes:
        claim: as in :class:`Claim`, like ``slug`` and ``words``.
        slug: likewise.
        words: likewise.
        rows: training attacks.
        terms: the sum, of some training attacks.
        above: whether the paper sees it above the boundary.
        boundary: None: the one above which an attack is found.
        baseline: the defence whose failure to train would make the claim hold.
        why: what is missing where there are no terms.
        grid: the paired number is in the grid's ledger under this name, after the protocol.
        fails: beyond which the claim does not hold, where it is not the boundary.
        rival: the defence whose failure to train would make the claim not hold.
    """

    claim: str
    slug: str
    words: str
    rows: list[str]
    terms: Terms
    above: bool
    boundary: float | None = 0.0
    baseline: str | None = None
    why: str = "no such attack in the records"
    grid: str = ""
    fails: float | None = None
    rival: str | None = None


def claims(cells: Cells, ledger: Ledger, named: dict[str, str], sizes: dict[str, Size]) -> list[Claim]:
    """C5 to C11.

    Args:
        cells: the grid.
        ledger: takes the numbers.
        named: label of an attack to the paper's name.
        sizes: of the perturbations, by label.
    """
    labels = [a for a in cells.labels if a in named]
    weak, strong, sparse = ([a for a in labels if named[a] in kind] for kind in (WEAK, STRONG, ("JSMA",)))
    specs = [*_between(labels), *_transfers(weak, strong), *_drops(labels, sparse), *_norms(labels, labels == cells.labels)]
    specs += [*_thresholds(labels, sizes), *_minimal(strong)]
    return [asked(cells, ledger, s) for s in specs]


def asked(cells: Cells, ledger: Ledger, spec: Spec) -> Claim:
    """A claim on the grid, in every manner."""
    return Claim(spec.claim, spec.slug, spec.words, {m: _finding(cells, ledger, spec, *m) for m in MANNERS})


def even(rows: list[str], of: Callable[[str], list[Term]]) -> list[Term]:
    """The mean over training attacks of a sum of cells."""
    return [(w / len(rows), *at) for a in rows for w, *at in of(a)]  # type: ignore[misc]


def _between(labels: list[str]) -> list[Spec]:
    """C5: SPD against the others, mean over the whole grid."""

    def minus(other: str) -> Terms:
        share = 1 / max(len(labels), 1)
        return lambda rows: even(rows, lambda a: [(w * share, d, a, b) for w, d in ((1.0, "SPD"), (-1.0, other)) for b in labels])

    words = "mean over the grid, SPD minus {}: above 0"
    return [Spec("C5", f"SPD minus {d}", words.format(d), labels, minus(d), True, baseline=d) for d in DEFENCES[1:]]


def over(defence: str, tests: list[str]) -> Terms:
    """The mean over some tests of a defence."""
    return lambda rows: even(rows, lambda a: [(1 / len(tests), defence, a, b) for b in tests]) if tests else []


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


def _norms(labels: list[str], whole: bool) -> list[Spec]:
    """C9: others of the same norm, minus those of the other norm."""
    norms = {a: NORMS[a.split("-")[0]] for a in labels if a.split("-")[0] in NORMS}

    def gap(d: str) -> Terms:
        pairs = {same: [(a, b) for a in norms for b in norms if a != b and (norms[a] == norms[b]) == same] for same in (True, False)}
        if not all(pairs.values()):
            return lambda rows: []
        return lambda rows: [(w / len(pairs[s]), d, a, b) for s, w in ((True, 1.0), (False, -1.0)) for a, b in pairs[s]]

    words, known = "{} within a norm minus across norms: above 0", "{}/within-norm-minus-across" if whole else ""
    return [Spec("C9", f"{d} within", words.format(d), list(norms), gap(d), True, grid=known.format(d)) for d in DEFENCES]


def _thresholds(labels: list[str], sizes: dict[str, Size]) -> list[Spec]:
    """C10: ID and JSD, each trained on the attack that it is tested on."""
    large = [a for a in labels if a in sizes and (sizes[a].l2 > LARGE[0] or sizes[a].linf > LARGE[1])]
    small = [a for a in labels if a in sizes and sizes[a].l2 < SMALL[0] and sizes[a].linf < SMALL[1]]
    out = []
    for d in IMAGE:
        diagonal = diagonal_of(d)
        words = f"{d} finds attacks with L2 > .027 or L∞ > .5: {names(large)}"
        out.append(Spec("C10", f"{d} large", words, large, diagonal, True, None, None, "no attack is so large"))
        words = f"{d} does not find attacks with L2 < .025 and L∞ < .5: {names(small)}"
        out.append(Spec("C10", f"{d} small", words, small, diagonal, False, None, d, "no attack is so small"))
    return out


def _minimal(strong: list[str]) -> list[Spec]:
    """C11."""
    return [
        Spec("C11", f"ID on {a}", f"ID trained on {attack_title(a)} does not find it", [a], diagonal_of("ID"), False, None, "ID")
        for a in strong
    ]


def diagonal_of(defence: str) -> Terms:
    """The mean over some attacks of a defence trained and tested on each."""
    return lambda rows: even(rows, lambda a: [(1.0, defence, a, a)])


def names(labels: list[str]) -> str:
    """Attacks as they are shown, with commas between them."""
    return ", ".join(attack_title(a) for a in labels) or "none"


def _finding(cells: Cells, ledger: Ledger, spec: Spec, protocol: str, form: str) -> Finding:
    boundary = FOUND[protocol] if spec.boundary is None else spec.boundary
    terms = spec.terms(spec.rows) if spec.rows else []
    if not terms:
        return Finding(None, NOT_RUN, boundary, spec.why)
    head = f"paper/{spec.claim}/{protocol}/{form}/{spec.slug}"
    known = f"{protocol}/{spec.grid}"
    found: tuple[str | None, list[str], str] = known, [], ""
    if form != "paired" or known not in ledger:
        found = _number(cells, ledger, protocol, form, terms, head, [])
    id, keys, why = found
    if id is None or ledger[id].value is None:
        return Finding(None, NOT_RUN, boundary, why or "not finite")
    heads = list(dict.fromkeys((d, a) for _, d, a, _ in terms))
    collapsed = [at for at in heads if cells.collapsed(protocol, form, *at)]
    silent = grouped([at for at in heads if at not in collapsed and _silent(cells, ledger, protocol, form, *at)])
    word, stamped = judged(ledger[id], boundary, spec.above, spec.fails), grouped(collapsed)
    favoured = {HOLDS: spec.baseline, FAILS: spec.rival}.get(word)
    lost = {a for d, a in collapsed if d == favoured} & set(spec.rows)
    only = cells.cell(protocol, form, *heads[0], terms[0][3]) if len(terms) == 1 else ""
    auroc = only.auroc if isinstance(only, Drawn) else None
    left = [a for a in spec.rows if a not in lost] if lost else []
    trained = _number(cells, ledger, protocol, form, spec.terms(left), f"{head}/where it trained", keys)[0] if left else None
    alone = bool(lost) and (trained is None or judged(ledger[trained], boundary, spec.above, spec.fails) != word)
    why = f"only because {favoured} did not train" if alone and word == FAILS else ""
    return Finding(id, UNTRAINED if alone and word == HOLDS else word, boundary, why, stamped, silent, trained, auroc, spec.fails)


def _silent(cells: Cells, ledger: Ledger, protocol: str, form: str, defence: str, attack: str) -> bool:
    """Whether a head tells nothing on its own training attack: the interval is not above chance."""
    own = cells.cell(protocol, form, defence, attack, attack)
    return isinstance(own, Drawn) and side(ledger[own.id], CHANCE[protocol]) != "above"


def grouped(heads: list[tuple[str, str]]) -> list[str]:
    """(defence, training attack) pairs as ``ID: FGSM, BIM``, one for each defence."""
    return [f"{TITLES.get(d, d)}: {names([a for e, a in heads if e == d])}" for d in dict.fromkeys(d for d, _ in heads)]


def verdict(where: str, above: bool) -> str:
    """What an interval says of a claim: where it lies, and where the paper sees it."""
    if where == "open":
        return OPEN
    return NOT_RUN if where == "none" else HOLDS if (where == "above") == above else FAILS


def judged(n: Number, boundary: float, above: bool, fails: float | None = None) -> str:
    """What a number says of a claim with one boundary, or with another one beyond which it does not hold; the first goes before."""
    word = verdict(side(n, boundary), above)
    if fails is None or word in (HOLDS, NOT_RUN):
        return word
    return FAILS if side(n, fails) == ("below" if above else "above") else OPEN


def _number(
    cells: Cells, ledger: Ledger, protocol: str, form: str, terms: list[Term], head: str, keys: list[str]
) -> tuple[str | None, list[str], str]:
    """The id and keys of a weighted sum of cells, or why there is none. A single cell has a number already."""
    if len(terms) == 1:
        found = cells.cell(protocol, form, *terms[0][1:])
        return (None, [], found) if isinstance(found, str) else (found.id, list(found.keys), "")
    mean = cells.mean(protocol, form, terms)
    if isinstance(mean, str):
        return None, [], mean
    return ledger.add(head, mean[0], protocol, sorted({*mean[1], *keys})), mean[1], ""
