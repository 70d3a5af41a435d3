"""C13 to C16: what the paper says of its white box, asked of ours."""

from __future__ import annotations

from .algorithms import PASSES, Algorithms, change, variant
from .cells import side
from .claims import FAILS, HOLDS, NOT_RUN, OPEN, Claim, Finding
from .numbers import Ledger
from .records import ImageSet, Records
from .white_box import Siege, of_kind, radius, title

HALF, NOTHING = 0.5, 0.03
PUBLISHED, STRICT = ("published", "paired"), ("strict", "paired")
NONE, OTHER = "no white-box attack in the records", "asked of the paper's attacks alone"
PRINTED, TRUE, AT_ONCE = "as printed", "true gradient", "Eq. 5"


def claims(records: Records, ledger: Ledger, column: str | None, algorithms: Algorithms | None, siege: Siege | None) -> list[Claim]:
    """The lines of C13 to C16; ``column``: the paper's for this data set."""
    return [
        *(_fools(ledger, d, column, algorithms, siege) for d in ("SMD", "SPD")),
        *(_recovers(ledger, d, algorithms) for d in ("SPD", "SMD")),
        *(_by_turns(records, ledger, d) for d in ("SMD", "SPD")),
        *(_longer(records, ledger, d, v) for v in (PRINTED, TRUE) for d in ("SMD", "SPD")),
    ]


def _judged(ledger: Ledger, id: str | None, boundary: float, above: bool, why: str = "") -> Finding:
    """Holds where the interval is on the paper's side of the boundary, does not where it is on the other."""
    if id is None:
        return Finding(None, NOT_RUN, boundary, why or NONE)
    want, other = ("above", "below") if above else ("below", "above")
    word = HOLDS if side(ledger[id], boundary) == want else FAILS if side(ledger[id], boundary) == other else OPEN
    return Finding(id, word, boundary, why if word != HOLDS else "")


def _fools(ledger: Ledger, defence: str, column: str | None, algorithms: Algorithms | None, siege: Siege | None) -> Claim:
    """C13: the paper's detectors fall on MNIST and ASSIRA and stand on CIFAR-10."""
    stands = column == "CIFAR-10"
    words = f"{defence} flags {'half or more' if stands else 'less than half'} of the images of its own white-box attack (T = {PASSES})"
    line = algorithms.line(defence, PRINTED) if algorithms else None
    row = next((r for r in siege.rows if r.title == defence), None) if siege else None
    at = _nearest(siege.budgets if siege else [], line.eps if line else "")
    best = row.union.get(at) if row else None
    published = _judged(ledger, line.numbers["detector"] if line else None, HALF, stands)
    strict = _judged(ledger, best, HALF, not stands, "attack too weak, nothing to report" if row and row.blank else "")
    told = f"share of images that the best of our attacks gets past classifier and detector, budget {at}" if best else ""
    return Claim("C13", f"{defence} before", words, {PUBLISHED: published, STRICT: _with(strict, told)})


def _nearest(budgets: list[str], eps: str) -> str:
    """The largest Linf budget that is no larger than the paper's; the smallest where all are."""
    linf = sorted((radius(b)[1], b) for b in budgets if not b.startswith("L2"))
    most = radius(eps)[1] if eps else 1.0
    return next((b for size, b in reversed(linf) if size <= most + 1e-6), linf[0][1] if linf else "")


def _with(finding: Finding, why: str) -> Finding:
    return Finding(finding.id, finding.verdict, finding.boundary, why or finding.why)


def _recovers(ledger: Ledger, defence: str, algorithms: Algorithms | None) -> Claim:
    """C14: after adversarial training SPD flags most of what attacks it, SMD less than half."""
    above = defence == "SPD"
    words = f"after adversarial training {defence} flags {'more' if above else 'less'} than half of what that attack makes"
    found = {t.against: t for t in (algorithms.training if algorithms else []) if t.defence == defence}
    paper, strict = found.get("the paper's attack"), found.get("selective")
    last = paper.last.numbers["detector"] if paper and paper.last else None
    best = strict.afresh["after"].get("any") if strict else None
    told = "share of images that an attack afresh gets past classifier and hardened strict detector" if best else ""
    judged = _with(_judged(ledger, best, HALF, not above), told)
    if strict and above and strict.wrong and judged.verdict == HOLDS:
        judged = Finding(None, NOT_RUN, HALF, "attack too weak: " + "; ".join(strict.wrong))
    return Claim("C14", f"{defence} after", words, {PUBLISHED: _judged(ledger, last, HALF, above), STRICT: judged})


def _passes(records: Records, defence: str, name: str) -> list[ImageSet]:
    """The sets of one reading of the paper's attacks on a detector that is not hardened; of several budgets the largest."""
    sets = [s for s in of_kind(records, "passes") if s.facts["hardened"] is None and title(s.facts) == defence and variant(s.facts) == name]
    sets = [s for s in sets if f"score@{4 * PASSES}" in s.columns]
    most = max((float(s.facts["eps"]) for s in sets), default=0.0)
    return [s for s in sets if float(s.facts["eps"]) == most]


def _by_turns(records: Records, ledger: Ledger, defence: str) -> Claim:
    """C15."""
    first, second = _passes(records, defence, PRINTED), _passes(records, defence, AT_ONCE)
    id = change(ledger, f"paper/C15/{defence}", first, second, ("detector", PASSES, PASSES))
    words = f"{defence} flags fewer images of alternating steps than of simultaneous ones (Eq. 5): difference below 0"
    return Claim(
        "C15",
        defence,
        words,
        {PUBLISHED: _judged(ledger, id, 0.0, False), STRICT: Finding(None, NOT_RUN, 0.0, OTHER)},
    )


def _longer(records: Records, ledger: Ledger, defence: str, name: str) -> Claim:
    """C16."""
    sets = _passes(records, defence, name)
    id = change(ledger, f"paper/C16/{defence}/{name}", sets, sets, ("joint", 4 * PASSES, PASSES))
    words = f"{4 * PASSES} passes get no more images past classifier and {defence} than {PASSES}, {name}: difference below .03"
    findings = {
        PUBLISHED: _judged(ledger, id, NOTHING, False),
        STRICT: Finding(None, NOT_RUN, NOTHING, OTHER),
    }
    return Claim("C16", f"{defence}, {name}", words, findings, extra=name == TRUE)
