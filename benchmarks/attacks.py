"""How fast attacks are, ours beside others': `python -m benchmarks.attacks [--rows PGD,C&W] [--net paper] [--batches 1,32] [--out FILE]`.

In one process with one thread: a network on CIFAR-10 (`--net compact`: `CompactCNN`, `--net paper`: the paper's, `PaperCNN`; either is
trained a little first), one attack after another, ours and those of foolbox, ART, torchattacks and adv-lib with the same settings in turn,
on 1, 32 and 256 images at once that it has right. Counted are forward and backward passes in images, images that leave their label,
and norms. Times are the process's own time on the processor, so that others on the machine matter little. Of two attacks that are not alike
in success and norm no ratio is given: success within 3 points (of fewer than 34 images, within one), and the median norm of those that left
(of an attack without a budget) within 5 %. A ratio has a 95 % interval of the median over interleaved repeats. The network is frozen for
all, so nobody computes gradients of weights.

The others need an environment of their own, for torchattacks needs torchvision: `pip install foolbox adversarial-robustness-toolbox
torchvision torchattacks adv-lib` beside this package; what is not there is left out and named. Writes
results/benchmarks/attacks-speed.json unless another is named, row by row; rows of other attacks, networks and numbers of images stay there
as they are, each with its own date and processor, so a record can be made in parts. `--weights FILE` keeps the trained network for the next
part.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

import salientry
from salientry.classifiers import CompactCNN, PaperCNN
from salientry.datasets import CIFAR10
from salientry.machine import processor
from salientry.types import ClassifierSettings, Shape

from .attack_rows import Call, Row, rows

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "attacks-speed.json"
BATCHES = {32: 32, 1: 8, 256: 256}  # images at once, and how many in all
FEWEST, MOST = 6, 60  # rounds
SLOW = 5  # a library whose first run takes so many times ours is not run again, and is in no ratio
CLOSE_SUCCESS, CLOSE_NORM = 0.03, 0.05
PEERS = {"foolbox": "foolbox", "ART": "adversarial-robustness-toolbox", "torchattacks": "torchattacks", "adv-lib": "adv-lib"}
NETS: dict[str, tuple[ClassifierSettings, str]] = {  # by their name on the command line: settings, and what the table says
    "compact": (CompactCNN(epochs=4), "small"),
    "paper": (PaperCNN(centred=True, epochs=1), "the paper's"),
}


# --- measuring ---------------------------------------------------------------------------------------------------


@contextmanager
def passes(net: nn.Module) -> Iterator[dict[str, int]]:
    """Images that go through a network, forward and backward, while the block runs."""
    found = {"forward": 0, "backward": 0}

    def back(gradient: Tensor) -> None:
        found["backward"] += len(gradient)

    def count(_: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        found["forward"] += len(inputs[0])
        if out.requires_grad:
            out.register_hook(back)  # type: ignore[no-untyped-call]

    handle = net.register_forward_hook(count)
    yield found
    handle.remove()


def described(net: nn.Module, x: Tensor, y: Tensor, found: Tensor, norm: str | None) -> dict[str, Any]:
    """Success, and the median norm of what left its label; of ``l0`` the share of values that changed."""
    with torch.no_grad():
        left = net(found).argmax(1) != y
    moved = (found - x)[left].flatten(1)
    changed = (moved.abs() > 1e-6).float().mean(1)
    size = changed if norm == "l0" else moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    return {"success": float(left.float().mean()), "norm": float(size.median()) if norm and len(size) else None}


def taken(work: Callable[[], Any], least: float = 0.03) -> float:
    """Seconds of the processor for one piece of work, repeated until they are many clock ticks."""
    begin, repeats = time.process_time(), 0
    while time.process_time() - begin < least or not repeats:
        work()
        repeats += 1
    return (time.process_time() - begin) / repeats


def bare(net: nn.Module, x: Tensor) -> tuple[float, float]:
    """Seconds of a forward pass of an image, and of a forward and a backward pass."""

    def forward() -> None:
        with torch.no_grad():
            net(x)

    def both() -> None:
        here = x.clone().requires_grad_()
        torch.autograd.grad(net(here).sum(), here)

    return taken(forward, 0.03) / len(x), taken(both, 0.03) / len(x)


def alike(a: dict[str, Any], b: dict[str, Any], count: int) -> bool:
    """Whether success and norm are equal within the tolerance."""
    if abs(a["success"] - b["success"]) > max(CLOSE_SUCCESS, 1 / count) + 1e-9:
        return False
    if a["norm"] is None or b["norm"] is None:
        return a["norm"] is b["norm"]
    return bool(abs(a["norm"] / b["norm"] - 1) <= CLOSE_NORM)


def ratio(theirs: list[float], ours: list[float]) -> list[float]:
    """How many times as fast ours is: the median over rounds, and its interval from order statistics, which holds with 95 % or more."""
    found, n = sorted(a / b for a, b in zip(theirs, ours, strict=True)), len(ours)
    k = int(binom.ppf(0.025, n, 0.5))  # the k-th smallest and the k-th largest; of fewer than 6 rounds there is none with 95 %
    return [round(v, 3) for v in (statistics.median(found), found[max(k - 1, 0)], found[n - max(k, 1)])]


def measured(row: Row, net: nn.Module, x: Tensor, y: Tensor, batch: int, seconds: float) -> dict[str, Any]:
    """One attack on images, ``batch`` at once: every library once to count, then in turn until the time is up."""
    seeds = torch.arange(len(x)) + 1
    calls: dict[str, Call] = {"salientry": lambda n, a, b: row.ours(n, a, b, seeds=seeds[: len(a)])} | row.theirs

    def whole(call: Call) -> Tensor:
        return torch.cat(
            [call(net, a, b).detach().float() for a, b in ((x[k : k + batch], y[k : k + batch]) for k in range(0, len(x), batch))]
        )

    found: dict[str, Any] = {}
    once: dict[str, float] = {}
    for name, call in list(calls.items()):
        torch.manual_seed(0)
        np.random.seed(0)
        start = time.process_time()
        try:
            with passes(net) as counts:
                out = whole(call)
        except Exception as e:  # somebody else's
            found[name] = {"failed": f"{type(e).__name__}: {e}"[:120]}
            del calls[name]
            continue
        once[name] = time.process_time() - start
        found[name] = {k: round(v / len(x), 2) for k, v in counts.items()} | described(net, x, y, out, row.norm)
    for name in [n for n, s in once.items() if n != "salientry" and s > SLOW * once["salientry"]]:
        found[name]["images per second"] = round(len(x) / once[name], 3)
        del calls[name]
    times: dict[str, list[float]] = {n: [] for n in calls}
    passing: list[tuple[float, float]] = []
    begin = time.monotonic()
    while (done := len(passing)) < FEWEST or (done < MOST and time.monotonic() - begin < seconds):
        passing.append(bare(net, x[:batch]))
        for name in [*calls, *calls][done % len(calls) :][: len(calls)]:
            times[name].append(taken(partial(whole, calls[name])))
    forward, both = (statistics.median(p[k] for p in passing) for k in (0, 1))
    for name, each_time in times.items():
        each = statistics.median(each_time) / len(x)
        needed = (found[name]["forward"] - found[name]["backward"]) * forward + found[name]["backward"] * both
        found[name] |= {"images per second": round(1 / each, 3), "time by bare passes": round(each / needed, 3) if needed else None}
    mine = found["salientry"]
    equal = [n for n in times if n != "salientry" and alike(mine, found[n], len(x))]
    best = min(equal, key=lambda n: statistics.median(times[n]), default=None)
    body: dict[str, Any] = {
        "attack": row.name,
        "settings": row.settings,
        "batch": batch,
        "images": len(x),
        "rounds": len(passing),
        "libraries": found,
    }
    return body | {"best": best, "ratio": None if best is None else ratio(times[best], times["salientry"])}


# --- what is attacked --------------------------------------------------------------------------------------------


def ready() -> list[str]:
    """The libraries that are there; makes torchattacks and adv-lib importable without what they do not need here."""
    there = []
    for name, package in PEERS.items():
        try:
            metadata.version(package)
            there.append(name)
        except metadata.PackageNotFoundError:
            print(f"{name} is not installed: left out", flush=True)
    if "torchattacks" in there and "+cpu" in torch.__version__:  # torchvision's own operators are built for another torch
        ready.operators = torch.library.Library("torchvision", "DEF")  # type: ignore[attr-defined, no-untyped-call]
        for operator in ("nms", "qnms"):
            ready.operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[attr-defined]
    sys.modules.setdefault("multiprocess", multiprocessing)  # ART's AutoAttack would use it in parallel
    if "adv-lib" in there:
        plots: Any = types.ModuleType("visdom")  # adv-lib draws its progress with it, if asked to
        plots.Visdom = object
        sys.modules.setdefault("visdom", plots)
    return there


class Whole(nn.Module):
    """A network that is called as one: ART calls the layers of an ``nn.Sequential`` one by one, and nobody could count."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found


