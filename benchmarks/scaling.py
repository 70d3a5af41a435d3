"""What a step costs beside its own seconds, what more workers gain here, and what hundreds would: `python -m benchmarks.scaling PART`.

``overhead``: steps that do nothing, independent of each other, in this process and in 2 and 4 workers: what 300 further ones take,
divided by 300. ``speedup``: the recipe ``smoke``, one seed and few images, from an empty store, with 1, 2 and 4 workers; in turn, on a
machine that does nothing else. ``threads``: one epoch of the classifier of ``fast dataset=cifar10`` on 2,000 images, with one thread and
with two. ``dask``: the recipe of ``speedup`` by one process, then by a scheduler of Dask with two workers, one of which is killed with -9
in the middle (`benchmarks.scaling_dask`). ``simulate [--store STORE]``: nothing is computed; the graphs of ``fast`` on all data sets,
handed out as the engine does, to up to 1,000 workers, each step as long as recorded runs took (salientry/recipes/seconds.json) and the
measured overhead; steps that look at each image and have one name share its seconds by how many images each has. Beside it what no
order of the same steps can exceed, and what if trainings took no time. Store traffic: what lies in STORE, a finished run of ``smoke``,
by kind of step and image, pictures in proportion to their values; without STORE, what was measured before.

A simulated worker is one core; all share a store that is never the bottleneck, and what would pass through it is told. ``--numerics
threads``: a long training has its share, up to four, of the cores where nothing else can run; what four gain follows from what two gain
here by Amdahl's law (1967): a share of the work is done by one whatever their number.
"""

from __future__ import annotations

import argparse
import datetime
import heapq
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import salientry
from salientry.cli.running import _seedless, expected_seconds
from salientry.datasets import Digits
from salientry.experiment.cost import images_of
from salientry.experiment.run import Run
from salientry.machine import processor
from salientry.recipes.fast import CONFIGS, fast
from salientry.recipes.smoke import smoke
from salientry.runner.graph import Computation, Outcome, Schedule
from salientry.runner.pool import MOST_THREADS, threads_of
from salientry.runner.step import Handle, step
from salientry.store import read_json, write_json
from salientry.types import Roles, Shape

from .scaling_dask import compared

OUT = Path(__file__).parents[1] / "results" / "benchmarks" / "scaling.json"
WORKERS, MANY = (1, 2, 4), (1, 10, 100, 1000)
FEW, FURTHER = 50, 300  # steps
TEN = [(data, seed) for data, runs in (("cifar10", 4), ("mnist", 3), ("assira", 3)) for seed in range(runs)]
SMALL: dict[str, Any] = {"seeds": 1, "detector_train": 100, "validation": 50}
RECIPE = "smoke " + " ".join(f"{k}={v}" for k, v in SMALL.items())
PICTURES = {"read_data", "attack_images", "control_images", "draw", "differentiate", "swap"}  # as large as the images are


@step("nothing")
def nothing(number: int) -> int:
    """A step that costs only what every step costs."""
    return number


# --- measured ----------------------------------------------------------------------------------------------------


def overhead() -> dict[str, Any]:
    """Seconds a step, in this process and by workers."""

    def seconds(count: int, workers: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(folder)
            began = time.perf_counter()
            run.compute([run.do(nothing, i) for i in range(count)], workers=workers)
            return time.perf_counter() - began

    found = {}
    for workers in (1, 2, 4):
        less, more = (min(seconds(n, workers) for _ in range(3)) for n in (FEW, FEW + FURTHER))
        found["one process" if workers == 1 else f"{workers} workers"] = (more - less) / FURTHER
    return {"steps": FURTHER, "seconds a step": found}


def speedup() -> dict[str, Any]:
    """Seconds of a whole run, by workers."""
    found: dict[str, float] = {}
    for workers in WORKERS:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):  # few images calibrate
            run = Run(folder)
            outputs = smoke(run, **SMALL)
            began = time.perf_counter()
            made = run.compute(outputs.read, workers=workers).made
            found[str(workers)] = time.perf_counter() - began
            print(f"{workers} workers: {found[str(workers)]:.0f} s, {len(made)} steps of {sum(s for _, s in made):.0f} s", flush=True)
    return {"recipe": RECIPE, "steps": len(made), "seconds": found}


def threads() -> dict[str, Any]:
    """Images a second of a training, by threads, in turn; the best of three."""
    config = CONFIGS["cifar10"]
    x, y = torch.rand(2000, 3, 32, 32), torch.arange(2000) % 10
    shape, once = Shape(3, 32, 32, 10), type(config.classifier)(epochs=1)
    best: dict[int, float] = defaultdict(float)
    for _ in range(3):
        for count in (1, 2):
            torch.set_num_threads(count)
            began = time.perf_counter()
            once.fit(x, y, shape, seed=0)
            best[count] = max(best[count], len(x) / (time.perf_counter() - began))
    torch.set_num_threads(1)
    return {"classifier": type(config.classifier).__name__, "images a second": {str(k): v for k, v in best.items()}}


