"""What older stores and records call things that have another name today: one translation, where they are read."""

from __future__ import annotations

from typing import Any

ROLES = {"fit": "train", "detect": "detector_train", "select": "validation", "calibrate": "calibration"}
GROUPS = {"floor": "baseline"}
KINDS = {"spoiled": "input ablation", "swap": "mixed parts", "ladder": "protocol step", "planted": "weak detector"}  # of sets and numbers
SCHEMES = {f"ladder {k}": f"protocol step {k}" for k in (0, 1, 2, 4, 5)}
DETECTORS = {"Exists": "ClassPresence", "Opinion": "SecondNet"}
FACTS = {"family": "group", "form": "scheme", "afresh": "independent_rerun", "training_scheme": "scheme", "lent": "reused_from"}
COLUMNS = {"exists": "class_presence", "opinion": "second_net_logprobs", "counts": "evaluated"}
FIRST_ARGUMENTS = {
    "protocol": "rules",
    "independent_rerun": "afresh",
    "adversarials": "settled",
    "unstored": "proposed",
}  # of steps: what keys call them
FIRST_ROLES = {now: first for first, now in ROLES.items()}  # in keys, and in the names of a store's folders
FIRST_SCHEMES = {now: first for first, now in SCHEMES.items()}  # likewise
COUNT = "images"  # what stores and records call the number of rows that a step went through
FIRST_DETECTORS = {now: first for first, now in DETECTORS.items()}  # in ids of numbers


def translated_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Columns of a store or of records under today's names; ``attack/column`` too."""
    parts = {k: k.rpartition("/") for k in columns}
    return {head + slash + COLUMNS.get(name, name): columns[k] for k, (head, slash, name) in parts.items()}


def translated(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of images, of a detector, of a module or of a number under today's names."""
    out = {FACTS.get(k, k): v for k, v in facts.items()}
    words = {"role": ROLES, "reused_from": ROLES, "group": GROUPS, "kind": KINDS, "scheme": SCHEMES, "detector": DETECTORS}
    out |= {k: known.get(out[k], out[k]) for k, known in words.items() if k in out}
    return out | ({"title": renamed_title(out["title"], DETECTORS)} if out.get("title") else {})


def renamed_title(title: str, names: dict[str, str]) -> str:
    """A detector's title, ``Exists (replica)``, with another name of the detector."""
    head, space, rest = title.partition(" ")
    return names.get(head, head) + space + rest
