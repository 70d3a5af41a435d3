"""C2 to C4, C17, C19, C20 and half of C21: of maps, a timing, JSD's gradient, the classifier and the attacks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ...errors import DataDamaged
from ...metrics import Interval, Resamples, difference
from ..architectures import AS_PRINTED, BEYOND, NAMED
from ..cells import Cells
from ..names import architecture_of, attack_title, own_trunk
from ..place import identify, records, select
from ..scores import Scores
from ..trained import Images, Trained
from .asked import EVERY, MANNERS, STRICT, Answer, Book, Question, each, grouped, names, unknown
from .grid import BETTER, IMAGE

ZERO = 0.95  # share of naturals whose gradient is zero (C19)
LEFT = 0.25  # accuracy under an attack that succeeds (C20)
REAL_TIME = 25.0  # images a second (C4)
P = 0.05
NO_ATTACK = "no such attacks in the records"
NOTHING = "no architecture finds anything: what changes nothing there says nothing"
TIMED = ("guard: SPD", 1, 1)  # subject, batch, threads
BOTH = ("published", "strict")


# --- of maps --------------------------------------------------------------------------------------------------------


def shifts(s: Scores, book: Book, labels: list[str], on: str) -> list[Question]:
    """C2 and C3, of each learnt map; one from the classifier's own trunk is extra beside one from a second net."""
    maps: dict[str, dict[str, Images]] = {}
    for i in s.images.values():
        if i["kind"] == "shift" and "UNet" in str(i["saliency"]) and any(f"{a}/shift" in i for a in labels):
            maps.setdefault(str(i["saliency"]), {})[str(i["protocol"])] = i
    if not maps:
        return [unknown(k, "learnt maps", EVERY, "no maps were compared") for k in ("C2", "C3")]
    own = {m: own_trunk(m) for m in maps}
    failed = {str(g["saliency"]) for g in s.body["gates"] if not g["passed"]}
    out = []
    for m, sets in maps.items():
        line = ("own trunk" if own[m] else "second net") if list(own.values()).count(own[m]) == 1 else m
        title = f"map from {'the classifier’s own trunk' if own[m] else 'a second net'}: "
        why, extra = "the map failed its sanity check" if m in failed else "", own[m] and not all(own.values())
        attacks = tuple(a for a in labels if f"{a}/shift" in next(iter(sets.values())))
        moved = {(p, ""): _moved(book, i, attacks, line, why, on) for p, i in sets.items()}
        words = title + "distance under attack minus distance of different images, mean over the attacks: above 0, and most significant"
        out.append(Question("C2", line, words, attacks, each(True), each(0.0), moved, rule="most", extra=extra, stands="maps"))
        words = title + "share of attacks whose distance is above that of different images: half or more"
        further = {(p, ""): _further(book, i, attacks, line, why, on) for p, i in sets.items()}
        out.append(Question("C3", line, words, attacks, each(True), each(0.0), further, rule="half", extra=extra, stands="maps"))
    return sorted(out, key=lambda q: q.extra)


def _moved(book: Book, i: Images, attacks: tuple[str, ...], line: str, why: str, on: str) -> Answer:
    """C2: the mean over the attacks, then each attack's rank test."""
    protocol, tail = str(i["protocol"]), f"{on}/" if on else ""
    shift = np.mean([i[f"{a}/shift"].astype(np.float64) for a in attacks], 0)
    mean = difference(Resamples(i["id"]), i["id"], [(shift, i["other"])])
    id = book.put("C2", line, mean, [i["key"]], protocol, part=f"{tail}shift minus other")
    place = {"kind": "shift", "protocol": protocol, "saliency": str(i["saliency"])}
    tests = [tuple(identify(place | {"attack": a, "measure": m}) for m in ("rank-biserial", "p-two-sided")) for a in attacks]
    clear = [book[effect]["value"] > 0 and book[p]["value"] < P for effect, p in tests]
    share = book.put(
        "C2", line, Interval(float(np.mean(clear)), np.nan, np.nan, len(i["id"])), [i["key"]], protocol,
        part=f"{tail}share of attacks, significant",
    )  # fmt: skip
    words = f"share of the attacks ({len(attacks)}) with rank-biserial > 0 and two-sided p < .05"
    return Answer(id, (id, *(t for pair in tests for t in pair)), why, beside={words: share})


def _further(book: Book, i: Images, attacks: tuple[str, ...], line: str, why: str, on: str) -> Answer:
    """C3. The ends of the share: attacks whose interval lies above 0, and those whose interval does not lie below."""
    protocol, draws, tail = str(i["protocol"]), Resamples(i["id"]), f"{on}/" if on else ""
    found = [difference(draws, i["id"], [(i[f"{a}/shift"], i["other"])]) for a in attacks]
    ids = tuple(
        book.put("C3", line, d, [i["key"]], protocol, attack=a, part=f"{tail}shift minus other")
        for a, d in zip(attacks, found, strict=True)
    )
    where = [book.side(id, 0.0) for id in ids]
    ends = [float(np.mean([w in kind for w in where])) for kind in (("above",), ("above", "open"))]
    value = min(max(float(np.mean([d.value > 0 for d in found])), ends[0]), ends[1])
    part = f"{tail}share of attacks, further"
    share = book.put("C3", line, Interval(value, ends[0], ends[1], len(i["id"])), [i["key"]], protocol, part=part)
    return Answer(share, ids, why)


