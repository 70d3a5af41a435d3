"""A verdict on each of the paper's 21 claims: those beside C5 to C11, all in order, and what several lines say of one claim together."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np

from ..errors import DataDamaged
from ..metrics import Interval, Resamples, difference
from ..store import JSON
from . import claims as of_text
from .cells import MANNERS, Cells, Term, side
from .claims import FAILS, HOLDS, IMAGE, NOT_RUN, OPEN, STRONG, UNTRAINED, WEAK, Claim, Finding, Spec
from .claims import asked as on_grid
from .grid import DEFENCES
from .numbers import Ledger, Number
from .records import Group, ImageSet, Records, attack_title, own_trunk
from .threshold import Size

TOTAL = 21
BETTER = 0.02  # a difference in what is found that is called one
SLIGHTLY = 0.05  # a loss that is called slight (C12)
ZERO = 0.95  # share of naturals whose gradient is zero (C19)
LEFT = 0.25  # accuracy under an attack that succeeds (C20)
REAL_TIME = 25.0  # images a second (C4)
P = 0.05
STRICT = ("strict", "paired")
EVERY = ("any", "")  # the same under both protocols, whatever the form
TIMED = ("guard: SPD", 1, 1)  # subject, batch, threads


@functools.cache
def sentences() -> JSON:
    """``claims``: the paper's claims in words, by name; ``contradictions``: (place, what contradicts what) of its text."""
    return json.loads(resources.files("salientry.results.claims").joinpath("claims.json").read_text("utf-8"))


@dataclass(frozen=True)
class Said:
    """One of the 21 claims: its sentence and the lines that decide it."""

    claim: str
    words: str
    lines: list[Claim]

    @property
    def verdicts(self) -> dict[tuple[str, str], str]:
        """By manner, of all lines together; a line in an extra form does not count."""
        return {m: together([f.verdict for c in self.lines if not c.extra and (f := in_manner(c, m)) is not None]) for m in MANNERS}


def in_manner(claim: Claim, manner: tuple[str, str]) -> Finding | None:
    """What a line says in a manner, also where the form or the protocol makes no difference to it."""
    return next((claim.findings[k] for k in (manner, (manner[0], ""), EVERY) if k in claim.findings), None)


def together(verdicts: list[str]) -> str:
    """Of lines that all have to hold: the first of does not hold, undecided, against an untrained baseline, holds; those that were not
    run are passed over.
    """
    return next((v for v in (FAILS, OPEN, UNTRAINED, HOLDS) if v in verdicts), NOT_RUN)


def all_of(lines: list[Claim]) -> list[Said]:
    """The 21 claims in order, each with its lines."""
    words = sentences()["claims"]
    return [Said(k, words[k], [c for c in lines if c.claim == k]) for k in (f"C{i + 1}" for i in range(TOTAL))]


def claims(
    records: Records, cells: Cells, ledger: Ledger, named: dict[str, str], sizes: dict[str, Size], against: list[Claim]
) -> list[Claim]:
    """All lines of all claims, in order; every claim has one at least.

    Args:
        records: the scores and columns.
        cells: the grid.
        ledger: takes the numbers; those of the other tables are in it.
        named: label of an attack to the paper's name.
        sizes: of the perturbations, by label.
        against: the lines of C13 to C16.
    """
    labels = [a for a in cells.labels if a in named]
    weak, strong = ([a for a in labels if named[a] in kind] for kind in (WEAK, STRONG))
    found = [
        on_grid(cells, ledger, _gradient(labels)),
        *_shifts(records, ledger, labels),
        unknown("C4", "the guard with SPD, images a second", EVERY, "no timing was given (--timing)"),
        *of_text.claims(cells, ledger, named, sizes),
        *(on_grid(cells, ledger, s) for s in _combined(labels)),
        *against,
        *_zeroed(records, cells, ledger),
        *_architecture(cells, ledger),
        _vanishing(ledger),
        _success(ledger, labels),
        _sizes(records, ledger, labels, strong),
        on_grid(cells, ledger, _minimal(weak, strong)),
    ]
    return sorted(found, key=lambda c: int(c.claim[1:]))


