"""How soon the alarm for drift rings: `python -m benchmarks.drift`.

CIFAR-10 with the classifier of ``fast`` and a guard that is fitted with ``effort="quick"`` on 3,000 images of *detector_train*. The guard
judges the 5,000 images of the role *test*, which it was neither fitted nor calibrated on, and changed copies of them; streams are drawn
from these flags with replacement, so that all streams resample the same images. At the level .01 the threshold is the one that the same
calibration images give for it. The alarm's settings are the defaults, chosen by theory, not on these images.

Everything is kept in ``SALIENTRY_HOME`` and resumed from there. Writes results/drift.json; `python -m benchmarks.readme --write` prints it
in docs/drift.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

import salientry
from salientry import Guard, Run, fit_guard
from salientry.attacks import PGD
from salientry.calibration import pac_threshold
from salientry.datasets import CIFAR10
from salientry.drift import FlagRate
from salientry.experiment.steps import train_classifier
from salientry.harmless import JPEG, Brightness
from salientry.machine import processor
from salientry.protocol import eight_bits
from salientry.rates import share_of
from salientry.recipes.fast import NET
from salientry.runner.step import Handle

OUT = Path(__file__).parents[1] / "results" / "drift.json"
FITTED, STREAMS, LENGTH, BEFORE = 3_000, 100, 10_000, 10_000
LEVELS = (0.05, 0.01)
ALPHA = 0.01
ATTACKED, ONE_IN = 1_000, 10  # images that are attacked; one image in so many of a stream is one of them


def noise(x: Tensor, rng: np.random.Generator) -> Tensor:
    return (x + 0.08 * torch.from_numpy(rng.standard_normal(x.shape)).to(x)).clamp(0, 1)


def shot(x: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.poisson(x.numpy() * 100) / 100).to(x).clamp(0, 1)


def defocus(x: Tensor, rng: np.random.Generator) -> Tensor:
    """At this severity their disc is one pixel, smoothed by a Gaussian of deviation .6 over 3 x 3."""
    line = torch.tensor([math.exp(-0.5 / 0.6**2), 1.0, math.exp(-0.5 / 0.6**2)])
    kernel = (line[:, None] * line / line.sum() ** 2).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, groups=x.shape[1])


def contrast(x: Tensor, rng: np.random.Generator) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return ((x - mean) * 0.4 + mean).clamp(0, 1)


def pixelate(x: Tensor, rng: np.random.Generator) -> Tensor:
    small = F.interpolate(x, size=int(x.shape[2] * 0.85), mode="area")
    return F.interpolate(small, size=x.shape[2], mode="nearest-exact")


CHANGES: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "JPEG of quality 50": lambda x, rng: JPEG(50)(x, seeds=torch.arange(len(x))),
    "brightness times 1.2": lambda x, rng: Brightness(1.2)(x, seeds=torch.arange(len(x))),
    "Gaussian noise, severity 3": noise,
    "shot noise, severity 3": shot,
    "defocus blur, severity 3": defocus,
    "low contrast, severity 3": contrast,
    "pixelated, severity 3": pixelate,
}  # the last five like CIFAR-10-C (Hendrycks and Dietterich 2019), in a few lines of our own


def fitted(run: Run) -> tuple[Guard, Handle]:
    """The guard, and the data."""
    data = run.dataset(CIFAR10())
    net = run.do(train_classifier, data["train"], NET, seed=0)
    run.compute([net])
    rows = run.get(data["detector_train"].first(FITTED))
    images, labels = torch.from_numpy(rows.column("image")), torch.from_numpy(rows.column("label"))
    return fit_guard(run.get(net), images, labels, effort="quick", store=run.store.root, workers=1, progress=True), data


def about(module: str, guard: Guard) -> dict[str, Any]:
    """What a record begins with."""
    body: dict[str, Any] = {"command": f"python -m benchmarks.{module}", "date": str(datetime.date.today())}
    body |= {"salientry": salientry.__version__, "torch": torch.__version__, "processor": processor(), "device": "cpu", "seed": 0}
    return body | {"guard": {"fitted on": FITTED, "calibrated on": len(guard.calibration), "level": guard.level}}


def images_of(run: Run, data: Handle, role: str) -> tuple[Tensor, Tensor]:
    """All images of a role, floats (N, C, H, W) in [0, 1], and their labels."""
    rows = run.get(data[role])
    return torch.from_numpy(rows.column("image")).float() / 255, torch.from_numpy(rows.column("label"))


def median(values: list[float]) -> dict[str, Any]:
    """The median with an interval by ranks, at least 95 %; None: later than the stream is long."""
    x, n = np.sort(values), len(values)
    k = int(binom.ppf(0.025, n, 0.5))
    return {"median": _whole(np.median(x)), "low": _whole(x[k - 1]), "high": _whole(x[n - k]), "of": n}


def _whole(value: float) -> int | None:
    return round(float(value)) if math.isfinite(value) else None


def delays(level: float, before: Callable[[], NDArray[Any]], after: Callable[[], NDArray[Any]]) -> dict[str, Any]:
    """Of many streams: how many ring too early, and after how many changed images the others ring."""
    early, found = 0, []
    for _ in range(STREAMS):
        watch = FlagRate(level, ALPHA)
        watch.update(before().tolist())
        early += watch.alarm
        if not watch.alarm:
            start = watch.seen
            watch.update(after().tolist())
            found.append(watch.rang_at - start if watch.rang_at else math.inf)
    return {"too early": early, "rang": sum(map(math.isfinite, found)), **median(found)}


def measured(level: float, flags: dict[str, NDArray[Any]], attacked: NDArray[Any], rng: np.random.Generator) -> dict[str, Any]:
    """Everything at one level."""

    def drawn(name: str, count: int) -> Callable[[], NDArray[Any]]:
        return lambda: rng.choice(flags[name], count)

    def coins(rate: float, count: int) -> Callable[[], NDArray[Any]]:
        return lambda: rng.random(count) < rate

    def mixed(count: int) -> Callable[[], NDArray[Any]]:
        return lambda: np.where(rng.random(count) < 1 / ONE_IN, rng.choice(attacked, count), rng.choice(flags["natural"], count))

    def none() -> NDArray[Any]:
        return np.zeros(0, bool)

    streams: dict[str, Callable[[], NDArray[Any]]] = {"coins at twice the level": coins(2 * level, LENGTH)}
    streams |= {name: drawn(name, LENGTH) for name in flags if name != "natural"}
    streams["one image in ten attacked (PGD 8/255)"] = mixed(LENGTH)
    rates: dict[str, Any] = {name: share_of(f) for name, f in flags.items()} | {"attacked alone": share_of(attacked)}
    found: dict[str, Any] = {"rates": rates, "false alarms": {}, "delays": {}}
    for name, draw in {"natural": drawn("natural", LENGTH), "coins at the level": coins(level, LENGTH)}.items():
        found["false alarms"][name] = share_of(np.array([_rings(level, draw()) for _ in range(STREAMS)]))
    for name, draw in streams.items():
        found["delays"][name] = {
            "from the start": delays(level, none, draw),
            "after naturals": delays(level, drawn("natural", BEFORE), draw),
        }
    return found


def _rings(level: float, flags: NDArray[Any]) -> bool:
    watch = FlagRate(level, ALPHA)
    watch.update(flags.tolist())
    return watch.alarm


def main() -> None:
    """Judge the images, draw the streams, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    asked, run, rng = parser.parse_args(), Run(), np.random.default_rng(0)
    guard, data = fitted(run)
    x, y = images_of(run, data, "test")
    verdicts = {"natural": guard(x)}
    for name, change in CHANGES.items():
        verdicts[name] = guard(eight_bits(change(x, rng)))
        print(name, float(verdicts[name].flagged.float().mean()), flush=True)
    scores = {name: v.score.numpy() for name, v in verdicts.items()}
    some = (verdicts["natural"].predicted == y).nonzero().flatten()[:ATTACKED]
    attack = PGD(8 / 255, steps=20)
    made = [attack(guard.classifier, x[i], y[i], seeds=i) for i in some.split(250)]
    attacked = guard(eight_bits(torch.cat(made)))
    fools = (attacked.predicted != y[some]).numpy()
    body = about("drift", guard) | {"tested on": len(x), "alpha": ALPHA, "streams": STREAMS, "length": LENGTH, "before": BEFORE}
    body["attacked"] = {"images": len(some), "fool": int(fools.sum())}
    body["accuracy"] = {name: share_of((v.predicted == y).numpy()) for name, v in verdicts.items()}
    body["levels"] = {}
    for level in LEVELS:
        t = pac_threshold(guard.calibration.numpy(), level)
        flags = {name: s > t for name, s in scores.items()}
        body["levels"][str(level)] = measured(level, flags, attacked.score.numpy()[fools] > t, rng)
    asked.out.write_text(json.dumps(body, indent=1) + "\n")
    print(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
