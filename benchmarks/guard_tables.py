"""What a guard finds, as text: from the record that `python -m benchmarks.guard_detection` wrote."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from salientry.harmless import HARMLESS, UNSEEN_KINDS
from salientry.rates import between, grey_levels, rate, share, short, signed, table

from .guard_detection import FEWEST, OUT

LEARNT = ("FGSM", "BIM", "MIM", "PGD", "APGD", "random confidence", "transfer")  # kinds of attack that guards learn from
NETS = {  # of `benchmarks.guard_strangers`, in words
    "few": "CIFAR-10, a smaller network",
    "signs": "40 classes, as of traffic signs, 32 x 32",
    "one-logit": "cats and dogs, one output, 64 x 64",
    "imagenet-320": 'EfficientNet-Lite0, 1,000 classes, 224 x 224, `effort="quick"`',
    "imagenet-1000": "EfficientNet-Lite0, 1,000 classes, 224 x 224",
}
NAMES = {"own": "by itself", "second": "with a second network", "cascade": "cascade"}


def record() -> dict[str, Any]:
    """As it was written."""
    found: dict[str, Any] = json.loads(OUT.read_text())
    return found


def guard_results() -> str:
    """docs/RESULTS.md's part: every cell."""
    body = record()
    guards = body["guards"]
    lines = [
        f"Made by `{body['command']}` on {body['date']}: salientry {body['salientry']}, torch {body['torch']}, {body['processor']}, "
        f"one seed, one pair of nets. Fitted on {body['fitted on']:,} images of the role *detector_train*; all numbers are of the role "
        "*test*, which no part has seen. Attacked images are 8-bit images (or such saved as JPEG) that fool a classifier that had the "
        "natural right; intervals (95 %, Clopper and Pearson) are over images, given these nets. The threshold is for 5 %, of all "
        "naturals. Guards learn from gradient steps in Linf and L2 (one or many, of random sizes), from walks to a random confidence and "
        "just over the boundary, and from such steps on a small network of their own; the other kinds below they never met, and no image "
        "saved as JPEG: `not trained on` says which of the two it is.",
        "",
        *table(
            ["", *(NAMES[n] for n in guards)],
            [
                ["detection rate, mean over attacks and ways of saving", *(short(g["summary"]["mean at 5 %"]) for g in guards.values())],
                *(
                    [f"mean of {words} ({len(cells)})", *(short(_mean(g, cells)) for g in guards.values())]
                    for words, cells in _by_kind(next(iter(guards.values()))).items()
                ),
                ["worst of them", *(short(g["summary"]["worst at 5 %"]) for g in guards.values())],
                ["detection rate, mean, threshold for 1 %", *(short(g["summary"]["mean at 1 %"]) for g in guards.values())],
                ["every attack on an image detected", *(_rate(g["summary"]["every attack on an image found"]) for g in guards.values())],
                *(
                    [f"natural images flagged{what}", *(_rate(g["natural at 0.05"][key]) for g in guards.values())]
                    for what, key in (("", "all"), (", right answers", "right"), (", wrong answers", "wrong"))
                ),
                ["looks at", *(g["fit"]["detector"] for g in guards.values())],
            ],
        ),
        *table(
            ["attack: detection rate", "not trained on", *(NAMES[n] for n in guards), *(f"{NAMES[n]}, 1 %" for n in guards)],
            [
                [name, _unseen(name), *(_rate(g["cells"][name][level]) for level in ("0.05", "0.01") for g in guards.values())]
                for name, cell in next(iter(guards.values()))["cells"].items()
                if cell["0.05"][2] >= FEWEST
            ],
        ),
        *table(
            ["harmless change: extra false alarms", *(NAMES[n] for n in guards)],
            [
                [_change(name, h), *(_extra(g["harmless"][name]) for g in guards.values())]
                for name, h in next(iter(guards.values()))["harmless"].items()
            ],
        ),
        *_known(),
        *_strangers(),
    ]
    return "\n".join(lines).rstrip()


