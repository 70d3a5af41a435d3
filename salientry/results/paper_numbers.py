"""The paper's printed means as rows of the frame, and ours beside them: the difference, and the difference in units of its uncertainty.

Rows of kind ``paper table``: ``table`` 1 to 6, ``row`` (our attack's label, or the paper's name of what was not run), ``cell`` (which of
several columns), ``saliency`` where several learnt maps were measured. With ``source`` ``paper`` the measure is ``printed``: ``std`` what
stands in brackets, ``decimals`` of the mean, ``percent`` whether it is printed so (values are shares), ``p`` (Table 1), ``suspect`` why
the cell is doubted, ``bold`` (Table 2), ``ours`` the id of our number. With ``source`` ``run``: ``difference`` and ``units``.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pandas as pd

from ..metrics import Interval
from .choice import DEFENCES
from .names import attack_title, data_set
from .paper_attacks import PASSES, PRINTED, THEIRS, trainings
from .place import Row, frame, identify, records, row, select
from .scores import Scores

COLUMNS = {"digits": "MNIST", "mnist": "MNIST", "cifar10": "CIFAR-10", "assira": "ASSIRA"}  # a run's data set: the paper's column
ATTACKS = {"FGSM": "FGSM", "BIM": "BIM", "MIM": "MIM", "CarliniWagner": "CW", "DeepFool": "DF", "JSMA": "JSMA"}
WORDS = {"CW": "C&W", "different_images": "different images"}
TABLES = {  # what they are called, and our groups of columns; where two of ours stand beside one mean, the paper's own manner is the first
    1: ("L2 distance between saliency maps", {"": "distance"}),
    2: ("perturbation sizes", {"l0": "L0 share", "rms": "L2 (RMS)", "linf": "L∞"}),
    3: ("white box", {"classifier": "classifier right", "detector": "detector right"}),
    4: ("accuracy of the classifier", {"": "accuracy"}),
    5: ("distance between the maps of two attacks on an image", {"": "distance"}),
    6: ("one detector for all attacks", {"replica": "accuracy, trained as the paper trains", "paired": "accuracy, with batch norm"}),
}
SIZES = {"l0": "L0_rate", "rms": "L2", "linf": "Linf"}
DECIMALS = 2  # of a printed mean, unless its value shows more
BOLD = (0.025, 0.5)  # L2 and Linf of Table 2's caption, both at least; the text has .027 and .50, either of them
NORMAL = 2 * 1.959964  # width of a normal 95 % interval in standard errors
UNIT = (
    "The unit is the square root of a² + b² + c²: a, our standard error, the width of our 95 % interval over 3.92; b, the standard "
    "deviation that the paper prints, 0 where it prints none; c, the rounding of the paper's mean, half its last digit over √3."
)
_OVER_IMAGES = "b is over images: the difference is an effect size, in spreads of single images, and no test."
_NONE = "The paper prints no standard deviation, so b is 0: its own error over images is not in the unit."
MEANS = {  # what the unit is worth, by table: it depends on what the paper's standard deviation is over
    **{1: _OVER_IMAGES, 2: _NONE, 3: "b is over runs.", 4: _NONE, 5: _OVER_IMAGES},
    6: "b is over runs; ours are the seeds in small print.",
}


@functools.cache
def printed() -> dict[str, Any]:
    """All tables as the package ships them: 177 means over Tables 1 to 6, by table, row (and column) and data set."""
    found: dict[str, Any] = json.loads(resources.files(__package__).joinpath("paper.json").read_text("utf-8"))
    return found


def column_of(dataset: str) -> str | None:
    """The paper's column for a data set; None for one that the paper does not have."""
    return COLUMNS.get(data_set(dataset))


def budget(column: str, attack: str) -> float | None:
    """The eps that the paper prints for an attack on a data set."""
    groups = printed()["hyperparameters"]["figure4"]
    found: float | None = next(v for k, v in groups.items() if column in k)[attack].get("eps")
    return found


def attacks_of(s: Scores) -> dict[str, str]:
    """Our attacks' labels, in order, to the paper's names. An attack with another budget than the paper's is left out."""
    out, column = {}, column_of(s.dataset)
    for i in s.attacked("published") if column and s.has_naturals else []:
        name, eps = ATTACKS.get(s.attacks.get(str(i["attack"]), {}).get("method", "")), i.get("eps")
        if name and (eps is None or math.isclose(float(eps), budget(str(column), name) or 0.0, rel_tol=1e-6)):
            out[str(i["attack"])] = name
    return out


def bold(l2: float, linf: float) -> bool:
    """Whether Table 2's caption prints such sizes bold."""
    return l2 >= BOLD[0] and linf >= BOLD[1]


def rounding(decimals: int) -> float:
    """Standard deviation of a uniform error of half the last printed digit."""
    return float(0.5 * 10.0**-decimals / math.sqrt(3))


