"""A verdict as people read it: ten lines, a page, Markdown, JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..files import replacing
from ..rates import escaped_table
from ..store import JSON, write_json
from .page import page
from .standing import standing
from .table import ScoreTable, write_scores
from .verdict import HALVED
from .words import TitledTable, said, sections, side_by_side

FILES = ("index.html", "verdict.md", "verdict.json", "scores.npz", "evaluation.json")


@dataclass(frozen=True)
class Judgement:
    """What came of it.

    Attributes:
        verdicts: of each detector, by name: :func:`~salientry.judging.verdict.verdict`, with ``adaptive`` and ``cost`` where they were
            measured.
        facts: of classifier, images, attacks and versions; ``own`` names the detectors that were to be judged, others are baselines.
        table: all scores.
    """

    verdicts: dict[str, JSON]
    facts: JSON
    table: ScoreTable

    def json(self) -> JSON:
        """Everything but the scores."""
        return {"schema": 1, "facts": self.facts, "detectors": self.verdicts}

    def __str__(self) -> str:
        own = [n for n in self.verdicts if n in self.facts["own"]]
        lines = [self.facts["classifier"]] if self.facts["classifier"] else []
        for name in own:
            head, *rest = said(self.verdicts[name])
            lines += [f"{name}: {head}", *(f"  {text}" for text in [*rest, *standing(name, self.verdicts, self.facts)])]
        if len(self.verdicts) > 1:
            lines += side_by_side(self.verdicts, own)
        lines += [self.facts["best"]] if self.facts.get("best") else []
        return "\n".join([*lines, *(f"left out: {text}" for text in self.facts.get("left_out", []))])

    def claims(self) -> JSON:
        """What is claimed, in the form that ``salientry audit`` reads: the first level, its thresholds, how many naturals and how many
        attacked images of each attack count; no numbers of images where a half of the naturals had to calibrate.
        """
        first = next(iter(self.verdicts.values()))
        level = next(iter(first["thresholds"]))
        claimed = {"level": float(level), "thresholds": {name: v["thresholds"][level] for name, v in self.verdicts.items()}}
        if HALVED in first["notes"]:
            return claimed
        attacked = {a["attack"]: a["success"]["count"] for a in first["attacks"] if not a["encoding"]}
        return claimed | {"natural": first["natural"][level]["all"]["of"], "attacked": attacked}

    def sections(self) -> list[TitledTable]:
        """All tables."""
        return sections(self.verdicts, self.facts)

    def markdown(self) -> str:
        """The report in Markdown."""
        found = ["# Verdict", "", *(f"    {line}" for line in str(self).splitlines()), ""]
        for s in self.sections():
            found += [f"## {s.title}", "", *([s.says, ""] if s.says else []), *escaped_table(s.heads, s.rows)]
        return "\n".join(found)

    def save(self, folder: Path | str) -> Path:
        """Write ``index.html``, ``verdict.md``, ``verdict.json``, ``scores.npz``, and ``evaluation.json`` for ``salientry audit``.

        Returns:
            The folder.

        Raises:
            StoreError: when it cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("index.html", page(self.verdicts, self.facts)), ("verdict.md", self.markdown())):
            with replacing(folder / name) as f:
                f.write(text.encode())
        write_json(folder / "verdict.json", self.json())
        write_json(folder / "evaluation.json", self.claims())
        write_scores(self.table, folder / "scores.npz")
        return folder


__all__ = ["FILES", "Judgement"]
