"""Detectors side by side in front of several classifiers: `python -m benchmarks.leaderboard [CLASSIFIER ...] [--detector module:name]`.

Everything on it comes from :func:`salientry.judge`: all detectors of :mod:`salientry.judging.baselines` and those that are named, each also
attacked by somebody who knows it. Classifiers:

* ``digits``: a compact network, the 5,000 digits of a dependency;
* ``cifar10``, ``cifar10-compact``, ``cifar10-robust``: the network of the recipe ``fast``, a compact one, this one trained on attacked
  images;
* ``assira``: the recipe's network for pictures.

Writes results/leaderboard/CLASSIFIER.json.xz and, from all such records, docs/leaderboard.md; without a classifier the page alone.
Everything is kept in ``SALIENTRY_HOME`` and resumed from there, but for the attacks of somebody who knows a detector.
"""

from __future__ import annotations

import argparse
import datetime
import json
import lzma
from pathlib import Path
from typing import Any

import torch

import salientry
from salientry import Run
from salientry.attacks import BIM
from salientry.classifiers import AdversariallyTrained, CompactCNN
from salientry.cli.judging import detector_at
from salientry.judging import PUBLISHED, QUICK, judge
from salientry.judging.recorded import recorded
from salientry.judging.words import budget, number, rate
from salientry.machine import processor

ROOT = Path(__file__).parents[1]
OUT, PAGE = ROOT / "results" / "leaderboard", ROOT / "docs" / "leaderboard.md"
COMPACT = CompactCNN(epochs=4)
CLASSIFIERS: dict[str, tuple[str, Any, str]] = {
    "digits": ("digits", None, "Digits, compact network"),
    "cifar10": ("cifar10", None, "CIFAR-10, the network of the recipe fast"),
    "cifar10-compact": ("cifar10", COMPACT, "CIFAR-10, compact network"),
    "cifar10-robust": (
        "cifar10",
        AdversariallyTrained(COMPACT, BIM(4 / 255, 1 / 255, 5)),
        "CIFAR-10, compact network trained on BIM 4/255",
    ),
    "assira": ("assira", None, "ASSIRA, the network of the recipe fast"),
}
KEPT = ("calibration", "thresholds", "accuracy", "natural", "summary", "worst_case", "notes")


def main() -> None:
    """Judge, write the record, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="*", choices=[[], *CLASSIFIERS], metavar="CLASSIFIER")
    parser.add_argument("--detector", action="append", default=[], metavar="module:name", help="judge this one too; repeatable")
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--adaptive", type=int, default=64, help="images that are attacked by somebody who knows the detector")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    for name in asked.classifiers:
        run = Run()
        data, settings, title = CLASSIFIERS[name]
        known = recorded(data, run, most=asked.images, classifier=settings)
        own = {word.partition(":")[2]: detector_at(word, known.classifier, "cpu") for word in asked.detector}
        how: dict[str, Any] = {"classifier": known.classifier, "images": known.images, "labels": known.labels, "store": run.store.root}
        found = judge(QUICK | PUBLISHED | own, baselines="none", adaptive=asked.adaptive, workers=asked.workers, progress=True, **how)
        print(found, flush=True)
        words = f" --images {asked.images} --adaptive {asked.adaptive}" + "".join(f" --detector {word}" for word in asked.detector)
        about: dict[str, Any] = {"command": f"python -m benchmarks.leaderboard {name}{words}", "date": str(datetime.date.today())}
        about |= {"title": title, "salientry": salientry.__version__, "torch": torch.__version__, "processor": processor(), "seed": 0}
        about |= {k: found.facts[k] for k in ("classifier", "images", "attacks", "left_out")}
        OUT.mkdir(parents=True, exist_ok=True)
        body = about | {"detectors": {n: kept(v) for n, v in found.verdicts.items()}}
        (OUT / f"{name}.json.xz").write_bytes(lzma.compress(json.dumps(body).encode(), preset=9 | lzma.PRESET_EXTREME))
    PAGE.write_text(page())


def kept(v: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a verdict: no share without its count and n."""
    found: dict[str, Any] = {k: v[k] for k in KEPT} | {"cost": v["cost"], "adaptive": v["adaptive"]}
    found["attacks"] = [{k: a[k] for k in ("attack", "encoding", "seen", "success", "detected")} for a in v["attacks"]]
    return found | {"harmless": v["harmless"], "controls": v["controls"]}


