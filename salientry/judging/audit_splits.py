"""Which images the rows of an evaluation are of: roles that meet, rows that should not count, detectors that were treated unequally."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration import smallest_sample
from ..rates import percent
from .audit_files import Evaluation
from .audit_findings import Finding, Seen, Unseen, counted, of_detectors
from .table import ScoreTable

MEETINGS = {
    "train": ("trained-on-test-images", "trained the detector"),
    "validation": ("chosen-on-test-images", "are in the split validation, too"),
    "calibration": ("threshold-saw-test-images", "are in the split calibration, too"),
}
FEW = 100  # images


def name_of(detector: str, seed: int, e: Evaluation) -> str:
    """What a group is called in a sentence."""
    return detector if len(e.table.names("seed")) == 1 else f"{detector}, seed {seed}"


def roles(e: Evaluation) -> Iterator[Seen]:
    """An image in two splits, of the same detector and seed: an image, its attacked and its changed copies have one name."""
    for split, (name, what) in MEETINGS.items():
        if not (e.table["split"] == split).any():
            yield Unseen((name,), f"no row has the split {split}")
            continue
        yield from _meeting(e, name, split, "test", f"of the tested images {what}")
    yield from _meeting(e, "threshold-on-training-images", "train", "calibration", "of the calibration naturals trained the detector")


def _meeting(e: Evaluation, name: str, one: str, other: str, what: str) -> Iterator[Finding]:
    found, example, of = {}, "", 0
    for (detector, seed), rows in e.groups.items():
        first, second = rows["image"][rows["split"] == one], rows["split"] == other
        both = np.isin(rows["image"], first) & second
        of = max(of, len(np.unique(rows["image"][second])))
        if both.any():
            found[name_of(detector, seed, e)] = len(np.unique(rows["image"][both]))
            example = example or f"image {rows['image'][both][0]}, {_what(rows, int(np.flatnonzero(both)[0]))}"
    if found:
        yield Finding(name, f"{counted(max(found.values()), of)} {what}: {of_detectors(found)}", {"images": found, "of": of}, example)


def _what(rows: ScoreTable, at: int) -> str:
    """What a row is of, in words."""
    attack, encoding = rows["attack"][at], rows["encoding"][at]
    return " ".join(w for w in (str(rows["set"][at]), str(attack), f"as {encoding}" if encoding else "") if w)


def naturals(e: Evaluation) -> Iterator[Seen]:
    """Whether the threshold's naturals are enough for the rate, and the tested images for a number."""
    need, few, tested = smallest_sample(e.level), {}, {}
    for (detector, seed), rows in e.groups.items():
        natural = rows.where(set="natural")
        count = len(np.unique(natural["image"][natural["split"] == "calibration"]))
        if 0 < count < need:
            few[name_of(detector, seed, e)] = count
        tested[name_of(detector, seed, e)] = len(np.unique(rows["image"][rows["split"] == "test"]))
    if few:
        said = f"a false-positive rate of {percent(e.level)} takes {need} calibration naturals to promise with 95 % confidence"
        yield Finding("too-few-naturals", f"{said}; there are {of_detectors(few)}", {"naturals": few, "needed": need})
    if not (e.table["split"] == "calibration").any():
        yield Unseen(("too-few-naturals", "threshold-on-training-images"), "no row has the split calibration")
    if min(tested.values()) < FEW:
        yield Finding(
            "few-images", f"{min(tested.values())} images were tested: a rate is known to 10 points and worse", {"images": tested}
        )


def _keys(rows: ScoreTable, *names: str) -> NDArray[np.int64]:
    """(N,) a number for each combination of these columns' values."""
    key = np.zeros(len(rows), np.int64)
    for name in names:
        values, at = np.unique(rows[name], return_inverse=True)
        _, key = np.unique(key * len(values) + at, return_inverse=True)
    return key


