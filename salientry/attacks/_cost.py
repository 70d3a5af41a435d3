"""What an attack costs, by what it says of itself."""

from __future__ import annotations

from typing import Any


def passes_of(attack: Any) -> float:
    """Passes through the network, forward and backward, that an image takes: an attack's ``passes``, else its ``steps``, else one."""
    return float(getattr(attack, "passes", getattr(attack, "steps", 1)))
