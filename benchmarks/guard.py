"""What a guard costs beside its classifier: `python -m benchmarks.guard [FOLDER] [--pictures | --exported] [--calls N] [--out FILE]`.

Latency of a call (median and p99), images a second, and the ratio to the bare classifier, of

* ``classifier``: images to logits;
* ``map`` and ``map, own trunk``: the saliency model alone, image and class to map, with its second encoder and with the classifier's
  own trunk. The latter's one pass holds a pass of the trunk: it is what classifier and map cost together where they share that pass;
* ``SPD``, ``SMD``, ``SPD, own trunk``, ``ID``, ``ID+``: from image to score, the classifier's pass included where the view needs it;
* ``guard: SPD`` and ``guard: fusion``: ``Guard.__call__``, image to verdict, checks and p-values included;
* ``guard: light``: of the largest logits and the answer under two changes; ``guard: full``: under six, the image's noise, and layer
  statistics apart, the largest that a fit chooses among (both are the detectors of `benchmarks.guard_detection`);
  ``guard: cascade``: the first, then the second on a fifth of the images. Its cut is set on the very images that are timed, so that one in
  five of them goes on, and at batch 1 the one: of a stream of single images four in five cost what ``guard: light`` does;

with the nets of ``fast dataset=cifar10``, untrained, and, given a FOLDER that `salientry run` left, of the guard in it and its
classifier. With ``--pictures`` instead: the last three at 3 x 224 x 224, batches of 1 and 4 on one thread, for an untrained
``PictureCNN(width=32)`` of 1.9 million weights and .9 billion multiplications an image. With ``--exported`` instead: classifier, light and
full guard of the first kind, beside what `salientry export-onnx` makes of them, run by ONNX Runtime; a graph's ratio is to the classifier's
graph. Images are random 8-bit pixels of a fixed seed: these nets do the same work whatever their weights and the pixels are.

All subjects are called in turn in one loop, in another order each round, so that a noisy neighbour hits all alike; each timed call
follows an untimed one of the same subject, so caches are as in a stream of images. A ratio is one of medians; intervals (95 %)
resample rounds. p99 of fewer than 100 calls is their largest, nearly. Beside the times: multiplications and additions an image, counted
by torch (convolutions and matrix products; of a graph none are counted), the rate of float32 matrix products on this machine, before
and after, and the load. Writes results/benchmarks/guard.json, guard-pictures.json or guard-exported.json unless another file is named.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import salientry
from salientry.classifiers import PictureCNN, load_classifier
from salientry.detectors import ID, SMD, SPD, Fused, IDPlus
from salientry.evidence import Evidence
from salientry.guard import Guard
from salientry.inputs import random_images
from salientry.learned import seeded
from salientry.machine import cores, processor
from salientry.recipes.fast import config
from salientry.recipes.paper_config import Config
from salientry.types import Shape

from . import guard_exported, readme_cost
from .guard_detection import CASCADE

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "guard.json"
SHAPE = Shape(3, 32, 32, 10)
PICTURES = Shape(3, 224, 224, 10)
BATCHES, PICTURE_BATCHES, THREADS = (1, 256), (1, 4), (1, 2)
CALLS = {1: 500, 256: 20}  # timed calls of each subject
PICTURE_CALLS = 20
WARM_UP = 3  # rounds that are thrown away
RESAMPLES = 1000
SIDE, PRODUCTS = 1024, 15  # of the matrices; how often they are multiplied
IDLE, DRIFT = 0.5, 0.1  # load average of a quiet machine; change of its matmul rate that is reported

Call = Callable[[Tensor], Any]
set_threads = torch.set_num_threads


@dataclass(frozen=True)
class Subject:
    """Something to be timed.

    Attributes:
        name: of the row.
        call: of images (N, C, H, W).
        shape: of the images.
        against: the bare classifier that it is compared with.
    """

    name: str
    call: Call
    shape: Shape
    against: str


# --- who is timed ------------------------------------------------------------------------------------------------


def unfitted(settings: Any, look: Evidence, *parts: nn.Module) -> nn.Module:
    """A detector of these settings for such images, without a fit."""
    with torch.no_grad():
        view = settings.view(look, *parts)
    built: nn.Module = settings.build(tuple(view.shape[1:]), *parts)
    return built


def subjects_of(config: Config, shape: Shape) -> list[Subject]:
    """The configuration's nets and detectors, and two guards of them, all untrained."""
    with seeded(0):
        f, s, own = (spec.build(shape) for spec in (config.classifier, config.saliency, config.trunk))
        look = Evidence(f, s, pixels(shape, 2))
        members = {type(d): unfitted(d, look) for d in config.members}
        heads = members | {ID: unfitted(ID(config.head), look)}
        fused = unfitted(Fused(), look, *members.values())
        calibration = torch.randn(config.data.roles.calibration)

    def drawn(net: nn.Module) -> Call:
        return lambda x: net(x, torch.zeros(len(x), dtype=torch.int64))

    def scored(kind: type, saliency: nn.Module = s) -> Call:
        detector: Any = heads[kind]
        return lambda x: detector(Evidence(f, saliency, x, detector.needs))

    def guarded(detector: nn.Module) -> Call:
        return judging(Guard(f, s, detector, 0.0, 0.05, calibration, shape))

    calls: dict[str, Call] = {"classifier": f, "map": drawn(s), "map, own trunk": drawn(own)}
    calls |= {"SPD": scored(SPD), "SMD": scored(SMD), "SPD, own trunk": scored(SPD, own), "ID": scored(ID), "ID+": scored(IDPlus)}
    calls |= {"guard: SPD": guarded(heads[SPD]), "guard: fusion": guarded(fused)}
    return [Subject(name, call, shape, "classifier") for name, call in calls.items()] + answering(f, shape, calibration)


