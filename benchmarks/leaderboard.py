"""Detectors side by side in front of several classifiers: `python -m benchmarks.leaderboard [CLASSIFIER ...] [--detector module:name]`.

Everything on it comes from :func:`salientry.judge`: all detectors of :mod:`salientry.judging.baselines` and those that are named, each also
attacked by somebody who knows it. Classifiers:

* ``digits``: a compact network, the 5,000 digits of a dependency;
* ``cifar10``, ``cifar10-compact``, ``cifar10-robust``: the network of the recipe ``fast``, a compact one, this one trained on attacked
  images;
* ``assira``: the recipe's network for pictures.

Writes results/leaderboard/CLASSIFIER.json.xz and, from all such records, docs/leaderboard.md; without a classifier the page alone.
Detectors of an earlier record that are not judged now stay in it, where classifier, images and attacks are the same.
Everything is kept in ``SALIENTRY_HOME`` and resumed from there, but for the attacks of somebody who knows a detector.
"""

from __future__ import annotations

import argparse
import datetime
import json
import lzma
import shlex
import sys
from collections.abc import Sequence
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
from salientry.judging.words import budget
from salientry.machine import processor
from salientry.rates import NONE, interval, short
from salientry.renamed import JUDGED

ROOT = Path(__file__).parents[1]
OUT, PAGE = ROOT / "results" / "leaderboard", ROOT / "docs" / "leaderboard.md"
COMPACT = CompactCNN(epochs=4)
CLASSIFIERS: dict[str, tuple[str, Any, str]] = {
    "cifar10": ("cifar10", None, "CIFAR-10, the network of the recipe fast"),
    "cifar10-compact": ("cifar10", COMPACT, "CIFAR-10, compact network"),
    "cifar10-robust": (
        "cifar10",
        AdversariallyTrained(COMPACT, BIM(4 / 255, 1 / 255, 5)),
        "CIFAR-10, compact network trained on BIM 4/255",
    ),
    "assira": ("assira", None, "ASSIRA, the network of the recipe fast"),
    "digits": ("digits", None, "Digits, compact network"),
}
SAME = ("classifier", "images", "attacks", "seed")  # of two records, so that their detectors may stand side by side
MADE = ("command", "date", "salientry", "torch", "processor")
KEPT = ("calibration", "thresholds", "accuracy", "natural", "summary", "worst_case", "notes")


def options() -> argparse.ArgumentParser:
    """Of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifiers", nargs="*", choices=[[], *CLASSIFIERS], metavar="CLASSIFIER")
    parser.add_argument(
        "--detector", action="append", default=[], metavar="module:name", help="judge this one too, and call it by this word; repeatable"
    )
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--adaptive", type=int, default=64, help="images that are attacked by somebody who knows the detector")
    parser.add_argument("--minutes", type=float, default=60.0, help="of one core; an attack that would take a fifth of them is left out")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--anew", action="store_true", help="leave out the detectors of the earlier record that are not judged now")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Judge, write the record, write the page."""
    parser = options()
    asked = parser.parse_args(words)
    for name in asked.classifiers:
        before = {} if asked.anew else records().get(name, {})
        if why := unlike(before, asked):
            parser.error(f"{why}; the same options keep them, --anew leaves them out")
    for name in asked.classifiers:
        record(name, asked, {} if asked.anew else records().get(name, {}))
    PAGE.write_text(page())


def record(name: str, asked: argparse.Namespace, before: dict[str, Any]) -> None:
    """Judge in front of a classifier, and write what came of it."""
    run = Run()
    data, settings, title = CLASSIFIERS[name]
    known = recorded(data, run, most=asked.images, classifier=settings)
    own = {word: detector_at(word, known.classifier, "cpu") for word in asked.detector}
    how: dict[str, Any] = {"classifier": known.classifier, "images": known.images, "labels": known.labels, "store": run.store.root}
    how |= {"adaptive": asked.adaptive, "minutes": asked.minutes, "workers": asked.workers}
    found = judge(QUICK | PUBLISHED | own, baselines="none", progress=True, **how)
    print(found, flush=True)
    words = f" --images {asked.images} --adaptive {asked.adaptive}" + (f" --minutes {asked.minutes:g}" if asked.minutes != 60 else "")
    words += "".join(f" --detector {word}" for word in asked.detector)
    about: dict[str, Any] = {"command": f"python -m benchmarks.leaderboard {name}{words}", "date": str(datetime.date.today())}
    about |= {"title": title, "salientry": salientry.__version__, "torch": torch.__version__, "processor": processor(), "seed": 0}
    about |= {k: found.facts[k] for k in ("classifier", "images", "attacks", "left_out")}
    OUT.mkdir(parents=True, exist_ok=True)
    body, lost = merged(about | {"detectors": {n: kept(v) for n, v in found.verdicts.items()}}, before)
    if lost:
        print(f"left out, as classifier or attacks are others than in the earlier record: {', '.join(lost)}", file=sys.stderr)
    (OUT / f"{name}.json.xz").write_bytes(lzma.compress(json.dumps(body).encode(), preset=9 | lzma.PRESET_EXTREME))


