"""What the paper claims and what came of it, as one Markdown document made from the records of one or several runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..store import JSON, read_json, write_text
from . import targets
from .cells import FOUND, MANNERS
from .claims import NOT_RUN, Claim, Finding
from .compute import computed
from .numbers import Ledger
from .records import Records, attack_title, opened
from .verdicts import EVERY, Said, all_of, sentences, timed, unknown

ASKED = {
    ("published", "paired"): "published, paired",
    ("published", "replica"): "published, replica",
    ("published", ""): "published",
    ("strict", "paired"): "strict, paired",
    ("strict", ""): "strict",
    EVERY: "both",
}
NOTE = f"""Published: the paper's protocol, accuracy at the head's own 0; *paired*: batch norm, each natural beside its own adversarial;
*replica*: the paper's manner of training. Strict: 8-bit images that were right before and are wrong now, share found at 5 % false alarms.
In brackets: 95 % interval over images, given these nets and this split. *Finds*: above {FOUND["published"]} (published) or
{FOUND["strict"]} (strict). *Holds*, *does not hold*: the whole interval lies on that side of the boundary; *undecided*: it holds the
boundary. *Holds only against a baseline that did not train*: asked again where that baseline trained it does not hold, or none is left.
*Not run*: the records lack what it asks. A claim of several lines holds when each line that was run does. Runs that
hold fewer of the paper's attacks are judged on those."""


@dataclass(frozen=True)
class Run:
    """The records of one run: what it is called, what made it, its 21 claims and their numbers."""

    title: str
    folder: str
    command: str
    attacks: str
    images: int
    ledger: Ledger
    said: list[Said]


def write(folders: list[Path], out: Path, timing: Path | None = None) -> Path:
    """Write :func:`text` to a file.

    Raises:
        UsageError: when a folder holds no records.
        DataDamaged: when the timing is none.
        StoreError: when it cannot be written.
    """
    found = text(folders, timing)
    write_text(out, found)
    return out


def single(folders: list[Path], claims: Path | None, timing: Path | None, other: str) -> tuple[Path, Path | None]:
    """The folder, for what is made of one, and the one with the white box beside it.

    Args:
        folders: as given.
        claims: where a document shall go.
        timing: what shall stand in it.
        other: the option that asks for something else, empty where there is none.

    Raises:
        UsageError: when there are several, or the options do not go together.
    """
    if claims is not None:
        raise UsageError(f"--claims writes a document and does nothing else: leave {other} away")
    if timing is not None:
        raise UsageError("--timing goes into the document of --claims FILE")
    if len(folders) > (1 if other else 2):
        beside = "" if other else " and perhaps the one with the white box on the same classifier"
        raise UsageError(f"a report is of one folder{beside}; found {len(folders)} (several are for --claims FILE)")
    return folders[0], folders[1] if len(folders) == 2 else None


def text(folders: list[Path], timing: Path | None = None) -> str:
    """The document: runs, a table of all verdicts, a section for each claim, and what the paper's text contradicts itself in."""
    body = None if timing is None else read_json(timing)
    runs = [_run(r, body) for r in opened(folders)]
    typed = " ".join(["salientry report", *map(str, folders), *(["--timing", str(timing)] if timing else []), "--claims FILE"])
    parts = [
        "# What the paper claims, and what came of it",
        f"Every verdict and number follows from the records by `{typed}`; nothing here is typed by hand.",
        "\n".join(_runs(runs)),
        "## All claims",
        "\n".join(_summary(runs)),
        NOTE,
    ]
    parts += ["\n".join(_section(k, runs)) for k in range(len(runs[0].said))]
    parts += ["## Where the paper's text contradicts itself", "\n".join(_contradictions())]
    return "\n\n".join(parts) + "\n"


def _run(records: Records, timing: JSON | None) -> Run:
    found, dataset, seed = computed(records), records.dataset, records.recipe.get("seed", 0)
    column = found.paper.column
    named = targets.attacks_of(records, column) if column and records.whole else {}
    lines = found.paper.claims or [unknown(s.claim, "", EVERY, f"the paper has no data set {dataset}") for s in all_of([])]
    if timing is not None:
        theirs = f"dataset={dataset}" in str(timing.get("plan", "")) if isinstance(timing, dict) else True
        c4 = timed(found.ledger, timing) if theirs else unknown("C4", "", EVERY, f"the timing is of {timing['plan']}")
        lines = [c4 if c.claim == "C4" else c for c in lines]
    attacks = ", ".join(attack_title(a) + ("*" if _reduced(records, a) else "") for a in records.labels if a in named)
    both = [records] if records.beside is None else [records, records.beside]
    commands, folders = (
        " and ".join(f"`{w}`" for w in words) for words in zip(*((r.run.get("command", "?"), str(r.folder)) for r in both), strict=True)
    )
    images = len(records.natural("test")) if records.whole else max(len(s) for s in records.sets.values())
    title = f"{dataset}, seed {seed}" + ("" if records.whole else ", white box alone")
    return Run(title, folders, commands, attacks, images, found.ledger, all_of(lines))


