"""How small a perturbation is seen: detectors trained on FGSM at each budget, tested at each (C10; Gong et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import Interval, balanced_accuracy, interval, rate_draws
from .numbers import Ledger
from .records import Records

FAR = np.geomspace(1e-4, 1.0, 161)  # budgets at which a fitted curve may pass half of its way
STEEP = np.geomspace(0.5, 64.0, 29)  # its slopes, per factor e of the budget


@dataclass(frozen=True)
class Curve:
    """One detector: balanced accuracy when trained and tested at each budget, and the fitted curve; ids of numbers.

    Attributes:
        detector: its name.
        diagonal: by budget.
        transfer: (trained at, tested at) to accuracy.
        half: budget at which the fitted curve passes .75: half of the way from chance to certain.
        slope: of the fitted curve.
        beyond: whether that budget lies above all that were tried: then the curve says no more than that.
    """

    detector: str
    diagonal: dict[float, str]
    transfer: dict[tuple[float, float], str]
    half: str
    slope: float
    beyond: bool


def curves(records: Records, ledger: Ledger) -> list[Curve]:
    """All detectors of the sweep."""
    groups = [g for g in records.groups if g.form == "sweep"]
    return [_curve(records, ledger, name, [g for g in groups if g.detector == name]) for name in dict.fromkeys(g.detector for g in groups)]


def _curve(records: Records, ledger: Ledger, name: str, groups: list[Any]) -> Curve:
    natural, draws = records.natural("test"), records.resamples
    transfer: dict[tuple[float, float], str] = {}
    values, spread, budgets, keys = [], [], [], list[str]()
    for g in groups:
        trained = float(records.sets[f"published/test/{g.trained_on}"].facts["eps"])
        for s in records.sets.values():
            if s.facts.get("protocol") != "published" or s.facts.get("role") != "test" or not g.on(s):
                continue
            tested = float(s.facts["eps"])
            flags = list(zip(g.flags(natural, "own"), g.flags(s, "own"), strict=True))
            found = balanced_accuracy(draws, natural.ids, s.ids, flags)
            transfer[trained, tested] = ledger.add(f"sweep/{name}/{trained:.4f}/{tested:.4f}", found, "published", [*g.keys, s.key])
            if trained == tested:
                n, a = flags[0]
                values.append(found.value)
                spread.append((1 - rate_draws(n, draws.of(natural.ids)) + rate_draws(a, draws.of(s.ids))) / 2)
                budgets.append(trained)
                keys += g.keys
    place = np.argsort(budgets)
    eps, seen = np.array(budgets)[place], np.array(values)[place]
    half, slope = fit(eps, seen[None])
    ends = fit(eps, np.stack(spread)[place].T)[0]
    found = interval([float(half[0])], [ends], len(natural)) if np.isfinite(half[0]) else Interval(np.nan, np.nan, np.nan, len(natural))
    diagonal = {float(e): transfer[e, e] for e in eps}
    id = ledger.add(f"sweep/{name}/half", found, "published", sorted(set(keys)))
    return Curve(name, diagonal, transfer, id, float(slope[0]), bool(half[0] > eps.max()))


def fit(eps: Any, accuracy: Any) -> tuple[Any, Any]:
    """Logistic curves .5 + .5 / (1 + (half / eps)^slope), by least squares on a grid.

    Args:
        eps: (B,) budgets.
        accuracy: (R, B) accuracies.

    Returns:
        (R,) budgets at half of the way, and (R,) slopes; a curve that never leaves chance has its half at the end of the grid.
    """
    half, slope = (v.ravel() for v in np.meshgrid(FAR, STEEP, indexing="ij"))
    shapes = predicted(eps[None], half[:, None], slope[:, None])
    y = np.asarray(accuracy, float)
    errors = (shapes**2).sum(1)[None] - 2 * y @ shapes.T  # what does not depend on the curve is left out
    good = errors <= errors.min(1, keepdims=True) + 1e-9
    best = good.shape[1] - 1 - good[:, ::-1].argmax(1)  # of equals the one with its half farthest out
    return half[best], slope[best]


def predicted(eps: Any, half: Any, slope: Any) -> Any:
    """Accuracy of such a curve."""
    return 0.5 + 0.5 / (1 + (half / eps) ** slope)
