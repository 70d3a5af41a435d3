"""Score records: everything that a report is computed from, in one folder, without a store, data or torch.

``records.json``, ``records.safetensors`` and ``scores/*.safetensors`` (one for each protocol and training attack) hold what
was found and are equal, byte for byte, for equal runs. ``run.json`` holds when, where and how long. Where a file of scores is
missing, a report lacks exactly what is computed from it. Small records are xz-compressed (``.safetensors.xz``), and their scores
and thresholds rounded to 12 binary digits, before anything is computed from them. Schema version 4:

* in version 3 roles were called ``fit``, ``detect``, ``select`` and ``calibrate``, a ``scheme`` was a ``form``, a ``group`` a ``family``
  and a baseline a ``floor``; kinds and schemes had other words up to version 4, too (:mod:`salientry.renamed`).
* ``sets``: image sets. Columns ``set/<i>/<name>``: ``id``, ``label``, ``predicted``, and for attacked ones ``right``,
  ``changed``, ``in_budget``, ``evaluated``, ``rms``, ``linf``, ``l0``, ``plain``; facts: data set, role, classifier, attack or
  control and of what, storage, protocol. Its ``kind`` is ``images``, or ``sanity``, ``shift``, ``gradients``, ``mixed parts``: other
  figures by image, of ``sanity`` also each class by itself (``within``, with a column ``predicted``); or ``white box``, ``passes``,
  ``binarization``, ``weak detector``: attacks on classifier and detector together, and the tests of these attacks.
* ``detectors``: facts (detector, training scheme, training attacks, protocol, seed; what it says of itself: ``title``, ``description``,
  ``words``, ``explained``, images a step of its head; older records lack these), thresholds, keys, learning curve.
* ``scores``: (set, detector, column ``score/<k>``).
* ``class_names``: by number; empty where there are none. ``gates``: what the sanity checks saw; ``strength``: share fooled by each
  attack; ``choice``: how the guard's detector was chosen; ``recipes``: which settings were chosen on *validation*.
* ``hardened``: detectors after each round of adversarial training, with the fingerprints of their weights.
* ``classifier``: the key of the attacked one. ``weights``: their fingerprint (older records have none), because the same key trains other
  weights on another processor.
* ``own``: sha256 of all other fields; ``sha256``: of each column.
* ``attacks``, ``networks``: settings and layers of what really ran. ``revisions``: of their settings classes, where they are not 1: what
  was made by another revision has other keys, and other numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckFailed
from ..files import own_sha256
from ..keys import revisions_in
from ..learned import fingerprint, with_facts
from ..rows import Rows, id_bytes
from ..runner.peak import peak
from ..runner.run import Outcome
from ..runner.step import Found, Handle, handles_in, revisions_used
from ..store import JSON, sha256_of_array, write_arrays, write_json, writing
from .describe import attack_settings, networks, said_of
from .outputs import Outputs
from .run import Run
from .scoring import Scored, natural_set, scores_of, set_name

SCHEMA = 4
SET_COLUMNS = ("label", "predicted", "right", "changed", "in_budget", "evaluated", "rms", "linf", "l0", "plain")
WHITE_BOX: dict[str, tuple[str, Callable[[str], bool]]] = {  # step -> kind of its image set, and which of its columns are recorded
    "attack_defended": ("white box", lambda c: c in (*SET_COLUMNS[:6], "score", "natural_score", "rms", "linf", "l2")),
    "passes": ("passes", lambda c: "@" in c or c in ("label", "right", "natural_score")),
    "binarization": ("binarization", lambda c: c in ("found", "valid", "by_chance")),
    "planted_weaknesses": ("weak detector", lambda c: "/" in c or c == "right"),
}
NOT_KEPT = ("not_kept.json", "numbers.parquet")  # of records that are not kept whole
KINDS = tuple(kind for kind, _ in WHITE_BOX.values())
SANITY_COLUMNS = ("area", "fake_area", "kept", "kept_other", "destroyed", "destroyed_other", "emptied")


class _Collector:
    """Sets, detectors and scores, each once."""

    def __init__(self, run: Run, compact: bool) -> None:
        self.run, self.compact, self.end = run, compact, ".safetensors.xz" if compact else ".safetensors"
        self.arrays: dict[str, Any] = {}
        self.sets: dict[str, JSON] = {}
        self.detectors: dict[str, JSON] = {}
        self.scores: list[JSON] = []

    def add_set(self, rows: Rows, key: str, columns: tuple[str, ...], kind: str) -> int:
        """The number of this image set; stored when it is new."""
        facts = {k: v for k, v in rows.facts.items() if k != "saliency" or kind in ("sanity", "shift")} | {"kind": kind}
        name = _set_name(facts)
        if name not in self.sets:
            i = len(self.sets)
            found = {c: rows.column(c) for c in columns if c in rows}
            if kind == "mixed parts" and self.compact:
                found = {c: rounded(v) if v.dtype == np.float32 else v for c, v in found.items()}
            if kind == "images" and "right" not in found:
                found["right"] = found["predicted"] == found["label"]
            arrays = {f"set/{i:03d}/{c}": np.ascontiguousarray(v) for c, v in found.items()} | {f"set/{i:03d}/id": id_bytes(rows.ids)}
            self.arrays |= arrays
            self.sets[name] = {"index": i, "name": name, "key": key, "n": len(rows), "facts": facts, "columns": sorted(found)}
        assert self.sets[name]["n"] == len(rows), f"two image sets are called {name}"
        index: int = self.sets[name]["index"]
        return index

    def add_scores(self, scored: Scored) -> None:
        """All scores of one call, and the thresholds if it was calibrated there."""
        known, key = self._detector(scored.detector), scored.scores.fingerprint
        found: Found = self.run.get(scored.scores)
        if found.value is not None:
            known |= {"thresholds": self.kept_thresholds(found.value), "thresholds_key": key}
        shard = f"scores/{known['facts']['protocol']}-{known['facts']['trained_on']}{self.end}"
        for images in scored.sets:
            rows, column = self.run.get(images), f"score/{len(self.scores):05d}"
            index, values = self.add_set(rows, images.fingerprint, SET_COLUMNS, "images"), np.array(scores_of(found, set_name(rows.facts)))
            self.arrays[column] = rounded(values) if self.compact else values
            self.scores.append({"set": index, "detector": known["index"], "column": column, "shard": shard, "key": key})

    def kept_thresholds(self, thresholds: dict[str, float]) -> dict[str, float]:
        """Rounded as the scores are, so that equal scores stay equal: nothing is flagged that was not."""
        return {k: float(rounded(np.array([v]))[0]) for k, v in thresholds.items()} if self.compact else thresholds

    def _detector(self, h: Handle) -> dict[str, JSON]:
        if h.fingerprint not in self.detectors:
            body = self.run.record(h)
            facts = {k: v for k, v in body["facts"].items() if k != "learning_curve"} | said_of(self.run, h)
            self.detectors[h.fingerprint] = {
                "index": len(self.detectors),
                "key": h.fingerprint,
                "facts": facts,
                "learning_curve": body["facts"].get("learning_curve"),
                "thresholds": None,
                "thresholds_key": None,
            }
        found: dict[str, JSON] = self.detectors[h.fingerprint]
        return found


def _set_name(facts: dict[str, JSON]) -> str:
    if facts["kind"] == "sanity":
        return f"sanity/{facts['role']}/{facts['saliency']}/{facts['fill']}" + ("/within class" if facts.get("within") else "")
    if facts["kind"] == "mixed parts":
        return f"mixed parts/{facts['protocol']}/{facts['detector']}/{facts['scheme']}/{facts['attack']}"
    if facts["kind"] == "shift":
        return f"shift/{facts['protocol']}/{facts['saliency']}"
    if facts["kind"] in KINDS:
        place = [facts[k] for k in ("detector_protocol", "detector", "scheme", "seed", "round", "attack", "level")]
        return "/".join([facts["kind"], *(str(t) for t in place if t is not None), *(["afresh"] if facts["independent_rerun"] else [])])
    if facts["kind"] == "gradients":
        return f"gradients/{facts.get('attack', 'natural')}"
    return set_name(facts)


def rounded(scores: Any) -> Any:
    """Float32 scores to 12 binary digits after the first (a relative error of at most 2^-13): the rest compresses to nothing."""
    bits = np.ascontiguousarray(scores, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << 10)) & np.uint32(0xFFFFFFFF << 11 & 0xFFFFFFFF)).view(np.float32)


@dataclass(frozen=True)
class Gathered:
    """Everything that the records of a run hold, read from its store: nothing is written before.

    Attributes:
        body: of ``records.json``.
        run: of ``run.json``.
        arrays: of the records and of the scores.
        shards: columns of each file of scores.
        gallery: pictures and what they are of; None where there are none.
        end: of the names of files of arrays.
    """

    body: JSON
    run: JSON
    arrays: dict[str, Any]
    shards: dict[str, list[str]]
    gallery: tuple[dict[str, Any], JSON] | None
    end: str


def gather(run: Run, outputs: Outputs, outcome: Outcome, about: dict[str, JSON]) -> Gathered:
    """Read what the records of a finished run hold.

    Args:
        run: where the results are.
        outputs: what the recipe wanted.
        outcome: of the computation; what it skipped is left out and named.
        about: recipe, parameters, command.

    Raises:
        DataDamaged: when a result is not what was written.
    """
    lost = {h.fingerprint for h, _ in (*outcome.skipped, *outcome.failed)}
    collected = _Collector(run, outputs.compact)
    for h in outputs.sanity:
        if h.fingerprint not in lost:
            collected.add_set(run.get(h), h.fingerprint, (*SANITY_COLUMNS, "predicted"), "sanity")
    for h in outputs.sets:
        if h.fingerprint not in lost:
            collected.add_set(run.get(h), h.fingerprint, SET_COLUMNS, "images")
    for scored in outputs.scores:
        if scored.scores.fingerprint not in lost:
            collected.add_scores(scored)
    for kind, handles in (("shift", outputs.shifts), ("gradients", outputs.gradients), ("mixed parts", outputs.mixed_parts)):
        for h in handles:
            if h.fingerprint not in lost:
                rows = run.get(h)
                names = rows.names if kind != "gradients" else ("logit", "probability", "sum", "evaluated", "predicted")
                collected.add_set(rows, h.fingerprint, names, kind)
    for h in outputs.white_box:
        if h.fingerprint not in lost:
            assert h.step is not None
            kind, wanted = WHITE_BOX[h.step.name]
            rows = run.get(h)
            collected.add_set(rows, h.fingerprint, tuple(c for c in rows.names if wanted(c)), kind)
    gates = []
    for h in outputs.map_checks:
        body = run.record(h)
        gates.append(body["value"] | {"key": h.fingerprint, "failed": body["failed"]})
    arrays = dict(sorted(collected.arrays.items()))
    shards: dict[str, list[str]] = {}
    for one in collected.scores:
        shards.setdefault(one["shard"], []).append(one["column"])
    body = {
        "schema": SCHEMA,
        "recipe": {k: about[k] for k in ("recipe", "parameters", "seed", "numerics")},
        "sets": list(collected.sets.values()),
        "detectors": list(collected.detectors.values()),
        "scores": collected.scores,
        "shards": list(shards),
        "gates": gates,
        "strength": [run.record(h)["value"] for h in outputs.strength],
        "choice": [run.record(h)["value"] for h in outputs.choice[-1:] if h.fingerprint not in lost],
        "recipes": [run.record(h)["value"] for h in [outputs.recipe] if h and h.fingerprint not in lost],
        "hardened": [run.record(h)["facts"] | {"key": h.fingerprint} for h in outputs.hardened if h.fingerprint not in lost],
        "classifier": outputs.classifier.fingerprint,
        "weights": fingerprint(run.get(outputs.classifier)),
        "class_names": list(outputs.class_names),
        "attacks": attack_settings(run, outputs),
        "revisions": revisions_of(run, outputs),
        "networks": networks(run, outputs, lost),
        "skipped": sorted({f"{h.step.name} {h.slug}" for h, _ in outcome.skipped if h.step}),
        "sha256": {k: sha256_of_array(v) for k, v in arrays.items()},
    }
    if accuracies := [run.record(h)["value"] for h in outputs.accuracies if h.fingerprint not in lost]:
        body["accuracies"] = accuracies
    if rates := [run.record(h)["value"] for h in outputs.confidence if h.fingerprint not in lost]:
        body["confidence"] = rates
    return Gathered(body, about | _journal(run, outputs, outcome), arrays, shards, gallery_of(run, outputs, lost), collected.end)


def put(found: Gathered, out: Path) -> None:
    """Write records into a folder, which is made if it is not there; those of an earlier run go.

    Raises:
        StoreError: when they cannot be written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with writing(out / "scores"):
        (out / "scores").mkdir(exist_ok=True)
        for old in (*out.glob("records.safetensors*"), *(out / "scores").glob("*.safetensors*"), *map(out.joinpath, NOT_KEPT)):
            old.unlink(missing_ok=True)
    write_arrays(out / f"records{found.end}", {k: [v] for k, v in found.arrays.items() if not k.startswith("score/")})
    for shard, columns in found.shards.items():
        write_arrays(out / shard, {c: [found.arrays[c]] for c in columns})
    write_json(out / "records.json", found.body | {"own": own_sha256(found.body)})
    write_json(out / "run.json", found.run)
    if found.gallery is not None:
        pictures, facts = found.gallery
        write_arrays(out / "gallery.safetensors", {k: [v] for k, v in pictures.items()})
        write_json(out / "gallery.json", facts)