def unknown(claim: str, words: str, manner: tuple[str, str], why: str) -> Claim:
    """A claim of which nothing is known."""
    return Claim(claim, "not run", words, {manner: Finding(None, NOT_RUN, 0.0, why)})


def without_black_box(against: list[Claim]) -> list[Claim]:
    """All lines where only the white box was run."""
    known = {c.claim for c in against}
    rest = [unknown(f"C{i + 1}", "", EVERY, "the records hold the white box alone") for i in range(TOTAL) if f"C{i + 1}" not in known]
    return sorted([*against, *rest], key=lambda c: int(c.claim[1:]))


# --- of the grid -------------------------------------------------------------------------------------------------


def _gradient(labels: list[str]) -> Spec:
    """C1. It holds when JSD is not two points better, does not when it is better and may be that much."""
    share = 1 / max(len(labels), 1)
    words = "mean over the grid, JSD minus ID: below .02 (does not hold: above 0)"

    def minus(a: str) -> list[Term]:
        return [(w * share, d, a, b) for w, d in ((1.0, "JSD"), (-1.0, "ID")) for b in labels]

    return Spec("C1", "JSD minus ID", words, labels, lambda rows: of_text.even(rows, minus), False, BETTER, "JSD", fails=0.0, rival="ID")


def _combined(labels: list[str]) -> list[Spec]:
    """C12, of each defence. Where the specific detector did not train, the one for all cannot be worse: such rows are left out."""

    def loss(d: str) -> of_text.Terms:
        return lambda rows: of_text.even(rows, lambda a: [(1.0, d, a, a), (-1.0, d, "combined", a)])

    words = "{}, trained on each attack minus trained on all, mean over the attacks: below .05"
    return [Spec("C12", f"{d} specific minus combined", words.format(d), labels, loss(d), False, SLIGHTLY, d) for d in DEFENCES]


def _architecture(cells: Cells, ledger: Ledger) -> list[Claim]:
    """C18, for each attack that ID+ was trained on; the rule is that of C1. Nobody gave JSD another architecture."""
    trained = dict.fromkeys(a for p, form, d, a in cells.rows if (p, form, d) == (*STRICT, "IDPlus") and a != "combined")
    if not trained:
        return [unknown("C18", "ID+ minus ID", EVERY, "no ID+ in the records")]
    words = "trained and tested on {}, ID+ minus ID: below .02 (does not hold: above 0)"
    lacking = {m: Finding(None, NOT_RUN, BETTER, "no ID+ under this protocol") for m in MANNERS if m != STRICT}
    out = []
    for a in trained:
        spec = Spec("C18", f"ID+ on {a}", words.format(attack_title(a)), [a], _plus, False, BETTER, "IDPlus", fails=0.0, rival="ID")
        found = on_grid(cells, ledger, spec)
        out.append(Claim("C18", found.slug, found.words, found.findings | lacking))
    return out


def _plus(rows: list[str]) -> list[Term]:
    return of_text.even(rows, lambda a: [(1.0, "IDPlus", a, a), (-1.0, "ID", a, a)])


def _minimal(weak: list[str], strong: list[str]) -> Spec:
    """C21, second part."""
    words = f"ID trained and tested on {of_text.names(strong)}, minus on {of_text.names(weak)}: below 0"

    def minus(rows: list[str]) -> list[Term]:
        less = of_text.even(weak, lambda a: [(-1.0, "ID", a, a)])
        return of_text.even(rows, lambda a: [(1.0, "ID", a, a)]) + less if weak else []

    return Spec("C21", "ID on them", words, strong, minus, False, baseline="ID")


# --- of JSD's gradient -------------------------------------------------------------------------------------------


