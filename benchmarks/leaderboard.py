"""Detectors side by side in front of several classifiers: `python -m benchmarks.leaderboard [CLASSIFIER ...] [--detector module:name]`.

Everything on it comes from :func:`salientry.judge`: all detectors of :mod:`salientry.judging.baselines`, a second opinion, and those that
are named, each also attacked by somebody who knows it. Classifiers (benchmarks/boards.py):

* ``digits``: a compact network, the 5,000 digits of a dependency;
* ``cifar10``, ``cifar10-compact``, ``cifar10-robust``: the network of the recipe ``fast``, a compact one, this one trained on attacked
  images;
* ``assira``, ``assira-224``: the recipe's network for pictures of 112 px, and one for pictures of 224 px.

Writes results/leaderboard/CLASSIFIER.json.xz and, from all such records, docs/leaderboard.md and salientry/judging/leaderboard.json, which
``salientry judge --on`` reads; without a classifier these two alone.
Detectors of an earlier record that are not judged now stay in it, where classifier, images and attacks are the same.

What it will take of one core is said first. Everything is kept in ``SALIENTRY_HOME``: it may be stopped at any time, and given again it
goes on after the last whole piece, of a few minutes at most. ``--slice 20`` stops it after 20 minutes, with exit code 3.
"""

from __future__ import annotations

import argparse
import datetime
import json
import lzma
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import salientry
from benchmarks.boards import BOARDS, Board
from benchmarks.leaderboard_page import OUT, PAGE, page, records
from salientry import Run
from salientry.cli.fitting import Lines
from salientry.cli.judging import detector_at
from salientry.errors import Error
from salientry.judging import judge
from salientry.judging.evaluate import as_settings
from salientry.judging.recorded import recorded
from salientry.judging.standing import STANDINGS, shortened
from salientry.machine import processor
from salientry.store import write_json

SAME = ("classifier", "images", "attacks", "seed")  # of two records, so that their detectors may stand side by side
MADE = ("command", "date", "salientry", "torch", "processor")
KEPT = ("calibration", "thresholds", "accuracy", "natural", "summary", "worst_case", "notes")
STANDING = {n for board in BOARDS.values() for n in board.detectors}
LEFT = 3  # exit code while something is left to do


def options() -> argparse.ArgumentParser:
    """Of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="*", choices=[[], *BOARDS], metavar="CLASSIFIER")
    parser.add_argument(
        "--detector", action="append", default=[], metavar="module:name", help="judge this one too, and call it by this word; repeatable"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="of those that stand there always judge this one alone; repeatable"
    )
    parser.add_argument("--images", type=int, help="default: 3,000, of digits 2,000, of pictures of 224 px 600")
    parser.add_argument(
        "--adaptive", type=int, help="images that are attacked by somebody who knows the detector; default 64, digits 48, 224 px 16"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of one core; an attack that would take a fifth of them is left out")
    parser.add_argument("--slice", type=float, metavar="MINUTES", help="stop after so many; the same command goes on")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--anew", action="store_true", help="leave out the detectors of the earlier record that are not judged now")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Judge, write the record, write the page."""
    parser = options()
    asked = parser.parse_args(words)
    for name in asked.classifiers:
        board = BOARDS[name]
        if unknown := [n for n in asked.only if n not in board.detectors]:
            reason = f", where it is left out: {why}" if (why := dict(board.without).get(unknown[0])) else ""
            parser.error(f"--only {unknown[0]} is no detector of {name}{reason}; there are: {', '.join(board.detectors)}")
        before = {} if asked.anew else records().get(name, {})
        if why := unlike(before, sized(asked, board)):
            parser.error(f"{why}; the same options keep them, --anew leaves them out")
    try:
        with slice_of(asked.slice):
            for name in asked.classifiers:
                record(name, sized(asked, BOARDS[name]), {} if asked.anew else records().get(name, {}))
    except Error as e:
        sys.exit(f"error: {e}")
    except KeyboardInterrupt:
        print("stopped: what was whole is kept; the same command goes on from there", file=sys.stderr)
        sys.exit(LEFT)
    PAGE.write_text(page())
    write_json(STANDINGS, shortened(records()))