def guards_of(f: nn.Module, shape: Shape, calibration: Tensor) -> dict[str, Guard]:
    """Guards that ask the classifier about changed images, untrained."""
    with seeded(0):
        look = Evidence(f, None, pixels(shape, 2))
        settings = CASCADE
        with torch.no_grad():
            light, full = (d.build(d.widths(look)) for d in (settings.first, settings.second))
        cascade: Any = settings.build((2,), light, full)
    each = {"guard: light": light, "guard: full": full, "guard: cascade": cascade}
    return {name: Guard(f, None, detector, 0.0, 0.05, calibration, shape) for name, detector in each.items()}


def answering(f: nn.Module, shape: Shape, calibration: Tensor) -> list[Subject]:
    """They, to be timed."""
    guards = guards_of(f, shape, calibration)
    light: Any = guards["guard: light"].detector
    cascade: Any = guards["guard: cascade"].detector
    calls: dict[str, Call] = {name: judging(guard) for name, guard in guards.items()}
    seen: list[int] = []

    def fifth(x: Tensor) -> Any:
        if seen != [len(x)]:  # the images of a batch size are always the same
            seen[:] = [len(x)]
            with torch.no_grad():
                scores = light(Evidence(f, None, x, light.needs))
            ranked, k = scores.sort(descending=True).values, math.ceil(CASCADE.share * len(x))
            cascade.head.cut.copy_(ranked[k - 1 : k + 1].mean() if len(x) > k else ranked[-1] - 1)  # random images are much alike
        return calls["guard: cascade"](x)

    return [Subject(name, fifth if name == "guard: cascade" else call, shape, "classifier") for name, call in calls.items()]


def picture_subjects(shape: Shape = PICTURES) -> list[Subject]:
    """A classifier of pictures and guards of it, untrained."""
    with seeded(0):
        f = PictureCNN(width=32).build(shape)
    return [
        Subject("classifier", f, shape, "classifier"),
        *answering(f, shape, torch.randn(500, generator=torch.Generator().manual_seed(0))),
    ]


