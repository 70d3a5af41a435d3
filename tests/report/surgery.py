"""A copy of a run's records, opened, changed and closed again with new checksums, as a careful forger would; and plain numpy."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from salientry.calibration import pac_threshold
from salientry.files import own_sha256

CW = "CarliniWagner-search_steps=1-steps=40-lr=0.1-initial_const=10-confidence=0.1"


def sealed(body: dict[str, Any]) -> str:
    """A records.json with this body and the checksum of its own."""
    return json.dumps(body | {"own": own_sha256(body)})


class Opened:
    """The records in a folder: ``body`` of records.json and all ``arrays``; nothing of :mod:`salientry.report` is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.body: dict[str, Any] = json.loads((folder / "records.json").read_text())
        self.arrays: dict[str, Any] = load_file(folder / "records.safetensors")
        for shard in self.body["shards"]:
            self.arrays |= load_file(folder / shard)

    def close(self) -> Path:
        """Write them back with true checksums."""
        shutil.rmtree(self.folder / "scores")
        (self.folder / "scores").mkdir()
        self.arrays = {k: np.ascontiguousarray(v) for k, v in self.arrays.items()}
        used = {s["column"]: s["shard"] for s in self.body["scores"]}
        self.arrays = {k: v for k, v in self.arrays.items() if k in used or not k.startswith("score/")}
        self.body["shards"] = list(dict.fromkeys(used.values()))
        self.body["sha256"] = {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in self.arrays.items()}
        save_file({k: v for k, v in self.arrays.items() if k not in used}, self.folder / "records.safetensors")
        for shard in self.body["shards"]:
            save_file({k: self.arrays[k] for k, s in used.items() if s == shard}, self.folder / shard)
        (self.folder / "records.json").write_text(sealed(self.body))
        return self.folder

    def set(self, name: str) -> dict[str, Any]:
        return next(s for s in self.body["sets"] if s["name"] == name)

    def column(self, name: str, column: str) -> Any:
        head = f"set/{self.set(name)['index']:03d}/"
        return self.arrays[head + ("counts" if column == "evaluated" and f"{head}counts" in self.arrays else column)]  # older records' word

    def detector(self, detector: str, protocol: str, trained_on: str, form: str = "paired") -> dict[str, Any]:
        """Of seed 0."""
        facts = {"detector": detector, "protocol": protocol, "trained_on": trained_on, "scheme": form, "seed": 0}
        return next(d for d in self.body["detectors"] if facts.items() <= d["facts"].items())

    def score(self, detector: dict[str, Any], name: str) -> Any:
        """(N,) scores of a set of images."""
        of = (self.set(name)["index"], detector["index"])
        return self.arrays[next(s["column"] for s in self.body["scores"] if (s["set"], s["detector"]) == of)]

    # --- changes ---

    def without(self, control: str, protocol: str = "strict") -> None:
        """Forget a control: sets of images, or the detector of that name."""
        mine = [d["index"] for d in self.body["detectors"] if (d["facts"]["detector"], d["facts"]["protocol"]) == (control, protocol)]
        self.body["scores"] = [s for s in self.body["scores"] if s["detector"] not in mine]
        for s in self.body["sets"]:
            if (s["facts"].get("control"), s["facts"].get("protocol")) == (control, protocol):
                s["facts"]["control"], s["name"] = "Forgotten", f"forgotten/{s['index']}"

    def noise(self, seed: int = 0) -> None:
        """Every score becomes a normal number of its own; thresholds follow from those of the calibration images."""
        rng = np.random.default_rng(seed)
        for s in self.body["scores"]:
            self.arrays[s["column"]] = rng.standard_normal(len(self.arrays[s["column"]]))
        for d in self.body["detectors"]:
            for level in set(d["thresholds"] or {}) - {"own"}:
                d["thresholds"][level] = pac_threshold(self.score(d, "any/calibration/natural"), float(level))

    def also(self, old: str, new: str) -> None:
        """A second attack ``new`` whose images, detectors and scores are those of ``old``."""
        sets, detectors = {}, {}
        for s in [s for s in self.body["sets"] if s["facts"]["kind"] == "images" and old in s["name"]]:
            facts = {k: v.replace(old, new) if isinstance(v, str) else v for k, v in s["facts"].items()}
            sets[s["index"]] = len(self.body["sets"])
            for c in (*s["columns"], "id"):
                self.arrays[f"set/{sets[s['index']]:03d}/{c}"] = self.arrays[f"set/{s['index']:03d}/{c}"]
            self.body["sets"].append(
                s | {"index": sets[s["index"]], "name": s["name"].replace(old, new), "facts": facts, "key": f"{new}{s['key']}"}
            )
        for d in [d for d in self.body["detectors"] if d["facts"]["trained_on"] == old]:
            detectors[d["index"]] = len(self.body["detectors"])
            facts = d["facts"] | {"trained_on": new} | ({"of": [new]} if d["facts"].get("of") else {})
            self.body["detectors"].append(d | {"index": detectors[d["index"]], "facts": facts, "key": f"{new}{d['key']}"})
        for d in self.body["detectors"]:
            if d["facts"]["trained_on"] == "combined" and new not in d["facts"]["of"]:
                d["facts"]["of"] = [*d["facts"]["of"], new]
        self.body["attacks"] += [a | {"label": new, "attack": new, "title": new} for a in self.body["attacks"] if a["label"] == old]
        for s in list(self.body["scores"]):
            for i in {s["detector"], detectors.get(s["detector"], s["detector"])}:
                for j in {s["set"], sets.get(s["set"], s["set"])}:
                    if (i, j) != (s["detector"], s["set"]):
                        shard = s["shard"].replace(old, new) if i != s["detector"] else s["shard"]
                        column = f"score/{len(self.body['scores']):05d}"
                        self.arrays[column] = self.arrays[s["column"]]
                        self.body["scores"].append(s | {"set": j, "detector": i, "column": column, "shard": shard})

    def rename(self, old: str, new: str) -> None:
        """Another word everywhere."""
        self.body = json.loads(json.dumps(self.body).replace(old, new))
        self.arrays = {k.replace(old, new): v for k, v in self.arrays.items()}


def mixed(columns: list[Any]) -> Any:
    """Row i from column i modulo their number."""
    return np.array([columns[i % len(columns)][i] for i in range(len(columns[0]))])


def ranked(natural: Any, adversarial: Any) -> float:
    """AUROC, pair by pair."""
    gap = np.asarray(adversarial, np.float64)[:, None] - np.asarray(natural, np.float64)[None]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean())
