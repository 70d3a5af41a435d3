"""How far maps move: the paper's Tables 1 and 5, with controls, for the learnt map and for gradient maps; and where gradients vanish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..metrics import Resamples, difference, rank_test, rate
from .numbers import Ledger
from .records import ImageSet, Records, own_trunk

FIXED = "class held"
CONTROLS = ("MatchedNoise", "Transplant", "Reversed")
PARTS = ("shift", "noise", "class", "pixels", "true label")  # the last three only where the shift was taken apart


@dataclass(frozen=True)
class Row:
    """One attack: ids of its mean distances, their spread over images, and the comparison with different images."""

    attack: str
    means: dict[str, str]
    spread: str
    effect: str
    two_sided: str
    greater: str
    beyond_noise: str


@dataclass(frozen=True)
class Table:
    """One saliency model under one protocol: Table 1 in ``rows``, Table 5 in ``pairs``; ``held``, where controls were measured: by
    attack, for the attack and each control, the distance as used and with the class of the natural held.
    """

    saliency: str
    protocol: str
    attacks: list[str]
    other: str
    other_spread: str
    same_class: str
    leak: str | None
    rows: list[Row]
    pairs: dict[tuple[str, str], str]
    trunk: bool
    held: dict[str, dict[str, tuple[str, str]]]
    other_held: str | None


@dataclass(frozen=True)
class Vanishing:
    """Shares of images whose gradient is 0 everywhere (or, of the sum, below 1e-6): ids by kind of gradient."""

    images: str
    shares: dict[str, str]


def tables(records: Records, ledger: Ledger) -> list[Table]:
    """All saliency models, the protocols one after the other."""
    found = [s for s in records.sets.values() if s.facts["kind"] == "shift"]
    return [_table(ledger, s) for protocol in ("published", "strict") for s in found if s.facts["protocol"] == protocol]


def _table(ledger: Ledger, s: ImageSet) -> Table:
    protocol, c, attacks = str(s.facts["protocol"]), s.columns, list(s.facts["attacks"])
    head, draws = f"{protocol}/shift/{s.facts['saliency']}", Resamples(s.ids)

    def mean(name: str, values: object) -> str:
        return ledger.add(f"{head}/{name}", rate(draws, s.ids, [values]), protocol, [s.key])  # type: ignore[list-item]

    def plain(name: str, value: float) -> str:
        return ledger.add(f"{head}/{name}", value, protocol, [s.key], len(s))

    def row(a: str) -> Row:
        test = rank_test(c[f"{a}/shift"], c["other"])
        return Row(
            a,
            {p: mean(f"{a}/{p}", c[f"{a}/{p}"]) for p in PARTS if f"{a}/{p}" in c},
            plain(f"{a}/spread", float(np.std(c[f"{a}/shift"], ddof=1))),
            plain(f"{a}/rank-biserial", test.effect),
            plain(f"{a}/p-two-sided", test.two_sided),
            plain(f"{a}/p-greater", test.greater),
            ledger.add(f"{head}/{a}/beyond-noise", difference(draws, s.ids, [(c[f"{a}/shift"], c[f"{a}/noise"])]), protocol, [s.key]),
        )

    def held(a: str) -> dict[str, tuple[str, str]]:
        found = {
            k: (mean(f"{a}/{k}", c[f"{a}/{k}"]), mean(f"{a}/{k}, {FIXED}", c[f"{a}/{k}, {FIXED}"])) for k in CONTROLS if f"{a}/{k}" in c
        }
        return {"attack": (rows[a].means["shift"], rows[a].means["pixels"])} | found if found else {}

    rows = {a: row(a) for a in attacks}
    pairs = {(a, b): mean(f"{a}|{b}", c[f"{a}|{b}"]) for i, a in enumerate(attacks) for b in attacks[i + 1 :]}
    return Table(
        str(s.facts["saliency"]),
        protocol,
        attacks,
        mean("other", c["other"]),
        plain("other/spread", float(np.std(c["other"], ddof=1))),
        mean("same class", c["same class"]),
        mean("true label", c["true label"]) if "true label" in c else None,
        list(rows.values()),
        pairs,
        own_trunk(str(s.facts["saliency"])),
        {a: found for a in attacks if (found := held(a))},
        mean(f"other, {FIXED}", c[f"other, {FIXED}"]) if f"other, {FIXED}" in c else None,
    )


def vanishing(records: Records, ledger: Ledger) -> list[Vanishing]:
    """Naturals and each attack (float)."""
    out = []
    for s in records.sets.values():
        if s.facts["kind"] != "gradients":
            continue
        name, draws = str(s.facts.get("attack", "natural")), Resamples(s.ids)
        zero = {"logit": s.columns["logit"] == 0, "probability": s.columns["probability"] == 0, "sum": s.columns["sum"] < 1e-6}
        ids = {k: ledger.add(f"any/gradient/{name}/{k} is zero", rate(draws, s.ids, [v]), "any", [s.key]) for k, v in zero.items()}
        out.append(Vanishing(name, ids))
    return sorted(out, key=lambda v: v.images != "natural")
