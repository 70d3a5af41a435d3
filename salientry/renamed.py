"""What older stores call things that have another name today: one translation, where they are read."""

from __future__ import annotations

from typing import Any

ROLES = {"fit": "train", "detect": "detector_train", "select": "validation", "calibrate": "calibration"}
FIRST_ROLES = {now: first for first, now in ROLES.items()}  # in keys, and in the names of a store's folders


def translated(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of images or of a module under today's names."""
    return facts | {k: ROLES.get(facts[k], facts[k]) for k in ("role", "lent") if k in facts}
