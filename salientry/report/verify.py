"""Do the printed numbers follow from the records, and are the records fit to print from?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataDamaged, VerificationFailed
from ..store import one_of, packed, read_json
from . import appendix, detection, grid
from .compute import computed
from .detection import missing_controls
from .numbers import Ledger, differences
from .records import ORDINARY, Records


def problems(folder: Path | str) -> list[str]:
    """Everything that is wrong with a report, one line each; empty when it holds.

    Every number is computed again from the score records alone and compared with ``report.json`` and ``grid.csv``; every column
    is compared with its checksum; a detector whose scores do not vary, and a missing mandatory control, are problems too.
    """
    beside = _body(folder).get("beside") if packed(Path(folder) / "report.json").exists() else None
    records = Records(folder, verify=True, beside=None if beside is None else Path(folder) / beside)
    out = [f"{name} in {file} is not what was recorded" for name, file in records.damaged.items()]
    out += [f"{shard} is missing: its scores and what is computed from them cannot be verified" for shard in records.absent]
    out += [
        f"{g.name}, seed {run.facts['seed']}: scores of {name} are not finite"
        for g in records.groups
        for run in g.runs
        for name, s in run.scores.items()
        if not np.isfinite(s).all()
    ]
    for g in records.groups:
        if g.form not in ORDINARY:
            continue  # a control may blind a detector wholly
        for run in g.runs:
            if all(np.ptp(s) == 0 for s in run.scores.values()) and len({float(s[0]) for s in run.scores.values() if len(s)}) <= 1:
                out.append(f"{g.name}, seed {run.facts['seed']}: its scores do not vary")
    for protocol, attack in dict.fromkeys((g.protocol, g.trained_on) for g in records.groups if g.form in ORDINARY):
        there = [g for g in records.of(protocol) if g.trained_on == attack]
        out += [f"{protocol}/{attack}: the mandatory control {c} is missing" for c in missing_controls(records, there)]
    printed, found = _printed(folder), computed(records)
    return out + differences(printed, found.ledger.json()) + appendix.problems(records.folder, found.ledger, found.tables)


def verify(folder: Path | str) -> int:
    """The number of verified numbers.

    Raises:
        VerificationFailed: names what is wrong.
    """
    found = problems(folder)
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise VerificationFailed(f"{folder}: {len(found)} problems: " + "; ".join(found[:5]) + more)
    return len(_printed(folder))


def listed(folder: Path | str, figure: str) -> tuple[list[str], bool]:
    """The cells of a figure as lines of text, and whether they add up: each is a finite number or says why not, each row has heads
    of its own.

    Raises:
        UsageError: for a figure without cells.
    """
    one_of("figure with cells", figure, ("figure2",))
    records = Records(folder)
    ledger = Ledger()
    found = grid.grid(records, ledger, detection.tables(records, ledger))
    return list(grid.cell_lines(records, ledger, found)), not grid.amiss(ledger, found)


def absent(folder: Path | str) -> list[str]:
    """The files of scores that the records name and that are not there."""
    return [s for s in read_json(Path(folder) / "records.json")["shards"] if not (Path(folder) / s).exists()]


def _body(folder: Path | str) -> dict[str, Any]:
    body = read_json(Path(folder) / "report.json")
    return body if isinstance(body, dict) else {}


def _printed(folder: Path | str) -> list[Any]:
    """The numbers of ``report.json``."""
    found = _body(folder).get("numbers")
    if not isinstance(found, list) or not all(isinstance(n, dict) and "id" in n for n in found):
        raise DataDamaged(f"{folder}/report.json is damaged: it holds no list of numbers")
    return found
