"""What gets past a guard by an attacker who knows it: `python -m benchmarks.guard_knowing [GUARD ...] [--images N] [--out FILE]`.

The guards of :mod:`benchmarks.guard_detection`, from the same store; images of the role *test* behind those that are counted there.
:func:`salientry.attack_guard` with its defaults: true gradients through everything that the guard computes, its transforms known.
Writes results/benchmarks/guard-knowing.json unless another is named, after each guard; guards that are not asked for keep their numbers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import salientry
from salientry import Run, attack_guard, fit_guard
from salientry.datasets import CIFAR10
from salientry.experiment.steps import train_classifier
from salientry.machine import processor
from salientry.recipes.fast import NET

from .guard_detection import FITTED, KINDS, OUT, SECOND

TESTED = 2_500  # images of the role that are counted there


def main() -> None:
    """Fit, attack, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("guards", nargs="*", default=[*KINDS], choices=[*KINDS], metavar="GUARD")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT.with_name("guard-knowing.json"))
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*calibration images")
    run = Run()
    data = run.dataset(CIFAR10())
    nets = [run.do(train_classifier, data["train"], NET, seed=s) for s in (0, 1)]
    run.compute(nets, lambda h, i, n: lambda done, of: None, workers=asked.workers)
    f, second = (run.get(h) for h in nets)
    rows, tested = run.get(data["detector_train"].first(FITTED)), run.get(data["test"])
    images, labels = torch.from_numpy(rows.column("image")), torch.from_numpy(rows.column("label"))
    x, y = (torch.from_numpy(tested.column(n, slice(TESTED, TESTED + 500))) for n in ("image", "label"))
    body: dict[str, Any] = {
        "command": "python -m benchmarks.guard_knowing",
        "date": str(datetime.date.today()),
        "salientry": salientry.__version__,
    }
    body |= {"torch": torch.__version__, "processor": processor(), "device": "cpu", "seed": 0}
    body["guards"] = json.loads(asked.out.read_text())["guards"] if asked.out.exists() else {}
    for name in asked.guards:
        beside = {"second": second} if KINDS[name] is SECOND else dict(KINDS[name])
        guard = fit_guard(f, images, labels, store=run.store.root, workers=asked.workers or None, progress=True, **beside)
        began = time.monotonic()
        found = attack_guard(guard, x, y, count=asked.images)
        print(f"{name}: {time.monotonic() - began:.0f} s\n{found}", flush=True)
        body["guards"][name] = found.json()
        asked.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
