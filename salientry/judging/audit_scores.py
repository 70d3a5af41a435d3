"""Scores that a detector did not give: constant, copied, repeated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import auroc
from .audit_files import Evaluation
from .audit_findings import Finding, Seen, of_detectors
from .audit_splits import name_of
from .table import ScoreTable

LEAST = 20  # scores in a block of rows that is looked at
EDGE, SATURATED = 1e-4, 1e-6  # of the range: so near its ends a detector's scores are close together, and equal
COPIED, RARE = 0.25, 0.1  # shares of a block: scores found elsewhere; equal scores that a detector of its kind would have by chance
HEAVY = 0.05  # of a block: a score that so many images share
DISTINCT, DOUBLED = 0.97, 0.8  # shares of different scores: of the other blocks, and of one that repeats itself
DIRECTION = 0.4
SATURATES = 0.01  # of the scores of other images: where so many lie at the same end of the range, it is one at which the detector saturates


@dataclass(frozen=True)
class SetScores:
    """The scores of one set of images by one detector.

    Attributes:
        name: what it is, in words.
        image: (N,) sorted.
        score: (N,) in that order.
    """

    name: str
    image: NDArray[Any]
    score: NDArray[np.float64]


def blocks_of(rows: ScoreTable, wins: NDArray[np.bool_]) -> list[SetScores]:
    """Test naturals, other calibration naturals, and of each attack the test images that fool: one left alone has its natural's score."""
    found = []
    natural = rows["set"] == "natural"
    test, calibration = (natural & (rows["split"] == split) for split in ("test", "calibration"))
    found += [_block("the test naturals", rows, test)]
    found += [_block("the calibration naturals", rows, calibration & ~np.isin(rows["image"], rows["image"][test]))]
    attacked = wins & (rows["split"] == "test")
    for attack, encoding in dict.fromkeys(zip(rows["attack"][attacked].tolist(), rows["encoding"][attacked].tolist(), strict=True)):
        name = f"{attack} as {encoding}" if encoding else attack
        found.append(_block(name, rows, attacked & (rows["attack"] == attack) & (rows["encoding"] == encoding)))
    return [b for b in found if len(b.score) >= LEAST]


def _block(name: str, rows: ScoreTable, mask: NDArray[Any]) -> SetScores:
    order = np.argsort(rows["image"][mask], kind="stable")
    return SetScores(name, rows["image"][mask][order], rows["score"][mask][order])


def scores(e: Evaluation) -> Iterator[Seen]:
    """Constant, copied and repeated scores, of every detector and seed."""
    blocks = {key: blocks_of(rows, e.wins[key]) for key, rows in e.groups.items()}
    constant = {}
    for key, rows in e.groups.items():
        if len(rows) >= LEAST and np.ptp(rows["score"]) == 0:
            constant[key] = ("all rows", float(rows["score"][0]), len(rows))
        elif flat := constant_blocks(rows, e.wins[key], blocks[key]):
            constant[key] = (flat[0].name, float(flat[0].score[0]), len(flat[0].score))
    if constant:
        key, (what, value, count) = next(iter(constant.items()))
        said = {name_of(*k, e): n for k, (_, _, n) in constant.items()}
        yield Finding(
            "constant-scores", f"all scores are the same: {of_detectors(said)}", {"rows": said}, f"{what}, {count} times {value:.6g}"
        )
    live = [k for k in blocks if k not in constant]
    inner = {k: [i for b in blocks[k] if len((i := inside(b, e.groups[k]["score"], SATURATED)).score) >= LEAST] for k in live}
    yield from _copies_within(e, inner)
    yield from _copies_between(e, inner)
    yield from _repeats(e, live)
    yield from _direction(e)


