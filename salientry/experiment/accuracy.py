"""How often a classifier is right, where several are tried."""

from __future__ import annotations

from ..rates import share_of
from ..rows import Rows
from ..runner.step import step
from ..store import JSON


@step("accuracy_of")
def accuracy_of(images: Rows, called: str) -> dict[str, JSON]:
    """The share of classified images whose prediction is their label, with its exact 95 % interval over images; ``called``: which
    classifier it is of, in tables.
    """
    right = images.column("label") == images.column("predicted")
    found = share_of(right)
    ends = {"lo": found["low"], "hi": found["high"], "n": found["of"]}
    return {"called": called, "role": images.facts["role"], "accuracy": found["share"]} | ends
