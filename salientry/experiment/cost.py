"""How many images a step works on, and what an attack on them takes."""

from __future__ import annotations

from typing import Any

from ..attacks._cost import passes_of
from ..runner.step import Handle
from ..types import Roles

THERE_AND_BACK = 3  # a forward and a backward pass cost about three forward passes


def attack_seconds(attack: Any, count: float, forward: float) -> float:
    """Of an attack on so many images, from the seconds of one image through the classifier."""
    return count * THERE_AND_BACK * forward * passes_of(attack)


def only_joins(h: Handle) -> bool:
    """Whether a step does no more than put together what others computed: scores of image sets, each by a step of its own."""
    return "scored" in h.args and h.step is not None and h.step.name == "scores"


def images_of(h: Handle, roles: Roles) -> int:
    """Images that a step works on, or that a view holds; of a data set with these roles. 0: it works on no part of them alone."""
    name = h.step.name if h.step else ""
    if name == "_take_first":
        return int(h.args["count"])
    if name == "_take_role":
        return int(getattr(roles, h.args["role"]))
    if name == "_take_roles":
        return sum(int(getattr(roles, r)) for r in h.args["roles"])
    first = h.args.get("images") or next(iter(h.inputs), None)
    return images_of(first, roles) if isinstance(first, Handle) else 0