def constant_blocks(rows: ScoreTable, wins: NDArray[np.bool_], blocks: Sequence[SetScores]) -> list[SetScores]:
    """Those with one score, though not where a detector saturates: at an end of the range, where scores of sets that have several lie, too.

    Args:
        rows: of one detector and seed.
        wins: (N,) the attacked images that fool.
        blocks: :func:`blocks_of` these; harmless changes and controls are looked at as well.
    """
    every, counts = rows["score"], wins | (rows["set"] != "attacked")
    sets = np.array([" ".join(words) for words in zip(*(rows[n].tolist() for n in ("set", "attack", "encoding")), strict=True)])
    found = []
    for b in [*blocks, *_changed(rows)]:
        value = float(b.score[0])
        if np.ptp(b.score) == 0:
            several = [n for n in np.unique(sets) if (every[(sets == n) & counts] != value).any()]
            if len(inside(b, every, EDGE).score) or _never_there(every[np.isin(sets, several)], value, float(np.ptp(every))):
                found.append(b)
    return found


def _never_there(others: NDArray[np.float64], value: float, width: float) -> bool:
    """Whether a detector with many different scores gives other images hardly ever this one."""
    return len(np.unique(others)) >= LEAST and float(np.mean(np.abs(others - value) <= SATURATED * width)) < SATURATES


def _changed(rows: ScoreTable) -> list[SetScores]:
    """Test images that were changed harmlessly, and controls."""
    test = rows["split"] == "test"
    kinds = [(kind, name) for kind in ("harmless", "control") for name in rows.where(set=kind, split="test").names("attack")]
    found = [_block(name, rows, test & (rows["set"] == kind) & (rows["attack"] == name)) for kind, name in kinds]
    return [b for b in found if len(b.score) >= LEAST]


def inside(b: SetScores, every: NDArray[np.float64], edge: float) -> SetScores:
    """Without the scores at the ends of a detector's range, where it saturates."""
    low, high = every.min(), every.max()
    keep = (b.score > low + edge * (high - low)) & (b.score < high - edge * (high - low))
    return SetScores(b.name, b.image[keep], b.score[keep])


