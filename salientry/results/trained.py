"""From the arrays and facts of records to image sets, and to detectors with their scores."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..metrics import of_mixture
from ..renamed import translated, translated_columns
from ..rows import ids_from
from .names import detector_title, heard, set_name

Array = NDArray[Any]
Images = dict[str, Any]  # an image set: facts, and (N,) columns


@dataclass(frozen=True, eq=False)
class FittedSeed:
    """A fitted detector, one seed. ``scores``: by the image set's name, None where they are not kept, with the key of the step that made
    them.
    """

    facts: dict[str, Any]
    key: str
    thresholds: dict[str, float]
    thresholds_key: str | None
    curve: list[float] | None
    scores: dict[str, tuple[Array | None, tuple[str, ...]]]

    @property
    def kept(self) -> bool:
        """Whether its scores are there."""
        return all(v is not None for v, _ in self.scores.values())

    def of(self, name: str) -> Array:
        """(N,) scores of an image set.

        Raises:
            UsageError: when they are not kept.
        """
        found = self.scores[name][0]
        if found is None:
            at = f"{self.facts['protocol']}/{self.facts['detector']}/{self.facts['trained_on']}"
            raise UsageError(f"the scores of {at} are not kept in these records: not_kept.json says what makes them")
        return found


@dataclass(frozen=True, eq=False)
class Trained:
    """A detector trained one way on one attack under one protocol: its seeds in order."""

    protocol: str
    detector: str
    group: str
    scheme: str
    trained_on: str
    seeds: list[FittedSeed]

    @property
    def title(self) -> str:
        """As it stands in a table."""
        return detector_title(self.detector, self.scheme, self.seeds[0].facts.get("title"))

    @property
    def of(self) -> tuple[str, ...]:
        """The attacks that it was trained on."""
        return tuple(self.seeds[0].facts["of"])

    @property
    def level(self) -> str:
        """The largest false-positive rate that a threshold was calibrated for; ``own``, the head's own 0, where none was."""
        return max((k for k in self.seeds[0].thresholds if k != "own"), key=float, default="own")

    @functools.cached_property
    def keys(self) -> list[str]:
        """Keys of everything that its numbers depend on."""
        each = ((r.key, r.thresholds_key, *(k for _, keys in r.scores.values() for k in keys)) for r in self.seeds)
        return sorted({k for keys in each for k in keys if k})

    @property
    def kept(self) -> bool:
        """Whether the scores of all its seeds are there."""
        return all(r.kept for r in self.seeds)

    def on(self, *names: str) -> list[FittedSeed]:
        """The seeds that scored all of these image sets: some controls are seed 0's."""
        return [r for r in self.seeds if all(n in r.scores for n in names)]

    def scores(self, name: str, *others: str) -> list[Array]:
        """(N,) scores of an image set, of each seed that scored it (and the others)."""
        return [r.of(name) for r in self.on(name, *others)]

    def flags(self, name: str, level: str, *others: str) -> list[NDArray[np.bool_]]:
        """(N,) whether the scores lie above the threshold, likewise."""
        return [r.of(name) > r.thresholds[level] for r in self.on(name, *others)]


def images_of(s: dict[str, Any], arrays: dict[str, Array]) -> Images:
    """An image set of ``records.json`` with its columns. Sets without ``evaluated`` count whole.

    Raises:
        ValueError: when columns and facts do not fit together.
    """
    head = f"set/{s['index']:03d}/"
    columns = {c: np.array(arrays[head + c]) for c in s["columns"]} | {"id": ids_from(arrays[head + "id"])}
    if not isinstance(s["facts"], dict) or not {"kind", "role"} <= set(s["facts"]) or any(len(v) != s["n"] for v in columns.values()):
        raise ValueError(f"image set {s['name']!r} is not what its columns and facts say")
    absent = {"attack": None, "control": None, "of": None, "evaluated": np.ones(s["n"], bool), "mixture": False}
    return absent | translated(s["facts"]) | translated_columns(columns) | {"name": set_name(s["name"]), "key": s["key"], "n": s["n"]}


def trained_of(body: dict[str, Any], arrays: dict[str, Array]) -> list[Trained]:
    """The detectors that have scores, seeds together, in the order of ``records.json``."""
    names = {s["index"]: set_name(s["name"]) for s in body["sets"]}
    fitted = {}
    for d in body["detectors"]:
        facts = translated(d["facts"])
        heard(facts)
        facts["of"] = facts.get("of") or [facts["trained_on"]]
        fitted[d["index"]] = FittedSeed(facts, d["key"], d["thresholds"] or {"own": 0.0}, d["thresholds_key"], d["learning_curve"], {})
    for s in body["scores"]:
        values = arrays.get(s["column"])
        fitted[s["detector"]].scores[names[s["set"]]] = None if values is None else np.array(values), (s["key"],)
    groups: dict[tuple[str, ...], list[FittedSeed]] = {}
    for f in fitted.values():
        if f.scores:
            place = tuple(str(f.facts[k]) for k in ("protocol", "detector", "group", "scheme", "trained_on"))
            groups.setdefault(place, []).append(f)
    return [Trained(p[0], p[1], p[2], p[3], p[4], sorted(fs, key=lambda f: f.facts["seed"])) for p, fs in groups.items()]


def with_mixtures(images: dict[str, Images], trained: list[Trained]) -> list[Trained]:
    """Add every mixture of attacks that a detector was trained on, to the image sets and to that detector's scores: row i is of the
    attack i modulo their number.
    """
    for called, of in dict.fromkeys((g.trained_on, g.of) for g in trained if len(g.of) > 1):
        there = [s for s in images.values() if s["kind"] == "images" and of[0] in (s["attack"], s["of"])]
        for first in there:
            head = first["name"].removesuffix(of[0])
            parts = [head + a for a in of]
            if not all(p in images for p in parts):
                continue
            shared = [c for c, v in first.items() if isinstance(v, np.ndarray) and all(c in images[p] for p in parts)]
            facts = {c: v for c, v in first.items() if not isinstance(v, np.ndarray)}
            named = {"attack": called} if first["control"] is None else {"of": called}
            columns = {c: of_mixture([images[p][c] for p in parts]) for c in shared}
            images[head + called] = facts | columns | named | {"name": head + called, "mixture": True}
            for f in (f for g in trained if (g.trained_on, g.of) == (called, of) for f in g.on(*parts)):
                each = [f.scores[p] for p in parts]
                values = [a for a, _ in each if a is not None]
                mixed = of_mixture(values) if len(values) == len(each) else None
                f.scores[head + called] = mixed, tuple(k for _, keys in each for k in keys)
    return trained
