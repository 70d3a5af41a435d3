"""The classifier: accuracy on naturals and under each attack, how large the perturbations are, and what counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import rate
from .numbers import Ledger
from .records import ImageSet, Records


@dataclass(frozen=True)
class Row:
    """One attack under one protocol; every field but the first three is a number's id."""

    attack: str
    protocol: str
    storage: str
    accuracy: str
    changed: str
    rms: str
    linf: str
    l0: str
    counting: str
    natural_wrong: str
    unchanged: str
    over_budget: str
    float_only: str | None
    plain: str | None
    searched: str | None
    cost: str | None
    spread: dict[str, str]


def natural(records: Records, ledger: Ledger) -> str:
    """Accuracy on the natural test images."""
    s = records.natural("test")
    return ledger.add("any/natural/accuracy", rate(records.resamples, s.ids, [s.columns["right"]]), "any", [s.key])


def rows(records: Records, ledger: Ledger) -> list[Row]:
    """All attacks, the protocols one after the other."""
    return [_row(records, ledger, s) for protocol in ("published", "strict") for s in records.attacked(protocol)]


def _row(records: Records, ledger: Ledger, s: ImageSet) -> Row:
    protocol, attack, c = str(s.facts["protocol"]), str(s.facts["attack"]), s.columns
    head = f"{protocol}/attack/{attack}"

    def put(name: str, values: object) -> str:
        return ledger.add(f"{head}/{name}", rate(records.resamples, s.ids, [values]), protocol, [s.key])  # type: ignore[list-item]

    right, changed, budget = c["right"], c["changed"], c["in_budget"]
    float_only = None
    other = records.sets.get(f"published/test/{attack}")
    if protocol == "strict" and other is not None:
        lost = other.columns["changed"] & ~changed
        float_only = ledger.add(f"{head}/fooled-in-float-only", float(lost.sum()), protocol, [s.key, other.key], len(s))
    plain = searched = cost = None
    if "plain" in c and other is not None:
        fooled = right & other.columns["changed"]
        ids, draws = s.ids[fooled], records.resamples
        plain = ledger.add(f"{head}/survives-rounding", rate(draws, ids, [c["plain"][fooled]]), protocol, [s.key, other.key])
        searched = ledger.add(f"{head}/survives-search", rate(draws, ids, [changed[fooled]]), protocol, [s.key, other.key])
        both = fooled & changed & (other.columns["rms"] > 0)
        ratio = c["rms"][both] / other.columns["rms"][both]
        cost = ledger.add(f"{head}/search-cost", rate(draws, s.ids[both], [ratio]), protocol, [s.key, other.key])
    spread = {k: ledger.add(f"{head}/{k}-spread", float(np.std(c[k], ddof=1)), protocol, [s.key], len(s)) for k in ("rms", "linf", "l0")}
    return Row(
        attack,
        protocol,
        str(s.facts["storage"]),
        put("accuracy", c["predicted"] == c["label"]),
        put("changed", changed),
        put("rms", c["rms"]),
        put("linf", c["linf"]),
        put("l0", c["l0"]),
        ledger.add(f"{head}/counts", float(c["counts"].sum()), protocol, [s.key], len(s)),
        ledger.add(f"{head}/natural-wrong", float((~right).sum()), protocol, [s.key], len(s)),
        ledger.add(f"{head}/unchanged", float((right & ~changed).sum()), protocol, [s.key], len(s)),
        ledger.add(f"{head}/over-budget", float((right & changed & ~budget).sum()), protocol, [s.key], len(s)),
        float_only,
        plain,
        searched,
        cost,
        spread,
    )
