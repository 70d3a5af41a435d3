"""What stays undetected when the attacker may choose, and who is flagged wrongly. Strict detectors, at their largest level.

Kind ``worst case``: ``tpr@LEVEL`` with ``part`` ``all`` or ``unseen`` (methods that the detector was not trained on) and ``tested_on``
``all 10 attacks``, so that runs with other attacks have other ids: an image counts as detected only if every attack on it that fools
the classifier is; of the images that at least one fools.
Kind ``undetected``: of an attack (``tested_on``), ``fools`` (without a detector: the share of the images which the classifier had right
that the attack turns) and ``undetected@LEVEL`` (the share of those same images that it turns unflagged).
Kind ``false positives``: ``fpr-wrong@LEVEL`` on naturals that the classifier has wrong (``fpr-right@LEVEL`` is of kind ``detection``), and
for detectors of all attacks ``fpr@LEVEL`` of each class (``part``, by the label).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..metrics import rate, worst_case
from .detection import FEWEST, together, where
from .names import NATURAL
from .place import Row, row
from .scores import Images, Scores, Trained

LEAST_WRONG = 20  # naturals of a kind under which nothing is said of their rate


def rows(s: Scores) -> list[Row]:
    """All of it."""
    attacked = s.attacked("strict")
    numbers = list(_fools(s, attacked))
    for t in together(s):
        for g in [] if t.missing or t.protocol != "strict" else t.trained:
            numbers += [*_worst(s, g, attacked), *_undetected(s, g, attacked), *_false_positives(s, g)]
    return numbers


def _fools(s: Scores, attacked: list[Images]) -> Iterator[Row]:
    for x in attacked:
        if x["right"].any():
            found = rate(s.draws, x["id"][x["right"]], [x["evaluated"][x["right"]]])
            yield row("undetected", "fools", found, [x["key"]], protocol="strict", tested_on=x["attack"], attack=x["attack"])


def _worst(s: Scores, g: Trained, attacked: list[Images]) -> Iterator[Row]:
    seen = {s.attacks[a]["method"] for a in g.of}  # one method at several settings is one
    for over, sets in (("all", attacked), ("unseen", [x for x in attacked if s.attacks[x["attack"]]["method"] not in seen])):
        names = [x["name"] for x in sets]
        if len(sets) < 2 or len(g.on(*names)) < len(g.seeds) or any(not np.array_equal(x["id"], sets[0]["id"]) for x in sets):
            continue
        evaluated = [x["evaluated"] for x in sets]
        each = [worst_case(flags, evaluated) for flags in zip(*(g.flags(n, g.level) for n in names), strict=True)]
        some = each[0][1]
        if some.sum() >= FEWEST:
            found = rate(s.draws, sets[0]["id"][some], [d[some] for d, _ in each])
            yield row(
                "worst case",
                f"tpr@{g.level}",
                found,
                [*g.keys, *(x["key"] for x in sets)],
                **where(g),
                part=over,
                tested_on=f"{over} {len(sets)} attacks",
            )


def _undetected(s: Scores, g: Trained, attacked: list[Images]) -> Iterator[Row]:
    for x in attacked:
        right = x["right"]
        if len(g.on(x["name"])) == len(g.seeds) and x["evaluated"].sum() >= FEWEST:
            missed = [(x["evaluated"] & ~f)[right] for f in g.flags(x["name"], g.level)]
            found = rate(s.draws, x["id"][right], missed)
            yield row("undetected", f"undetected@{g.level}", found, [*g.keys, x["key"]], **where(g), tested_on=x["attack"])


def _false_positives(s: Scores, g: Trained) -> Iterator[Row]:
    natural = s.natural("test")
    flags = g.flags(NATURAL, g.level)

    def of(measure: str, mine: np.ndarray, part: str | None = None) -> Iterator[Row]:
        if mine.sum() >= LEAST_WRONG:
            found = rate(s.draws, natural["id"][mine], [f[mine] for f in flags])
            yield row("false positives", measure, found, g.keys, **where(g), part=part)

    yield from of(f"fpr-wrong@{g.level}", ~natural["right"])
    if len(g.of) > 1:
        for k in np.unique(natural["label"]):
            yield from of(f"fpr@{g.level}", natural["label"] == k, part=s.class_name(int(k)))
