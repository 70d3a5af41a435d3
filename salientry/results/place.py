"""One row of the frame of numbers: its columns, its id, and how it is made of an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import Interval
from ..renamed import FIRST_DETECTORS, renamed_title

if TYPE_CHECKING:
    import pandas as pd

KEY = 12  # hex digits of a key, as in the names of the store's folders
Row = dict[str, Any]
COLUMNS = (
    *("id", "kind", "source", "dataset", "run_seed", "protocol", "detector", "title", "group", "scheme", "trained_on", "tested_on"),
    *("measure", "value", "lo", "hi", "n", "seeds", "each", "resampled", "keys"),
    *("attack", "saliency", "part", "norm", "eps", "budget", "step", "round", "when", "against"),
    *("class_number", "base", "member", "adds", "trained_at", "tested_at", "slope", "beyond", "untrained"),
    *("table", "row", "name", "cell", "std", "decimals", "percent", "suspect", "p", "claim", "line"),
    "apart",  # why it says nothing of the run's own nets
)
NOISE = "noise/excess-flags-on-unchanged"  # the measure of a detector's own noise control
PROTOCOL_IN_NO_ID = ("C4", "C15", "C16")
MEASURED = ("value", "lo", "hi")


def row(kind: str, measure: str, found: Interval | float, keys: Iterable[str], n: int | None = None, **place: Any) -> Row:
    """A number with its place and id. ``place``: further columns; ``source`` is ``run`` where it is not given."""
    if not isinstance(found, Interval):
        found = Interval(float(found), math.nan, math.nan, n or 0)
    numbers = {"value": found.value, "lo": found.lo, "hi": found.hi, "n": found.n, "seeds": tuple(found.runs), "each": tuple(found.each)}
    numbers |= {"resampled": found.resampled}
    out = {"source": "run"} | place | {"kind": kind, "measure": measure} | numbers | {"keys": tuple(k[:KEY] for k in keys)}
    return out | {"id": identify(out)}


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a table with every column: None where one does not apply, NaN for a value or end that there is none of."""
    import pandas as pd

    every = list(rows)
    extra = [c for c in dict.fromkeys(c for r in every for c in r) if c not in COLUMNS]
    columns = {c: pd.Series([r.get(c) for r in every], dtype=float if c in MEASURED else object) for c in (*COLUMNS, *extra)}
    return pd.DataFrame(columns)


