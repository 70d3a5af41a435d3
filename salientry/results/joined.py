"""Records of several runs on one classifier as those of one run: a claim may ask of two parts of a recipe at once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

from .names import NATURAL
from .scores import Scores, Trained
from .weights import OTHER, differ

# of records.json: what each run adds to
LISTS = ("attacks", "networks", "gates", "skipped", "strength", "choice", "confidence", "accuracies")


def joined(runs: Sequence[Scores]) -> tuple[Scores, list[tuple[Scores, str]]]:
    """The first run with the image sets and detectors of all others that can be joined to it, each once; and those that can not, with why.

    A run can be joined when all its scores are kept and its natural test images are the first one's, of the same classifier and weights. Of
    an image set or a detector that two runs hold the earlier run's stands; the two are the same, or their names would differ.
    """
    first = runs[0]
    asked = [(s, _why_not(first, s)) for s in runs[1:]]
    mine, apart = [first, *(s for s, why in asked if not why)], [(s, why) for s, why in asked if why]
    if len(mine) == 1:
        return first, apart
    found = copy.copy(first)
    found.__dict__ = {k: v for k, v in first.__dict__.items() if not isinstance(getattr(Scores, k, None), functools.cached_property)}
    images, trained = dict(first.images), {_place(g): g for g in first.trained}
    for s in mine[1:]:
        images |= {name: rows for name, rows in s.images.items() if name not in images}
        trained |= {_place(g): g for g in s.trained if _place(g) not in trained}
    found.images, found.trained = images, list(trained.values())
    found.absent = [f for s in mine for f in s.absent]
    found.beside = next((s.beside for s in mine if s.beside is not None), None)
    found.body = first.body | {k: _each_once([e for s in mine for e in s.body.get(k, [])]) for k in LISTS}
    return found, apart


def _place(g: Trained) -> tuple[str, ...]:
    return g.protocol, g.detector, g.group, g.scheme, g.trained_on


def _why_not(a: Scores, b: Scores) -> str:
    """Why two runs can not be joined; empty where they can."""
    if a.classifier != b.classifier:
        return "of another classifier"
    if (a.images.get(NATURAL) or {}).get("key") != (b.images.get(NATURAL) or {}).get("key"):
        return "of other test images"
    if differ(a, b):
        return OTHER
    return "some scores are not kept" if a.not_kept or b.not_kept else ""


def _each_once(entries: list[object]) -> list[object]:
    return [e for k, e in enumerate(entries) if e not in entries[:k]]
