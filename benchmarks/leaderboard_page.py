"""The page that the records of `python -m benchmarks.leaderboard` make: docs/leaderboard.md."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

from benchmarks.boards import BOARDS
from salientry.judging.words import budget
from salientry.rates import NONE, interval, short, table
from salientry.renamed import JUDGED

ROOT = Path(__file__).parents[1]
OUT, PAGE = ROOT / "results" / "leaderboard", ROOT / "docs" / "leaderboard.md"


def records() -> dict[str, dict[str, Any]]:
    """Those that were written, in the order of ``BOARDS``."""
    paths = {name: OUT / f"{name}.json.xz" for name in BOARDS}
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
        "classifier; means of older records have none:\n\n"
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

It says first what it will take of one core, attacks the classifier once, keeps the attacked images, and writes the record and this page,
where the detector is called by its word, `mypkg.detector:build`. It may be stopped, or stop itself after 20 minutes with `--slice 20`:
given again, it goes on from there. Detectors that were judged before stay: the page says of each how it was made; `--only energy` judges
again no more than the one that is named, and those of `--detector`. A slow detector is attacked by somebody who knows it with
`--minutes 300`. Send the file, the record and the versions of what it needs. A detector that cannot be run by others is not listed.
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
    asks = f" The second opinion is that of {body['second']}." if "second opinion" in body["detectors"] else ""
    trained = f" Detectors that learn from attacks were trained on attacks of these kinds, of random sizes: {names}." if seen else ""
    lines = [
        "",
        f"## {body['title']}",
        "",
        f"{body['classifier'][0].upper()}{body['classifier'][1:]} (the accuracy of its answers against labels in random order, that is by "
        f"chance). Of its images {n['calibration']} calibrate, {n['test']} are attacked in {len(body['attacks'])} ways. "
        f"{_who(body)}{trained}{asks}",
        "",
        f"`{body['command']}`, {body['date']}, salientry {body['salientry']}, torch {body['torch']}, "
        f"{body['processor']}, seed {body['seed']}.",
        "",
        *table(heads, rows),
        *(part for text in _below(body, order) for part in (text, "")),
    ]
    return "\n".join(lines)


def _below(body: dict[str, Any], order: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """What is said under a table: what was not evaluated, and why; what was left out; what was judged by another call."""
    reasons: dict[str, list[str]] = {}
    for name, v in order:
        if v["adaptive"] and not v["adaptive"]["evaluated"]:
            reasons.setdefault(v["adaptive"]["why"].replace("minutes= gives it more", "`--minutes` gives more"), []).append(name)
    made: dict[str, list[str]] = {}
    for name, v in order:
        if m := v.get("made"):
            how = f"`{m['command']}`, {m['date']}, salientry {m['salientry']}, torch {m['torch']}, {m['processor']}"
            made.setdefault(how, []).append(name)
    return [
        *(f"Not evaluated: {', '.join(names)}: {why}." for why, names in reasons.items()),
        *(f"Left out: {text}." for text in body["left_out"]),
        *(f"{', '.join(names)}: {how}." for how, names in made.items()),
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
    knowing, how = "not evaluated", NONE
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
        _lines(plain["mean"], plain),
        _lines(s["unseen"]["mean"], s["unseen"]) if s["unseen"]["of"] else NONE,
        f"{_share(least)}<br>({plain['worst']}{'*' * (plain['worst'] in trained)})" if least else NONE,
        _share(v["natural"][level]["all"]),
        f"{_share({'of': 1} | worst['extra'])}<br>({worst['change']})",
        f"{cost['times']:.1f}\u00a0x<br>{cost['with_detector']:.3g}\u00a0ms",
    ]


def _lines(value: float | None, found: dict[str, Any]) -> str:
    """``.123 [.101, .148]``, on two lines; older records have no interval of a mean."""
    ends = interval(found.get("low"), found.get("high")).replace(" ", "\u00a0")
    return short(value) + (f"<br>{ends}" if ends else "")


def _share(found: dict[str, Any]) -> str:
    """The same of a share; the record has the counts."""
    return _lines(found["share"], found) if found["of"] else NONE
