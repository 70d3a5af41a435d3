"""One run: its numbers computed from the records, written beside them, and verified."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ..errors import DataDamaged, StoreError, VerificationFailed
from ..results import kept
from ..results.counts import counts
from ..results.detection import missing_controls, together
from ..results.names import ORDINARY, own_trunk
from ..results.numbers import LATER, numbers
from ..results.scores import Scores
from ..results.transfer import amiss, cell_lines, cells
from ..results.warnings import passing_classes, warnings
from ..store import JSON, one_of, packed, read_json, write_json, write_text
from . import grid, page
from .all_sections import sections
from .claims import blocks
from .overview import how_to_read, overview
from .page import Maker, ordered
from .sections import Shown
from .spec import Context
from .words import WARNINGS

SCHEMA = 2
BEST = ("best baseline", "of all baselines the best AUROC on validation pairs of the same attack: what a difference is taken to")
NO_OWN_MAP = ("no own map", "the map of another image that is called the same keeps and destroys about as much")
PARTS = ("value", "lo", "hi", "n", "protocol", "runs", "keys")


@dataclass(frozen=True)
class Made:
    """Everything that a page is written from.

    Attributes:
        scores: of the run.
        command: that made the records.
        name: of the run, where several stand on a page.
        computed: all its numbers, where they are known already.
    """

    scores: Scores
    command: str
    name: str = ""
    computed: Any = None

    @functools.cached_property
    def frame(self) -> Any:
        """All numbers, a row each."""
        return numbers(self.scores) if self.computed is None else self.computed

    @functools.cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The same as dictionaries, with this run's name."""
        rows = self.frame.to_dict("records")
        return [r | {"run": self.name, "attack": r["attack"] or ("natural" if r["kind"] == "gradient" else None)} for r in rows]

    @functools.cached_property
    def ours(self) -> list[dict[str, JSON]]:
        """Our numbers as they stand in ``report.json``."""
        return [_entry(r) | {"command": self.command} for r in self.rows if r["source"] != "paper"]

    @property
    def again(self) -> list[dict[str, JSON]]:
        """Where not all scores are kept: the numbers that follow from those that are. Less than the recorded keys is no such number."""
        s, keys = self.scores, {n["id"]: n["keys"] for n in self.ours}
        alone = Made(Scores.read(s.folder, alone=True, beside=s.beside.folder if s.beside else None), "")
        return [n for n in alone.ours if n["keys"] == keys.get(n["id"])]

    @functools.cached_property
    def make(self) -> Maker:
        """Makes the blocks of its page."""
        return Maker(ordered(self.rows), context(self.scores, self.frame))

    @property
    def shown(self) -> Shown:
        """What its page shows."""
        return Shown(self.scores, self.make, self.command, blocks(self.scores, self.frame))

    @property
    def text(self) -> str:
        """The page."""
        s = self.scores
        recipe, full = s.body["recipe"]["recipe"], s.has_naturals
        images = f" · {len(s.natural('test')['id']):,} test images" if full else ""
        lead = Markup(
            "Salientry, recipe <b>{}</b> on {}, run seed {}{} · {:,} numbers, each computed from the records beside this page"
        ).format(recipe, s.dataset, s.run_seed, images, len(self.ours))
        heading = "How well are adversarial examples detected?" if full else "What does it cost an attacker to evade a known detector?"
        counted = counts(s)
        counted_text = "; ".join(counted.lines()) + "." if counted else ""
        top = [*overview(self.shown, [counted_text[:1].upper() + counted_text[1:]] if counted_text else []), how_to_read(self.shown)]
        return page.html(f"Salientry · {recipe}", heading, lead, top, sections(self.shown))


def _entry(r: Mapping[str, Any]) -> dict[str, JSON]:
    """A number as ``report.json`` holds it."""
    plain = {c: float(r[c]) if math.isfinite(r[c]) else None for c in ("value", "lo", "hi")}
    runs = [float(v) if math.isfinite(v) else None for v in r["seeds"]]
    return {"id": r["id"], **plain, "n": int(r["n"]), "protocol": r["protocol"], "runs": runs, "keys": list(r["keys"])}


