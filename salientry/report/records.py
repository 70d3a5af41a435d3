"""Reading score records: image sets, detectors, scores. Nothing is computed here."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, Error, StoreError, UsageError
from ..files import own_sha256, read_object
from ..metrics import Resamples, of_mixture
from ..renamed import FIRST_ROLES, untranslated
from ..rows import ids_from
from ..store import JSON, packed, read_arrays, read_json

SCHEMA = 3
TITLES = {"IDPlus": "ID+", "Fused": "fusion"}
ORDINARY = ("paired", "replica", "all", "trunk")  # the other forms are controls, and fusions without a part
WHITE_BOX = ("white box", "passes", "binarization", "planted")  # kinds of image sets
Array = NDArray[Any]


def attack_title(name: str) -> str:
    """An attack's label as it stands in a table: ``CarliniWagner-steps=60-...`` is ``C&W``, ``DeepFool-steps=2`` is ``DeepFool 2``."""
    head, *settings = name.split("-")
    if head == "DeepFool" and settings:
        return f"DeepFool {settings[0].removeprefix('steps=')}"
    if settings and settings[0].startswith("eps="):
        levels = 255 * float(settings[0].removeprefix("eps="))
        return f"{head} {levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{head} {levels / 255:g}"
    return {"CarliniWagner": "C&W"}.get(head, head)


def kind_title(name: str) -> str:
    """An attack's name whatever its settings, where a column of a table holds one of each kind: ``FGSM-eps=0.025`` is ``FGSM``."""
    return attack_title(name.split("-")[0])


def own_trunk(saliency: str) -> bool:
    """Whether a saliency model of this label draws from the attacked classifier's own trunk."""
    return "-own=True" in saliency


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one kind: naturals of a role, one attack or one control under one protocol.

    Attributes:
        name: ``strict/test/FGSM``.
        facts: data set, role, classifier, attack or control, protocol, storage.
        key: the key of the step that made it.
        columns: per-image columns; ``ids`` among them.
        parts: of a mixture of attacks the names of its sets: row i is of part i modulo their number.
    """

    name: str
    facts: dict[str, JSON]
    key: str
    columns: dict[str, Array]
    parts: tuple[str, ...] = ()

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
    curve: list[float] | None = None

    def has(self, of: ImageSet) -> bool:
        """Whether it scored these images."""
        return all(name in self.scores for name in of.parts or (of.name,))

    def on(self, of: ImageSet) -> Array:
        """(N,) scores of these images."""
        return of_mixture([self.scores[name] for name in of.parts]) if of.parts else self.scores[of.name]


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
        name = TITLES.get(self.detector, self.detector)
        return name + ("" if self.form in ("paired", "all") else f" ({self.form})")

    def on(self, of: ImageSet) -> list[Scored]:
        """The seeds that scored these images: some controls are seed 0's."""
        return [r for r in self.runs if r.has(of)]

    def scores(self, of: ImageSet) -> list[Array]:
        """(N,) scores of each seed that has some."""
        return [r.on(of) for r in self.on(of)]

    def flags(self, of: ImageSet, level: str) -> list[NDArray[np.bool_]]:
        """(N,) flags of each seed; under ``own`` the threshold is 0."""
        return [r.on(of) > (r.thresholds or {"own": 0.0})[level] for r in self.on(of)]

    @property
    def level(self) -> str:
        """The largest calibrated false-positive rate; ``own``, the head's own 0, where nothing was calibrated."""
        levels = [k for k in (self.runs[0].thresholds or {}) if k != "own"]
        return max(levels, key=float) if levels else "own"

    @property
    def labels(self) -> list[str]:
        """The attacks that it was trained on."""
        found: list[str] = self.runs[0].facts.get("of") or [self.trained_on]
        return found

    @property
    def keys(self) -> list[str]:
        """Keys of everything that its numbers stand on."""
        return sorted({k for r in self.runs for k in (r.key, *r.keys)})


