"""Every printed number, once, with its interval and where it comes from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..metrics import Interval
from ..store import JSON

KEY = 12  # hex digits of a key, as in the names of the store's folders


@dataclass(frozen=True)
class Number:
    """A printed number.

    Attributes:
        id: stable, ``strict/SPD/DeepFool/DeepFool/tpr@0.05``.
        value: None where there is nothing to measure.
        lo: lower end of the 95 % interval, None where there is none.
        hi: upper end.
        n: images that it speaks of.
        protocol: ``published``, ``strict``, or ``any``.
        runs: the value of each seed.
        keys: keys of the steps that it stands on.
    """

    id: str
    value: float | None
    lo: float | None
    hi: float | None
    n: int
    protocol: str
    runs: list[float | None]
    keys: list[str]


def _plain(v: float) -> float | None:
    return float(v) if math.isfinite(v) else None


class Ledger:
    """The numbers of a report, by id."""

    def __init__(self) -> None:
        self.numbers: dict[str, Number] = {}

    def add(self, id: str, found: Interval | float, protocol: str, keys: list[str], n: int | None = None) -> str:
        """Enter a number; its id comes back."""
        assert id not in self.numbers, f"two numbers are called {id}"
        if not isinstance(found, Interval):
            found = Interval(float(found), math.nan, math.nan, n or 0)
        runs = [_plain(r) for r in found.runs]
        self.numbers[id] = Number(
            id, _plain(found.value), _plain(found.lo), _plain(found.hi), found.n, protocol, runs, [k[:KEY] for k in keys]
        )
        return id

    def __contains__(self, id: str) -> bool:
        return id in self.numbers

    def __getitem__(self, id: str) -> Number:
        return self.numbers[id]

    def value(self, id: str) -> float:
        """The value, NaN where there is none."""
        found = self.numbers[id].value if id in self.numbers else None
        return math.nan if found is None else found

    def json(self) -> list[dict[str, JSON]]:
        """As JSON, in the order of entry."""
        return [asdict(n) for n in self.numbers.values()]


def differences(printed: list[dict[str, Any]], recomputed: list[dict[str, Any]], tolerance: float = 1e-9) -> list[str]:
    """What is different between two lists of numbers, one line each."""
    a, b = {n["id"]: n for n in printed}, {n["id"]: n for n in recomputed}
    out = [f"{i}: printed, but does not follow from the records" for i in a.keys() - b.keys()]
    out += [f"{i}: follows from the records, but is not printed" for i in b.keys() - a.keys()]
    for i in a.keys() & b.keys():
        for part in ("value", "lo", "hi", "n", "protocol", "runs", "keys"):
            if part in ("lo", "hi") and older_bound(a[i], b[i]):
                continue
            if not _same(a[i].get(part), b[i][part], tolerance):
                out.append(f"{i}: {part} is printed as {a[i].get(part)}, the records give {b[i][part]}")
    return sorted(out)


def older_bound(printed: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether an earlier version printed [0, 0] for a difference without discordant pairs, where an exact bound stands now."""
    return printed.get("lo") == printed.get("hi") == printed["value"] == 0 == now["value"] and (now["lo"] or 0) < 0 < (now["hi"] or 0)


def _same(x: Any, y: Any, tolerance: float) -> bool:
    if isinstance(x, list) and isinstance(y, list):
        return len(x) == len(y) and all(_same(p, q, tolerance) for p, q in zip(x, y, strict=True))
    if isinstance(x, int | float) and isinstance(y, int | float):
        return abs(x - y) <= tolerance
    return bool(x == y)
