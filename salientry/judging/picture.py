"""Pictures of a verdict: how much each detector detects, against what it flags of harmless changes and against what it costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from markupsafe import Markup

from ..store import JSON
from .words import most

WIDTH, HEIGHT, LEFT, BOTTOM = 446, 300, 56, 40
FLAGS = ((0.05, "k2", "green: at most .05"), (0.2, "k5", "amber: at most .2"), (float("inf"), "k0", "red: more"))
SHAPES = {True: '<circle class="dot" cx="{x}" cy="{y}" r="5"/>', False: '<path class="dot" d="M{l} {t}H{r}V{b}H{l}Z"/>'}  # own, baseline
DIGIT, LINE = 7, 12  # room for a label's digit
Box = tuple[float, float, float, float]  # left, top, right, bottom


def plots(verdicts: dict[str, JSON], own: list[str]) -> list[JSON]:
    """Two pictures with a mark a detector; the colour of a mark says how much harmless changes are flagged, its shape whose it is."""
    marks = []
    for i, (name, v) in enumerate(verdicts.items()):
        level = next(iter(v["thresholds"]))
        mean, worst, cost = v["summary"][level]["attacks"]["mean"], most(v["harmless"]), v.get("cost")
        if mean is not None and worst is not None:
            flags = max(worst["extra"]["share"], 0.0)
            marks.append(
                {"name": name, "own": name in own, "number": i + 1, "mean": mean, "flags": flags, "cost": cost and cost["1"]["times"]}
            )
    found = [_plot(marks, "flags", "most extra flags on a harmless change", [(k / 4, f"{k / 4:g}") for k in range(5)], lambda v: v)]
    priced = [m for m in marks if m["cost"]]
    if len(priced) > 1:
        top = max(2.0, max(m["cost"] for m in priced))
        ends = [2.0**k for k in range(int(np.ceil(np.log2(top))) + 1)]
        ticks = [(float(np.log2(t)) / np.log2(ends[-1]), f"{t:g}") for t in ends]
        alone = float(np.median([v["cost"]["1"]["classifier"] for v in verdicts.values() if v.get("cost")]))
        words = f"time of one image over the classifier's alone ({alone:.2g} ms)"
        found.append(_plot(priced, "cost", words, ticks, lambda v: float(np.log2(max(v, 1.0)) / np.log2(ends[-1]))))
    return found


def front(marks: list[JSON], key: str) -> list[JSON]:
    """Those that no other one beats: the least of ``key`` first, each detecting more than all before it."""
    found: list[JSON] = []
    for m in sorted(marks, key=lambda m: (m[key], -m["mean"])):
        if not found or m["mean"] > found[-1]["mean"]:
            found.append(m)
    return found


def _plot(marks: list[JSON], key: str, words: str, ticks: list[tuple[float, str]], place: Callable[[float], float]) -> JSON:
    wide, high = WIDTH - LEFT - 12, HEIGHT - BOTTOM - 10

    def at(m: JSON) -> tuple[float, float]:
        return round(LEFT + wide * min(place(m[key]), 1.0), 1), round(10 + high * (1 - m["mean"]), 1)

    placed = []
    for m, label in zip(marks, labelled([at(m) for m in marks], [str(m["number"]) for m in marks]), strict=True):
        x, y = at(m)
        colour = next(c for limit, c, _ in FLAGS if m["flags"] <= limit)
        shape = SHAPES[m["own"]].format(x=x, y=y, l=round(x - 4.5, 1), r=round(x + 4.5, 1), t=round(y - 4.5, 1), b=round(y + 4.5, 1))
        placed.append(
            {"x": x, "y": y, "shape": Markup(shape), "colour": colour, "label": label} | {n: m[n] for n in ("name", "own", "number")}
        )
    best = [at(m) for m in front(marks, key)]
    steps = "".join(f"H{x}V{y}" for x, y in best[1:])
    return {
        "words": words,
        "marks": placed,
        "front": f"M{best[0][0]} {best[0][1]}{steps}H{WIDTH - 8}" if best else "",
        "across": [(round(LEFT + wide * at, 1), name) for at, name in ticks],
        "up": [(round(10 + high * (1 - k / 4), 1), f"{k / 4:g}") for k in range(5)],
    }


def labelled(points: list[tuple[float, float]], texts: list[str]) -> list[JSON]:
    """Where the middle of each label stands, so that it covers no mark and no other label; with a line to a mark that is not beside it.

    Of the places around a mark, near ones first, the first is taken that is free; where none is, the one that covers least.
    """
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    found = []
    for (x, y), text in zip(points, texts, strict=True):
        half = (DIGIT * len(text) + 6) / 2
        around = [(x + (r + half) * np.cos(t), y + (r + 4) * np.sin(t)) for r in (8, 18, 30, 44, 60) for t in np.pi * np.arange(0, 2, 0.25)]
        boxes = [(cx - half, cy - LINE / 2, cx + half, cy + LINE / 2) for cx, cy in around]
        covers = [_outside(b) + sum(_common(b, t) for t in taken) for b in boxes]
        best = int(np.argmin(covers))
        taken.append(boxes[best])
        cx, cy = (round(float(v), 1) for v in around[best])
        found.append({"x": cx, "y": round(cy + 4, 1), "box": boxes[best], "leader": [x, y, cx, cy] if best >= 8 else None})
    return found


def _common(a: Box, b: Box) -> float:
    """Area of what two boxes have in common."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(b: Box) -> float:
    """Area of a box that is not in the picture."""
    return (b[2] - b[0]) * (b[3] - b[1]) - _common(b, (LEFT, 0.0, float(WIDTH), float(HEIGHT - BOTTOM)))


__all__ = ["FLAGS", "front", "labelled", "plots"]