def exported_subjects(config: Config, shape: Shape) -> list[Subject]:
    """The configuration's classifier and two guards of it, and all three as ONNX graphs, untrained."""
    with seeded(0):
        f = config.classifier.build(shape)
    guards = guards_of(f, shape, torch.randn(config.data.roles.calibration))
    guards.pop("guard: cascade")  # a graph has no branches
    here: dict[str, Call] = {"classifier": f} | {name: judging(guard) for name, guard in guards.items()}
    graphs = guard_exported.calls(f, guards)
    bare = "classifier" + guard_exported.RUNTIME
    return [Subject(n, c, shape, "classifier") for n, c in here.items()] + [Subject(n, c, shape, bare) for n, c in graphs.items()]


def left_in(folder: Path) -> list[Subject]:
    """The guard that a run left behind, and its classifier."""
    f = load_classifier(str(folder / "classifier"))
    guard = Guard.load(folder / "guard", f)
    name = "classifier of the run"
    return [Subject(name, f, guard.shape, name), Subject("guard of the run", judging(guard), guard.shape, name)]


def judging(guard: Guard) -> Call:
    """A guard that takes a batch as one."""
    return lambda x: guard(x, batch=len(x))


def pixels(shape: Shape, count: int) -> Tensor:
    """Random 8-bit images (count, C, H, W), always the same."""
    return random_images(count, shape.channels, shape.height, shape.width)


# --- times -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def seconds(subjects: list[Subject], batch: int, calls: int) -> dict[str, Any]:
    """Seconds (calls,) of each subject: round by round each of them once, in an order that is drawn anew."""
    order, given = np.random.default_rng(0), {s.shape: pixels(s.shape, batch) for s in subjects}
    found: dict[str, list[float]] = {s.name: [] for s in subjects}
    for r in range(-min(WARM_UP, calls), calls):
        for i in order.permutation(len(subjects)):
            s = subjects[i]
            x = given[s.shape]
            s.call(x)
            began = time.perf_counter()
            s.call(x)
            took = time.perf_counter() - began
            if r >= 0:
                found[s.name].append(took)
    return {name: np.array(v) for name, v in found.items()}


def rows_of(subjects: list[Subject], taken: dict[str, Any], batch: int, threads: int) -> list[dict[str, Any]]:
    """A row a subject; times in milliseconds."""
    calls = len(taken[subjects[0].name])
    at = np.random.default_rng(1).integers(0, calls, (RESAMPLES, calls))
    rows = []
    for s in subjects:
        mine, other = taken[s.name], taken[s.against]
        medians, others = np.median(mine[at], 1), np.median(other[at], 1)
        rows.append(
            {
                "subject": s.name,
                "batch": batch,
                "threads": threads,
                "calls": calls,
                "p50_ms": 1e3 * float(np.median(mine)),
                "p50_ms_interval": _ends(1e3 * medians),
                "p99_ms": 1e3 * float(np.quantile(mine, 0.99)),
                "images_per_second": batch * calls / float(mine.sum()),
                "against": s.against,
                "ratio": float(np.median(mine) / np.median(other)),
                "ratio_interval": _ends(medians / others),
            }
        )
    return rows


def _ends(values: Any) -> list[float]:
    return [float(v) for v in np.quantile(values, (0.025, 0.975))]


@torch.no_grad()
def operations(subjects: list[Subject]) -> dict[str, int]:
    """Multiplications and additions an image; each counts."""
    found = {}
    for s in subjects:
        s.call(pixels(s.shape, 1))  # a cascade's cut is set on the first call
        with FlopCounterMode(display=False) as counter:
            s.call(pixels(s.shape, 1))
        if counted := counter.get_total_flops():
            found[s.name] = counted
    return found


# --- the machine -------------------------------------------------------------------------------------------------


def matmul(threads: int, side: int, products: int) -> float:
    """Median GFLOP/s of a float32 product of two square matrices."""
    set_threads(threads)
    a, b = torch.rand(2, side, side, generator=torch.Generator().manual_seed(0))
    taken = []
    for _ in range(products + 1):
        began = time.perf_counter()
        torch.mm(a, b)
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / float(np.median(taken[1:])) / 1e9


