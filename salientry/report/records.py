"""Reading score records: image sets, detectors, scores. Nothing is computed here."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, StoreError, UsageError
from ..metrics import Resamples
from ..store import JSON, ids_from, read_arrays, read_json

SCHEMA = 1
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one kind: naturals of a role, one attack or one control under one protocol.

    Attributes:
        name: ``strict/test/FGSM``.
        facts: data set, role, classifier, attack or control, protocol, storage.
        key: the key of the step that made it.
        columns: per-image columns; ``ids`` among them.
    """

    name: str
    facts: dict[str, JSON]
    key: str
    columns: dict[str, Array]

    @property
    def ids(self) -> Array:
        """(N,) ids of the natural images."""
        return self.columns["id"]

    @property
    def counts(self) -> Array:
        """(N,) rows that numbers speak of; all of them for naturals."""
        return self.columns.get("counts", np.ones(len(self.ids), bool))

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Scored:
    """A fitted detector and its scores.

    Attributes:
        facts: detector, family, form, trained_on, protocol, seed.
        key: of the step that fitted it.
        thresholds: by level, ``own`` is 0; None when it was not calibrated.
        scores: set name to (N,) scores.
        keys: keys of all steps that made those scores and thresholds.
    """

    facts: dict[str, JSON]
    key: str
    thresholds: dict[str, float] | None
    scores: dict[str, Array]
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Group:
    """One detector on one training attack under one protocol: its seeds in order."""

    detector: str
    form: str
    family: str
    trained_on: str
    protocol: str
    runs: list[Scored]

    @property
    def name(self) -> str:
        """``strict/SMD/FGSM``, and ``published/SMD (replica)/FGSM``."""
        return f"{self.protocol}/{self.title}/{self.trained_on}"

    @property
    def title(self) -> str:
        """The detector as it stands in a table."""
        return self.detector + (" (replica)" if self.form == "replica" else "")

    def scores(self, of: ImageSet) -> list[Array]:
        """(N,) scores of each seed."""
        return [r.scores[of.name] for r in self.runs]

    def thresholds(self, level: str) -> list[float]:
        """The threshold of each seed."""
        return [(r.thresholds or {})[level] for r in self.runs]

    @property
    def keys(self) -> list[str]:
        """Keys of everything that its numbers stand on."""
        return sorted({k for r in self.runs for k in (r.key, *r.keys)})


class Records:
    """The records in a folder.

    Raises:
        UsageError: when there are none, or of another schema.
        DataDamaged: when a column is not what its checksum says (only with ``verify``) or a file is unreadable.
    """

    def __init__(self, folder: Path | str, verify: bool = False) -> None:
        self.folder = Path(folder)
        try:
            body = read_json(self.folder / "records.json")
        except StoreError:
            raise UsageError(f"no records in {self.folder}: there is no records.json (`salientry run` writes them)") from None
        if not isinstance(body, dict) or body.get("schema") != SCHEMA:
            found = body.get("schema") if isinstance(body, dict) else None
            raise UsageError(f"{self.folder}/records.json has schema {found!r}; this version reads {SCHEMA}")
        try:
            self._read(body, read_arrays(self.folder / "records.safetensors"), verify)
        except (KeyError, TypeError, AttributeError, IndexError) as e:
            raise DataDamaged(f"{self.folder}/records.json is damaged: {type(e).__name__} {e}") from None

    def _read(self, body: JSON, arrays: dict[str, Array], verify: bool) -> None:
        if missing := set(body["sha256"]) ^ set(arrays):
            raise DataDamaged(f"records.safetensors and records.json do not fit together: {', '.join(sorted(missing)[:3])}")
        self.damaged = [
            k for k, v in arrays.items() if verify and hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() != body["sha256"][k]
        ]
        self.recipe, self.gates, self.skipped = body["recipe"], body["gates"], body["skipped"]
        self.run: JSON = read_json(self.folder / "run.json") if (self.folder / "run.json").exists() else {}
        self.sets = {s["name"]: self._set(s, arrays) for s in body["sets"]}
        self.groups = self._grouped(body, arrays)

    def _set(self, s: JSON, arrays: dict[str, Array]) -> ImageSet:
        columns = {c: np.array(arrays[f"set/{s['index']:03d}/{c}"]) for c in s["columns"]}
        return ImageSet(s["name"], s["facts"], s["key"], columns | {"id": ids_from(arrays[f"set/{s['index']:03d}/id"])})

    def _grouped(self, body: JSON, arrays: dict[str, Array]) -> list[Group]:
        names = [s["name"] for s in sorted(body["sets"], key=lambda s: s["index"])]
        scored = {
            d["index"]: Scored(d["facts"], d["key"], d["thresholds"], {}, [d["thresholds_key"]] if d["thresholds_key"] else [])
            for d in body["detectors"]
        }
        for s in body["scores"]:
            scored[s["detector"]].scores[names[s["set"]]] = np.array(arrays[s["column"]])
            scored[s["detector"]].keys.append(s["key"])
        groups: dict[tuple[str, ...], Group] = {}
        for one in scored.values():
            facts = [str(one.facts[k]) for k in ("detector", "form", "family", "trained_on", "protocol")]
            groups.setdefault(tuple(facts), Group(facts[0], facts[1], facts[2], facts[3], facts[4], [])).runs.append(one)
        for g in groups.values():
            g.runs.sort(key=lambda r: r.facts["seed"])
        return list(groups.values())

    # --- asking ---

    def natural(self, role: str) -> ImageSet:
        """The naturals of a role.

        Raises:
            UsageError: when the records hold none.
        """
        if (name := f"any/{role}/natural") not in self.sets:
            raise UsageError(f"the records in {self.folder} hold no natural images of the role {role}")
        return self.sets[name]

    def attacked(self, protocol: str, role: str = "test") -> list[ImageSet]:
        """The attacked sets of a protocol, in order."""
        return [
            s for s in self.sets.values() if s.facts.get("protocol") == protocol and s.facts["role"] == role and "control" not in s.facts
        ]

    def controls(self, protocol: str, kind: str) -> list[ImageSet]:
        """The control sets of a kind (``Null``, ``MatchedNoise``)."""
        return [s for s in self.sets.values() if s.facts.get("protocol") == protocol and s.facts.get("control", "").split("-")[0] == kind]

    def of(self, protocol: str, form: str | None = None) -> Iterator[Group]:
        """The groups of a protocol."""
        return (g for g in self.groups if g.protocol == protocol and form in (None, g.form))

    def group(self, protocol: str, detector: str, trained_on: str) -> Group | None:
        """One group; None where there is none."""
        return next((g for g in self.of(protocol, "paired") if (g.detector, g.trained_on) == (detector, trained_on)), None)

    @functools.cached_property
    def resamples(self) -> Resamples:
        """The bootstrap draw of the test images, the same for every number."""
        return Resamples(self.natural("test").ids)
