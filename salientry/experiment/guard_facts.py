"""How good a guard is, on images that it was neither trained on, chosen on nor calibrated on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import worst_case
from ..rows import Rows
from ..runner.step import Found
from ..store import JSON
from .parts import Parts, title_of
from .scoring import natural_set, scores_of, set_name

FEWEST_OF_CLASS = 5  # test images of a class, from which its false-positive rate is shown


def fit_facts(parts: Parts, scored: Found, threshold: float) -> JSON:
    """Counts, each (flagged, of so many): no rate without its n."""
    run, natural = parts.run, parts.run.get(parts.image_sets.natural["test"])
    flags = scores_of(scored, natural_set("test")) > threshold
    right = natural.column("predicted") == natural.column("label")
    return {
        "accuracy": _count(right),
        "natural": _count(flags),
        "right": _count(flags[right]),
        "wrong": _count(flags[~right]),
        "classes": _by_class(flags, natural.column("label")),
        "attacks": [_attack(parts, *key, run.get(h), scored, threshold) for key, h in parts.attacked_trials.items()],
        "worst_case": _every_attack(parts, scored, threshold),
        "harmless": [_change(parts, n, run.get(h), scored, threshold, flags) for n, h in parts.harmless_trials.items()],
        "left_out": parts.left_out,
    }


def _count(flags: NDArray[Any]) -> list[int]:
    return [int(flags.sum()), len(flags)]


def _by_class(flags: NDArray[Any], labels: NDArray[Any]) -> dict[str, list[int]]:
    """Of each class with enough images."""
    return {str(k): _count(flags[labels == k]) for k in np.unique(labels) if (labels == k).sum() >= FEWEST_OF_CLASS}


def _attack(parts: Parts, attack: Any, encoding: Any, rows: Rows, scored: Found, threshold: float) -> JSON:
    """An attack's images that are saved in one way: how many fool, and of those how many are found."""
    fools = rows.column("evaluated")
    flags = scores_of(scored, set_name(rows.facts)) > threshold
    return {
        "attack": title_of(attack),
        "encoding": "" if encoding is None else encoding.title,
        "learnt": attack in (*parts.attacks, *parts.elsewhere),
        "encoding_learnt": encoding is None,
        "found": _count(flags[fools]),
        "fooled": [int(fools.sum()), int(rows.column("right").sum())],
    }


def _every_attack(parts: Parts, scored: Found, threshold: float) -> list[int]:
    """Images that some attack fools the classifier with, saved as they are: those of them on which every such attack is found."""
    sets = [parts.run.get(h) for (_, encoding), h in parts.attacked_trials.items() if encoding is None]
    flags, counts = [scores_of(scored, set_name(r.facts)) > threshold for r in sets], [r.column("evaluated") for r in sets]
    found, tried = worst_case(flags, counts)
    return [int((found & tried).sum()), int(tried.sum())]


def _change(parts: Parts, name: str, rows: Rows, scored: Found, threshold: float, natural: NDArray[Any]) -> JSON:
    """A harmless change: how many of the images whose answer stayed are flagged, and how many of the same images unchanged."""
    stays = ~rows.column("changed")
    flags = scores_of(scored, set_name(rows.facts)) > threshold
    change = parts.tried_changes.get(name)
    learnt = name == "transplant" or type(change) in {type(c) for c in parts.changes.values()}
    title = "another image's perturbation" if change is None else change.title
    return {"change": title, "learnt": learnt, "flagged": _count(flags[stays]), "unchanged": int(natural[stays].sum())}
