"""The table of docs/attack.md: how fast attacks are, from the record that `python -m benchmarks.attacks` wrote."""

from __future__ import annotations

import json
from typing import Any

from salientry import rates
from salientry.rates import NONE, measured, short

from .attack_rows import rows
from .attacks import NETS, OUT, PEERS, whole

FASTER = {"C&W": 1.2, "APGD": 1.2}  # goals: how many times as fast as the best of the others
LONGEST = 1.15  # goal: time by that of the bare passes
HEAD = ["attack", "network", "images at once", "images a second", "forward and backward passes an image", "time by bare passes", "success"]


def record() -> dict[str, Any]:
    """As it was written."""
    found: dict[str, Any] = json.loads(OUT.read_text())
    return found


def table() -> str:
    """A row an attack, network and batch, and how it was measured."""
    body = record()
    found = whole(body)
    lines: list[list[str]] = []
    order = list(dict.fromkeys(row["attack"] for row in found))
    for row in sorted(found, key=lambda r: (order.index(r["attack"]), _net(r), r["batch"])):
        mine = row["libraries"]["salientry"]
        cells = [f"{row['attack']} ({row['settings']})", NETS[_net(row)][1], str(row["batch"]), _three(mine["images per second"])]
        cells += [f"{mine['forward']:g} and {mine['backward']:g}", short(mine["time by bare passes"], digits=2), measured(mine["success"])]
        lines.append([*cells, *_beside(row)])
    tolerance = body["tolerance"]
    said = (
        f"`{body['command']}`, one thread; {_where(found)}. Time by bare passes: the time of an image by that of its passes through the "
        "network alone, as many at once. Ratio: how many times as fast ours is as the "
        f"fastest of the others whose success is within {measured(tolerance['success'])} of the images (of few images within one) "
        f"and whose median norm is within {measured(tolerance['norm'])}, with a 95 % interval "
        "over interleaved repeats; where none is, there is no ratio."
    )
    missing = [n for n in PEERS if not any(n in row["versions"] for row in found)]
    said += f" Not measured, for it was not installed: {', '.join(missing)}." if missing else ""
    return "\n".join([*rates.table([*HEAD, "best of the others", "ratio"], lines), said + _later(found)])


def goals() -> str:
    """What was aimed at, and by which rows it is missed."""
    found = whole(record())
    compared = [row for row in found if row["ratio"]]
    slower = [(row, row["ratio"][2]) for row in compared if row["ratio"][2] < 1]
    slow = [(row, row["ratio"][0]) for row in compared if row["attack"] in FASTER and row["ratio"][0] < FASTER[row["attack"]]]
    shares = [(row, row["libraries"]["salientry"]["time by bare passes"]) for row in found]
    long = [(row, share) for row, share in shares if share is not None and share > LONGEST]
    faster = " and ".join(f"{name} {goal:g}" for name, goal in FASTER.items())
    return "\n".join(
        [
            f"- No row slower than the best of the others, beyond its interval: {_missed(slower, len(compared))}.",
            f"- A ratio of {faster}: {_missed(slow, sum(row['attack'] in FASTER for row in compared))}.",
            f"- At most {LONGEST} times the time of the bare passes: {_missed(long, len(shares))}.",
            "- Twice the speed of the others on a GPU: not measured, for there was none. No attack compiles its steps or records them in a "
            "CUDA graph, and some wait for the GPU at each step to see who is done.",
        ]
    )


def _missed(found: list[tuple[dict[str, Any], float]], count: int) -> str:
    """Which rows, with their numbers."""
    if not found:
        return f"reached in all {count} rows"
    several = len({_net(row) for row, _ in found}) > 1
    said = [
        f"{row['attack']} at {row['batch']}{', ' + NETS[_net(row)][1] if several else ''} ({short(value, digits=2)})"
        for row, value in found
    ]
    return f"missed in {len(found)} of {count} rows: {', '.join(said)}"


def _net(row: dict[str, Any]) -> str:
    return str(row.get("net", "compact"))


def _where(found: list[dict[str, Any]]) -> str:
    """When, on what, and with which versions the rows were measured."""
    days = sorted({row["date"] for row in found})
    versions: dict[str, list[str]] = {}
    for row in found:
        for name, version in row["versions"].items():
            versions[name] = list(dict.fromkeys([*versions.get(name, []), version]))
    named = [f"{n} {' and '.join(v)}" for n, v in versions.items()]
    nets = {NETS[_net(row)][1]: row["accuracy"] for row in found}
    right = ", ".join(f"of the network called {name} {short(share, digits=2)}" for name, share in nets.items())
    processors = " and ".join(dict.fromkeys(row["processor"] for row in found))
    return f"{' and '.join([days[0]] if len(days) == 1 else [days[0], days[-1]])}, {processors}; {', '.join(named)}; accuracy {right}"


def _later(found: list[dict[str, Any]]) -> str:
    """What the benchmark would measure and the record has not."""
    there = {(row["attack"], _net(row), row["batch"]) for row in found}
    left = []
    for net, (_, words) in NETS.items():
        none = [r.name for r in rows() if not any((r.name, net, b) in there for b in r.batches)]
        some = [f"{r.name} at {b}" for r in rows() if r.name not in none for b in sorted(r.batches) if (r.name, net, b) not in there]
        if len(none) == len(rows()):
            left.append(f"on the network called {words} nothing")
        elif none or some:
            left.append(f"on the network called {words} {', '.join([*none, *some])}")
    return f" Not measured yet: {'; '.join(left)}." if left else ""


def _beside(row: dict[str, Any]) -> list[str]:
    """The best of the others, and the ratio to it."""
    if row["best"] is None:
        worked = [n for n, f in row["libraries"].items() if n != "salientry" and "failed" not in f]
        return [f"none alike ({', '.join(worked)})" if worked else "none ran", NONE]
    mean, low, high = row["ratio"]
    return [row["best"], f"{short(mean, digits=2)} ({short(low, digits=2)} to {short(high, digits=2)})"]


def _three(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{float(f'{value:.3g}'):,.{0 if value >= 100 else 1}f}"
