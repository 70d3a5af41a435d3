"""The recorded runs in results/: their numbers by id, as printed in report.json, and what made them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salientry.report.collection import ORDER as COLUMNS
from salientry.results.names import attack_title
from salientry.results.paper_numbers import COLUMNS as NAMED
from salientry.store import read_json

RESULTS = Path(__file__).parents[1] / "results"


def short(v: float) -> str:
    """``.135``; −.000 is .000."""
    text = f"{v:.3f}".replace("-0.000", "0.000")
    return (text.replace("0.", ".", 1) if abs(v) < 1 else text).replace("-", "−")


def text(value: Any, lo: Any = None, hi: Any = None) -> str:
    """``.135 [.117, .155]``; nothing for no number."""
    if value is None:
        return ""
    return short(value) + ("" if lo is None or hi is None else f" [{short(lo)}, {short(hi)}]")


def made(run: dict[str, Any]) -> str:
    """Device and versions of a run.json."""
    m = run["machine"]
    return f"{m['hardware']} {m['device']}, torch {m['torch']}, Python {m['python']}"


def row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"


def rule(columns: int) -> str:
    """The line below its head."""
    return "| --- |" + " --- |" * (columns - 1)


@dataclass(frozen=True)
class Recorded:
    """One folder with report.json and run.json."""

    folder: Path

    @functools.cached_property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = read_json(self.folder / "report.json")
        return body

    @functools.cached_property
    def numbers(self) -> dict[str, dict[str, Any]]:
        return {n["id"]: n for n in self.body["numbers"]}

    @functools.cached_property
    def run(self) -> dict[str, Any]:
        run: dict[str, Any] = read_json(self.folder / "run.json")
        return run

    @property
    def dataset(self) -> str:
        return str(self.body["recipe"]["parameters"].get("dataset", "digits"))

    @property
    def title(self) -> str:
        """The data set as the paper writes it."""
        return "MNIST, 5,000 digits" if self.dataset == "digits" else NAMED.get(self.dataset, self.dataset)

    @property
    def seed(self) -> int:
        return int(self.body["recipe"]["seed"])

    @property
    def again(self) -> bool:
        """A second run of a data set, or of the headline's rows alone."""
        return self.seed != 0 or self.body["recipe"]["parameters"].get("rows") == "headline"

    @property
    def seeds(self) -> str:
        """Of the detectors."""
        most = max(len(n["runs"]) for n in self.numbers.values())
        return "detector seed 0" if most < 2 else f"detector seeds 0 {'and' if most == 2 else 'to'} {most - 1}"

    @property
    def source(self) -> str:
        """What made it."""
        return f"`{self.run['command']}`, run seed {self.seed}, {self.seeds}, {made(self.run)}"

    @functools.cached_property
    def headline(self) -> dict[str, str]:
        """The attacks of the headline, title to label."""
        found = [i.split("/")[1] for i in self.numbers if i.startswith("headline/") and i.endswith("/SPD minus the best floor")]
        return {attack_title(a): a for a in found if a != "combined"}

    def attack(self, kind: str) -> tuple[str, str] | None:
        """Title and label of the headline's attack of a kind (``BIM``)."""
        return next(((t, a) for t, a in self.headline.items() if a.split("-")[0] == kind), None)

    def cell(self, id: str, interval: bool = True) -> str:
        """A number of the report, empty where it has none."""
        n = self.numbers.get(id)
        return "" if n is None else text(n["value"], n["lo"], n["hi"]) if interval else text(n["value"])

    def n(self, id: str) -> int:
        return int(self.numbers[id]["n"])


def recorded(kind: str) -> list[Recorded]:
    """The runs in results/KIND, the paper's data sets in its order."""
    found = [Recorded(p.parent) for p in sorted((RESULTS / kind).glob("*/records.json.xz"))]
    return sorted(found, key=lambda r: (COLUMNS.index(c) if (c := NAMED.get(r.dataset)) else len(COLUMNS), r.dataset, r.seed))


def first(runs: list[Recorded]) -> list[Recorded]:
    """One of each data set."""
    return list({r.dataset: r for r in reversed(runs) if not r.again}.values())[::-1]