def _zeroed(records: Records, cells: Cells, ledger: Ledger) -> list[Claim]:
    """C17, for each attack that JSD was trained on with its gradient zeroed; seed 0, share found at the largest level."""
    groups = [g for g in records.groups if (g.protocol, g.detector, g.form) == ("strict", "JSD", "gradient zeroed")]
    if not groups:
        return [unknown("C17", "JSD with its gradient zeroed", EVERY, "no JSD with its gradient zeroed in the records")]
    words = "trained and tested on {}, seed 0: JSD minus ID below 0, and JSD with its gradient zeroed minus ID below 0"
    lacking = {m: Finding(None, NOT_RUN, 0.0, "no JSD with its gradient zeroed under this protocol") for m in MANNERS if m != STRICT}
    return [
        Claim(
            "C17",
            f"JSD zeroed on {g.trained_on}",
            words.format(attack_title(g.trained_on)),
            lacking | {STRICT: _footnote(records, cells, ledger, g)},
        )
        for g in groups
    ]


def _footnote(records: Records, cells: Cells, ledger: Ledger, zeroed: Group) -> Finding:
    """Premise: JSD is below ID. Then the parameters alone, without what they read, are as well."""
    a, s = zeroed.trained_on, records.twins(zeroed, "test")
    for d in IMAGE:
        if isinstance(lacking := cells.cell(*STRICT, d, a, a), str):
            return Finding(None, NOT_RUN, 0.0, f"{d}: {lacking}")
    rows = [cells.row(*STRICT, d, a) for d in IMAGE]
    if s is None or not zeroed.on(s) or None in rows:
        return Finding(None, NOT_RUN, 0.0, "its scores are not in the records")
    image, both = (r.group for r in rows if r is not None)
    c = s.counts

    def minus(g: Group, name: str) -> str:
        mine, theirs = (h.flags(s, h.level)[0][c] for h in (g, image))
        gap, keys = difference(records.resamples, s.ids[c], [(mine, theirs)]), sorted({*g.keys, *image.keys, s.key})
        return ledger.add(f"paper/C17/strict/paired/{a}/{name} minus ID", gap, "strict", keys)

    premise, less = minus(both, "JSD"), minus(zeroed, "JSD zeroed")
    stamped = of_text.grouped([(d, a) for d in IMAGE if cells.collapsed(*STRICT, d, a)])
    word = footnote(side(ledger[premise], 0.0), side(ledger[less], 0.0))
    if side(ledger[premise], 0.0) == "below":
        return Finding(less, word, 0.0, "", stamped, beside={"JSD minus ID": premise})
    return Finding(premise, word, 0.0, "the number is JSD minus ID: JSD is not below ID", stamped, beside={"zeroed minus ID": less})


def footnote(premise: str, zeroed: str) -> str:
    """C17, by where JSD minus ID lies and where JSD with its gradient zeroed minus ID does, to 0."""
    if premise != "below":
        return FAILS if premise == "above" else OPEN
    return of_text.verdict(zeroed, False)


# --- of maps -----------------------------------------------------------------------------------------------------


def _shifts(records: Records, ledger: Ledger, labels: list[str]) -> list[Claim]:
    """C2 and C3, of each learnt map; one from the classifier's own trunk is extra beside one from a second net."""
    maps: dict[str, dict[tuple[str, str], ImageSet]] = {}
    for s in records.sets.values():
        if s.facts["kind"] == "shift" and "UNet" in str(s.facts["saliency"]) and any(f"{a}/shift" in s.columns for a in labels):
            maps.setdefault(str(s.facts["saliency"]), {})[str(s.facts["protocol"]), ""] = s
    if not maps:
        return [unknown(k, "learnt maps", EVERY, "no maps were compared") for k in ("C2", "C3")]
    short = [own_trunk(m) for m in maps]
    failed = {str(g["saliency"]) for g in records.gates if not g["passed"]}
    out = []
    for m, sets in maps.items():
        slug = ("own trunk" if own_trunk(m) else "second net") if short.count(own_trunk(m)) == 1 else m
        why, extra = "the map failed its sanity gate" if m in failed else "", own_trunk(m) and not all(short)
        for claim, rule, words in (
            (
                "C2",
                _moved,
                "distance under attack minus distance of different images, mean over the attacks: above 0, and most attacks significant",
            ),
            ("C3", _further, "share of attacks whose distance is above that of different images: half or more"),
        ):
            found = {k: rule(ledger, s, labels, f"paper/{claim}/{k[0]}/{slug}", why) for k, s in sets.items()}
            out.append(
                Claim(claim, slug, f"map from {'the classifier’s own trunk' if own_trunk(m) else 'a second net'}: {words}", found, extra)
            )
    return sorted(out, key=lambda c: c.extra)