def _unseen(name: str) -> str:
    """What of an attack and its way of saving no guard was trained on."""
    return ", ".join([*([] if name.startswith(LEARNT) else ["attack"]), *(["encoding"] if "JPEG" in name else [])])


def _by_kind(guard: dict[str, Any]) -> dict[str, list[str]]:
    """The cells by what no guard was trained on."""
    counted = [name for name, cell in guard["cells"].items() if cell["0.05"][2] >= FEWEST]
    kinds = {
        "": "kinds of attack trained on",
        "attack": "kinds of attack not trained on",
        "encoding": "kinds trained on, saved as JPEG",
        "attack, encoding": "kinds not trained on, saved as JPEG",
    }
    return {words: [n for n in counted if _unseen(n) == unseen] for unseen, words in kinds.items()}


def _mean(guard: dict[str, Any], cells: list[str]) -> float:
    return float(np.mean([guard["cells"][n]["0.05"][0] for n in cells]))


def _known() -> list[str]:
    """What an attacker who knows the guard gets past it."""
    body = _read("guard-knowing.json")
    if body is None:
        return []
    guards = body["guards"]
    first = next(iter(guards.values()))
    rows = [
        [
            grey_levels(b["eps"]),
            rate(share(b["fooled"], first["images"])),
            *(rate(share(g["budgets"][i]["passed"], g["images"])) for g in guards.values()),
        ]
        for i, b in enumerate(first["budgets"])
    ]
    ratios = [f"{short(g['median_l2']['ratio'], digits=2)} (n {g['median_l2']['of']})" for g in guards.values()]
    return [
        f"An attacker who knows classifier, guard and threshold (`{body['command']}`, {body['date']}; {first['steps']} steps, true "
        "gradients, 8-bit images; of images that are right and pass before they are attacked; intervals over images): how many "
        "of them fool the classifier within a budget, and fool it without being flagged."
        + ("" if body["date"] == record()["date"] else " The guards are those of that day, before the numbers above."),
        "",
        *table(
            ["budget, Linf", "fools", *(f"past: {NAMES[n]}" for n in guards)],
            [*rows, ["median L2, times the bare classifier's", "1", *ratios]],
        ),
    ]


def _strangers() -> list[str]:
    """Guards of other networks."""
    body = _read("guard-strangers.json")
    if body is None:
        return []
    rows = []
    for name, case in body.items():
        s = case["summary"]
        rows.append(
            [
                NETS[name],
                f"{case['fitted on']:,}",
                f"{case['seconds']['processor'] / 60:.0f}",
                _rate(case["natural at 0.05"]["all"]),
                f"{short(s['mean at 5 %'])} ({s['cells']})",
                short(s["worst at 5 %"]),
                signed(s["most extra flags on a harmless change"]),
            ]
        )
    head = [
        "network",
        "images",
        "minutes of one core",
        "natural images flagged",
        "mean detection rate (cells)",
        "worst",
        "most extra false alarms",
    ]
    return [
        f"Guards of other networks, fitted without settings (`python -m benchmarks.guard_strangers {' '.join(body)}`). *Most extra false "
        "alarms*: after the harmless change, or with the other image's perturbation, that raises them most.",
        "",
        *table(head, rows),
    ]


def _read(name: str) -> dict[str, Any] | None:
    path = OUT.with_name(name)
    return json.loads(path.read_text()) if path.exists() else None


def _change(name: str, change: dict[str, Any]) -> str:
    """As the change calls itself; what is no harmless change of ours has its own words."""
    words = HARMLESS[name].title if name in HARMLESS else name
    return words if change["trained"] or name not in UNSEEN_KINDS else f"{words}, of a kind never trained on"


def _rate(cell: list[Any]) -> str:
    value, k, n, low, high = cell
    return rate({"share": value, "count": k, "of": n, "low": low, "high": high})


def _extra(change: dict[str, Any]) -> str:
    value, low, high = change["extra"]
    return f"{between(value, low, high, sign=True)} (n {change['flagged'][2]:,})"