def attacked(name: str, images: int, weights: Path | None) -> tuple[nn.Module, Tensor, Tensor, float]:
    """A network trained a little, or taken from a file, test images that it has right, their labels, and its accuracy."""
    (train, test), settings, shape = CIFAR10().read(), NETS[name][0], Shape(3, 32, 32, 10)
    if weights is not None and weights.exists():
        trained = settings.build(shape)
        trained.load_state_dict(torch.load(weights, weights_only=True))
    else:
        x, y = torch.from_numpy(train.images[:images]).float() / 255, torch.from_numpy(train.labels[:images])
        trained = settings.fit(x, y, shape, seed=0)
        if weights is not None:
            torch.save(trained.state_dict(), weights)
    net = Whole(trained).eval().requires_grad_(False)
    x, y = torch.from_numpy(test.images[:1000]).float() / 255, torch.from_numpy(test.labels[:1000])
    with torch.no_grad():
        right = net(x).argmax(1) == y
    return net, x[right], y[right], float(right.float().mean())


def joined(old: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a record with one row more, in place of an older one of the same attack, network and number of images."""

    def of(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["attack"], row.get("net", "compact"), row["batch"]

    names = [row.name for row in rows()]
    kept = [row for row in old if of(row) != of(new)]
    return sorted([*kept, new], key=lambda r: (names.index(r["attack"]) if r["attack"] in names else len(names), *of(r)[1:]))


def whole(there: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier record, each with what the record said of all."""
    said = {k: there[k] for k in ("date", "processor", "versions", "accuracy") if k in there}
    return [said | row for row in there.get("rows", [])]


def main() -> None:
    """Measure and write the record, row by row."""
    names = [row.name for row in rows()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of one attack on one batch, at least; of slow ones 6 rounds")
    parser.add_argument("--images", type=int, default=10_000, help="that the network is trained on")
    parser.add_argument("--net", choices=sorted(NETS), default="compact", help="what is attacked")
    parser.add_argument("--weights", type=Path, help="a file where the trained network is kept, and taken from")
    parser.add_argument("--rows", default=",".join(names), help=f"attacks, of {', '.join(names)}; other rows of the file stay")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="how many images at once; other rows of the file stay")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    wanted, batches = asked.rows.split(","), [int(b) for b in asked.batches.split(",")]
    if strange := [n for n in wanted if n not in names] + [str(b) for b in batches if b not in BATCHES]:
        parser.error(f"there is no {', '.join(strange)}")
    torch.set_num_threads(1)
    there = ready()
    net, x, y, accuracy = attacked(asked.net, asked.images, asked.weights)
    print(f"accuracy {accuracy:.3f}", flush=True)
    versions = {"salientry": salientry.__version__, "torch": torch.__version__} | {n: metadata.version(PEERS[n]) for n in there}
    said = {"net": asked.net, "date": str(datetime.date.today()), "processor": processor(), "versions": versions, "accuracy": accuracy}
    body: dict[str, Any] = {"command": "python -m benchmarks.attacks", "threads": 1}
    body |= {"tolerance": {"success": CLOSE_SUCCESS, "norm": CLOSE_NORM}}
    body["rows"] = whole(json.loads(asked.out.read_text())) if asked.out.exists() else []
    for batch in (b for b in BATCHES if b in batches):
        for row in (r for r in rows() if r.name in wanted and batch in r.batches):
            own = Row(row.name, row.settings, row.ours, {n: c for n, c in row.theirs.items() if n in there}, row.norm, row.batches)
            found = measured(own, net, x[: BATCHES[batch]], y[: BATCHES[batch]], batch, asked.seconds)
            body["rows"] = joined(body["rows"], said | found)
            print(json.dumps(found), flush=True)
            asked.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