# --- of architectures -----------------------------------------------------------------------------------------------


def searched(book: Book, numbers: pd.DataFrame) -> list[Question]:
    """C18 in a search over architectures: each that Appendix A names minus the printed one, for each detector and training attack. It can
    fail by one of them, and hold only when all were tried.
    """
    found = records(select(numbers, kind="architecture", source="run"))
    mine = [r for r in found if r["trained_on"] == r["tested_on"] and r["scheme"] not in BEYOND]
    out = []
    for d, a in dict.fromkeys((r["detector"], r["trained_on"]) for r in mine if r["measure"] == "gain"):
        here = [r for r in mine if (r["detector"], r["trained_on"]) == (d, a)]
        gains = sorted((r for r in here if r["measure"] == "gain"), key=lambda r: -r["value"])
        printed = [r for r in here if r["measure"] == "accuracy" and r["scheme"] == AS_PRINTED]
        silent = grouped([(d, a)]) if any(book.side(r["id"], 0.5) != "above" for r in printed) else ()
        none = all(book.side(r["id"], 0.5) != "above" for r in here if r["measure"] == "accuracy")
        names, whole = [str(architecture_of(r["scheme"])) for r in gains], len(gains) >= NAMED
        which = "every other architecture" if whole else ", ".join(names) if len(names) < 4 else f"{len(names)} other architectures"
        words = f"trained and tested on {attack_title(a)}, {d}: {which}, minus as printed; the largest gain below .02"
        part = "" if whole else f"; to hold it takes all {NAMED} of Appendix A"
        heads = tuple((r["scheme"], d, a) for r in here if r["measure"] == "accuracy")
        answer = Answer(gains[0]["id"], tuple(r["id"] for r in gains), silent=silent, heads=heads, doubted=NOTHING if none else "")
        lacking = {m: Answer(None, why="only the paper's manner was searched") for m in MANNERS[1:]}
        line, edge = f"{d} searched on {a}: {', '.join(sorted(names))}", BETTER if whole else -math.inf
        words = f"{words} (does not hold: above 0{part})"
        out.append(Question("C18", line, words, (a,), each(False), each(edge), {MANNERS[0]: answer} | lacking, fails=0.0))
    return out


# --- of JSD's gradient ----------------------------------------------------------------------------------------------


def zeroed(s: Scores, cells: Cells, book: Book, weak: set[tuple[str, str, str, str]]) -> Iterator[Question]:
    """C17, for each attack that JSD was trained on with its gradient zeroed; seed 0, detection rate at the largest level."""
    groups = [g for g in s.trained if (g.protocol, g.detector, g.scheme) == ("strict", "JSD", "gradient zeroed")]
    if not groups:
        yield unknown("C17", "JSD with its gradient zeroed", EVERY, "no JSD with its gradient zeroed in the records")
    for g in groups:
        a = g.trained_on
        words = f"trained and tested on {attack_title(a)}, seed 0: JSD minus ID below 0, and JSD with its gradient zeroed minus ID below 0"
        lacking = {m: Answer(None, why="no JSD with its gradient zeroed under this protocol") for m in MANNERS if m != STRICT}
        found = lacking | {STRICT: _footnote(s, cells, book, g, weak)}
        yield Question("C17", f"JSD zeroed on {a}", words, (a,), each(False), each(0.0), found, rule="then")


def _footnote(s: Scores, cells: Cells, book: Book, g: Trained, weak: set[tuple[str, str, str, str]]) -> Answer:
    """Premise: JSD is below ID. Then the parameters alone, without what they read, are as well."""
    a, i = g.trained_on, s.like(g)
    for d in IMAGE:
        if isinstance(lacking := cells.cell(*STRICT, d, a, a), str):
            return Answer(None, why=f"{d}: {lacking}")
    image, both = s.one("strict", "ID", a), s.one("strict", "JSD", a)
    if i is None or not g.on(i["name"]) or image is None or both is None:
        return Answer(None, why="its scores are not in the records")
    evaluated, name = i["evaluated"], i["name"]

    def minus(one: Trained, title: str) -> str:
        place = {"scheme": "paired", "part": f"{title} minus ID"}
        if id := book.there("C17", a, "strict", **place):
            return id
        mine, theirs = (h.flags(name, h.level)[0][evaluated] for h in (one, image))
        gap = difference(s.draws, i["id"][evaluated], [(mine, theirs)])
        return book.put("C17", a, gap, sorted({*one.keys, *image.keys, i["key"]}), "strict", **place)

    premise, less = minus(both, "JSD"), minus(g, "JSD zeroed")
    marks = grouped((d, a) for d in IMAGE if (*STRICT, d, a) in weak)
    heads = tuple(("paired", d, a) for d in IMAGE)
    if book.side(premise, 0.0) == "below":
        return Answer(less, (premise, less), weak=marks, beside={"JSD minus ID": premise}, heads=heads)
    why = "the number is JSD minus ID: JSD is not below ID"
    return Answer(premise, (premise, less), why, weak=marks, beside={"zeroed minus ID": less}, heads=heads)


