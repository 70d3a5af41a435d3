"""The sanity of the maps: what they keep and destroy, under each fill."""

from __future__ import annotations

from dataclasses import dataclass

from ..metrics import Resamples, difference, rate
from .numbers import Ledger
from .records import Records, own_trunk

FIGURES = ("area", "fake_area", "kept", "kept_other", "destroyed", "destroyed_other", "emptied")
READABLE = 0.3  # with everything removed, a prediction that survives more often than this says that the fill hides nothing


@dataclass(frozen=True)
class Row:
    """One saliency model (``trunk``: from the classifier's own) under one fill; ``figures`` and the two gains are ids of numbers."""

    saliency: str
    fill: str
    figures: dict[str, str]
    kept_gain: str
    destroyed_gain: str
    stamps: list[str]
    trunk: bool


def rows(records: Records, ledger: Ledger) -> list[Row]:
    """All saliency models and fills that were measured."""
    out = []
    for s in records.sets.values():
        if s.facts["kind"] != "sanity":
            continue
        fill, trunk = str(s.facts["fill"]), own_trunk(str(s.facts["saliency"]))
        head = f"any/map/{'trunk/' if trunk else ''}{fill}"
        draws, c = Resamples(s.ids), s.columns
        figures = {k: ledger.add(f"{head}/{k}", rate(draws, s.ids, [c[k]]), "any", [s.key]) for k in FIGURES}
        kept = ledger.add(f"{head}/kept-gain", difference(draws, s.ids, [(c["kept"], c["kept_other"])]), "any", [s.key])
        broken = ledger.add(f"{head}/destroyed-gain", difference(draws, s.ids, [(c["destroyed_other"], c["destroyed"])]), "any", [s.key])
        stamps = ["WEAK FILL"] if ledger.value(figures["emptied"]) > READABLE else []
        out.append(Row(str(s.facts["saliency"]), fill, figures, kept, broken, stamps, trunk))
    return out