def _moved(ledger: Ledger, s: ImageSet, labels: list[str], head: str, why: str) -> Finding:
    """C2: the count of attacks decides, unless the mean lies on the other side: see :func:`most`."""
    attacks, protocol = [a for a in labels if f"{a}/shift" in s.columns], str(s.facts["protocol"])
    shift = np.mean([s.columns[f"{a}/shift"].astype(np.float64) for a in attacks], 0)
    mean = difference(Resamples(s.ids), s.ids, [(shift, s.columns["other"])])
    id = ledger.add(f"{head}/shift minus other", mean, protocol, [s.key])
    at = f"{protocol}/shift/{s.facts['saliency']}"
    clear = [ledger.value(f"{at}/{a}/rank-biserial") > 0 and ledger.value(f"{at}/{a}/p-two-sided") < P for a in attacks]
    share = ledger.add(f"{head}/share of attacks, significant", float(np.mean(clear)), protocol, [s.key], len(s))
    words = f"share of the attacks ({len(attacks)}) with rank-biserial > 0 and two-sided p < .05"
    return Finding(id, most(float(np.mean(clear)), side(ledger[id], 0.0)), 0.0, why, beside={words: share})


def most(share: float, mean: str) -> str:
    """C2: more than half of the attacks holds, fewer does not; undecided where the whole interval of the mean lies on the other side."""
    word = HOLDS if share > 0.5 else FAILS
    return OPEN if mean == ("below" if word == HOLDS else "above") else word


def _further(ledger: Ledger, s: ImageSet, labels: list[str], head: str, why: str) -> Finding:
    """C3. The ends of the share: attacks whose interval lies above 0, and those whose interval does not lie below."""
    attacks, protocol, draws = [a for a in labels if f"{a}/shift" in s.columns], str(s.facts["protocol"]), Resamples(s.ids)
    found = [difference(draws, s.ids, [(s.columns[f"{a}/shift"], s.columns["other"])]) for a in attacks]
    ids = [ledger.add(f"{head}/{a}/shift minus other", d, protocol, [s.key]) for a, d in zip(attacks, found, strict=True)]
    where = [side(ledger[i], 0.0) for i in ids]
    ends = [float(np.mean([w in kind for w in where])) for kind in (("above",), ("above", "open"))]
    value = min(max(float(np.mean([d.value > 0 for d in found])), ends[0]), ends[1])
    share = ledger.add(f"{head}/share of attacks, further", Interval(value, ends[0], ends[1], len(s)), protocol, [s.key])
    return Finding(share, half(*ends), 0.5, why)


def half(lo: float, hi: float) -> str:
    """C3: holds when half of the attacks or more are certain, does not when fewer are possible."""
    return HOLDS if lo >= 0.5 else FAILS if hi < 0.5 else OPEN


# --- of the classifier and the attacks ---------------------------------------------------------------------------


def _vanishing(ledger: Ledger) -> Claim:
    """C19."""
    id, words = "any/gradient/natural/sum is zero", "share of naturals whose gradient of the summed probabilities is below 10⁻⁶: above .95"
    if id not in ledger:
        return unknown("C19", words, EVERY, "no gradients in the records")
    return Claim("C19", "naturals", words, {EVERY: Finding(id, of_text.judged(ledger[id], ZERO, True), ZERO)})


def _success(ledger: Ledger, labels: list[str]) -> Claim:
    """C20, both protocols: published is the paper's."""
    words = f"largest accuracy of the classifier, under {of_text.names(labels)}: below .25"
    return Claim("C20", "accuracy", words, {(p, ""): _fooled(ledger, labels, p) for p in ("published", "strict")})


