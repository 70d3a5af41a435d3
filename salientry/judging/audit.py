"""An audit of somebody's evaluation of a detector: which faults can be seen in its files, and which cannot be excluded."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import audit_claims, audit_images, audit_scores, audit_splits
from .audit_files import Claims, Evaluation, pictures_of, read_evaluation
from .audit_findings import FAULT, KINDS, Finding, Seen, Unseen
from .table import ScoreTable

WIDTH = 110
CHECKS: tuple[Callable[[Evaluation], Iterator[Seen]], ...] = (
    audit_splits.roles,
    audit_splits.naturals,
    audit_splits.rows_agree,
    audit_splits.same_images,
    audit_splits.counts,
    audit_splits.seeds,
    audit_splits.seen_attacks,
    audit_scores.scores,
    audit_claims.epochs,
    audit_claims.thresholds,
    audit_claims.rates,
    audit_images.images,
)


@dataclass(frozen=True)
class Audit:
    """What was found in an evaluation.

    Attributes:
        origin: the file or folder.
        findings: faults first.
        unseen: what could not be looked for, and why.
        rows: of the table.
    """

    origin: str
    findings: tuple[Finding, ...]
    unseen: tuple[Unseen, ...]
    rows: int

    @property
    def ok(self) -> bool:
        """Whether no fault was found; there may be remarks, and what could not be looked for."""
        return not self.faults

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are faults."""
        return tuple(f for f in self.findings if f.severity == FAULT)

    @property
    def names(self) -> tuple[str, ...]:
        """The findings' names."""
        return tuple(f.name for f in self.findings)

    @property
    def excluded(self) -> tuple[str, ...]:
        """What was looked for and not found."""
        gone = {*self.names, *(n for u in self.unseen for n in u.names)}
        return tuple(n for n in KINDS if n not in gone)

    def json(self) -> dict[str, Any]:
        """As JSON."""
        unseen = [{"names": list(u.names), "why": u.why} for u in self.unseen]
        given = {"origin": self.origin, "rows": self.rows, "ok": self.ok, "findings": [f.json() for f in self.findings]}
        return given | {"not_found": list(self.excluded), "cannot_exclude": unseen}

    def __str__(self) -> str:
        faults, remarks = len(self.faults), len(self.findings) - len(self.faults)
        lines = [f"{_number(faults, 'fault')}, {_number(remarks, 'remark')} in {self.origin} ({_number(self.rows, 'row')})"]
        for f in self.findings:
            lines += [*_wrapped(f"{f.severity} {f.name}: {f.sentence}", "", "  ")]
            lines += [*_wrapped(f"for example {f.example}", "  ", "    ")] if f.example else []
            lines += [*_wrapped(f"do: {f.advice}", "  ", "    ")]
        if self.unseen:
            lines += ["cannot exclude"]
            lines += [line for u in self.unseen for line in _wrapped(f"- {u}", "  ", "    ")]
        lines += _wrapped(f"not found: {', '.join(self.excluded) or 'nothing'}", "", "  ")
        return "\n".join(lines)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)


def audit(given: Path | str | ScoreTable, *, images: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | None = None) -> Audit:
    """Look for faults in an evaluation of a detector.

    Args:
        given: a file of scores, a folder with ``scores.parquet`` (or ``.csv``, ``.npz``), ``images.npz`` and ``evaluation.json``, of which
            the last two may be missing; or a table. See :mod:`salientry.judging.table` and :mod:`salientry.judging.audit_files`.
        images: arrays named as in images.npz, with a table or a file of scores.
        claims: what evaluation.json would hold, with a table or a file of scores.

    Raises:
        DataMissing: where there are no scores.
        DataDamaged: for a file that cannot be read.
        UsageError: for one that holds something else.

    Examples:
        >>> from salientry.judging.audit import audit
        >>> from salientry.judging.table import ScoreTable
        >>> rows = {"image": range(60), "set": ["natural"] * 60, "attack": [""] * 60, "label": [1] * 60, "predicted": [1] * 60}
        >>> print(audit(ScoreTable.of(rows | {"split": ["test"] * 60, "score": [0.5] * 60})).names)
        ('constant-scores', 'few-images')
    """
    found = Evaluation(given) if isinstance(given, ScoreTable) else read_evaluation(given)
    if images is not None or claims is not None:
        pictures = found.pictures if images is None else pictures_of(images, "images")
        found = Evaluation(found.table, pictures, found.claims if claims is None else Claims.of(claims, "claims"), found.origin)
    seen = [s for check in CHECKS for s in check(found)]
    findings = sorted((s for s in seen if isinstance(s, Finding)), key=lambda f: f.severity != FAULT)
    return Audit(found.origin, tuple(findings), _joined([s for s in seen if isinstance(s, Unseen)]), len(found.table))


def _joined(unseen: list[Unseen]) -> tuple[Unseen, ...]:
    """One for each reason."""
    by_reason: dict[str, list[str]] = {}
    for u in unseen:
        by_reason.setdefault(u.why, []).extend(u.names)
    return tuple(Unseen(tuple(dict.fromkeys(names)), why) for why, names in by_reason.items())


__all__ = ["Audit", "audit"]