def records() -> dict[str, dict[str, Any]]:
    """Those that were written, in the order of ``CLASSIFIERS``."""
    paths = {name: OUT / f"{name}.json.xz" for name in CLASSIFIERS}
    return {name: json.loads(lzma.decompress(p.read_bytes())) for name, p in paths.items() if p.exists()}


def page() -> str:
    """docs/leaderboard.md."""
    text = (
        "# Leaderboard\n\n"
        "Detectors of adversarial images side by side, each judged by [`judge`](judge.md) on the same images in front of the "
        "same classifier. First column: on what share of images somebody who knows classifier and detector gets past both, "
        "within the largest budget; a bracket is a 95 % interval over images. Then at a threshold for 5 % false alarms: images "
        "on which every attack is detected, mean and least detection rate over attacks saved without loss, false alarms on "
        "naturals, most extra flags on a harmless change, and the time of one image over that of the classifier alone. One "
        "training of each; another one may differ by more than the brackets.\n"
    )
    return text + "".join(_part(body) for body in records().values()) + HOW


HOW = """
## Submit a detector

One file that Python can import, with a callable `images (N, C, H, W) -> scores (N,)` or a function without arguments that makes one, and
the command that judges it beside all others:

    $ python -m benchmarks.leaderboard cifar10 --detector mypkg.detector:build

It attacks the classifier once, keeps the attacked images, and writes the record and this page. Send the file, the record and the versions
of what it needs. A detector that cannot be run by others is not listed.
"""


def _part(body: dict[str, Any]) -> str:
    level = "0.05"
    heads = [
        "detector",
        "passed by who knows it",
        "every attack detected",
        "mean",
        "least",
        "false alarms",
        "extra flags, harmless",
        "time",
    ]
    order = sorted(body["detectors"].items(), key=lambda kv: (_passed(kv[1]), -(kv[1]["summary"][level]["attacks"]["mean"] or 0)))
    rows = [[name, *_cells(v, level)] for name, v in order]
    n = body["images"]
    lines = [
        "",
        f"## {body['title']}",
        "",
        f"{body['classifier'][0].upper()}{body['classifier'][1:]}. Of its images {n['calibration']} calibrate, {n['test']} are attacked in "
        f"{len(body['attacks'])} ways. `{body['command']}`, {body['date']}, salientry {body['salientry']}, torch {body['torch']}, "
        f"{body['processor']}, seed {body['seed']}.",
        "",
        *("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows)),
        *([""] if body["left_out"] else []),
        *(f"Left out: {text}." for text in body["left_out"]),
        "",
    ]
    return "\n".join(lines)


def _passed(v: dict[str, Any]) -> float:
    """Share of the images; what was not evaluated stands last."""
    a = v["adaptive"]
    return a["attacked"]["budgets"][-1]["passed"] / a["attacked"]["images"] if a and a["evaluated"] else 2.0


def _cells(v: dict[str, Any], level: str) -> list[str]:
    a, s = v["adaptive"], v["summary"][level]["attacks"]
    knowing = "not evaluated"
    if a and a["evaluated"]:
        last, (low, high) = a["attacked"]["budgets"][-1], a["attacked"]["shares"][-1]
        knowing = f"{number(_passed(v))} [{number(low)}, {number(high)}], {budget(last['eps'])}, {a['how']}"
    worst = max(v["harmless"], key=lambda c: c["extra"]["share"] or 0)
    flags = f"{number(worst['extra']['share'])} ({worst['change']})"
    least = f"{number(s['least'])} ({s['worst']})" if s["of"] else "–"
    return [
        knowing,
        rate(v["worst_case"][level]),
        number(s["mean"]),
        least,
        rate(v["natural"][level]["all"]),
        flags,
        f"{v['cost']['1']['times']:.1f} x",
    ]


if __name__ == "__main__":
    main()