def machine() -> dict[str, Any]:
    """What this was measured on."""
    versions = {
        "salientry": salientry.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return {"cpu": processor(), "cores": cores(), "system": f"{platform.system()} {platform.machine()}", **versions}


def load() -> float | None:
    """Mean number of running processes in the last minute; None where nobody knows."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def doubts(start: float | None, end: float | None, most: int, before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Why these figures may be wrong."""
    found = []
    if start is not None and start > IDLE:
        found.append(f"the machine was busy before this began: load average {start:.2f}")
    if end is not None and end > most + IDLE:
        found.append(f"others computed beside it: load average {end:.2f} at the end, of which at most {most} were this benchmark's")
    for threads, rate in before.items():
        if abs(after[threads] / rate - 1) > DRIFT:
            found.append(f"matrix products, {threads} thread(s): {rate:.1f} GFLOP/s before, {after[threads]:.1f} after")
    return found


# --- all of it ---------------------------------------------------------------------------------------------------


def measure(
    subjects: list[Subject],
    batches: Iterable[int] = BATCHES,
    threads: Iterable[int] = THREADS,
    calls: int | None = None,
    side: int = SIDE,
    products: int = PRODUCTS,
) -> dict[str, Any]:
    """Everything that is written down; the number of threads is afterwards as it was.

    Args:
        subjects: who is timed, among them those that others are compared with.
        batches: images a call.
        threads: of torch.
        calls: timed calls of each subject; None: as many as ``CALLS`` says.
        side: of the matrices.
        products: how often they are multiplied.
    """
    batches, threads, there, start = tuple(batches), tuple(threads), torch.get_num_threads(), load()
    date, rows = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), list[dict[str, Any]]()
    try:
        before = {str(t): matmul(t, side, products) for t in threads}
        counted = operations(subjects)
        for t in threads:
            set_threads(t)
            for b in batches:
                rows += rows_of(subjects, seconds(subjects, b, calls or CALLS.get(b, 20)), b, t)
        after = {str(t): matmul(t, side, products) for t in threads}
    finally:
        set_threads(there)
    end = load()
    return {
        "date": date,
        "machine": machine(),
        "load_average": {"start": start, "end": end},
        "matmul_gflops": {"side": side, "products": products, "before": before, "after": after},
        "warnings": doubts(start, end, max(threads), before, after),
        "operations_per_image": counted,
        "rows": rows,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description="What a guard costs beside its classifier.")
    parser.add_argument("folder", nargs="?", type=Path, help="what `salientry run` left, with guard/ and classifier/")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--pictures", action="store_true", help="time guards of a classifier of pictures of 224 pixels instead")
    kind.add_argument("--exported", action="store_true", help="time guards as ONNX graphs, beside themselves, instead")
    parser.add_argument("--calls", type=int, help=f"timed calls of each subject; default {CALLS} by batch")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    given = parser.parse_args(arguments)
    if given.calls is not None and given.calls < 1:
        parser.error(f"--calls must be at least 1; found {given.calls}")
    option = "--pictures" if given.pictures else "--exported" if given.exported else ""
    if option and given.folder:
        parser.error(f"{option} times nets of its own; a folder was given too")
    if given.pictures:
        found = measure(picture_subjects(), PICTURE_BATCHES, (1,), given.calls or PICTURE_CALLS)
    elif given.exported:
        found = measure(exported_subjects(config("cifar10", seeds=1), SHAPE), calls=given.calls)
    else:
        subjects = subjects_of(config("cifar10", seeds=1), SHAPE)
        found = measure(subjects + (left_in(given.folder) if given.folder else []), calls=given.calls)
    options = [*(["FOLDER"] if given.folder else []), *([option] if option else [])]
    command = ["python -m benchmarks.guard", *options, *([f"--calls {given.calls}"] if given.calls else [])]
    plan = "PictureCNN(width=32) at 3 x 224 x 224, untrained" if given.pictures else "fast dataset=cifar10, untrained"
    found = {"command": " ".join(command), "plan": plan} | found
    out = given.out or OUT.with_name(f"guard{option.replace('--', '-')}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(readme_cost.printed(found))


if __name__ == "__main__":
    main()