def unlike(before: dict[str, Any], asked: argparse.Namespace) -> str:
    """Why submitted detectors of an earlier record cannot stand beside those that are judged now, as far as the options say; "" where they
    can.
    """
    others = [n for n in before.get("detectors", {}) if n not in QUICK | PUBLISHED and n not in asked.detector]
    if not others:
        return ""
    was = options().parse_args(shlex.split(before["command"])[3:]).images
    return "" if was == asked.images else f"the record has {', '.join(others)}, judged with --images {was}"


def merged(body: dict[str, Any], before: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A record with the detectors of an earlier one that were not judged now, each with how it was made; and the names of those that had
    another classifier, other images or other attacks, which are left out.
    """
    others = {n: v for n, v in before.get("detectors", {}).items() if n not in body["detectors"]}
    if others and any(before[k] != body[k] for k in SAME):
        return body, sorted(others)
    made = {k: before[k] for k in MADE} if others else {}
    return body | {"detectors": body["detectors"] | {n: {"made": made} | v for n, v in others.items()}}, []


def kept(v: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of a verdict: no share without its count and n."""
    found: dict[str, Any] = {k: v[k] for k in KEPT} | {"cost": v["cost"], "adaptive": v["adaptive"]}
    found["attacks"] = [{k: a[k] for k in ("attack", "encoding", "seen", "success", "detected")} for a in v["attacks"]]
    return found | {"harmless": v["harmless"], "controls": v["controls"]}


def records() -> dict[str, dict[str, Any]]:
    """Those that were written, in the order of ``CLASSIFIERS``."""
    paths = {name: OUT / f"{name}.json.xz" for name in CLASSIFIERS}
    found = {name: json.loads(lzma.decompress(p.read_bytes())) for name, p in paths.items() if p.exists()}
    return {name: body | {"detectors": {JUDGED.get(n, n): v for n, v in body["detectors"].items()}} for name, body in found.items()}


def page() -> str:
    """docs/leaderboard.md."""
    text = (
        "# Leaderboard\n\n"
        "Detectors of adversarial images side by side, each judged by [`judge`](judge.md) on the same images in front of the "
        "same classifier. **Digits on a black background are easy: no conclusion about natural images follows from them** "
        "([limits](limits.md)). One training of each; another one may differ by more than its interval. Click a heading to sort.\n\n"
        "What the columns say; shares lie between 0 and 1, brackets are 95 % intervals over images, given this detector and this "
        "classifier; of means there is none:\n\n"
        "- *passed*: share of images on which an attacker who knows classifier and detector gets past both, within the budget above the "
        "table; who is passed least stands first. *attacked by*: through the detector's gradient, by queries, or both\n"
        "- all others at a threshold for 5 % false alarms:\n"
        "    - *every attack detected*: share of images on which every attack that fools is detected\n"
        "    - *mean* and *lowest detection rate*: over the attacks that fool enough images, saved without loss; an asterisk marks an "
        "attack of a kind that detectors which learn from attacks are trained on. *mean, other kinds*: over the others alone\n"
        "    - *false-positive rate*: share of natural images flagged. *most extra false alarms*: how many more are flagged after the "
        "harmless change that raises it most\n"
        "- *time*: for one image, times that of the classifier alone, and the milliseconds of both\n\n"
        "[Which method is which](methods.md#names-on-the-leaderboard), [what each word means](evaluate.md#words-on-these-pages).\n"
    )
    return text + "".join(_part(body) for body in records().values()) + HOW


HOW = """
## Submit a detector

One file that Python can import, with a callable `images (N, C, H, W) -> scores (N,)` or a function without arguments that makes one, and
the command that judges it beside all others:

    $ python -m benchmarks.leaderboard cifar10 --detector mypkg.detector:build

It attacks the classifier once, keeps the attacked images, and writes the record and this page, where the detector is called by its word,
`mypkg.detector:build`. Detectors that were submitted before stay: the record says of each how it was made. A slow detector is attacked by
somebody who knows it with `--minutes 300`. Send the file, the record and the versions of what it needs. A detector that cannot be run by
others is not listed.
"""


def _part(body: dict[str, Any]) -> str:
    level = "0.05"
    heads = [
        "detector",
        "passed",
        "attacked by",
        "every attack detected",
        "mean detection rate",
        "mean, other kinds",
        "lowest detection rate",
        "false-positive rate",
        "most extra false alarms",
        "time",
    ]
    order = sorted(body["detectors"].items(), key=lambda kv: (_passed(kv[1]), -(kv[1]["summary"][level]["attacks"]["mean"] or 0)))
    rows = [[name, *_cells(v, level)] for name, v in order]
    n = body["images"]
    seen = {a["attack"] for v in body["detectors"].values() for a in v["attacks"] if a["seen"] == 1}
    names = "; ".join(a for a in body["attacks"] if a in seen)
    trained = f" Detectors that learn from attacks were trained on attacks of these kinds, of random sizes: {names}." if seen else ""
    lines = [
        "",
        f"## {body['title']}",
        "",
        f"{body['classifier'][0].upper()}{body['classifier'][1:]} (the accuracy of its answers against labels in random order, that is by "
        f"chance). Of its images {n['calibration']} calibrate, {n['test']} are attacked in {len(body['attacks'])} ways. "
        f"{_who(body)}{trained}",
        "",
        f"`{body['command']}`, {body['date']}, salientry {body['salientry']}, torch {body['torch']}, "
        f"{body['processor']}, seed {body['seed']}.",
        "",
        *("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows)),
        *(part for text in _below(body, order) for part in ("", text)),
        "",
    ]
    return "\n".join(lines)


def _below(body: dict[str, Any], order: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """What is said under a table: what was not evaluated, and why; what was left out; what was judged by another call."""
    reasons: dict[str, list[str]] = {}
    for name, v in order:
        if v["adaptive"] and not v["adaptive"]["evaluated"]:
            reasons.setdefault(v["adaptive"]["why"].replace("minutes= gives it more", "`--minutes` gives more"), []).append(name)
    made = [(name, v["made"]) for name, v in order if "made" in v]
    return [
        *(f"Not evaluated: {', '.join(names)}: {why}." for why, names in reasons.items()),
        *(f"Left out: {text}." for text in body["left_out"]),
        *(f"{n}: `{m['command']}`, {m['date']}, salientry {m['salientry']}, torch {m['torch']}, {m['processor']}." for n, m in made),
    ]


def _passed(v: dict[str, Any]) -> float:
    """Share of the images; what was not evaluated stands last."""
    a = v["adaptive"]
    return a["attacked"]["budgets"][-1]["passed"] / a["attacked"]["images"] if a and a["evaluated"] else 2.0


def _who(body: dict[str, Any]) -> str:
    """How many images stand behind the columns, and the budget of the attacker who knows the detector."""
    of = sorted({v["worst_case"]["0.05"]["of"] for v in body["detectors"].values()})
    knowing = [v["adaptive"]["attacked"] for v in body["detectors"].values() if v["adaptive"] and v["adaptive"]["evaluated"]]
    sizes = sorted({budget(a["budgets"][-1]["eps"]) for a in knowing})
    images = sorted({str(a["images"]) for a in knowing})
    who = f" Who knows the detector attacks {' or '.join(images)} of them, each value by at most {' or '.join(sizes)}."
    return f"Some attack fools the classifier on {' to '.join(map(str, dict.fromkeys((of[0], of[-1]))))} of them.{who if knowing else ''}"


def _cells(v: dict[str, Any], level: str) -> list[str]:
    a, s = v["adaptive"], v["summary"][level]
    knowing, how = "not evaluated", "–"
    if a and a["evaluated"]:
        low, high = a["attacked"]["shares"][-1]
        knowing, how = _share({"of": 1, "share": _passed(v), "low": low, "high": high}), a["how"]
    worst = max(v["harmless"], key=lambda c: c["extra"]["share"] or 0)
    trained = {a["attack"] for a in v["attacks"] if a["seen"] == 1 and not a["encoding"]}
    plain, cost = s["attacks"], v["cost"]["1"]
    least = next((a["detected"][level] for a in v["attacks"] if a["attack"] == plain["worst"] and not a["encoding"]), None)
    return [
        knowing,
        how,
        _share(v["worst_case"][level]),
        short(plain["mean"]),
        short(s["unseen"]["mean"]) if s["unseen"]["of"] else "–",
        f"{_share(least)}<br>({plain['worst']}{'*' * (plain['worst'] in trained)})" if least else "–",
        _share(v["natural"][level]["all"]),
        f"{_share({'of': 1} | worst['extra'])}<br>({worst['change']})",
        f"{cost['times']:.1f}\u00a0x<br>{cost['with_detector']:.3g}\u00a0ms",
    ]


def _share(found: dict[str, Any]) -> str:
    """``.123 [.101, .148]``, on two lines; the record has the counts."""
    ends = interval(found["low"], found["high"]).replace(" ", "\u00a0")
    return f"{short(found['share'])}<br>{ends}" if found["of"] else NONE


if __name__ == "__main__":
    main()