def _reduced(records: Records, attack: str) -> bool:
    return any(a["label"] == attack and a["reduced"] for a in records.settings)


def _runs(runs: list[Run]) -> Iterator[str]:
    yield "| run | records | made by | test images | attacks of the paper |"
    yield "| --- | --- | --- | --- | --- |"
    for r in runs:
        yield _row(r.title, r.folder, r.command, f"{r.images:,}", r.attacks or "none")
    if any("*" in r.attacks for r in runs):
        yield "\n\\* reduced settings"


def _summary(runs: list[Run]) -> Iterator[str]:
    heads = [f"{r.title}: {p}" for r in runs for p in ("published", "strict")]
    yield _row("claim", "", *heads)
    yield _row(*["---"] * (2 + len(heads)))
    for k, s in enumerate(runs[0].said):
        yield _row(f"[{s.claim}](#{s.claim.lower()})", s.words, *(v for r in runs for v in short(r.said[k])))


def short(said: Said) -> tuple[str, str]:
    """Published, with the replica's verdict where it is another one; and strict."""
    paired, replica, strict = (said.verdicts[m] for m in MANNERS)
    return paired if paired == replica else f"paired: {paired}; replica: {replica}", strict


def _section(k: int, runs: list[Run]) -> Iterator[str]:
    said = runs[0].said[k]
    yield f"## {said.claim}\n\n{said.words}\n"
    yield "| run | asked | protocol | verdict | number | n | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for r in runs:
        for c in r.said[k].lines:
            words = c.words + (" (beside the paper's: not counted)" if c.extra else "")
            for i, (manner, f) in enumerate(_findings(c)):
                n = f"{r.ledger[f.id].n:,}" if f.id else ""
                yield _row(r.title, "″" if i else words, manner, f"**{f.verdict}**", number(r.ledger, f.id), n, _small(r.ledger, f))
    yield "\nMade by " + "; ".join(f"{r.command} ({r.title})" for r in runs) + "."


def _findings(claim: Claim) -> Iterator[tuple[str, Finding]]:
    """The manners in order; those that were not run for the same reason are one."""
    first: dict[str, list[str]] = {}
    for m, f in claim.findings.items():
        if f.verdict == NOT_RUN:
            first.setdefault(f.why, []).append(ASKED[m])
    for m, f in ((m, claim.findings[m]) for m in ASKED if m in claim.findings):
        if f.verdict != NOT_RUN:
            yield ASKED[m], f
        elif names := first.pop(f.why, None):
            yield "; ".join(names), f


def _small(ledger: Ledger, f: Finding) -> str:
    """What stands beside a verdict: the boundary, what bears on it as well, who did not train."""
    edges = [f"{v:g}".replace("0.", ".", 1) for v in (f.boundary, f.fails) if v is not None]
    parts = ["boundary " + ", does not hold beyond ".join(edges)] if f.id else []
    parts += [f.why] if f.why else []
    parts += [f"AUROC {number(ledger, f.auroc)}"] if f.auroc else []
    parts += [f"{words}: {number(ledger, id)}" for words, id in f.beside.items()]
    parts += [f"where it trained: {number(ledger, f.trained)}"] if f.trained else []
    parts += [f"COLLAPSED {'; '.join(f.stamped)}"] if f.stamped else []
    parts += [f"SILENT {'; '.join(f.silent)}"] if f.silent else []
    return f"<small>{'; '.join(parts)}</small>" if parts else ""


def _contradictions() -> Iterator[str]:
    for where, what in sentences()["contradictions"]:
        yield f"- {where}: {what}."


def number(ledger: Ledger, id: str | None) -> str:
    """``.135 [.117, .155]``; of a number below .01 a digit more, from 10 on fewer; a dash for none."""
    if id is None:
        return ""
    n = ledger[id]
    shown = [v for v in (n.value, n.lo, n.hi) if v is not None and math.isfinite(v)]
    most = max((abs(v) for v in shown), default=0.0)
    digits = 1 if most >= 10 else 4 if 0 < most < 0.01 else 3
    value, *ends = (_text(v, digits) for v in (n.value, n.lo, n.hi))
    return value if n.lo is None or n.hi is None else f"{value} [{', '.join(ends)}]"


def _text(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    found = f"{round(value, digits) + 0.0:.{digits}f}"  # adding 0 takes the sign off a zero
    return (found.replace("0.", ".", 1) if abs(value) < 1 and digits > 1 else found).replace("-", "\u2212")


def _row(*cells: str) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