class Records:
    """The records in a folder.

    Args:
        folder: holds ``records.json``.
        verify: compare every column with its checksum.
        beside: a folder with the records of the white box on the same classifier, where these hold none.

    Attributes:
        whole: whether they hold natural test images; else they are of the white box alone.
        revisions: of the settings classes that they were made with, where they are not 1.

    Raises:
        UsageError: when there are none, or of another schema; when those beside are of another classifier.
        DataDamaged: when a column is not what its checksum says (only with ``verify``) or a file is unreadable.
    """

    def __init__(self, folder: Path | str, verify: bool = False, beside: Path | str | None = None) -> None:
        self.folder = Path(folder)
        self.beside = None if beside is None else Records(beside, verify)
        try:
            body = read_json(self.folder / "records.json")
        except StoreError:
            raise UsageError(f"no records in {self.folder}: there is no records.json (`salientry run` writes them)") from None
        if not isinstance(body, dict) or body.get("schema") not in (SCHEMA, 4):
            found = body.get("schema") if isinstance(body, dict) else None
            raise UsageError(f"{self.folder}/records.json has schema {found!r}; this version reads {SCHEMA} and 4")
        if "own" in body and own_sha256(body) != body["own"]:  # older records hold none
            raise DataDamaged(f"{self.folder}/records.json is not what was written: its fields have another sha256 than it says")
        try:
            packed = self.folder / "records.safetensors.xz"
            self.file = packed if packed.exists() else self.folder / "records.safetensors"
            arrays = read_arrays(self.file)
            for shard in body["shards"]:
                if (file := self.folder / shard).exists():
                    arrays |= read_arrays(file)
            self._read(body, arrays, verify)
        except Error:
            raise
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as e:
            raise DataDamaged(f"{self.folder}/records.json is damaged: {type(e).__name__} {e}") from None
        self.whole = "any/test/natural" in self.sets
        if self.beside is not None and not (self.classifier and self.beside.classifier):
            raise UsageError(f"the records in {self.folder} or {self.beside.folder} do not say of which classifier they are: run it again")
        if self.beside is not None and self.classifier != self.beside.classifier:
            raise UsageError(f"the records in {self.folder} and in {self.beside.folder} are of different classifiers")

    def _read(self, body: JSON, arrays: dict[str, Array], verify: bool) -> None:
        for d in (*body["sets"], *body["detectors"]):  # newer records call roles and groups by other names
            d["facts"] = untranslated(d["facts"])
        body["hardened"] = [untranslated(h) for h in body.get("hardened", [])]
        for s in body["sets"]:
            s["name"] = "/".join(FIRST_ROLES.get(part, part) for part in s["name"].split("/"))
        self.absent = [shard for shard in body["shards"] if not (self.folder / shard).exists()]
        file_of = {s["column"]: s["shard"] for s in body["scores"]}
        gone = {column for column, shard in file_of.items() if shard in self.absent}
        if missing := (set(body["sha256"]) - gone) ^ set(arrays):
            raise DataDamaged(f"the arrays and records.json do not fit together: {', '.join(sorted(missing)[:3])}")
        body["scores"] = [s for s in body["scores"] if s["shard"] not in self.absent]  # what is computed from them goes with them
        self.damaged = {
            k: file_of.get(k, self.file.name)
            for k, v in arrays.items()
            if verify and hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() != body["sha256"][k]
        }
        self.recipe, self.gates, self.skipped = body["recipe"], body["gates"], body["skipped"]
        self.class_names: list[str] = body.get("class_names", [])
        self.strength, self.choice = body["strength"], body["choice"]
        self.settings, self.networks, self.recipes = body["attacks"], body["networks"], body["recipes"]
        self.revisions: dict[str, int] = dict(body.get("revisions", {}))  # older records hold none, and were made with 1 everywhere
        self.classifier, self.hardened = body.get("classifier"), body.get("hardened", [])
        self.run: JSON = read_object(self.folder / "run.json") if packed(self.folder / "run.json").exists() else {}
        self.sets = {s["name"]: self._set(s, arrays) for s in body["sets"]}
        self.groups = self._grouped(body, arrays)

    def _set(self, s: JSON, arrays: dict[str, Array]) -> ImageSet:
        columns = {c: np.array(arrays[f"set/{s['index']:03d}/{c}"]) for c in s["columns"]}
        if not isinstance(s["facts"], dict) or not {"kind", "role"} <= set(s["facts"]) or any(len(v) != s["n"] for v in columns.values()):
            raise ValueError(f"image set {s['name']!r} is not what its columns and facts say")
        return ImageSet(s["name"], s["facts"], s["key"], columns | {"id": ids_from(arrays[f"set/{s['index']:03d}/id"])})

    def _grouped(self, body: JSON, arrays: dict[str, Array]) -> list[Group]:
        names = [s["name"] for s in sorted(body["sets"], key=lambda s: s["index"])]
        scored = {
            d["index"]: Scored(
                d["facts"], d["key"], d["thresholds"], {}, [d["thresholds_key"]] if d["thresholds_key"] else [], d["learning_curve"]
            )
            for d in body["detectors"]
        }
        for s in body["scores"]:
            scored[s["detector"]].scores[names[s["set"]]] = np.array(arrays[s["column"]])
            scored[s["detector"]].keys.append(s["key"])
        scored = {i: d for i, d in scored.items() if d.scores}
        groups: dict[tuple[str, ...], Group] = {}
        for one in scored.values():
            facts = [str(one.facts[k]) for k in ("detector", "form", "family", "trained_on", "protocol")]
            groups.setdefault(tuple(facts), Group(facts[0], facts[1], facts[2], facts[3], facts[4], [])).runs.append(one)
        for g in groups.values():
            g.runs.sort(key=lambda r: r.facts["seed"])
        return list(groups.values())

    # --- asking ---

    def called(self, k: int) -> str:
        """A class by its name, or by its number where the data set has no names."""
        return self.class_names[k] if k < len(self.class_names) else str(k)

    @functools.cached_property
    def white_box(self) -> dict[str, ImageSet]:
        """The image sets of attacks on classifier and detector together: of these records, or of the ones ``beside`` them."""
        there = self.sets if self.beside is None else self.beside.sets
        return {n: s for n, s in there.items() if s.facts["kind"] in WHITE_BOX}

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        sets = [self.natural("test")] if self.whole else [s for s in self.sets.values() if "dataset" in s.facts]
        return str(sets[0].facts["dataset"])

    def natural(self, role: str) -> ImageSet:
        """The naturals of a role.

        Raises:
            UsageError: when the records hold none.
        """
        if (name := f"any/{role}/natural") not in self.sets:
            raise UsageError(f"the records in {self.folder} hold no natural images of the role {role}")
        return self.sets[name]

    def attacked(self, protocol: str, role: str = "test") -> list[ImageSet]:
        """The attacked sets of a protocol, in order, but for those that only detectors in a special form were tested on."""
        return [s for s in self._images(protocol) if s.facts["role"] == role and "control" not in s.facts and s.name not in self._special]

    @functools.cached_property
    def _special(self) -> set[str]:
        """Names of the sets that were scored, but by no detector in an ordinary form."""
        ordinary, every = (
            {name for g in self.groups if g.form in ORDINARY or not only for r in g.runs for name in r.scores} for only in (True, False)
        )
        return every - ordinary

    def controls(self, protocol: str, kind: str) -> list[ImageSet]:
        """The control sets with this label (``Null``, ``MatchedNoise``, ``MatchedNoise-kind=gaussian``, ``Transplant`` ...)."""
        return [s for s in self._images(protocol) if s.facts.get("control") == kind]

    def _images(self, protocol: str) -> Iterator[ImageSet]:
        return (s for s in self.sets.values() if s.facts["kind"] == "images" and s.facts.get("protocol") == protocol)

    def twins(self, g: Group, role: str, protocol: str | None = None) -> ImageSet | None:
        """The adversarials of a role like those that a detector was trained on: of its attack, or the mixture of its attacks."""
        return self._mixed([f"{protocol or g.protocol}/{role}/{a}" for a in g.labels], g.trained_on)

    def control_of(self, g: Group, kind: str, protocol: str | None = None) -> ImageSet | None:
        """A control made from those adversarials."""
        return self._mixed([f"{protocol or g.protocol}/test/{kind} of {a}" for a in g.labels], g.trained_on)

    def _mixed(self, names: list[str], called: str) -> ImageSet | None:
        """Some sets as one: row i is of set i modulo their number. None where one is missing."""
        if not all(n in self.sets for n in names):
            return None
        sets = [self.sets[n] for n in names]
        if len(sets) == 1:
            return sets[0]
        shared = [c for c in sets[0].columns if all(c in s.columns for s in sets)]
        columns = {c: of_mixture([s.columns[c] for s in sets]) for c in shared}
        return ImageSet("+".join(names), sets[0].facts | {"attack": called, "of": called}, sets[0].key, columns, tuple(names))

    def of(self, protocol: str, *forms: str) -> Iterator[Group]:
        """The groups of a protocol, of these forms; default the ordinary ones."""
        return (g for g in self.groups if g.protocol == protocol and g.form in (forms or ORDINARY))

    def group(self, protocol: str, detector: str, trained_on: str, form: str = "paired") -> Group | None:
        """One group; None where there is none."""
        return next((g for g in self.of(protocol, form) if (g.detector, g.trained_on) == (detector, trained_on)), None)

    @functools.cached_property
    def labels(self) -> list[str]:
        """The attacks that detectors are trained and tested on, in order; an attack at a printed setting is not among them."""
        found = [g for g in self.groups if g.trained_on == "combined"]
        return found[0].labels if found else list(dict.fromkeys(g.trained_on for g in self.of("strict")))

    @functools.cached_property
    def resamples(self) -> Resamples:
        """The bootstrap draw of the test images, the same for every number."""
        return Resamples(self.natural("test").ids)


def opened(folders: Sequence[Path]) -> list[Records]:
    """The records of some folders; those of the white box alone go beside the ones of the same classifier, where there are any."""
    every = [Records(f) for f in folders]
    alone = {r.classifier: r.folder for r in every if not r.whole and r.classifier}
    there = {r.classifier for r in every if r.whole and r.classifier}
    return [
        Records(r.folder, beside=alone[r.classifier]) if r.whole and r.classifier in alone else r
        for r in every
        if r.whole or r.classifier not in there
    ]