# --- of the classifier and the attacks -------------------------------------------------------------------------------


def vanishing(book: Book) -> Question:
    """C19."""
    id = identify({"kind": "gradient", "protocol": "any", "attack": None, "measure": "sum is zero"})
    words = "share of naturals whose gradient of the summed probabilities is below 10⁻⁶: above .95"
    if id not in book:
        return unknown("C19", words, EVERY, "no gradients in the records")
    return Question("C19", "naturals", words, (), each(True), each(ZERO), {EVERY: Answer(id)}, stands="nets")


def success(book: Book, labels: list[str]) -> Question:
    """C20, both protocols: published is the paper's. All attacks have to be below; the number is that of the one that leaves most."""
    if not labels:
        return unknown("C20", "", EVERY, NO_ATTACK)
    words = f"largest accuracy of the classifier, under {names(labels)}: below .25"
    answers = {}
    for p in BOTH:
        ids = {a: identify({"kind": "attack", "protocol": p, "attack": a, "measure": "accuracy"}) for a in labels}
        answers[p, ""] = _largest(book, {attack_title(a): id for a, id in ids.items() if id in book}, LEFT, "under {}")
    return Question("C20", "accuracy", words, tuple(labels), each(False), each(LEFT), answers, stands="nets")


def smaller(s: Scores, book: Book, labels: list[str], strong: list[str]) -> Question:
    """C21, first part: every one of C&W and DeepFool against every other attack."""
    others = [a for a in labels if a not in strong]
    if not strong or not others:
        return unknown("C21", "", EVERY, NO_ATTACK)
    words = f"mean L2 (RMS) of {names(strong)} minus that of {names(others)}, the largest difference: below 0"
    found = {}
    for p in BOTH:
        sets, ids = {a: s.images.get(f"{p}/test/{a}") for a in labels}, {}
        for a, b in ((a, b) for a in strong for b in others):
            x, y = sets[a], sets[b]
            if x is None or y is None or not np.array_equal(x["id"], y["id"]):
                continue
            gap = difference(s.draws, x["id"], [(x["rms"], y["rms"])])
            id = book.put("C21", f"{a} minus {b}", gap, sorted({x["key"], y["key"]}), p, part="rms")
            ids[f"{attack_title(a)} minus {attack_title(b)}"] = id
        found[p, ""] = _largest(book, ids, 0.0, "{}")
    return Question("C21", "perturbations", words, tuple(labels), each(False), each(0.0), found, stands="nets")


def _largest(book: Book, ids: dict[str, str], boundary: float, words: str) -> Answer:
    """Of numbers that all have to lie below a boundary: the largest one of those that decide."""
    if not ids:
        return Answer(None, why=NO_ATTACK)
    where = {title: book.side(id, boundary) for title, id in ids.items()}
    worst = next(w for w in ("above", "open", "below", "none") if w in where.values())
    title = max((t for t in ids if where[t] == worst), key=lambda t: book[ids[t]]["value"])
    return Answer(ids[title], (ids[title], *(id for t, id in ids.items() if t != title)), words.format(title))


# --- of a timing ----------------------------------------------------------------------------------------------------


def timed(book: Book, body: Any, dataset: str) -> Question:
    """C4 from a file of ``benchmarks.guard``: images a second at batch 1 on one thread, by the median call; ends of the interval likewise.

    Raises:
        DataDamaged: when it is no such file.
    """
    plan = str(body.get("plan", "")) if isinstance(body, dict) else ""
    if plan and f"dataset={dataset}" not in plan:
        return unknown("C4", "", EVERY, f"the timing is of {body['plan']}")
    try:
        r = next(r for r in body["rows"] if (r["subject"], r["batch"], r["threads"]) == TIMED)
        lo, hi = r["p50_ms_interval"]
        rate = Interval(1e3 / r["p50_ms"], 1e3 / hi, 1e3 / lo, r["calls"])
        least, greatest = r["ratio_interval"]
        ratio = Interval(r["ratio"], least, greatest, r["calls"])
        why = "; ".join([f"{body['plan']}, {body['machine']['cpu']}, `{body['command']}`", *body["warnings"]])
        slowest = Interval(1e3 / r["p99_ms"], np.nan, np.nan, r["calls"])
    except (KeyError, TypeError, StopIteration, ValueError, ZeroDivisionError) as e:
        raise DataDamaged(f"the timing is damaged: {type(e).__name__} {e}") from None
    id = book.put("C4", "images a second", rate, [], "any")
    beside = {
        "at the 99th percentile of the calls": book.put("C4", "images a second, p99", slowest, [], "any"),
        "times the bare classifier": book.put("C4", "times the classifier", ratio, [], "any"),
    }
    words = "the guard with SPD, batch 1, one thread, images a second: 25 or more"
    return Question("C4", "guard: SPD", words, (), each(True), each(REAL_TIME), {EVERY: Answer(id, why=why, beside=beside)}, stands="nets")