def export(run: Run, outputs: Outputs, outcome: Outcome, out: Path, about: dict[str, JSON]) -> None:
    """Write the records of a finished run: :func:`gather`, then :func:`put`."""
    put(gather(run, outputs, outcome, about), out)


def revisions_of(run: Run, outputs: Outputs) -> dict[str, int]:
    """The revisions that are not 1 of all settings that the outputs depend on."""
    found: dict[str, int] = {}
    for h in run.order(list(outputs)):
        found |= revisions_in(h.args) | (revisions_used(h.step) if h.step else {})
    return dict(sorted(found.items()))


def _journal(run: Run, outputs: Outputs, outcome: Outcome) -> dict[str, JSON]:
    """Every step with its recorded seconds: the manifest. Of one that looks at each image its images a second, and where its operations are
    known which share of this machine's rate of products of matrices they are.
    """
    done = [h for h in run.order(list(outputs)) if run.done(h)]
    steps = []
    for h in done:
        body = run.record(h)
        fast = {"images": body["images"], "images_per_second": round(body["images"] / body["seconds"], 1)} if _counted(body) else {}
        if fast and "operations" in body and (most := peak(run.store, body["machine"])):
            fast["operations_per_image"] = body["operations"]
            fast["share_of_peak"] = round(body["operations"] * body["images"] / body["seconds"] / most, 4)
        steps.append({k: body[k] for k in ("step", "slug", "key", "seconds", "peak_mb")} | fast)
    return {
        "machine": run.record(done[0])["machine"] if done else {},
        "processors": sorted({run.record(h)["machine"].get("processor", "not recorded") for h in done}),
        "steps": steps,
        "core_seconds": round(sum(s["seconds"] for s in steps), 1),
        "peak_mb": max((s["peak_mb"] for s in steps), default=0),
        "manifest": [h.fingerprint for h in handles_in(list(outputs))],
        "failed": [message for _, message in outcome.failed],
        "skipped": [{"step": h.step.name if h.step else "", "slug": h.slug, "why": why} for h, why in outcome.skipped],
    }


def _counted(body: dict[str, Any]) -> bool:
    """Whether a result says of how many images it is, in a time that can be told."""
    return "images" in body and body["seconds"] > 0


def gallery_of(run: Run, outputs: Outputs, lost: set[str]) -> tuple[dict[str, Any], JSON] | None:
    """Pictures by name, and what they are of; None where there are none."""
    if outputs.gallery is None or outputs.gallery.fingerprint in lost:
        return None
    rows: Rows = run.get(outputs.gallery)
    return {n: rows.column(n) for n in rows.names} | {"id": id_bytes(rows.ids)}, rows.facts


def guard_of(run: Run, outputs: Outputs) -> tuple[Any, ...] | None:
    """The parts of the outputs' guard, as (classifier, saliency, detector, threshold, level, calibration scores); None where
    a sanity check that it depends on failed, or the recipe leaves no guard.
    """
    parts = outputs.guard
    if parts is None:
        return None
    try:
        f, s, d, calibrated = (run.get(h) for h in parts.handles)
    except CheckFailed:
        return None
    if "value" in (body := run.record(parts.detector)):
        d = with_facts(d, choice=body["value"])
    return f, s, d, calibrated.value[str(parts.level)], parts.level, scores_of(calibrated, natural_set("calibration"))
