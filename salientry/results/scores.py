"""Score records as one long table: a row for each fitted detector on each image set. Nothing is measured here.

``frame``: protocol, detector, title, group (saliency, image, baseline, fusion), scheme (of training), trained_on, of (the attacks in it,
a tuple), seed, set, scores (N,), thresholds (level to float; ``own`` is the head's own 0), detector_key, keys (of the steps behind the
row), curve (mean loss of each pass), and whatever else the records say of the detector. ``sets``: a row for each image set, indexed by
its name: kind, protocol, role, attack, control, of, key, n, and the per-image columns as arrays (id, label, predicted, right, changed,
in_budget, evaluated, ...). A mixture of attacks that a detector was trained on is an image set as any other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataDamaged, Error, StoreError, UsageError
from ..files import own_sha256, read_object
from ..metrics import Resamples
from ..renamed import translated
from ..store import packed, read_arrays, read_json, sha256_of_array
from . import kept, weights
from .names import NATURAL, ORDINARY, attack_facts, set_name
from .trained import Array, FittedSeed, Images, Trained, images_of, trained_of, with_mixtures

__all__ = ["FittedSeed", "Images", "Scores", "Trained"]

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 3, 4
PARTS = ("recipe", "gates", "skipped", "strength", "choice", "attacks", "networks", "recipes")  # of records.json, beside sets and scores
COLUMNS = (
    "protocol",
    "detector",
    "title",
    "group",
    "scheme",
    "trained_on",
    "of",
    "seed",
    "set",
    "scores",
    "thresholds",
    "detector_key",
    "keys",
)
WHITE_BOX = ("white box", "passes", "binarization", "weak detector")  # kinds of image sets


class Scores:
    """The score records of a run.

    Attributes:
        folder: where they are.
        body: ``records.json``.
        run: ``run.json``, empty where there is none.
        images: image sets by name.
        trained: detectors, their seeds together.
        beside: records of the white box on the same classifier, in another folder.
        absent: files of scores that are named but not there; what is computed from them goes with them.
        not_kept: what is not kept of them and is not there (:mod:`salientry.results.kept`); None where all is. Then the detectors in it
            have no scores, and all numbers are those that were computed before.
        damaged: columns that are not what their checksum says, with their file (only with ``verify``).
    """

    def __init__(self, folder: Path, body: dict[str, Any], arrays: dict[str, Array], beside: Scores | None = None) -> None:
        self.folder, self.body, self.beside = folder, body, beside
        self.absent: list[str] = []
        self.not_kept: kept.NotKept | None = None
        self.damaged: dict[str, str] = {}
        self.run = read_object(folder / "run.json") if packed(folder / "run.json").exists() else {}
        self.class_names: list[str] = body.get("class_names", [])
        self.run_seed = int(body["recipe"]["seed"])
        self.classifier: str | None = body.get("classifier")
        self.images = {set_name(s["name"]): images_of(s, arrays) for s in body["sets"]}
        self.trained = with_mixtures(self.images, trained_of(body, arrays))

    @classmethod
    def read(cls, folder: Path | str, beside: Path | str | None = None, verify: bool = False, alone: bool = False) -> Scores:
        """Read the records in a folder.

        Args:
            folder: holds ``records.json``.
            beside: a folder with the records of the white box on the same classifier, where these hold none.
            verify: compare every column with its checksum; ``damaged`` then names those that are not what was recorded.
            alone: leave out the detectors whose scores are not kept, so that all numbers are computed, of the others.

        Raises:
            UsageError: when there are none, or of another schema; when those beside are of another classifier.
            DataDamaged: when files are unreadable, or columns and ``records.json`` do not fit together.
        """
        folder = Path(folder)
        other = None if beside is None else cls.read(beside, verify=verify)
        body = _body(folder)
        try:
            there = folder / "records.safetensors.xz"
            if lacking := [part for part in PARTS if part not in body]:
                raise DataDamaged(f"{folder}/records.json is damaged: it lacks {', '.join(lacking)}")
            file = there if there.exists() else folder / "records.safetensors"
            arrays = read_arrays(file)
            absent, not_kept = kept.missing(folder, body["shards"])
            gone = {*absent, *(not_kept.gone if not_kept else ())}
            for shard in body["shards"]:
                arrays |= {} if shard in gone else read_arrays(folder / shard)
            shard_of = {s["column"]: s["shard"] for s in body["scores"]}
            if missing := (set(body["sha256"]) - {c for c, shard in shard_of.items() if shard in gone}) ^ set(arrays):
                raise DataDamaged(f"the arrays and records.json do not fit together: {', '.join(sorted(missing)[:3])}")
            body["scores"] = [s for s in body["scores"] if s["shard"] not in (gone if alone else absent)]
            found = cls(folder, body, arrays, other)
            found.absent, found.not_kept = absent, None if alone else not_kept
            if verify:
                found.damaged = {k: shard_of.get(k, file.name) for k, v in arrays.items() if sha256_of_array(v) != body["sha256"][k]}
        except Error:
            raise
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as e:
            raise DataDamaged(f"{folder}/records.json is damaged: {type(e).__name__} {e}") from None
        if other is not None and not (found.classifier and other.classifier):
            raise UsageError(f"the records in {folder} or {other.folder} do not say of which classifier they are: run it again")
        if other is not None and found.classifier != other.classifier:
            raise UsageError(f"the records in {folder} and in {other.folder} are of different classifiers")
        return found

    @classmethod
    def read_all(cls, folders: Sequence[Path]) -> list[Scores]:
        """The records of some folders; those of the white box alone go beside the ones of the same classifier, where there are any.

        Raises:
            UsageError: for two runs of one data set and run seed: a number would be of either.
        """
        every = [cls.read(f) for f in folders]
        places: dict[tuple[str, int], Path] = {}
        for s in (s for s in every if s.has_naturals):
            if (other := places.setdefault((s.dataset, s.run_seed), s.folder)) != s.folder:
                raise UsageError(f"{other} and {s.folder} are both of {s.dataset} with run seed {s.run_seed}; give one of them")
        alone = {s.classifier: s for s in every if not s.has_naturals and s.classifier}
        known = {s.classifier for s in every if s.has_naturals and s.classifier}
        for s in every:
            s.beside = alone.get(s.classifier) if s.has_naturals and s.classifier else None
        return [s for s in every if s.has_naturals or s.classifier not in known]

    # --- as tables ---

    @functools.cached_property
    def recorded(self) -> list[dict[str, Any]]:
        """Rows of the numbers that were computed while all scores were there; none where they are."""
        return [translated(r) for r in kept.numbers(self.not_kept)] if self.not_kept else []

    @functools.cached_property
    def validation(self) -> dict[tuple[str, ...], float]:
        """Recorded AUROC on validation pairs, by protocol, title and training attack of a detector; empty where all scores are kept."""
        rows = (r for r in self.recorded if r["measure"] == "select-auroc")
        return {(r["protocol"], r["title"], r["trained_on"]): r["value"] for r in rows}

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """One row a fitted detector (one seed) and image set; None for scores that are not kept."""
        import pandas as pd

        rows = [
            r.facts
            | {"title": g.title, "of": g.of, "curve": r.curve, "thresholds": r.thresholds, "detector_key": r.key}
            | {"set": name, "scores": scores, "keys": tuple(k for k in (r.key, r.thresholds_key, *keys) if k)}
            for g in self.trained
            for r in g.seeds
            for name, (scores, keys) in r.scores.items()
        ]
        return pd.DataFrame(rows, columns=list(dict.fromkeys((*COLUMNS, *(k for r in rows for k in r)))))

    @functools.cached_property
    def sets(self) -> pd.DataFrame:
        """One row an image set; None where it has no such column."""
        import pandas as pd

        found = pd.DataFrame.from_dict(self.images, orient="index", dtype=object)
        return found.where(found.notna(), None)

    # --- asking ---

    @functools.cached_property
    def apart(self) -> str:
        """Why what stands ``beside`` says nothing of these nets: it was recorded on other weights. Empty where it was not."""
        return weights.OTHER if self.beside is not None and weights.differ(self, self.beside) else ""

    @property
    def has_naturals(self) -> bool:
        """Whether they hold natural test images; else they are of the white box alone."""
        return NATURAL in self.images

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        named = [self.natural("test")] if self.has_naturals else [s for s in self.images.values() if "dataset" in s]
        return str(named[0]["dataset"])

    @functools.cached_property
    def attacks(self) -> dict[str, dict[str, Any]]:
        """What each attack of the run is, by its label: title, norm, strength, method, reduced."""
        return {a["label"]: attack_facts(a) for a in self.body["attacks"]}

    def class_name(self, k: int) -> str:
        """A class by its name, or by its number where the data set has no names."""
        return self.class_names[k] if k < len(self.class_names) else str(k)

    @functools.cached_property
    def white_box(self) -> dict[str, Images]:
        """The image sets of attacks on classifier and detector together: of these records, or of the ones ``beside`` them."""
        return {n: s for n, s in (self.beside or self).images.items() if s["kind"] in WHITE_BOX}

    def natural(self, role: str) -> Images:
        """The natural images of a role: train, detector_train, validation, calibration, test.

        Raises:
            UsageError: when the records hold none.
        """
        if (name := f"any/{role}/natural") not in self.images:
            raise UsageError(f"the records in {self.folder} hold no natural images of the role {role}")
        return self.images[name]

    def attacked(self, protocol: str) -> list[Images]:
        """The attacked test sets of a protocol, one attack each, but for those that only detectors in a special scheme were tested on."""
        scored = {
            only: {n for g in self.trained if g.scheme in ORDINARY or not only for r in g.seeds for n in r.scores} for only in (True, False)
        }
        special = scored[False] - scored[True]
        return [s for s in self._tests(protocol) if s["control"] is None and s["name"] not in special and not s["mixture"]]

    def controls(self, protocol: str, kind: str) -> list[Images]:
        """The control sets of this label (``Null``, ``MatchedNoise``, ``MatchedNoise-kind=gaussian``, ``Transplant`` ...)."""
        return [s for s in self._tests(protocol) if s["control"] == kind and not s["mixture"]]

    def _tests(self, protocol: str) -> Iterator[Images]:
        return (s for s in self.images.values() if s["kind"] == "images" and (s.get("protocol"), s["role"]) == (protocol, "test"))

    def like(self, g: Trained, role: str = "test", protocol: str | None = None, control: str | None = None) -> Images | None:
        """The adversarials of a role like those that a detector was trained on (of its attack, or the mixture of its attacks), or a
        control of their size; None where there are none.
        """
        return self.images.get(f"{protocol or g.protocol}/{role}/{f'{control} of ' if control else ''}{g.trained_on}")

    def of(self, protocol: str, *schemes: str) -> Iterator[Trained]:
        """The detectors of a protocol, of these training schemes; default the ordinary ones."""
        return (g for g in self.trained if g.protocol == protocol and g.scheme in (schemes or ORDINARY))

    def one(self, protocol: str, detector: str, trained_on: str, scheme: str = "paired") -> Trained | None:
        """One detector; None where there is none."""
        return next((g for g in self.of(protocol, scheme) if (g.detector, g.trained_on) == (detector, trained_on)), None)

    @functools.cached_property
    def labels(self) -> list[str]:
        """The attacks that detectors are trained and tested on, in order; an attack at a printed setting is not among them. Records of
        the paper's protocol alone: those of its detectors.
        """
        mixed = next((g for g in self.trained if g.trained_on == "combined"), None)
        strict, published = (list(dict.fromkeys(g.trained_on for g in self.of(p))) for p in ("strict", "published"))
        return list(mixed.of) if mixed else strict or published

    @functools.cached_property
    def draws(self) -> Resamples:
        """The bootstrap draw of the test images, the same for every number."""
        return Resamples(self.natural("test")["id"])


def _body(folder: Path) -> dict[str, Any]:
    """``records.json``, of today's schema and as it was written."""
    try:
        body = read_json(folder / "records.json")
    except StoreError:
        raise UsageError(f"no records in {folder}: there is no records.json (`salientry run` writes them)") from None
    if not isinstance(body, dict) or body.get("schema") not in SCHEMA:
        found = body.get("schema") if isinstance(body, dict) else None
        raise UsageError(f"{folder}/records.json has schema {found!r}; this version reads {SCHEMA[0]} and {SCHEMA[1]}")
    if "own" in body and own_sha256(body) != body["own"]:  # older records hold none
        raise DataDamaged(f"{folder}/records.json is not what was written: its fields have another sha256 than it says")
    return body
