"""How fast attacks are, ours beside others': `python -m benchmarks.attacks [--seconds S] [--out FILE]`.

In one process with one thread: a small network on CIFAR-10 (`CompactCNN`, trained for a minute), one attack after another, ours and those
of foolbox, ART, torchattacks and adv-lib with the same settings in turn, on 1, 32 and 256 images that the network has right. Counted are
forward and backward passes in images, images that leave their label, and norms. Times are the process's own time on the processor, so
that others on the machine matter little. Of two attacks that are not alike in success and norm no ratio is given: success within 3 points
(of fewer than 34 images, within one), and the median norm of those that left (of an attack without a budget) within 5 %. A ratio has a
95 % interval of the median over interleaved repeats. The network is frozen for all, so nobody computes gradients of weights.

The others need an environment of their own, for torchattacks needs torchvision: `pip install foolbox adversarial-robustness-toolbox
torchvision torchattacks adv-lib` beside this package; what is not there is left out and named. Writes
results/benchmarks/attacks-speed.json unless another is named.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

import salientry
from salientry.attacks import APGD, DDN, FAB, FMN, PGD, CarliniWagner, DeepFool, Square
from salientry.classifiers import CompactCNN
from salientry.datasets import CIFAR10
from salientry.machine import processor
from salientry.types import Shape

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "attacks-speed.json"
E = 1 / 255
BATCHES = {32: 32, 1: 8, 256: 256}  # images at once, and how many in all
FEWEST, MOST = 6, 60  # rounds
SLOW = 5  # a library whose first run takes so many times ours is not run again, and is in no ratio
CLOSE_SUCCESS, CLOSE_NORM = 0.03, 0.05
PEERS = {"foolbox": "foolbox", "ART": "adversarial-robustness-toolbox", "torchattacks": "torchattacks", "adv-lib": "adv-lib"}
Call = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One attack: ours, theirs by library, its settings in words, and the norm that is compared (None: it has a budget)."""

    name: str
    settings: str
    ours: Any
    theirs: dict[str, Call]
    norm: str | None = None