def _fooled(ledger: Ledger, labels: list[str], protocol: str) -> Finding:
    """All attacks have to be below; the number is that of the attack that decides, the one that leaves most."""
    known = {a: ledger[f"{protocol}/attack/{a}/accuracy"] for a in labels if f"{protocol}/attack/{a}/accuracy" in ledger}
    if not known:
        return Finding(None, NOT_RUN, LEFT, "no such attack in the records")
    worst, word = weakest(known, LEFT)
    return Finding(known[worst].id, word, LEFT, f"under {attack_title(worst)}")


def weakest(known: dict[str, Number], boundary: float) -> tuple[str, str]:
    """Of numbers that all have to lie below a boundary: the one that decides, and what all say together."""
    words = {a: of_text.judged(n, boundary, False) for a, n in known.items()}
    word = together(list(words.values()))
    return max((a for a in known if words[a] == word), key=lambda a: known[a].value or 0.0), word


def _sizes(records: Records, ledger: Ledger, labels: list[str], strong: list[str]) -> Claim:
    """C21, first part: every one of C&W and DeepFool against every other attack."""
    others = [a for a in labels if a not in strong]
    words = f"mean L2 (RMS) of {of_text.names(strong)} minus that of {of_text.names(others)}, the largest difference: below 0"
    found = {(p, ""): _smaller(records, ledger, p, strong, others) for p in ("published", "strict")}
    return Claim("C21", "perturbations", words, found)


def _smaller(records: Records, ledger: Ledger, protocol: str, strong: list[str], others: list[str]) -> Finding:
    sets = {a: records.sets.get(f"{protocol}/test/{a}") for a in (*strong, *others)}
    known: dict[str, Number] = {}
    for a, b in ((a, b) for a in strong for b in others):
        x, y = sets[a], sets[b]
        if x is None or y is None or not np.array_equal(x.ids, y.ids):
            continue
        gap = difference(records.resamples, x.ids, [(x.columns["rms"], y.columns["rms"])])
        id = ledger.add(f"paper/C21/{protocol}/{a} minus {b}/rms", gap, protocol, sorted({x.key, y.key}))
        known[f"{attack_title(a)} minus {attack_title(b)}"] = ledger[id]
    if not known:
        return Finding(None, NOT_RUN, 0.0, "no such attacks in the records")
    worst, word = weakest(known, 0.0)
    return Finding(known[worst].id, word, 0.0, worst)


# --- of a timing -------------------------------------------------------------------------------------------------


def timed(ledger: Ledger, body: JSON) -> Claim:
    """C4 from a file of ``benchmarks.guard``: images a second at batch 1 on one thread, by the median call; ends of the interval likewise.

    Raises:
        DataDamaged: when it is no such file.
    """
    try:
        row = next(r for r in body["rows"] if (r["subject"], r["batch"], r["threads"]) == TIMED)
        lo, hi = row["p50_ms_interval"]
        rate = Interval(1e3 / row["p50_ms"], 1e3 / hi, 1e3 / lo, row["calls"])
        least, most_times = row["ratio_interval"]
        ratio = Interval(row["ratio"], least, most_times, row["calls"])
        why = "; ".join([f"{body['plan']}, {body['machine']['cpu']}, `{body['command']}`", *body["warnings"]])
        slowest = 1e3 / row["p99_ms"]
    except (KeyError, TypeError, StopIteration, ValueError, ZeroDivisionError) as e:
        raise DataDamaged(f"the timing is damaged: {type(e).__name__} {e}") from None
    id = ledger.add("paper/C4/images a second", rate, "any", [])
    beside = {
        "at the 99th percentile of the calls": ledger.add("paper/C4/images a second, p99", slowest, "any", [], row["calls"]),
        "times the bare classifier": ledger.add("paper/C4/times the classifier", ratio, "any", []),
    }
    words = "the guard with SPD, batch 1, one thread, images a second: 25 or more"
    return Claim("C4", "guard: SPD", words, {EVERY: Finding(id, fast(ledger[id]), REAL_TIME, why, beside=beside)})


def fast(n: Number) -> str:
    """C4: 25 images a second or more."""
    assert n.lo is not None and n.hi is not None
    return HOLDS if n.lo >= REAL_TIME else FAILS if n.hi < REAL_TIME else OPEN
