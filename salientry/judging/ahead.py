"""How long a judgement will take, roughly, before it is begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..experiment.expected import time_of
from ..experiment.parts import SHARE_OF_TIME
from ..rates import lasting
from .adaptive import ALONE, WEAK, budgets_of, looks

TIMED = 7  # repeats of each timing; the shortest is the one that nothing else disturbed
SIZES = 1, 64  # images that are timed together
RESAMPLED = 0.004  # seconds of the interval of an AUROC
NUMBERS, ONCE = "the numbers", (ALONE, WEAK)
BESIDE = 2  # forward passes' time of everything else in a look
EARLY_END = 0.5  # of the looks that attacks along a gradient may take they take about so many: images that are past are left alone


def timing(name: str) -> str:
    """What the part is called in which a detector's time is measured."""
    return f"timing {name}"


def attacking(name: str) -> str:
    """And in which it is attacked."""
    return f"attacking {name}"


def parts_ahead(
    detectors: Mapping[str, Any], own: Sequence[str], cells: int, forward: float, attacked: int, minutes: float, channels: int
) -> dict[str, float]:
    """Seconds of one core of each part of a judgement that is no step, by name.

    Args:
        detectors: settings by name.
        own: which of them are attacked by somebody who knows them.
        cells: attacks and encodings.
        forward: seconds of an image through the classifier.
        attacked: images that are attacked so.
        minutes: a detector that takes more than a fifth of them is left out.
        channels: of the images.
    """
    found = {NUMBERS: len(detectors) * cells * RESAMPLED}
    found |= {timing(n): TIMED * sum(SIZES) * forward * (1 + time_of(d)) for n, d in detectors.items()}
    if not attacked:
        return found
    count = attacked * (len(budgets_of(channels)) + 1)
    for name in (*own, *ONCE):
        seconds = count * looks(True) * forward * ((time_of(detectors[name]) if name in own else 1) + BESIDE)
        if seconds <= SHARE_OF_TIME * minutes * 60:
            found[attacking(name)] = EARLY_END * seconds
    return found


def in_words(steps: float, parts: Mapping[str, float]) -> str:
    """``about 12 minutes of one core: images, training and scores 7, attacks by somebody who knows a detector 4, times and numbers 1``."""
    known = sum(s for n, s in parts.items() if n.startswith(attacking("")))
    rest = sum(parts.values()) - known
    kinds = {"images, training and scores": steps, "attacks by somebody who knows a detector": known, "times and numbers": rest}
    said = ", ".join(f"{words} {lasting(seconds)}" for words, seconds in kinds.items() if seconds >= 1)
    return f"expected: about {lasting(sum(kinds.values()))} of one core ({said})"


__all__ = ["NUMBERS", "ONCE", "SIZES", "TIMED", "attacking", "in_words", "parts_ahead", "timing"]
