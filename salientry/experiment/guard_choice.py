"""Which detector a guard keeps: by what it finds on images that it was not trained on, of attacks that it was and was not trained on, and
by what it flags of harmless changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..inference import bounded_mean
from ..rows import Rows
from ..runner.step import Chosen, Found, step
from ..store import JSON
from .cross_fit import NATURAL, SEEN, drawn_of
from .scoring import set_name

TOLERATED = 0.03  # flags on a harmless change above those on the same naturals
CLOSE = 0.01  # a detection rate that is no better by more is not worth another pass of the classifier
FEWEST = 20  # images of a cell


@dataclass(frozen=True)
class Labels:
    """What the kinds of two mixtures are called.

    Attributes:
        attacks: of the ``drawn`` attacks.
        changes: of the ``drawn`` harmless changes.
    """

    attacks: tuple[str, ...]
    changes: tuple[str, ...]


def detection(found: Found, attacked: list[Rows], labels: Labels, level: float) -> dict[str, list[float]]:
    """(share found, images) by attack, encoding and whether it was trained on such attacks, of p-values at most ``level``."""
    cells: dict[str, list[float]] = {}
    for rows in attacked:
        drawn, encoding = drawn_of(rows), str(rows.facts["protocol"]).partition(", ")[2]
        for before, what in (("", "not trained on"), (SEEN, "trained on")):
            p = found.arrays[before + set_name(rows.facts)]
            for kind, called in enumerate(labels.attacks):
                mine = p[(drawn == kind) & ~np.isnan(p)]
                name = ", ".join([called, *([encoding] if encoding else []), what])
                known = cells.get(name, [0.0, 0.0])
                cells[name] = [known[0] + float((mine <= level).sum()), known[1] + len(mine)]
    return {n: [k / c, c] for n, (k, c) in cells.items() if c >= FEWEST}


def harmless_flags(found: Found, harmless: list[Rows], labels: Labels, level: float) -> dict[str, list[float]]:
    """(extra share flagged, lower end of its interval, images) of each harmless change, paired with the same images unchanged."""
    differences: dict[str, list[NDArray[Any]]] = {}
    natural = found.arrays[NATURAL] <= level
    for rows in harmless:
        p, drawn = found.arrays[set_name(rows.facts)], drawn_of(rows)
        for kind in np.unique(drawn):
            mine = (drawn == kind) & ~np.isnan(p)
            called = labels.changes[kind] if "drawn" in rows else str(rows.facts["control"])
            differences.setdefault(called, []).append((p[mine] <= level).astype(float) - natural[mine])
    cells = {n: np.concatenate(d) for n, d in differences.items()}
    return {n: [float(d.mean()), bounded_mean(d, -1.0, 1.0)[0], len(d)] for n, d in cells.items() if len(d) >= FEWEST}


@step("choose_for_guard", chooses=True)
def choose_for_guard(
    detectors: list[nn.Module],
    crossed: list[Found],
    attacked: list[Rows],
    harmless: list[Rows],
    called: list[str],
    passes: list[int],
    labels: Labels,
    level: float,
) -> Chosen:
    """The detector that finds most, over attacks that it was trained on, attacks that were left out, and both saved in another way; of
    those that find nearly as much the cheapest.

    One that flags a harmless change more often than the same images unchanged, surely by more than three points, is dropped; if all do,
    the one that does so least is kept.

    Args:
        detectors: fitted on all images.
        crossed: of each, its p-values (:func:`~salientry.experiment.cross_fit.cross_fit`).
        attacked: the attacked images that they were tried on.
        harmless: harmlessly changed images.
        called: names.
        passes: of the classifier and of other networks, an image.
        labels: of attacks and changes.
        level: false-positive rate.
    """
    rows: list[JSON] = []
    for name, found, cost in zip(called, crossed, passes, strict=True):
        cells, flags = detection(found, attacked, labels, level), harmless_flags(found, harmless, labels, level)
        rates, excess = [r for r, _ in cells.values()], [low for _, low, _ in flags.values()]
        rows.append(
            {
                "name": name,
                "passes": cost,
                "mean": float(np.mean(rates)) if rates else 0.0,
                "worst": min(rates, default=0.0),
                "cells": cells,
                "harmless": flags,
                "excess": max(excess, default=0.0),
            }
        )
    allowed = [i for i, r in enumerate(rows) if r["excess"] <= TOLERATED]
    allowed = allowed or [int(np.argmin([r["excess"] for r in rows]))]
    most = max(rows[i]["mean"] for i in allowed)
    close = [i for i in allowed if rows[i]["mean"] >= most - CLOSE]
    best = min(close, key=lambda i: (passes[i], -rows[i]["mean"]))
    for i, r in enumerate(rows):
        r |= {"chosen": i == best, "dropped": i not in allowed}
    return Chosen("detectors", {"candidates": rows, "chosen": called[best]}, index=best)
