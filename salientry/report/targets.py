"""The paper's printed numbers, shipped as data, and which of ours stands beside which."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources

from ..store import JSON
from .records import Records

COLUMNS = {"digits": "MNIST", "mnist": "MNIST", "cifar10": "CIFAR-10", "assira": "ASSIRA"}  # a run's data set: the paper's column
ATTACKS = {"FGSM": "FGSM", "BIM": "BIM", "MIM": "MIM", "CarliniWagner": "CW", "DeepFool": "DF", "JSMA": "JSMA"}
WORDS = {"CW": "C&W", "different_images": "different images"}
TABLES = {  # what they are called, and our groups of columns
    1: ("L2 distance between saliency maps", ["distance"]),
    2: ("perturbation sizes", ["L0 share", "L2 (RMS)", "L∞"]),
    3: ("white box", ["classifier right", "detector right"]),
    4: ("accuracy of the classifier", ["accuracy"]),
    5: ("distance between the maps of two attacks on an image", ["distance"]),
    6: ("one detector for all attacks", ["accuracy, paired", "accuracy, replica"]),
}
DECIMALS = 2  # of a printed mean, unless its value shows more


@functools.cache
def printed() -> JSON:
    """All tables as the package ships them: 177 means over Tables 1 to 6, by table, row (and column) and data set."""
    return json.loads(resources.files("salientry.results").joinpath("paper.json").read_text("utf-8"))


@dataclass(frozen=True)
class Printed:
    """A mean as the paper prints it; shares and distances, never percent.

    Attributes:
        mean: the value.
        std: what stands in brackets, None where nothing does.
        decimals: of the mean.
        percent: whether the paper prints it in percent.
        suspect: why the cell is doubted, empty where it is not.
    """

    mean: float
    std: float | None
    decimals: int
    percent: bool = False
    suspect: str = ""

    @property
    def rounding(self) -> float:
        """Standard deviation of a uniform error of half the last printed digit."""
        return 0.5 * 10.0**-self.decimals / math.sqrt(3)

    @property
    def text(self) -> str:
        """``0.13 (0.03)``."""
        if self.percent:
            return f"{100 * self.mean:.{self.decimals - 2}f}\u202f%"
        return f"{self.mean:.{self.decimals}f}" + ("" if self.std is None else f" ({self.std:.{self.decimals}f})")


def cell(row: JSON, column: str, *, percent: bool = False) -> Printed:
    """One data set's cell of a row of :func:`printed`."""
    found, scale = row[column], 100 if percent else 1
    shown = len(f"{found.get('printed_mean', found['mean']):.10f}".rstrip("0").split(".")[1])
    decimals = found.get("decimals", max(DECIMALS, shown)) + round(-math.log10(found.get("printed_scale", 1) / scale))
    suspect = row.get("suspect", "")
    mine = suspect and column.startswith(suspect.split(" ")[0])  # its first word is the data set
    return Printed(found["mean"] / scale, found["std"], decimals, percent, suspect if mine else "")


def rows(number: int) -> list[str]:
    """The names of a table's rows, in the paper's order."""
    names = list(ATTACKS.values())
    if number == 5:
        return [k for k in printed()["table5"] if not k.startswith("_")]
    white = [f"{d} {when}" for when in ("before", "after") for d in ("SMD", "SPD")]
    return {1: ["different_images", *names], 2: names, 3: white, 4: ["natural", *names], 6: ["ID", "JSD", "SMD", "SPD"]}[number]


def words(number: int, name: str) -> str:
    """A row of :func:`rows` as it is shown."""
    if number == 3:
        return f"{name} adversarial training"
    return " – ".join(WORDS.get(n, n) for n in (name.split("-") if number == 5 else [name]))


def row(number: int, name: str, column: str) -> list[Printed]:
    """What the paper prints in a row for a data set, a cell for each of our groups of columns."""
    found = printed()[f"table{number}"]
    if number == 2:
        return [cell(found[name][k], column) for k in ("L0_rate", "L2", "Linf")]
    if number == 3:
        defence, when = name.split(" ")
        return [cell(found[f"{when}_adversarial_training"][f"{k}_accuracy"][defence], column) for k in ("classifier", "detector")]
    return [cell(found[name], column, percent=number == 4)] * (2 if number == 6 else 1)


def column_of(records: Records) -> str | None:
    """The paper's column for a run; None for a data set that the paper does not have."""
    return COLUMNS.get(records.dataset.split("-")[0].lower())


def budget(column: str, attack: str) -> float | None:
    """The eps that the paper prints for an attack on a data set."""
    groups = printed()["hyperparameters"]["figure4"]
    settings = next(v for k, v in groups.items() if column in k)
    found: float | None = settings[attack].get("eps")
    return found


def attacks_of(records: Records, column: str) -> dict[str, str]:
    """Our attacks' labels, in order, to the paper's rows. An attack with another budget than the paper's is left out."""
    out = {}
    for s in records.attacked("published"):
        label, eps = str(s.facts["attack"]), s.facts.get("eps")
        name = ATTACKS.get(label.split("-")[0])
        if name and (eps is None or math.isclose(float(eps), budget(column, name) or 0.0, rel_tol=1e-6)):
            out[label] = name
    return out