def foolbox(name: str, size: float | None = None, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        fb = import_module("foolbox")
        model = fb.models.pytorch.PyTorchModel(net, bounds=(0, 1), device="cpu")
        found: Tensor = getattr(fb.attacks, name)(**settings)(model, x, fb.criteria.Misclassification(y), epsilons=size)[1]
        return found

    return call


def art(name: str, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wrapper = import_module("art.estimators.classification").PyTorchClassifier
        model = wrapper(net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu")
        kind = getattr(import_module("art.attacks.evasion"), name)
        return torch.from_numpy(kind(model, batch_size=len(x), verbose=False, **settings).generate(x.numpy(), y.numpy()))

    return call


def torchattacks(name: str, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = getattr(import_module("torchattacks"), name)(net, **settings)(x, y)
        return found

    return call


def adv_lib(name: str, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = getattr(import_module("adv_lib.attacks"), name)(net, x, y, **settings)
        return found

    return call


def rows() -> list[Row]:
    """What is compared."""
    ours_cw = CarliniWagner(search_steps=1, steps=40, lr=0.01, initial_const=1.0, abort_early=False)
    return [
        Row(
            "PGD",
            "Linf 8/255, 10 steps of 2/255, random start",
            PGD(8 * E, 2 * E, 10),
            {
                "foolbox": foolbox("LinfPGD", 8 * E, abs_stepsize=2 * E, steps=10),
                "torchattacks": torchattacks("PGD", eps=8 * E, alpha=2 * E, steps=10),
                "ART": art("ProjectedGradientDescentPyTorch", eps=8 * E, eps_step=2 * E, max_iter=10, num_random_init=1),
            },
        ),
        Row(
            "APGD",
            "Linf 2/255, 20 steps, cross-entropy",
            APGD(2 * E, 20),
            {
                "torchattacks": torchattacks("APGD", eps=2 * E, steps=20),
                "adv-lib": adv_lib("apgd", eps=2 * E, norm=float("inf"), n_iter=20, loss_function="ce"),
                "ART": art("AutoProjectedGradientDescent", eps=2 * E, eps_step=4 * E, max_iter=20, nb_random_init=1),
            },
        ),
        Row(
            "C&W",
            "40 steps, one constant of 1, no early stop",
            ours_cw,
            {
                "foolbox": foolbox(
                    "L2CarliniWagnerAttack", binary_search_steps=1, steps=40, stepsize=0.01, initial_const=1.0, abort_early=False
                ),
                "torchattacks": torchattacks("CW", c=1, kappa=0, steps=40, lr=0.01),
                "adv-lib": adv_lib(
                    "carlini_wagner_l2", learning_rate=0.01, initial_const=1.0, binary_search_steps=1, max_iterations=40, abort_early=False
                ),
            },
            "l2",
        ),
        Row(
            "DeepFool",
            "50 steps at most, 10 classes",
            DeepFool(),
            {
                "foolbox": foolbox("L2DeepFoolAttack", steps=50, candidates=10, overshoot=0.02),
                "torchattacks": torchattacks("DeepFool", steps=50, overshoot=0.02),
                "adv-lib": adv_lib("df", steps=50, overshoot=0.02),
                "ART": art("DeepFool", max_iter=50, epsilon=0.02, nb_grads=10),
            },
            "l2",
        ),
        Row(
            "DDN",
            "30 steps",
            DDN(30),
            {"foolbox": foolbox("DDNAttack", steps=30), "adv-lib": adv_lib("ddn", steps=30, levels=None)},
            "l2",
        ),
        Row(
            "FMN Linf",
            "30 steps",
            FMN("linf", 30),
            {"foolbox": foolbox("LInfFMNAttack", steps=30), "adv-lib": adv_lib("fmn", norm=float("inf"), steps=30)},
            "linf",
        ),
        Row(
            "FAB",
            "Linf, 10 steps towards the likeliest other class",
            FAB("linf", 10, 1),
            {"torchattacks": torchattacks("FAB", norm="Linf", eps=8 * E, steps=10, multi_targeted=True, n_classes=10)},
            "linf",
        ),
        Row(
            "Square",
            "Linf 8/255, 100 queries",
            Square(8 * E, 100),
            {
                "torchattacks": torchattacks("Square", eps=8 * E, n_queries=100),
                "ART": art("SquareAttack", eps=8 * E, max_iter=100, p_init=0.8),
            },
        ),
    ]


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
    """Success, and the median norm of what left its label."""
    with torch.no_grad():
        left = net(found).argmax(1) != y
    moved = (found - x)[left].flatten(1)
    size = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
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


def attacked(images: int, epochs: int) -> tuple[nn.Module, Tensor, Tensor, float]:
    """A network trained a little, test images that it has right, their labels, and its accuracy."""
    train, test = CIFAR10().read()
    x, y = torch.from_numpy(train.images[:images]).float() / 255, torch.from_numpy(train.labels[:images])
    net = Whole(CompactCNN(epochs=epochs).fit(x, y, Shape(3, 32, 32, 10), seed=0)).eval().requires_grad_(False)
    x, y = torch.from_numpy(test.images[:1000]).float() / 255, torch.from_numpy(test.labels[:1000])
    with torch.no_grad():
        right = net(x).argmax(1) == y
    return net, x[right], y[right], float(right.float().mean())


def main() -> None:
    """Measure all and write the record, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="of one attack on one batch")
    parser.add_argument("--images", type=int, default=10_000, help="that the network is trained on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--only", help="one attack; the rows of the others stay as they are in the file")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    there = ready()
    net, x, y, accuracy = attacked(asked.images, asked.epochs)
    print(f"accuracy {accuracy:.3f}", flush=True)
    body: dict[str, Any] = {"command": "python -m benchmarks.attacks", "date": str(datetime.date.today()), "processor": processor()}
    body |= {"versions": {"salientry": salientry.__version__, "torch": torch.__version__}, "threads": 1, "accuracy": accuracy}
    body["versions"] |= {n: metadata.version(PEERS[n]) for n in there}
    body |= {"tolerance": {"success": CLOSE_SUCCESS, "norm": CLOSE_NORM}, "missing": [n for n in PEERS if n not in there], "rows": []}
    if asked.only and asked.out.exists():
        body["rows"] = [r for r in json.loads(asked.out.read_text())["rows"] if r["attack"] != asked.only]
    for batch, count in BATCHES.items():
        for row in rows():
            if asked.only in (None, row.name):
                own = Row(row.name, row.settings, row.ours, {n: c for n, c in row.theirs.items() if n in there}, row.norm)
                body["rows"].append(measured(own, net, x[:count], y[:count], batch, asked.seconds))
                print(json.dumps(body["rows"][-1]), flush=True)
                asked.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