def printed_text(r: Any) -> str:
    """``0.13 (0.03)``, ``22.00 %``: a row of the paper's as the paper prints it."""
    if r["percent"]:
        return f"{100 * r['value']:.{r['decimals'] - 2}f}\u202f%"
    return f"{r['value']:.{r['decimals']}f}" + ("" if r["std"] is None else f" ({r['std']:.{r['decimals']}f})")


def unit(lo: float, hi: float, std: float | None, decimals: int) -> float:
    """The uncertainty of a difference between our number and the paper's: one rule for all tables, ``UNIT``.

    Our bootstrap standard error, (hi - lo) / 3.92; the standard deviation that the paper prints, over images in Tables 1 and 5 (then the
    difference is an effect size), over runs in Tables 3 and 6; and the rounding of its mean. So a difference is finite also where the
    paper prints a standard deviation of 0.00.
    """
    return math.sqrt(((hi - lo) / NORMAL) ** 2 + (std or 0.0) ** 2 + rounding(decimals) ** 2)


# --- what the paper prints -----------------------------------------------------------------------------------------


def cell(of: dict[str, Any], column: str, *, percent: bool = False) -> Row:
    """One data set's cell of a row of :func:`printed`: value, and the columns that say how it is printed. Never in percent."""
    found, scale = of[column], 100 if percent else 1
    shown = len(f"{found.get('printed_mean', found['mean']):.10f}".rstrip("0").split(".")[1])
    decimals = found.get("decimals", max(DECIMALS, shown)) + round(-math.log10(found.get("printed_scale", 1) / scale))
    doubt = of.get("suspect", {}).get(column, "")
    return {"found": found["mean"] / scale, "std": found["std"], "decimals": decimals, "percent": percent, "suspect": doubt}


def rows(s: Scores, numbers: pd.DataFrame) -> list[Row]:
    """The paper's rows of this data set, then ours beside them. ``numbers``: the other numbers of the run."""
    if (column := column_of(s.dataset)) is None:
        return []
    last = {d: max(h["round"] for h in rounds) for (d, against), rounds in trainings(s).items() if against == THEIRS}
    tables = [_white_box(last, numbers, column)]
    if s.has_naturals:
        tables += _black_box(attacks_of(s), set(numbers["id"]), column, _learnt(s))
    theirs = _theirs(s.dataset, tables)
    return [*theirs, *beside(theirs, numbers)]


def printed_rows(dataset: str) -> list[Row]:
    """The paper's rows of a data set that was not run, with every column of the frame."""
    column = column_of(dataset)
    rows = [] if column is None else _theirs(dataset, [_white_box({}, frame([]), column), *_black_box({}, set(), column, [])])
    return records(frame(rows))


def _black_box(named: dict[str, str], known: set[str], column: str, learnt: list[str]) -> list[Iterator[Row]]:
    tables = [_distances(named, known, column, learnt), _sizes(named, known, column), _accuracies(named, known, column)]
    return [*tables, _pairs(named, known, column, learnt), _combined(column)]


def _theirs(dataset: str, tables: list[Iterator[Row]]) -> list[Row]:
    of: dict[str, Any] = {"dataset": dataset, "source": "paper", "protocol": "published"}
    return [row("paper table", "printed", r.pop("found"), (), **of | {"name": r["title"]} | r) for t in tables for r in t]


def beside(theirs: list[Row], numbers: pd.DataFrame) -> Iterator[Row]:
    """Ours minus the paper's with our interval, and that over its unit: the join of the paper's rows and ours."""
    ours: dict[str, Any] = {r["id"]: r for r in records(numbers)}
    for p in theirs:
        n = ours.get(p["ours"])
        if n is None or not all(math.isfinite(n[c]) for c in ("value", "lo", "hi")):
            continue
        place = {
            c: p.get(c) for c in ("dataset", "table", "row", "name", "cell", "saliency", "attack", "detector", "scheme", "title", "ours")
        }
        value, lo, hi = (n[c] - p["value"] for c in ("value", "lo", "hi"))
        seeds = tuple((r if math.isfinite(r) else 0.0) - p["value"] for r in n["seeds"])
        place["protocol"] = n["protocol"]
        yield row("paper table", "difference", Interval(value, lo, hi, n["n"], seeds), n["keys"], **place)
        yield row("paper table", "units", value / unit(n["lo"], n["hi"], p["std"], p["decimals"]), n["keys"], n["n"], **place)


def _learnt(s: Scores) -> list[str]:
    """The learnt maps whose shift was measured."""
    found = (i for i in s.images.values() if i["kind"] == "shift" and i["protocol"] == "published")
    return [str(i["saliency"]) for i in found if "UNet" in str(i["saliency"])]


def _ours(named: dict[str, str], known: set[str], **place: Any) -> Iterator[tuple[str, Row]]:
    """For each of the paper's attacks its name, and the place of our number; without one where none of ours has a number."""
    for name in ATTACKS.values():
        words = WORDS.get(name, name)
        labels = [a for a, n in named.items() if n == name and identify(place | {"attack": a}) in known]
        for label in labels:
            mine = attack_title(label)
            title = mine if mine == words else f"{mine} · {words}"
            yield name, {"row": label, "name": words, "attack": label, "title": title, "ours": identify(place | {"attack": label})}
        if not labels:
            yield name, {"row": words, "attack": None, "title": words, "ours": None}


