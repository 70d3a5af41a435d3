"""What others are judged beside."""

from __future__ import annotations

from typing import Any

from ..detectors import MSP, PUBLISHED_DETECTORS, Consistency, Energy, LearnedFusion, Margin, NoiseLevel, SecondOpinion, TopLogits
from ..detectors.consistency import LIGHT
from ..errors import UsageError

QUICK: dict[str, Any] = {
    "linear margin": Margin(),
    "softmax probability": MSP(),
    "energy": Energy(),
    "noise level": NoiseLevel(),
    "the guard's light detector": LearnedFusion((TopLogits(), Consistency(LIGHT))),
}
PUBLISHED = PUBLISHED_DETECTORS
ASKING: dict[str, Any] = {"second opinion": SecondOpinion()}  # where there is a second network
SETS: dict[str, dict[str, Any]] = {"none": {}, "quick": QUICK, "published": QUICK | PUBLISHED}


def baselines_called(wanted: Any, second: bool = False) -> dict[str, Any]:
    """Settings by name.

    Args:
        wanted: ``"quick"``, ``"published"`` or ``"none"``; True and False for the first and the last; a dictionary of one's own.
        second: whether there is a second network: then the first two have one that asks it, too.

    Raises:
        UsageError: for another word.
    """
    if isinstance(wanted, dict):
        return dict(wanted)
    name = {True: "quick", False: "none"}.get(wanted, wanted) if isinstance(wanted, bool) else wanted
    if name not in SETS:
        raise UsageError(f"baselines are a dictionary of detectors, or one of {', '.join(SETS)}; found {wanted!r}")
    return SETS[name] | (ASKING if second and SETS[name] else {})


__all__ = ["ASKING", "PUBLISHED", "QUICK", "SETS", "baselines_called"]
