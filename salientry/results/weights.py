"""Whether two records are of the same nets: a key names a classifier's settings, which train other weights on another processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from .names import NATURAL
from .trained import Array, FittedSeed, Images, Trained

OTHER = "recorded on other weights of the same classifier settings"
ROUNDED = 2.0**-12  # recorded scores and thresholds have 12 binary digits after the first: twice their largest error, relative
Place = tuple[str, str, str, str, int]


class Records(Protocol):
    """What is asked of score records: their description, image sets by name, and detectors."""

    body: dict[str, Any]
    images: dict[str, Images]
    trained: list[Trained]


def differ(a: Records, b: Records) -> bool:
    """Whether two records of one classifier key are of other weights: by their fingerprints; of older records, which have none, by what
    both say of the same images: predictions of the natural ones, scores and thresholds of detectors of one name. Where they have nothing
    in common they count as the same.
    """
    mine, theirs = a.body.get("weights"), b.body.get("weights")
    if mine and theirs:
        return bool(mine != theirs)
    return not all(alike(x, y) for x, y in _of_both(a, b))


def alike(a: Array, b: Array) -> bool:
    """Whether the same was recorded twice, perhaps rounded."""
    if a.shape != b.shape:
        return False
    least = float(np.max(np.abs(b), initial=0.0)) * ROUNDED / 100  # of values that are next to 0 beside the others
    return bool(np.allclose(a, b, rtol=ROUNDED, atol=least, equal_nan=True))


def _of_both(a: Records, b: Records) -> Iterator[tuple[Array, Array]]:
    mine, theirs = (_fitted(s) for s in (a, b))
    for place, f in mine.items():
        if (g := theirs.get(place)) is not None:
            yield from _thresholds(f.thresholds, g.thresholds)
            yield from _scores(f, g)
    yield from _white_box(a, b, mine)
    yield from _white_box(b, a, theirs)
    natural = [s.images[NATURAL] for s in (a, b) if NATURAL in s.images]
    if len(natural) == 2 and np.array_equal(natural[0]["id"], natural[1]["id"]) and all("predicted" in i for i in natural):
        yield natural[0]["predicted"], natural[1]["predicted"]


def _fitted(s: Records) -> dict[Place, FittedSeed]:
    return {(g.protocol, g.detector, g.scheme, g.trained_on, int(f.facts["seed"])): f for g in s.trained for f in g.seeds}


def _thresholds(a: dict[str, float], b: dict[str, float]) -> Iterator[tuple[Array, Array]]:
    if levels := sorted(set(a) & set(b)):
        yield np.array([a[k] for k in levels]), np.array([b[k] for k in levels])


def _scores(f: FittedSeed, g: FittedSeed) -> Iterator[tuple[Array, Array]]:
    for name in f.scores.keys() & g.scores.keys():
        x, y = f.scores[name][0], g.scores[name][0]
        if x is not None and y is not None:
            yield x, y


def _white_box(run: Records, other: Records, there: dict[Place, FittedSeed]) -> Iterator[tuple[Array, Array]]:
    """What attacks on a detector of the run say of that detector before anything was attacked."""
    if NATURAL not in run.images:
        return
    row = {i: k for k, i in enumerate(run.images[NATURAL]["id"].tolist())}
    for i in other.images.values():
        if i["kind"] != "white box" or i["hardened"] is not None or "natural_score" not in i:
            continue
        f = there.get((i["detector_protocol"], i["detector"], i["scheme"], i["trained_on"], i["seed"]))
        if f is None:
            continue
        yield from _thresholds(f.thresholds, i["thresholds"])
        values, at = f.scores.get(NATURAL, (None, ()))[0], [row.get(k) for k in i["id"].tolist()]
        if values is not None and None not in at:
            yield values[np.array(at, int)], i["natural_score"]