def _distances(named: dict[str, str], known: set[str], column: str, learnt: list[str]) -> Iterator[Row]:
    """Table 1, for each learnt map."""
    rows = printed()["table1"]
    for m in learnt or (None,):
        place = {"kind": "shift", "protocol": "published", "saliency": m}
        at = {"table": 1, "saliency": m if len(learnt) > 1 else None, "map": m}
        first = {"row": "different images", "title": "different images", "ours": identify(place | {"measure": "other"}) if m else None}
        yield at | first | cell(rows["different_images"], column)
        for name, ours in _ours(named, known, **place, measure="shift"):
            yield at | ours | cell(rows[name], column) | {"p": rows[name][column]["p_value"]}


def _sizes(named: dict[str, str], known: set[str], column: str) -> Iterator[Row]:
    """Table 2."""
    place = {"kind": "attack", "protocol": "published"}
    for name, ours in _ours(named, known, **place, measure="rms"):
        found = {k: cell(printed()["table2"][name][theirs], column) for k, theirs in SIZES.items()}
        mark = {"bold": bold(found["rms"]["found"], found["linf"]["found"])}
        for k, c in found.items():
            id = identify(place | {"attack": ours["attack"], "measure": k}) if ours["ours"] else None
            yield {"table": 2, "cell": k} | ours | {"ours": id} | c | mark


def _white_box(last: dict[str, int], numbers: pd.DataFrame, column: str) -> Iterator[Row]:
    """Table 3: the rows that the paper prints; its attack as printed, after its number of passes; of several budgets the largest.
    ``last``: a detector's last round of training against that attack.
    """
    for when in ("before", "after"):
        for d in ("SMD", "SPD"):
            where = {"kind": "table 3", "part": PRINTED, "step": PASSES} if when == "before" else {"kind": "hardened", "against": THEIRS}
            for k in ("classifier", "detector"):
                ours = select(numbers, detector=d, measure=k, **where | ({} if when == "before" else {"round": last.get(d, -1)}))
                words = {"row": f"{d} {when}", "title": f"{d} {when} adversarial training", "ours": next(iter(ours["id"]), None)}
                of = printed()["table3"][f"{when}_adversarial_training"][f"{k}_accuracy"][d]
                yield {"table": 3, "cell": k, "detector": d} | words | cell(of, column)


def _accuracies(named: dict[str, str], known: set[str], column: str) -> Iterator[Row]:
    """Table 4."""
    rows = printed()["table4"]
    natural = {"row": "natural", "title": "natural", "ours": identify({"kind": "accuracy", "protocol": "any", "measure": "accuracy"})}
    yield {"table": 4} | natural | cell(rows["natural"], column, percent=True)
    for name, ours in _ours(named, known, kind="attack", protocol="published", measure="accuracy"):
        yield {"table": 4} | ours | cell(rows[name], column, percent=True)


def _pairs(named: dict[str, str], known: set[str], column: str, learnt: list[str]) -> Iterator[Row]:
    """Table 5, for each learnt map."""
    for m in learnt or (None,):
        at = {"table": 5, "saliency": m if len(learnt) > 1 else None, "map": m}
        for names, of in ((k, v) for k, v in printed()["table5"].items() if not k.startswith("_")):
            both = [(a, b) for a in named for b in named if [named[a], named[b]] == names.split("-")]
            place = {"kind": "shift", "protocol": "published", "saliency": m, "measure": "pair"}
            found = [(a, b, identify(place | {"attack": f"{x}|{y}"})) for a, b in both for x, y in ((a, b), (b, a))] if m else []
            ours = [
                {"row": f"{a}|{b}", "attack": f"{a}|{b}", "title": f"{attack_title(a)} – {attack_title(b)}", "ours": id}
                for a, b, id in found
                if id in known
            ]
            words = " – ".join(WORDS.get(n, n) for n in names.split("-"))
            none: list[Row] = [{"row": words, "title": words, "ours": None}]
            for line in ours or none:
                yield at | line | cell(of, column)


def _combined(column: str) -> Iterator[Row]:
    """Table 6: two schemes of ours beside one number of the paper's."""
    for d in sorted(DEFENCES):
        for scheme in TABLES[6][1]:
            place = {"kind": "detection", "protocol": "published", "detector": d, "scheme": scheme, "trained_on": "combined"}
            id = identify(place | {"title": d if scheme == "paired" else f"{d} ({scheme})", "tested_on": "combined", "measure": "accuracy"})
            yield {"table": 6, "row": d, "cell": scheme, "detector": d, "scheme": scheme, "title": d, "ours": id} | cell(
                printed()["table6"][d], column
            )