def records(found: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, each by column, with plain numbers; as pandas gives them, in a tenth of the time."""
    names = [str(c) for c in found.columns]
    columns = [[v.item() if isinstance(v, np.generic) else v for v in found[c].tolist()] for c in found.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


# --- ids ------------------------------------------------------------------------------------------------------------


def joined(*parts: Any) -> str:
    """Those that are there, with slashes between them."""
    return "/".join(str(p) for p in parts if p is not None)


def _white_box(r: Row) -> str:
    get = r.get
    order = {
        "success": ("title", "budget", "attack"),
        "alarm": ("title", "measure", "budget"),
        "doubled": ("title", "attack", "budget", "measure"),
        "doubled adds": ("title", "budget", "measure"),
    }.get(r["measure"], ("title", "attack", "measure"))
    return joined("white box", *(get(c) for c in order))


def _hardened(r: Row) -> str:
    when = r["when"] if r.get("round") is None else f"round {r['round']}"
    return joined("white box/hardened", r["title"], r["against"], when, r.get("attack") or r["measure"])


def _claim(r: Row) -> str:
    protocol = None if r["claim"] in PROTOCOL_IN_NO_ID else r["protocol"]
    return joined("paper", r["claim"], protocol, r.get("scheme"), r["line"], r.get("attack"), r.get("part"))


def _headline(r: Row) -> str:
    if r["protocol"] == "published":
        return joined("headline/published", r["scheme"], r["trained_on"], r["tested_on"], r["title"])
    measure = {"difference": None, NOISE: "MatchedNoise/excess-flags-on-unchanged"}.get(r["measure"], r["measure"])
    return joined("headline", r["trained_on"], r["title"], measure)


def _shift(r: Row) -> str:
    different = "other" if r["measure"] == "spread" and r.get("attack") is None else r.get("attack")
    return joined(r["protocol"], "shift", r["saliency"], different, None if r["measure"] == "pair" else r["measure"])


IDS: dict[str, Callable[[Row], str]] = {  # ids stay as they are recorded, also where a kind has another name today
    "detection": lambda r: joined(r["protocol"], r["title"], r["trained_on"], r.get("tested_on"), r["measure"]),
    "transfer": lambda r: joined(r["protocol"], r["title"], r.get("tested_on"), r["measure"]),
    "accuracy": lambda r: joined(r["protocol"], "natural", r["measure"]),
    "attack": lambda r: joined(r["protocol"], "attack", r["attack"], r["measure"]),
    "shift": _shift,
    "gradient": lambda r: joined(r["protocol"], "gradient", r["attack"] or "natural", r["measure"]),
    "fusion": lambda r: joined(r["protocol"], "fusion", r["part"], r["tested_on"], r["measure"]),
    "input ablation": lambda r: joined(r["protocol"], "spoiled", r["detector"], r["scheme"], r["trained_on"], r["measure"]),
    "architecture": lambda r: joined("architecture", r["detector"], r["scheme"], r["trained_on"], r["tested_on"], r["measure"]),
    "mixed parts": lambda r: joined("swap", r["detector"], r["scheme"], r["tested_on"], r["measure"]),
    "sweep": lambda r: joined("sweep", r["detector"], f"{r['trained_at']:.4f}", f"{r['tested_at']:.4f}"),
    "sweep fit": lambda r: joined("sweep", r["detector"], r["measure"]),
    "protocol step": lambda r: joined("ladder", r["detector"], r["trained_on"], r["step"], r["measure"]),
    "map": lambda r: joined(r["protocol"], "map", r["scheme"], r["part"], r["measure"]),
    "white box": _white_box,
    "weak detector": lambda r: joined("white box/planted", r["part"], r["measure"]),
    "table 3": lambda r: joined("white box/table 3", r["part"], r["budget"], r["title"], f"T={r['step']}", r["measure"]),
    "hardened": _hardened,
    "worst case": lambda r: joined("worst case", r["protocol"], r["title"], r["trained_on"], r["tested_on"], r["measure"]),
    "undetected": lambda r: joined("undetected", r["protocol"], r.get("title"), r.get("trained_on"), r["tested_on"], r["measure"]),
    "false positives": lambda r: joined("false positives", r["protocol"], r["title"], r["trained_on"], r.get("part"), r["measure"]),
    "part adds": lambda r: joined("part adds", r["protocol"], r["part"], r["against"], r["trained_on"], r["tested_on"], r["measure"]),
    "paper table": lambda r: joined("paper", f"table{r['table']}", r.get("saliency"), r["row"], r.get("cell"), r["measure"]),
    "correlation": lambda r: joined("paper/correlation", r["detector"], r["trained_on"], r["part"], r["measure"]),
    "claim": _claim,
    "headline": _headline,
}


def identify(r: Row) -> str:
    """The id of a number, of its columns: ids are put together here and taken apart nowhere."""
    first = {c: renamed_title(r[c], FIRST_DETECTORS) for c in ("detector", "title") if r.get(c)}
    return IDS[r["kind"]](r | first)


def select(numbers: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The rows that have these values in these columns; a sequence: one of them; None: none."""
    import pandas as pd

    keep = pd.Series(True, index=numbers.index)
    for column, value in where.items():
        found = numbers[column]
        if isinstance(value, Sequence) and not isinstance(value, str):
            keep &= found.isin(list(value))
        else:
            keep &= found.isna() if value is None else found == value
    return numbers[keep]
