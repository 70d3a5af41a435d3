"""The sanity of the maps: what they keep and destroy, under each fill, and of each class by itself."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..metrics import Interval, Resamples, difference, rate
from .numbers import Ledger
from .records import ImageSet, Records, own_trunk

FIGURES = ("area", "fake_area", "kept", "kept_other", "destroyed", "destroyed_other", "emptied")
GAINS = {"kept-gain": ("kept", "kept_other"), "destroyed-gain": ("destroyed_other", "destroyed")}
LEAST = 0.05  # a class passes by itself when both of its gains are as large, with intervals above 0
READABLE = 0.3  # with everything removed, a prediction that survives more often than this says that the fill hides nothing


@dataclass(frozen=True)
class Row:
    """One saliency model (``trunk``: from the classifier's own) under one fill; ``figures`` and the two gains are ids of numbers."""

    saliency: str
    fill: str
    figures: dict[str, str]
    kept_gain: str
    destroyed_gain: str
    stamps: list[str]
    trunk: bool


def rows(records: Records, ledger: Ledger) -> list[Row]:
    """All saliency models and fills that were measured."""
    out = []
    for s in records.sets.values():
        if s.facts["kind"] != "sanity" or s.facts.get("within"):
            continue
        fill, trunk = str(s.facts["fill"]), own_trunk(str(s.facts["saliency"]))
        head = f"any/map/{'trunk/' if trunk else ''}{fill}"
        figures, kept, broken = _noted(ledger, head, s)
        stamps = ["WEAK FILL"] if ledger.value(figures["emptied"]) > READABLE else []
        out.append(Row(str(s.facts["saliency"]), fill, figures, kept, broken, stamps, trunk))
    return out


@dataclass(frozen=True)
class Class:
    """One class by itself: the images that the classifier calls so, up against the map of another image that it calls the same.

    Attributes:
        number: of the class.
        count: of the images.
        figures: ids by column.
        kept_gain: id.
        destroyed_gain: id.
        passes: the gate's rule.
    """

    number: int
    count: int
    figures: dict[str, str]
    kept_gain: str
    destroyed_gain: str
    passes: bool


@dataclass(frozen=True)
class Classes:
    """All classes under one saliency model (``trunk``: from the classifier's own)."""

    saliency: str
    trunk: bool
    rows: list[Class]

    @property
    def passing(self) -> list[int]:
        """Classes that have maps of their images' own."""
        return [r.number for r in self.rows if r.passes]


def by_class(records: Records, ledger: Ledger) -> list[Classes]:
    """Of each saliency model that was asked class by class."""
    out = []
    for s in within_class(records):
        trunk = own_trunk(str(s.facts["saliency"]))
        rows = []
        for k in called(s):
            figures, kept, destroyed = _noted(ledger, f"any/map/{'trunk/' if trunk else ''}class {k}", s, k)
            rows.append(Class(k, int((s.columns["predicted"] == k).sum()), figures, kept, destroyed, passes(s, k)))
        out.append(Classes(str(s.facts["saliency"]), trunk, rows))
    return out


def within_class(records: Records) -> list[ImageSet]:
    """The sets that measured each class against maps of its own images."""
    return [s for s in records.sets.values() if s.facts["kind"] == "sanity" and s.facts.get("within") == "class"]


def called(s: ImageSet) -> list[int]:
    """The classes that the classifier named."""
    return [int(k) for k in np.unique(s.columns["predicted"])]


@functools.lru_cache(256)
def _measured(s: ImageSet, k: int | None) -> dict[str, Interval]:
    """Of all images, or of those that are called k: the figures, and by how much more the own map keeps and destroys than the other."""
    mine, c = slice(None) if k is None else s.columns["predicted"] == k, s.columns
    ids = s.ids[mine]
    draws = Resamples(ids)
    found = {name: rate(draws, ids, [c[name][mine]]) for name in FIGURES}
    return found | {name: difference(draws, ids, [(c[a][mine], c[b][mine])]) for name, (a, b) in GAINS.items()}


def _noted(ledger: Ledger, head: str, s: ImageSet, k: int | None = None) -> tuple[dict[str, str], str, str]:
    """The ids of the figures, and of the two gains."""
    ids = {name: ledger.add(f"{head}/{name}", value, "any", [s.key]) for name, value in _measured(s, k).items()}
    kept, destroyed = (ids.pop(name) for name in GAINS)
    return ids, kept, destroyed


def passes(s: ImageSet, k: int) -> bool:
    """Whether a class passes the gate by itself."""
    return all(enough(g.value, g.lo) for name, g in _measured(s, k).items() if name in GAINS)


def enough(gain: float, lower: float) -> bool:
    """The gate's rule for a gain and the lower end of its interval."""
    return gain >= LEAST and lower > 0
