"""Score records: everything that a report is computed from, in one folder, without a store, data or torch.

``records.json`` and ``records.safetensors`` hold what was found and are equal, byte for byte, for equal runs. ``run.json``
holds when, where and how long. Schema version 1:

* ``sets``: image sets. Columns ``set/<i>/<name>``: ``id``, ``label``, ``predicted``, and for attacked ones ``right``,
  ``changed``, ``in_budget``, ``counts``, ``rms``, ``linf``, ``l0``; facts: data set, role, classifier, attack or control
  and of what, storage, protocol.
* ``detectors``: facts (detector, form, training attack, protocol, seed), thresholds, keys.
* ``scores``: (set, detector, column ``score/<k>``).
* ``gates``: what the sanity gates saw.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GateFailed
from ..store import JSON, Rows, id_bytes, write_arrays, write_json, writing
from .findings import Findings
from .handles import Handle, handles_in
from .run import Outcome, Run

SCHEMA = 1
SET_COLUMNS = ("label", "predicted", "right", "changed", "in_budget", "counts", "rms", "linf", "l0")
SANITY_COLUMNS = ("area", "fake_area", "kept", "kept_other", "destroyed", "destroyed_other", "emptied")


class _Collector:
    """Sets, detectors and scores, each once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.arrays: dict[str, Any] = {}
        self.sets: dict[str, JSON] = {}
        self.detectors: dict[str, JSON] = {}
        self.scores: list[JSON] = []

    def add_set(self, rows: Rows, key: str, columns: tuple[str, ...], kind: str) -> int:
        """The number of this image set; stored when it is new."""
        facts = {k: v for k, v in rows.facts.items() if k != "saliency" or kind == "sanity"} | {"kind": kind}
        name = _set_name(facts)
        if name not in self.sets:
            i = len(self.sets)
            found = {c: rows.column(c) for c in columns if c in rows}
            if "right" not in found and "predicted" in found:
                found["right"] = found["predicted"] == found["label"]
            arrays = {f"set/{i:03d}/{c}": np.ascontiguousarray(v) for c, v in found.items()} | {f"set/{i:03d}/id": id_bytes(rows.ids)}
            self.arrays |= arrays
            self.sets[name] = {"index": i, "name": name, "key": key, "n": len(rows), "facts": facts, "columns": sorted(found)}
        assert self.sets[name]["n"] == len(rows), f"two image sets are called {name}"
        index: int = self.sets[name]["index"]
        return index

    def add_scores(self, h: Handle) -> None:
        """All columns of one score step."""
        detector = h.args["detector"]
        if detector.fingerprint not in self.detectors:
            body = self.run.record(detector)
            facts = {k: v for k, v in body["facts"].items() if k != "learning_curve"}
            self.detectors[detector.fingerprint] = {
                "index": len(self.detectors),
                "key": detector.fingerprint,
                "facts": facts,
                "learning_curve": body["facts"].get("learning_curve"),
                "thresholds": None,
                "thresholds_key": None,
            }
        known = self.detectors[detector.fingerprint]
        if "thresholds" in h.args:
            known |= {"thresholds": self.run.get(h.args["thresholds"]), "thresholds_key": h.args["thresholds"].fingerprint}
        scored: Rows = self.run.get(h)
        for i, images in enumerate(h.args["sets"]):
            index = self.add_set(self.run.get(images), images.fingerprint, SET_COLUMNS, "images")
            column = f"score/{len(self.scores):04d}"
            self.arrays[column] = scored.column(f"score{i:03d}")
            self.scores.append({"set": index, "detector": known["index"], "column": column, "key": h.fingerprint})


def _set_name(facts: dict[str, JSON]) -> str:
    if facts["kind"] == "sanity":
        return f"sanity/{facts['role']}/{facts['fill']}"
    what = f"{facts['control']} of {facts['of']}" if "control" in facts else facts.get("attack", "natural")
    return f"{facts.get('protocol', 'any')}/{facts['role']}/{what}"


def export(run: Run, findings: Findings, outcome: Outcome, out: Path, about: dict[str, JSON]) -> None:
    """Write the records of a finished run.

    Args:
        run: where the results are.
        findings: what the recipe wanted.
        outcome: of the walk; what it skipped is left out and named.
        out: folder; made if it is not there.
        about: recipe, parameters, command.

    Raises:
        StoreError: when they cannot be written.
    """
    lost = {h.fingerprint for h, _ in (*outcome.skipped, *outcome.failed)}
    collected = _Collector(run)
    for h in findings.sanity:
        if h.fingerprint not in lost:
            collected.add_set(run.get(h), h.fingerprint, SANITY_COLUMNS, "sanity")
    for h in findings.scores:
        if h.fingerprint not in lost:
            collected.add_scores(h)
    gates = []
    for h in findings.gates:
        body = run.record(h)
        gates.append(body["value"] | {"key": h.fingerprint, "failed": body["failed"]})
    arrays = dict(sorted(collected.arrays.items()))
    body = {
        "schema": SCHEMA,
        "recipe": {k: about[k] for k in ("recipe", "parameters", "seed", "numerics")},
        "sets": list(collected.sets.values()),
        "detectors": list(collected.detectors.values()),
        "scores": collected.scores,
        "gates": gates,
        "skipped": sorted({f"{h.step.name} {h.slug}" for h, _ in outcome.skipped if h.step}),
        "sha256": {k: hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() for k, v in arrays.items()},
    }
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_arrays(out / "records.safetensors", {k: [v] for k, v in arrays.items()})
    write_json(out / "records.json", body)
    write_json(out / "run.json", about | _journal(run, findings, outcome))
    _export_gallery(run, findings, lost, out)


def _journal(run: Run, findings: Findings, outcome: Outcome) -> dict[str, JSON]:
    """Every step with its recorded seconds: the manifest."""
    done = [h for h in run.order(list(findings)) if run.done(h)]
    steps = []
    for h in done:
        body = run.record(h)
        steps.append({k: body[k] for k in ("step", "slug", "key", "seconds", "peak_mb")})
    return {
        "machine": run.record(done[0])["machine"] if done else {},
        "steps": steps,
        "core_seconds": round(sum(s["seconds"] for s in steps), 1),
        "peak_mb": max((s["peak_mb"] for s in steps), default=0),
        "manifest": [h.fingerprint for h in handles_in(list(findings))],
        "failed": [message for _, message in outcome.failed],
        "skipped": [{"step": h.step.name if h.step else "", "slug": h.slug, "why": why} for h, why in outcome.skipped],
    }


def _export_gallery(run: Run, findings: Findings, lost: set[str], out: Path) -> None:
    if findings.gallery is None or findings.gallery.fingerprint in lost:
        return
    rows: Rows = run.get(findings.gallery)
    write_arrays(out / "gallery.safetensors", {n: [rows.column(n)] for n in rows.names} | {"id": [id_bytes(rows.ids)]})
    write_json(out / "gallery.json", rows.facts)


def guard_of(run: Run, findings: Findings) -> tuple[Any, ...] | None:
    """The parts of the findings' guard, as (classifier, saliency, detector, threshold, level, calibration scores); None where
    a gate that it stands on failed, or the recipe leaves no guard.
    """
    parts = findings.guard
    if parts is None:
        return None
    try:
        f, s, d, scored, thresholds = (run.get(h) for h in parts.handles)
    except GateFailed:
        return None
    return f, s, d, thresholds[str(parts.level)], parts.level, scored.column("score000")