def collisions(scores_of: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often two blocks have the same score.

    Returns:
        (B, B) pairs of equal scores, one of each block; and what of them is chance: of two draws of distributions p and q the chance
        of equal ones, the sum of p q, is at most the root of that of two draws of p times that of two of q (Cauchy and Schwarz);
        of few scores that is known badly, so it is at least the chance in all blocks together.
    """
    sizes = np.array([len(s) for s in scores_of])
    _, value = np.unique(np.concatenate(scores_of), return_inverse=True)
    times = np.zeros((value.max() + 1, len(sizes)))
    np.add.at(times, (value, np.repeat(np.arange(len(sizes)), sizes)), 1)
    times = times[times.sum(1) > 1]
    equal, every = (times * (times - 1)).sum(0), sizes * (sizes - 1)
    within, all_blocks = equal / every, equal.sum() / every.sum()
    return times.T @ times, np.outer(sizes, sizes) * np.maximum(np.sqrt(np.outer(within, within)), all_blocks)


def copied(a: SetScores, b: SetScores, pairs: float, chance: float) -> int:
    """How many scores of one block are copies of the other's; 0 where a detector of this kind may give them."""
    least = min(len(a.score), len(b.score))
    if chance <= RARE * least:
        return int(min(pairs, least)) if pairs - chance >= COPIED * least else 0
    _, i, j = np.intersect1d(a.image, b.image, assume_unique=True, return_indices=True)
    same = a.score[i] == b.score[j]
    return len(i) if len(i) >= LEAST and same.all() and len(np.unique(a.score[i])) >= LEAST else 0


def _found(groups: Sequence[tuple[str, SetScores]]) -> Iterator[tuple[str, str, int]]:
    """Pairs of blocks, one a copy of the other, by name."""
    if len(groups) < 2:
        return
    pairs, chance = collisions([b.score for _, b in groups])
    for (i, (n, a)), (j, (m, b)) in combinations(enumerate(groups), 2):
        if count := copied(a, b, pairs[i, j], chance[i, j]):
            yield n, m, count


def _copies_within(e: Evaluation, blocks: dict[tuple[str, int], list[SetScores]]) -> Iterator[Finding]:
    found = {}
    for key, mine in blocks.items():
        unique = [(b.name, b) for b in mine if len(np.unique(b.image)) == len(b.image)]
        if pairs := list(_found(unique)):
            found[name_of(*key, e)] = max(pairs, key=lambda p: p[2])
    if found:
        what, (one, other, count) = max(found.items(), key=lambda kv: kv[1][2])
        counts = {n: p[2] for n, p in found.items()}
        said = f"scores of {len(found)} of {len(blocks)} detectors occur in two sets of images: {of_detectors(counts)}"
        yield Finding("copied-scores", said, {"scores": counts}, f"{what}: {count} scores of {one} stand at {other}, too")


def _copies_between(e: Evaluation, blocks: dict[tuple[str, int], list[SetScores]]) -> Iterator[Finding]:
    """Between detectors, and between seeds of one."""
    by_name: dict[str, list[tuple[tuple[str, int], SetScores]]] = {}
    for key, mine in blocks.items():
        for b in mine:
            if len(np.unique(b.image)) == len(b.image):
                by_name.setdefault(b.name, []).append((key, b))
    worst: dict[bool, dict[tuple[tuple[str, int], tuple[str, int]], tuple[int, str]]] = {True: {}, False: {}}
    for name, given in by_name.items():
        keys = {str(i): key for i, (key, _) in enumerate(given)}
        for i, j, count in _found([(str(i), b) for i, (_, b) in enumerate(given)]):
            pair = (keys[i], keys[j])
            kind = worst[pair[0][0] == pair[1][0]]
            kind[pair] = max(kind.get(pair, (0, "")), (count, name))
    for one_detector, found in worst.items():
        if found:
            (one, other), (most, name) = max(found.items(), key=lambda kv: kv[1][0])
            said = f"{len(found)} pairs of {'seeds' if one_detector else 'detectors'} have the same scores"
            example = f"{name_of(*one, e)} and {name_of(*other, e)}: {most} equal scores of {name}"
            yield Finding("seeds-are-copies" if one_detector else "copied-scores", said, {"pairs": len(found), "most": most}, example)


def _repeats(e: Evaluation, keys: Iterable[tuple[str, int]]) -> Iterator[Finding]:
    """Within one set of images, those on which the attack failed as well."""
    found = {}
    for key in keys:
        every = e.groups[key]["score"]
        mine = blocks_of(e.groups[key], e.groups[key]["set"] == "attacked")
        inner = [inside(b, every, EDGE).score for b in mine]
        shares = [len(np.unique(s)) / len(s) if len(s) >= LEAST else 1.0 for s in inner]
        rounded = bool((np.round(every, 6) == every).all())
        for at, (b, s) in enumerate(zip(mine, inner, strict=True)):
            others = [x for i, x in enumerate(shares) if i != at]
            if len(s) < LEAST:
                continue
            values, times = np.unique(s, return_counts=True)
            heavy = times >= max(5, HEAVY * len(b.score))
            rest = times[~heavy]
            filled = heavy.any() and len(rest) >= LEAST and len(rest) / rest.sum() >= 0.9
            doubled = not rounded and shares[at] < DOUBLED and len(others) > 0 and float(np.median(others)) >= DISTINCT
            if filled or doubled:
                most = int(times.argmax())
                count = int(times[heavy].sum()) if filled else len(s) - len(values)
                found[name_of(*key, e)] = (count, f"{b.name}: {int(times[most])} times {values[most]:.6g}")
                break
    if found:
        counts = {n: k for n, (k, _) in found.items()}
        name, (_, example) = next(iter(found.items()))
        said = f"equal scores stand among scores that are all different: {of_detectors(counts)}"
        yield Finding("repeated-scores", said, {"scores": counts}, f"{name}, {example}")


def _direction(e: Evaluation) -> Iterator[Finding]:
    found = {}
    for key, rows in e.groups.items():
        natural = rows["score"][(rows["set"] == "natural") & (rows["split"] == "test")]
        attacked = rows["score"][e.wins[key] & (rows["split"] == "test")]
        area = auroc(natural, attacked)
        if len(natural) >= LEAST and len(attacked) >= LEAST and area < DIRECTION:
            found[name_of(*key, e)] = area
    if found:
        said = ", ".join(f"{n} {a:.2f}" for n, a in list(found.items())[:3])
        yield Finding("scores-turned-round", f"scores of attacked images are lower than those of naturals: AUROC {said}", {"auroc": found})
