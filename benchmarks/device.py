"""What would fill a GPU: `python -m benchmarks.device [--device cpu|cuda] [--quick] --out FILE`, at most five minutes on a GPU.

Measured side by side, in turn, with what runs today, as ratios with an interval of 95 % or more, each in images a second and as a share of
the device's peak (`salientry/runner/peak.py`), in the numerics of a run (float32, no TF32):

- heads: 3 and 12 CNN heads of detectors one by one against one batched model (`salientry/detectors/_together.py`), the paper's head and
  the compact one, 200 steps each; how far the weights are apart afterwards, beside what a rounding of the initial weights does, and in
  float64, where they must agree.
- steps: BIM, PGD, MIM and C&W as they run today, against the same loop as one step without a number that the host reads, as a CUDA graph,
  compiled, and both; how far the images are apart, beside what a rounding of the start does, and how often the host waits in a step.

The nets are untrained and the images drawn: neither changes how long a step takes. On a processor CUDA graphs are left out, and times are
the process's own. FILE is written after each row, so that whoever is stopped keeps what was measured; rows for which no time is left are
named. `--quick` measures less of each. No data set is read, and nothing is needed beside this package's own dependencies.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import salientry
from salientry.classifiers import CompactCNN, PaperCNN
from salientry.machine import machine
from salientry.rates import measured
from salientry.runner.peak import products
from salientry.runner.run import exact
from salientry.types import Shape

from . import device_heads, device_steps
from .device_clock import Clock

LIMIT = 270.0  # seconds of the clock on the wall, after which nothing more is begun
NETS: dict[str, Any] = {"paper": PaperCNN(centred=True), "compact": CompactCNN()}
SHAPE = Shape(3, 32, 32, 10)


def network(name: str, device: str) -> nn.Module:
    """An untrained classifier, frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found: nn.Module = NETS[name].build(SHAPE)
    return found.to(device).eval().requires_grad_(False)


def images(count: int, device: str) -> torch.Tensor:
    """Drawn, (N, 3, 32, 32)."""
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(device)


def planned(clock: Clock, peak: float, quick: bool, backend: str) -> list[tuple[str, str, Callable[[], Any]]]:
    """What is measured: section, name, work; the most wanted first."""
    device, cpu = clock.device, clock.device == "cpu"
    steps, rounds, side = (12, 6, 16) if quick else (200, 8, 32)
    batches: tuple[int, ...] = (32, 256) if not quick else (8,) if cpu else (32,)
    seconds, most = 1.5, 6 if quick else 40  # of one attack on one batch; rounds
    todo: list[tuple[str, str, Callable[[], Any]]] = [("float64", n, partial(device_heads.exactly, n, clock)) for n in device_heads.HEADS]
    for name, heads in (("paper", 12), ("compact", 12), ("paper", 3), ("compact", 3)):
        if not (quick and cpu and heads == 12):
            todo.append(("heads", f"{name}, {heads}", partial(device_heads.compared, name, heads, steps, rounds, clock, peak, side)))
    after = (1, 4) if quick else (1, 25, 200)
    todo += [("differences", n, partial(device_heads.differences, n, after, clock, side=side)) for n in device_heads.HEADS]

    def step(net: str, batch: int, loop: device_steps.Loop) -> dict[str, Any]:
        found = device_steps.measured(loop, network(net, device), images(batch, device), clock, peak, seconds, most, backend)
        return {"net": net} | found

    def waits(loop: device_steps.Loop) -> dict[str, float]:
        return device_steps.waits_of(loop, network(next(iter(NETS)), device), images(8, device), device)

    loops = device_steps.loops()
    todo += [("waits", loop.name, partial(waits, loop)) for loop in loops]
    for net in NETS:
        for batch in batches:
            todo += [("steps", f"{loop.name}, {net}, {batch}", partial(step, net, batch, loop)) for loop in loops]
    return todo


def record(device: str, clock: Clock, peak: float, quick: bool) -> dict[str, Any]:
    """What is said of all rows."""
    return {
        "command": f"python -m benchmarks.device --device {device}{' --quick' if quick else ''}",
        "date": str(datetime.date.today()),
        "salientry": salientry.__version__,
        "machine": machine(device),
        "peak": peak,
        "quick": quick,
        "float64": {},
        "heads": [],
        "steps": [],
        "waits": {},
        "differences": [],
        "left out": [],
    }


def measure(device: str, quick: bool, out: Path, limit: float = LIMIT, backend: str = "inductor", only: str = "") -> dict[str, Any]:
    """Measure, and write the record row by row."""
    with exact(device):
        clock, peak = Clock(device, limit), products(device, 1)
        body = record(device, clock, peak, quick)
        for section, name, work in planned(clock, peak, quick, backend):
            if only and only not in f"{section} {name}":
                continue
            if clock.left < 0:
                body["left out"].append(f"{section} {name}: no time")
                continue
            try:
                found = work()
            except Exception as e:  # of this device: the other rows go on
                body["left out"].append(f"{section} {name}: {type(e).__name__}: {e}"[:300])
                continue
            if isinstance(body[section], dict):
                body[section][name] = found
            else:
                body[section].append(found)
            print(f"{limit - clock.left:5.0f} s {section} {name}: {said(found)}", flush=True)
            out.write_text(json.dumps(body, indent=1) + "\n")
        body["seconds"] = round(limit - clock.left, 1)
        out.write_text(json.dumps(body, indent=1) + "\n")
    print("left out:", body["left out"] or "nothing", flush=True)
    return body


def said(found: Any) -> str:
    """A row in a line: of each way images a second, how many times as fast as today and the share of the peak."""
    if not isinstance(found, dict) or "ways" not in found:
        return json.dumps(found)
    parts = []
    for way, f in found["ways"].items():
        if "failed" in f:
            parts.append(f"{way} {f['failed']}")
            continue
        times, lo, hi = f["times as fast as today"]
        apart = f", {f['values that differ']:.1e} of the values differ" if "values that differ" in f else ""
        parts.append(f"{way} {f['images per second']:.0f}/s, x {times:.2f} [{lo:.2f}, {hi:.2f}], {measured(f['share of peak'], 1)}{apart}")
    if "a rounding of the start" in found:
        parts.append(f"after a rounding of the start {found['a rounding of the start']['values that differ']:.1e} of the values differ")
    return "; ".join(parts)


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="less of each: a test that everything runs")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="after so many nothing more is begun")
    parser.add_argument("--backend", default="inductor", help="of torch.compile; aot_eager compiles nothing and needs no compiler")
    parser.add_argument("--only", default="", help="rows whose section or name has this in it, as 'heads' or 'BIM, paper'")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    measure(asked.device, asked.quick, asked.out, asked.seconds, asked.backend, asked.only)


if __name__ == "__main__":
    main()
