"""The recorded runs in results/: their numbers, computed again from the records, the verdicts on them, and what made them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salientry.report import claims, claims_document, columns, report
from salientry.report.columns import ORDER
from salientry.report.page import Maker
from salientry.report.render import text
from salientry.report.spec import Number
from salientry.report.words import attack_title, said
from salientry.results.paper_numbers import column_of
from salientry.results.scores import Scores

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAPER = RESULTS / "paper"  # at the paper's size: other nets on the same data, not judged together with
FOLDERS = tuple(sorted(p.parent.relative_to(ROOT) for p in RESULTS.rglob("records.json.xz") if p.parents[1] != PAPER))
TIMING = Path("results/benchmarks/guard.json")


def made(run: dict[str, Any]) -> str:
    """Device and versions of a run.json."""
    m = run["machine"]
    return f"{m['hardware']} {m['device']}, torch {m['torch']}, Python {m['python']}"


@dataclass(frozen=True)
class Recorded:
    """One recorded run."""

    folder: Path
    one: report.Made

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.one.rows

    @property
    def make(self) -> Maker:
        return self.one.make

    @property
    def run(self) -> dict[str, Any]:
        return self.one.scores.run

    @property
    def dataset(self) -> str:
        return str(self.one.scores.body["recipe"]["parameters"].get("dataset", "digits"))

    @property
    def title(self) -> str:
        """The data set as the paper writes it."""
        return said("dataset", self.dataset)

    @property
    def seed(self) -> int:
        return self.one.scores.run_seed

    @property
    def again(self) -> bool:
        """A second run of a data set, or of the headline's rows alone."""
        return columns.again(self.one)

    @functools.cached_property
    def seeds(self) -> str:
        """Of the detectors."""
        most = max(len(r["seeds"]) for r in self.rows)
        return "detector seed 0" if most < 2 else f"detector seeds 0 {'and' if most == 2 else 'to'} {most - 1}"

    @property
    def origin(self) -> str:
        """What made it, but for the command."""
        return f"run seed {self.seed}, {self.seeds}, {made(self.run)}"

    @property
    def source(self) -> str:
        """What made it."""
        return f"`{self.run['command']}`, {self.origin}"

    @functools.cached_property
    def headline(self) -> dict[str, str]:
        """The attacks of the headline, title to label."""
        labels = self.make.values("headline", "trained_on", protocol="strict", measure="difference")
        return {attack_title(a): a for a in labels if a != "combined"}

    def attack(self, kind: str) -> str | None:
        """Label of the headline's attack of a kind (``BIM``)."""
        return next((a for a in self.headline.values() if a.split("-")[0] == kind), None)

    def find(self, kind: str, **where: Any) -> Number | None:
        return self.make.find(kind, **where)

    def cell(self, kind: str, how: str = "", n: bool = False, **where: Any) -> str:
        """A number as text, with its n; "not run" where there is none."""
        found = self.find(kind, **where)
        return "not run" if found is None else text(found, how) + (f" (n = {found.n:,})" if n else "")

    def detected(self, title: str, attack: str, measure: str = "tpr@0.05", **where: Any) -> Number | None:
        """A detector's number, strict, trained and tested on an attack."""
        return self.find(
            "detection", **{"protocol": "strict", "title": title, "trained_on": attack, "tested_on": attack, "measure": measure} | where
        )


def _judged() -> tuple[list[tuple[Scores, Any]], claims.Verdicts]:
    """All recorded runs, each with the white box beside it, with their numbers, and the verdicts on them; computed once."""
    with contextlib.chdir(ROOT):  # the document names the folders as they are given
        return claims_document.judged(FOLDERS, TIMING)


def verdicts() -> claims.Verdicts:
    """On all recorded runs."""
    return _judged()[1]


@functools.cache
def recorded(kind: str) -> Sequence[Recorded]:
    """The runs in results/KIND, the paper's data sets in its order."""
    known = {s.folder: report.Made(s, s.run["command"], "", frame) for s, frame in _judged()[0]}
    folders = [f for f in FOLDERS if f.parent.name == kind]
    with contextlib.chdir(ROOT):
        found = [Recorded(f, known.get(f) or report.made(f)) for f in folders]
    return sorted(found, key=lambda r: (ORDER.index(c) if (c := column_of(r.dataset)) in ORDER else len(ORDER), r.dataset, r.seed))


def first(runs: Sequence[Recorded]) -> list[Recorded]:
    """One of each data set."""
    return list({r.dataset: r for r in reversed(runs) if not r.again}.values())[::-1]