def dask() -> dict[str, Any]:
    """The records of a run, a worker of which is killed, beside those of one process."""
    return compared(lambda run: smoke(run, **SMALL), RECIPE) | {"distributed": version("distributed")}


# --- simulated ---------------------------------------------------------------------------------------------------


@dataclass
class Graph:
    """Steps that are to be computed.

    Attributes:
        todo: inputs first.
        upstream: keys of what each depends on.
        seconds: of each, by key.
        size: bytes of each result, by key.
    """

    todo: list[Handle]
    upstream: dict[str, list[str]]
    seconds: dict[str, float]
    size: dict[str, float]

    def least(self, workers: int, serial: float = 1.0) -> float:
        """Seconds that no order of the steps goes below with so many workers: up to any moment no more can have been done than if each
        step had begun as soon as its inputs could be there, and what is left then is at best shared equally.

        Args:
            workers: how many.
            serial: the share of a long training that one core does, where more cores may do the rest; 1: they may not.
        """
        ends, turns = dict[str, float](), list[tuple[float, float]]()  # when what is in progress grows or shrinks, in seconds a second
        for h in self.todo:
            work = self.seconds[h.fingerprint]
            took = work * (serial + (1 - serial) / (MOST_THREADS if threads_of(h, MOST_THREADS, 0) > 1 else 1))
            begins = max((ends[u] for u in self.upstream[h.fingerprint] if u in ends), default=0.0)
            ends[h.fingerprint] = begins + took
            turns += [(begins, work / took), (begins + took, -work / took)] if took else []
        left, rate, last, least = sum(self.seconds.values()), 0.0, 0.0, max(ends.values(), default=0.0)
        for now, change in sorted(turns):
            left -= rate * (now - last)
            least = max(least, now + left / workers)
            rate, last = rate + change, now
        return max(least, sum(self.seconds.values()) / workers)

    @property
    def path(self) -> list[Handle]:
        """The chain of steps that takes longest: no number of workers is faster."""
        ends, before = dict[str, float](), dict[str, str | None]()
        for h in self.todo:
            above = [u for u in self.upstream[h.fingerprint] if u in ends]
            last = max(above, key=lambda u: ends[u], default=None)
            ends[h.fingerprint] = self.seconds[h.fingerprint] + (ends[last] if last else 0.0)
            before[h.fingerprint] = last
        at: str | None = max(ends, key=lambda u: ends[u])
        by, chain = {h.fingerprint: h for h in self.todo}, list[Handle]()
        while at:
            chain.append(by[at])
            at = before[at]
        return chain[::-1]


def bytes_an_image(store: Path) -> dict[str, float]:
    """What a result of each kind of step takes in a finished store of ``smoke``, for each image that it is about; of steps that are
    about none, nets for instance, as a whole under a negative number.
    """
    run = Run(store)
    found: dict[str, list[float]] = defaultdict(list)
    for h in run.order(smoke(run).read):
        if run.done(h):
            held = float(sum(p.stat().st_size for p in run.path(h).iterdir()))
            images = images_of(h, Digits().roles) if h.step and not h.step.threads and h.step.name != "fit_detector" else 0
            found[h.step.name if h.step else ""].append(held / images if images else -held)
    return {name: sum(v) / len(v) for name, v in sorted(found.items())}


def graph(runs: list[tuple[str, int]], each: dict[str, float], numerics: str) -> Graph:
    """The steps of ``fast`` of these data sets and seeds; what two have in common once."""
    found = Graph([], {}, {}, {})
    with tempfile.TemporaryDirectory() as folder:
        for data, seed in runs:
            run = Run(folder, seed=seed, numerics=numerics)
            outputs = fast(run, dataset=data)
            work = run._start(outputs.read, None)
            expected = expected_seconds(run, outputs, work.todo, run.order(outputs.read))
            config = CONFIGS[data]
            seconds = by_images(work.todo, {k: s or 0.0 for k, s in expected.items()}, config.data.roles)
            for h in work.todo:
                if h.fingerprint in found.upstream:
                    continue
                assert h.step is not None
                found.todo.append(h)
                found.seconds[h.fingerprint] = seconds[h.fingerprint]
                images, kind = images_of(h, config.data.roles), each.get(h.step.name, 0.0)
                values = SIDES[data] if h.step.name in PICTURES else DIGIT
                found.size[h.fingerprint] = -kind if kind < 0 else kind * images * values / DIGIT
            found.upstream |= {h.fingerprint: work.upstream[h.fingerprint] for h in work.todo}
    return found


def by_images(todo: list[Handle], seconds: dict[str, float], roles: Roles) -> dict[str, float]:
    """The seconds of each step, where those that look at each image and have one name share theirs by how many images each has: what
    recorded runs took is known by name, the same for an attack on 500 images and on 5,000.
    """
    alike: dict[tuple[str, str], list[Handle]] = defaultdict(list)
    for h in todo:
        if h.step and h.step.each_row:
            alike[h.step.name, _seedless(h.slug)].append(h)
    out = dict(seconds)
    for mine in alike.values():
        images = [images_of(h, roles) for h in mine]
        if all(images):
            each = sum(seconds[h.fingerprint] for h in mine) / sum(images)
            out |= {h.fingerprint: n * each for h, n in zip(mine, images, strict=True)}
    return out


