"""How fast `salientry check` is, and its memory, from what `python -m benchmarks.check` wrote."""

from __future__ import annotations

from statistics import median
from typing import Any

from salientry.rates import short, table
from salientry.store import read_json

from .check import OUT

JSON = dict[str, Any]
WAYS = {"folder": "from folders", "tar": "from tar files", "executor": "through an executor"}


def checked() -> str:
    """Pictures a second beside the guard's own, and megabytes."""
    body = read_json(OUT) if OUT.exists() else {}
    lines = [*_speed(body["speed"])] if "speed" in body else []
    lines += _memory(body["memory"]) if "memory" in body else []
    return "\n".join(lines) if lines else "`python -m benchmarks.check speed memory` measures what that costs; nothing is recorded yet."


def _about(part: JSON) -> str:
    versions = f"salientry {part['salientry']}, torch {part['torch']}, Pillow {part['pillow']}"
    return f"`{part['command']}`, {part['date']}, {versions}, {part['processor']}"


def _speed(part: JSON) -> list[str]:
    rows = []
    for name, found in part["guards"].items():
        cells = [f"{median(found[way]):,.0f} ({short(found['share'][way], digits=2)})" for way in WAYS]
        rows.append([f"{name} guard", f"{median(found['tensors']):,.0f}", *cells, str(found["processes"])])
    return [
        f"Pictures a second, and the share of the guard's own, the median of {part['rounds']} rounds in turn: {part['pictures']:,} "
        f"{part['format']} pictures of {part['size']} x {part['size']}, the classifier of `fast dataset=cifar10`, {part['cores']} cores, "
        f"{part['threads']} thread{'s' * (part['threads'] > 1)} each ({_about(part)}):",
        "",
        *table(["", "the guard itself, on tensors", *WAYS.values(), "processes that decoded"], rows),
        "",
    ]


def _memory(part: JSON) -> list[str]:
    rows = [
        [
            f"{r['pictures']:,} pictures, {'here' if r['way'] == 'here' else 'through an executor'}",
            f"{r['seconds']:.0f}",
            f"{r['MB']:.0f}",
            f"{r['MB of one']:.0f} ({r['processes']})",
        ]
        for r in part["rows"]
    ]
    return [
        f"The most memory that the command took, of {part['format']} pictures of {part['size']} x {part['size']} in tar files "
        f"({_about(part)}):",
        "",
        *table(["", "seconds", "MB", "MB of the largest process that it started (how many)"], rows),
        "",
    ]
