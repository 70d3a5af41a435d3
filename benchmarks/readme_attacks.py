"""The table of docs/attack.md: how fast attacks are, from the record that `python -m benchmarks.attacks` wrote."""

from __future__ import annotations

import json
from typing import Any

from .attacks import BATCHES, OUT


def record() -> dict[str, Any]:
    """As it was written."""
    found: dict[str, Any] = json.loads(OUT.read_text())
    return found


def table() -> str:
    """A row an attack and batch, and how it was measured."""
    body = record()
    head = ["attack", "images at once", "images a second", "forward and backward passes an image", "success", "best of the others", "ratio"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    order = list(dict.fromkeys(row["attack"] for row in body["rows"]))
    for row in sorted(body["rows"], key=lambda r: (order.index(r["attack"]), r["batch"])):
        mine = row["libraries"]["salientry"]
        success = f"{100 * mine['success']:.0f} %"
        cost = f"{mine['forward']:g} and {mine['backward']:g}"
        name, speed = f"{row['attack']} ({row['settings']})", f"{mine['images per second']:.3g}"
        lines.append(f"| {' | '.join([name, str(row['batch']), speed, cost, success, *_beside(row)])} |")
    versions = ", ".join(f"{n} {v}" for n, v in body["versions"].items())
    tolerance = body["tolerance"]
    said = (
        f"`{body['command']}`, {body['date']}, {body['processor']}, one thread; {versions}. Ratio: how many times as fast ours is as the "
        f"fastest of the others whose success is within {100 * tolerance['success']:.0f} % of the images (of few images within one) "
        f"and whose median norm is within {100 * tolerance['norm']:.0f} %, with a 95 % interval "
        "over interleaved repeats; where none is, there is no ratio."
    )
    missing = f" Not measured, for it was not installed: {', '.join(body['missing'])}." if body["missing"] else ""
    later = [str(n) for n in BATCHES if n not in {row["batch"] for row in body["rows"]}]
    missing += f" Not measured yet: {', '.join(later)} images at once." if later else ""
    return "\n".join([*lines, "", said + missing])


def _beside(row: dict[str, Any]) -> list[str]:
    """The best of the others, and the ratio to it."""
    if row["best"] is None:
        worked = [n for n, f in row["libraries"].items() if n != "salientry" and "failed" not in f]
        return [f"none alike ({', '.join(worked)})" if worked else "none ran", "–"]
    mean, low, high = row["ratio"]
    return [row["best"], f"{mean:.2f} ({low:.2f} to {high:.2f})"]