@contextmanager
def slice_of(minutes: float | None) -> Iterator[None]:
    """What is inside is interrupted after so many minutes."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def sized(asked: argparse.Namespace, board: Board) -> argparse.Namespace:
    """The options, with the numbers of images of this classifier where none were given."""
    given = {k: getattr(board, k) if getattr(asked, k) is None else getattr(asked, k) for k in ("images", "adaptive")}
    return argparse.Namespace(**vars(asked) | given)


def record(name: str, asked: argparse.Namespace, before: dict[str, Any]) -> None:
    """Judge in front of a classifier, and write what came of it."""
    run, board = Run(), BOARDS[name]
    watched = sys.stderr.isatty()
    own = {word: as_settings(detector_at(word, None, "cpu")) for word in asked.detector}  # refused before anything is computed
    lines = Lines(f"leaderboard {name}")
    trained: dict[str, Any] = {"classifier": board.classifier, "data": board.settings, "second": board.second}
    known = recorded(board.data, run, most=asked.images, say=lines.say, **trained)
    judged = {n: d for n, d in board.detectors.items() if n in asked.only or not asked.only} | own
    how: dict[str, Any] = {"classifier": known.classifier, "images": known.images, "labels": known.labels, "second": known.second}
    how |= {"adaptive": asked.adaptive, "minutes": asked.minutes, "workers": asked.workers, "store": run.store.root}
    found = judge(judged, baselines="none", progress=True if watched else lines, **how)
    print(found, flush=True)
    about: dict[str, Any] = {"command": command(name, asked), "date": str(datetime.date.today())}
    about |= {"title": board.title, "salientry": salientry.__version__, "torch": torch.__version__, "processor": processor(), "seed": 0}
    about |= {k: found.facts[k] for k in ("classifier", "images", "attacks", "left_out")} | {"second": board.asks}
    about["left_out"] = [*about["left_out"], *(f"{n}: {why}" for n, why in board.without)]
    OUT.mkdir(parents=True, exist_ok=True)
    body, lost = merged(about | {"detectors": {n: kept(v) for n, v in found.verdicts.items()}}, before, bool(asked.only))
    if lost and asked.only:
        sys.exit(f"nothing was written: classifier, images or attacks are others than those of the record ({', '.join(lost)})")
    if lost:
        print(f"left out, as classifier or attacks are others than in the earlier record: {', '.join(lost)}", file=sys.stderr)
    (OUT / f"{name}.json.xz").write_bytes(lzma.compress(json.dumps(body).encode(), preset=9 | lzma.PRESET_EXTREME))


def command(name: str, asked: argparse.Namespace) -> str:
    """That gives the same again."""
    words = f"python -m benchmarks.leaderboard {name} --images {asked.images} --adaptive {asked.adaptive}"
    words += f" --minutes {asked.minutes:g}" if asked.minutes != 60 else ""
    pairs = [("--only", n) for n in asked.only] + [("--detector", n) for n in asked.detector]
    return words + "".join(f" {option} {shlex.quote(n)}" for option, n in pairs)


def unlike(before: dict[str, Any], asked: argparse.Namespace) -> str:
    """Why detectors of an earlier record cannot stand beside those that are judged now, as far as the options say; "" where they can."""
    judged = {*asked.detector, *asked.only} if asked.only else {*asked.detector, *STANDING}
    others = [n for n in before.get("detectors", {}) if n not in judged]
    if not others:
        return ""
    was = options().parse_args(shlex.split(before["command"])[3:]).images
    return "" if was in (None, asked.images) else f"the record has {', '.join(others)}, judged with --images {was}"


def merged(body: dict[str, Any], before: dict[str, Any], part: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A record with the detectors of an earlier one that were not judged now, each with how it was made; and the names of those that had
    another classifier, other images or other attacks, which are left out.

    Args:
        body: of what was judged now.
        before: the earlier record.
        part: whether only some of those that always stand there were judged: the others keep the head of the record.
    """
    others = {n: v for n, v in before.get("detectors", {}).items() if n not in body["detectors"]}
    if others and any(before[k] != body[k] for k in SAME):
        return body, sorted(others)
    first, second = (before, body) if part and others else (body, before)
    made = {k: second[k] for k in MADE} if others else {}
    came = body["detectors"] if part and others else others
    found = {n: {"made": made} | v for n, v in came.items()}
    beside = {k: body[k] for k in ("second",) if k in body}
    return first | beside | {"detectors": (others if part and others else body["detectors"]) | found}, []


def kept(v: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a verdict: no share without its count and n."""
    found: dict[str, Any] = {k: v[k] for k in KEPT} | {"cost": v["cost"], "adaptive": v["adaptive"]}
    found["attacks"] = [{k: a[k] for k in ("attack", "encoding", "seen", "success", "detected")} for a in v["attacks"]]
    return found | {"harmless": v["harmless"], "controls": v["controls"]}


if __name__ == "__main__":
    main()