def rows_agree(e: Evaluation) -> Iterator[Seen]:
    """One row an image; one label and one answer an image, whichever detector scores it."""
    t = e.table
    key = _keys(t, "detector", "seed", "set", "attack", "encoding", "split", "image")
    _, first, times = np.unique(key, return_index=True, return_counts=True)
    if (times > 1).any():
        at, extra = int(first[times > 1][0]), int((times - 1).sum())
        example = f"image {t['image'][at]}, {_what(t, at)}, {t['detector'][at]}"
        yield Finding("image-counted-twice", f"{counted(extra, len(t))} rows are of an image that has a row", {"rows": extra}, example)
    for name, column, what, rows in (
        ("two-labels", "label", "labels", t),
        ("two-answers", "predicted", "answers of the classifier", t.where(set="natural")),
    ):
        image, value = _keys(rows, "image"), rows[column]
        order = np.lexsort((value, image))
        differ = (np.diff(image[order]) == 0) & (np.diff(value[order]) != 0)
        if differ.any():
            at = order[int(np.flatnonzero(differ)[0])]
            mine = rows["image"][at]
            said = sorted(set(value[rows["image"] == mine].tolist()))
            count = len(np.unique(image[order][1:][differ]))
            yield Finding(
                name, f"{counted(count, len(np.unique(image)))} images have two {what}", {"images": count}, f"image {mine}: {said}"
            )


def same_images(e: Evaluation) -> Iterator[Seen]:
    """All detectors scored the same tested images."""
    tested = e.table.rows((e.table["split"] == "test") & np.isin(e.table["set"], ("natural", "attacked")))
    key, names = _keys(tested, "set", "attack", "encoding", "image"), tested.names("detector")
    if len(names) < 2:
        return
    mine = {n: np.unique(key[tested["detector"] == n]) for n in names}
    common, every = mine[names[0]], np.unique(key)
    for keys in mine.values():
        common = np.intersect1d(common, keys)
    if len(common) < len(every):
        lone = np.flatnonzero(~np.isin(key, common))
        at, lengths = int(lone[0]), {n: len(k) for n, k in mine.items()}
        without = next(n for n, k in mine.items() if key[at] not in k)
        said = f"of {len(every)} natural and attacked test images {len(common)} have scores of all detectors: {of_detectors(lengths)}"
        example = f"image {tested['image'][at]}, {_what(tested, at)}: no score of {without}"
        yield Finding("detectors-on-different-images", said, {"images": lengths, "common": len(common)}, example)


def counts(e: Evaluation) -> Iterator[Seen]:
    """Which attacked images are counted: those that fool, within their budget, or all."""
    (key, rows), claims = next(iter(e.groups.items())), e.claimed
    test = rows["split"] == "test"
    plain = test & (rows["set"] == "attacked") & _one_encoding(rows)
    won, within = e.wins[key], rows["in_budget"]
    for name, count in _claimed_counts(e):
        of = plain & (rows["attack"] == name) if name else test & (rows["set"] == "natural")
        right = int((of & won & within).sum()) if name else int(of.sum())
        if count == right or (name and count in (int(of.sum()), int((of & won).sum()))):
            continue  # or it is said below
        said = f"{count} images of {name or 'natural images'} are counted"
        numbers = {"claimed": count, "rows": int(of.sum()), "fooling": right}
        detail = f"there are {int(of.sum())} rows" + (f", of which {right} fool the classifier within the budget" if name else "")
        yield Finding("counts-differ", f"{said}; {detail}", numbers)
    for fault, remark, wrong, what in (
        ("failed-attacks-counted", "failed-attacks-in-the-table", ~won, "do not fool the classifier, or their natural was wrong already"),
        ("out-of-budget-counted", "out-of-budget-in-the-table", won & ~within, "are beyond the attack's budget"),
    ):
        found = {n: int((plain & wrong & (rows["attack"] == n)).sum()) for n in dict.fromkeys(rows["attack"][plain].tolist())}
        by_attack = {n: k for n, k in found.items() if k}
        in_numbers = {
            n: k for n, k in by_attack.items() if _takes(claims.attacked.get(n), plain & (rows["attack"] == n), won, wrong, fault)
        }
        unknown = {n: k for n, k in by_attack.items() if n not in claims.attacked}
        for kind, some, tail in ((fault, in_numbers, "and are counted"), (remark, unknown, "and may be counted")):
            if some:
                mask = plain & wrong & np.isin(rows["attack"], list(some))
                of_all = int((plain & np.isin(rows["attack"], list(some))).sum())
                said = f"{counted(sum(some.values()), of_all)} attacked images {what}, {tail}: {of_detectors(some)}"
                yield Finding(kind, said, {"images": some, "of": of_all}, _row(rows, int(np.flatnonzero(mask)[0])))
        if unknown and not in_numbers:
            yield Unseen((fault,), "evaluation.json does not say how many attacked images are counted")
    if claims.natural is None or not claims.attacked:
        yield Unseen(("counts-differ",), "evaluation.json does not say how many attacked images are counted")


