"""How many images a step works on."""

from __future__ import annotations

from ..runner.step import Handle
from ..types import Roles


def images_of(h: Handle, roles: Roles) -> int:
    """Images that a step works on, or that a view holds; of a data set with these roles. 0: it works on no part of them alone."""
    name = h.step.name if h.step else ""
    if name == "_take_first":
        return int(h.args["count"])
    if name == "_take_role":
        return int(getattr(roles, h.args["role"]))
    if name == "_take_roles":
        return sum(int(getattr(roles, r)) for r in h.args["roles"])
    return next((images_of(v, roles) for v in h.inputs), 0)  # the first of its inputs