def context(s: Scores, frame: Any) -> Context:
    """Levels, reduced attacks and warnings of a run."""
    calibrated = [r.thresholds for g in s.trained for r in g.seeds] or [
        i["thresholds"] for i in s.white_box.values() if i.get("thresholds")
    ]
    known = {level for thresholds in calibrated for level in thresholds if level != "own"}
    found: list[dict[str, Any]] = warnings(s, frame).to_dict("records")  # type: ignore[assignment]
    best = (
        {("strict", t.baseline.title, t.trained_on) for t in together(s) if t.protocol == "strict" and t.baseline}
        if s.has_naturals
        else set()
    )
    passing = {scheme: passing_classes(frame, scheme) for scheme in (None, "trunk")}

    def concerns(w: Mapping[str, Any], place: Mapping[str, Any]) -> bool:
        if w["kind"] == "detection":
            return all(bool(w[c] == place.get(c)) for c in ("protocol", "title", "trained_on"))
        if w["kind"] == "map":
            return bool(w["part"] == place.get("part")) and (w["scheme"] == "trunk") == own_trunk(place.get("saliency", ""))
        if w["title"] is None:
            return bool(w["attack"] == place.get("part"))
        return bool(w["title"] == place.get("title") and ("attack" not in place or w["attack"] in (None, place["attack"])))

    def warned(place: Mapping[str, Any]) -> list[tuple[str, str]]:
        out = [BEST] * ((place.get("protocol"), place.get("title"), place.get("trained_on")) in best)
        out += [(f"{WARNINGS.get(w['code'], w['code'].lower())} {w['count']}".strip(), w["text"]) for w in found if concerns(w, place)]
        scheme = "trunk" if own_trunk(place.get("saliency", "")) else None
        return out + [NO_OWN_MAP] * ("class_number" in place and not passing[scheme].get(place["class_number"], True))

    reduced = frozenset(a["label"] for a in s.body["attacks"] if a["reduced"])
    return Context(sorted(known, key=float, reverse=True) or ["own"], reduced, warned)


def made(folder: Path | str, command: str | None = None, beside: Path | None = None, name: str = "") -> Made:
    """Read the records, as :func:`write`, and write nothing."""
    scores = Scores.read(folder, beside=beside or remembered(Path(folder)))
    return Made(scores, command or scores.run.get("command", "salientry report"), name)


def write(folder: Path | str, command: str | None = None, beside: Path | None = None) -> Path:
    """Compute every number of the records in ``folder`` and write ``report.json``, ``grid.csv`` and ``report.html`` beside them.

    Args:
        folder: holds ``records.json``.
        command: what was typed, when it is not what ``run.json`` says.
        beside: a folder with the records of the white box on the same classifier; the report remembers where it lies, and the next one
            finds it there.

    Returns:
        The page's path.

    Raises:
        UsageError: when there are no records.
        StoreError: when it cannot be written.
    """
    return put(made(folder, command, beside))


def put(one: Made) -> Path:
    """Write the page and what stands beside it into the folder of its records."""
    s = one.scores
    body = {"schema": SCHEMA, "recipe": s.body["recipe"], "command": one.command, "numbers": one.ours}
    body |= {} if s.beside is None else {"beside": os.path.relpath(s.beside.folder, s.folder)}
    write_json(s.folder / "report.json", body)
    write_text(s.folder / grid.NAME, grid.csv(s, one.rows))
    out = s.folder / "report.html"
    write_text(out, one.text)
    return out


def remembered(folder: Path) -> Path | None:
    """Where the white box lay when the report was last written, if it is still there."""
    where = None
    with contextlib.suppress(StoreError, DataDamaged, AttributeError):  # whatever is there is written anew
        where = read_json(folder / "report.json").get("beside")
    return folder / where if where and packed(folder / where / "records.json").exists() else None


def absent(folder: Path | str) -> list[str]:
    """The files of scores that the records name and that are not there, but for those that are said not to be kept."""
    return kept.missing(Path(folder), read_json(Path(folder) / "records.json")["shards"])[0]


# --- verifying ------------------------------------------------------------------------------------------------------------


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
    expected = [_entry(r) for r in found.rows if r["source"] != "paper" and r["kind"] not in later]
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


def listed(folder: Path | str, figure: str) -> tuple[list[str], bool]:
    """The cells of a figure as lines of text, and whether they add up: each is a finite number or says why not, each row has heads
    of its own.

    Raises:
        UsageError: for a figure without cells.
    """
    one_of("figure with cells", figure, ("figure2",))
    one = Made(Scores.read(folder), "")
    finite = set(one.frame["id"][one.frame["value"].notna()])
    return cell_lines(one.scores, one.frame), not amiss(cells(one.scores, one.frame), finite)


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