def _claimed_counts(e: Evaluation) -> Iterator[tuple[str, int]]:
    if e.claimed.natural is not None:
        yield "", e.claimed.natural
    known = set(e.table["attack"][e.table["set"] == "attacked"].tolist())
    yield from ((n, k) for n, k in e.claimed.attacked.items() if n in known)


def _takes(claimed: int | None, of: NDArray[Any], won: NDArray[Any], wrong: NDArray[Any], fault: str) -> bool:
    """Whether the claimed number is that of the rows with the wrong ones."""
    without_failed = int((of & won).sum())
    if claimed is None:
        return False
    return claimed == int(of.sum()) or (fault == "out-of-budget-counted" and claimed == without_failed and bool((of & wrong).any()))


def _one_encoding(rows: ScoreTable) -> NDArray[np.bool_]:
    """(N,) the rows saved without loss; all, where there are none."""
    plain = rows["encoding"] == ""
    return np.asarray(plain) if (plain & (rows["set"] == "attacked")).any() else np.ones(len(rows), bool)


def _row(rows: ScoreTable, at: int) -> str:
    natural = rows.rows((rows["set"] == "natural") & (rows["image"] == rows["image"][at]))
    before = f", its natural {natural['predicted'][0]}" if len(natural) else ""
    return f"image {rows['image'][at]}, {_what(rows, at)}: label {rows['label'][at]}, predicted {rows['predicted'][at]}{before}"


def seeds(e: Evaluation) -> Iterator[Seen]:
    """Every detector was trained as often, but for those that no seed moves."""
    claimed = e.claimed.seeds
    there = {n: len(e.table.where(detector=n).names("seed")) for n in e.table.names("detector")}
    times = {n: k for n, k in (there | {n: len(s) for n, s in claimed.items()}).items() if claimed.get(n) != []}
    if len(set(times.values())) > 1:
        yield Finding("unequal-seeds", f"detectors were trained a different number of times: {of_detectors(times)}", {"seeds": times})
    differ = {n: (there[n], len(s)) for n, s in claimed.items() if s and n in there and len(s) != there[n] and there[n] > 1}
    if differ:
        yield Finding(
            "counts-differ",
            "the number of seeds with scores is not the claimed one: " + ", ".join(f"{n} {k} of {c}" for n, (k, c) in differ.items()),
            {"seeds": {n: list(v) for n, v in differ.items()}},
        )
    reported = e.claimed.reported
    best = [n for n, how in reported.items() if how == "best" and times.get(n, 2) > 1]
    if best:
        others = [n for n in reported if n not in best]
        against = f", beside the mean of {', '.join(others[:3])}" if others else ""
        yield Finding("best-seed-reported", f"of {', '.join(best[:3])} the best seed is reported{against}", {"best": best})
    if e.claims is None and len(set(there.values())) == 1 and 1 in there.values():
        yield Unseen(("unequal-seeds",), "one seed of each stands in the scores, and there is no evaluation.json")


def seen_attacks(e: Evaluation) -> Iterator[Seen]:
    """Whether the detector was tested on attacks that it was not trained on, and on harmless changes."""
    attacked = e.table.rows((e.table["set"] == "attacked") & (e.table["split"] == "test"))
    if len(attacked) and (attacked["seen"] == 1).all():
        names = attacked.names("attack")
        yield Finding(
            "only-seen-attacks", f"the detectors were trained on all of the tested attacks ({len(names)})", {"attacks": len(names)}
        )
    if (attacked["seen"] == -1).any():
        yield Unseen(("only-seen-attacks",), "the column seen is missing, or -1")