DIGIT = 28 * 28
SIDES = {"cifar10": 3 * 32 * 32, "mnist": 28 * 28, "assira": 3 * 112 * 112}  # values an image


def serial_share(gain: float) -> float:
    """The share of a training that one thread does whatever their number, if two are so many times as fast as one: Amdahl's law."""
    return min(max(2 / gain - 1, 0.0), 1.0)


def simulated(g: Graph, workers: int, over: float, serial: float) -> dict[str, float]:
    """Hand the steps out to so many workers, as the engine does."""
    work = Computation(g.todo, g.upstream, Outcome(), {}, None)
    schedule, now, used, busy = Schedule(work, g.seconds), 0.0, 0, 0.0
    running: list[tuple[float, int, int]] = []
    while True:
        while used < workers and (i := schedule.next()) is not None:
            count = threads_of(g.todo[i], workers - used, len(schedule.ready))
            took = over + g.seconds[g.todo[i].fingerprint] * (serial + (1 - serial) / count)
            heapq.heappush(running, (now + took, i, count))
            used, busy = used + count, busy + count * took
        if not running:
            break
        now, i, count = heapq.heappop(running)
        used -= count
        work.finished.add(g.todo[i].fingerprint)
        schedule.ends(i)
    total = sum(g.seconds.values())
    found = {"seconds": now, "speed-up": total / now, "useful": total / now / workers, "busy": busy / now / workers}
    rest = replace(g, seconds={h.fingerprint: 0.0 if h.step and h.step.threads else g.seconds[h.fingerprint] for h in g.todo})
    for name, which in (("at best", g), ("at best without trainings", rest)):
        found[name] = sum(which.seconds.values()) / which.least(workers, serial) / workers
    return found | _traffic(g, now)


def _traffic(g: Graph, seconds: float) -> dict[str, float]:
    """Megabytes a second, on the average, if every step reads all that it depends on from the store."""
    written = sum(g.size.values())
    read = sum(g.size.get(u, 0.0) for h in g.todo for u in g.upstream[h.fingerprint])
    return {"written MB/s": written / seconds / 1e6, "read MB/s": read / seconds / 1e6}


def simulate(store: Path | None, body: dict[str, Any]) -> dict[str, Any]:
    """The table."""
    over, speed = body["overhead"]["seconds a step"]["2 workers"], body["threads"]["images a second"]
    serial, each = serial_share(speed["2"] / speed["1"]), bytes_an_image(store) if store else body["simulate"]["bytes an image"]
    out: dict[str, Any] = {"overhead": over, "serial share": serial, "bytes an image": each, "tables": []}
    for runs in ([("cifar10", 0)], [("mnist", 0)], [("assira", 0)], [("mnist", seed) for seed in range(10)], TEN):
        for numerics in ("float32", "threads"):
            g = graph(runs, each, numerics)
            chain = [(h.step.name if h.step else "", g.seconds[h.fingerprint]) for h in g.path]
            out["tables"].append(
                {
                    "runs": runs,
                    "numerics": numerics,
                    "steps": len(g.todo),
                    "core seconds": sum(g.seconds.values()),
                    "GB written": sum(g.size.values()) / 1e9,
                    "longest path": [c for c in chain if c[1] >= 1],
                    "workers": {str(n): simulated(g, n, over, serial) for n in MANY},
                }
            )
            print(runs, numerics, {k: round(v["useful"], 3) for k, v in out["tables"][-1]["workers"].items()}, flush=True)
    return out


def parts(names: list[str], store: Path | None, out: Path) -> Iterator[str]:
    """Compute what was asked for, and keep it beside what is there."""
    body = read_json(out) if out.exists() else {}
    for name in names:
        about = {
            "date": str(datetime.date.today()),
            "salientry": salientry.__version__,
            "torch": torch.__version__,
            "processor": processor(),
        }
        made = {"overhead": overhead, "speedup": speedup, "threads": threads, "dask": dask}
        found = made[name]() if name in made else simulate(store, body)
        body = body | {
            name: {"command": f"python -m benchmarks.scaling {name}{' --store STORE' if name not in made and store else ''}"}
            | about
            | found
        }
        write_json(out, body)
        yield name


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("parts", nargs="+", choices=("overhead", "speedup", "threads", "dask", "simulate"))
    parser.add_argument("--store", type=Path, help="a finished store of smoke, for simulate")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if "simulate" in given.parts and not given.store and not (given.out.exists() and "simulate" in read_json(given.out)):
        parser.error(f"{given.out} has no bytes an image from an earlier simulation: --store, a finished store of smoke, expected")
    for name in parts(given.parts, given.store, given.out):
        print(f"{name}: in {given.out}", flush=True)


if __name__ == "__main__":
    main()
