"""Whether a report says what its records give: every number computed again and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataDamaged, VerificationFailed
from ..results.detection import missing_controls
from ..results.names import ORDINARY
from ..results.numbers import LATER
from ..results.scores import Scores
from ..store import packed, read_json
from . import grid
from .report import Made, entry

PARTS = ("value", "lo", "hi", "n", "protocol", "runs", "keys")


def problems(folder: Path | str) -> list[str]:
    """Everything that is wrong with a report, one line each; empty when it holds.

    Every number is computed again from the score records alone and compared with ``report.json`` and ``grid.csv``; every column
    is compared with its checksum; a detector whose scores do not vary, and a missing mandatory control, are problems too. Where some
    scores are not kept, the numbers that depend on the others are computed again and compared with the recorded ones.
    """
    return _checked(Path(folder))[0]


def _checked(folder: Path) -> tuple[list[str], str]:  # the problems, and in one line what could not be computed again
    beside = _body(folder).get("beside") if packed(Path(folder) / "report.json").exists() else None
    s = Scores.read(folder, verify=True, beside=None if beside is None else Path(folder) / beside)
    out = [f"{name} in {file} is not what was recorded" for name, file in s.damaged.items()]
    out += [f"{shard} is missing: its scores and what is computed from them cannot be verified" for shard in s.absent]
    for g in s.trained:
        at = f"{g.protocol}/{g.title}/{g.trained_on}"
        for f in g.seeds:
            mine = {n: v for n, (v, _) in f.scores.items() if v is not None and not s.images[n]["mixture"]}
            out += [f"{at}, seed {f.facts['seed']}: scores of {n} are not finite" for n, v in mine.items() if not np.isfinite(v).all()]
    ordinary = [g for g in s.trained if g.scheme in ORDINARY]  # a control may blind a detector wholly
    for g in ordinary:
        for f in g.seeds:
            scores = [v for v, _ in f.scores.values() if v is not None]
            if scores and all(np.ptp(v) == 0 for v in scores) and len({float(v[0]) for v in scores if len(v)}) <= 1:
                out.append(f"{g.protocol}/{g.title}/{g.trained_on}, seed {f.facts['seed']}: its scores do not vary")
    for protocol, attack in dict.fromkeys((g.protocol, g.trained_on) for g in ordinary):
        there = [g for g in s.of(protocol) if g.trained_on == attack]
        out += [f"{protocol}/{attack}: the mandatory control {c} is missing" for c in missing_controls(s, there)]
    printed, found = _printed(folder), Made(s, "")
    later = LATER if _body(folder).get("schema") == 1 else ()  # kinds that reports of earlier versions do not hold
    expected = [entry(r) for r in found.rows if r["source"] != "paper" and r["kind"] not in later]
    resampled = {r["id"]: r["resampled"] for r in found.rows if r["resampled"]}
    out += differences(printed, expected, resampled=resampled) + grid.problems(s.folder, grid.csv(s, found.rows))
    if s.not_kept is None:
        return out, ""
    known = {r["id"]: r for r in found.ours}
    again = found.again
    out += differences([known[r["id"]] for r in again], again)
    if len(again) < s.not_kept.again:
        out.append(f"{len(again)} numbers follow from the scores that are kept; {s.not_kept.again} did when the others were removed")
    left = f"{len(again)} computed again from the scores that are kept, {len(known) - len(again)} as recorded: they depend on"
    return out, f"{left} {len(s.not_kept.gone)} files of scores that are not kept (`{s.not_kept.command}` makes them)"


def verify(folder: Path | str, say: Callable[[str], None] | None = None) -> int:
    """The number of verified numbers; ``say`` hears which of them could not be computed again, where scores are not kept.

    Raises:
        VerificationFailed: names what is wrong.
    """
    found, left = _checked(Path(folder))
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise VerificationFailed(f"{folder}: {len(found)} problems: " + "; ".join(found[:5]) + more)
    if left and say is not None:
        say(f"{folder}: {left}")
    return len(_printed(folder))


def differences(
    printed: Sequence[Mapping[str, Any]],
    recomputed: Sequence[Mapping[str, Any]],
    tolerance: float = 1e-9,
    resampled: Mapping[str, tuple[float, float]] | None = None,
) -> list[str]:
    """What is different between two lists of numbers, one line each. ``resampled``: by id the interval that earlier versions printed, from
    resampling alone, where an exact bound stands now.
    """
    earlier = {i: dict(zip(("lo", "hi"), ends, strict=True)) for i, ends in (resampled or {}).items()}
    a, b = {n["id"]: n for n in printed}, {n["id"]: n for n in recomputed}
    out = [f"{i}: printed, but does not follow from the records" for i in a.keys() - b.keys()]
    out += [f"{i}: follows from the records, but is not printed" for i in b.keys() - a.keys()]
    for i in a.keys() & b.keys():
        for part in PARTS:
            as_before = part in ("lo", "hi") and _is_earlier(a[i], earlier.get(i), tolerance)
            if not _same(a[i].get(part), b[i][part], tolerance) and not as_before:
                out.append(f"{i}: {part} is printed as {a[i].get(part)}, the records give {b[i][part]}")
    return sorted(out)


def _is_earlier(printed: Mapping[str, Any], earlier: Mapping[str, float] | None, tolerance: float) -> bool:
    """Whether a number is printed with the interval of an earlier version."""
    return earlier is not None and all(_same(printed.get(e), v, tolerance) for e, v in earlier.items())


def _same(x: Any, y: Any, tolerance: float) -> bool:
    if isinstance(x, list) and isinstance(y, list):
        return len(x) == len(y) and all(_same(p, q, tolerance) for p, q in zip(x, y, strict=True))
    if isinstance(x, int | float) and isinstance(y, int | float):
        return abs(x - y) <= tolerance
    return bool(x == y)


def _body(folder: Path | str) -> dict[str, Any]:
    body = read_json(Path(folder) / "report.json")
    return body if isinstance(body, dict) else {}


def _printed(folder: Path | str) -> list[Any]:
    """The numbers of ``report.json``."""
    found = _body(folder).get("numbers")
    if not isinstance(found, list) or not all(isinstance(n, dict) and "id" in n for n in found):
        raise DataDamaged(f"{folder}/report.json is damaged: it holds no list of numbers")
    return found
