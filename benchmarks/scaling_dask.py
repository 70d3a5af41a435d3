"""A run of a recipe by one process, and by a scheduler of Dask with two workers in different folders, one of which is killed with -9 in the
middle of a step: the records are compared byte by byte, what was begun twice is counted. `python -m benchmarks.scaling dask` records it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.runner import executors
from salientry.runner.executors import compute, executor_called

ROOT = Path(__file__).parents[1]
JSON = dict[str, Any]


@contextlib.contextmanager
def cluster(folder: Path, threads: int = 1) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and it and two workers in different working folders, each a process of its own."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    at, quiet = folder / "scheduler.json", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen([*command, "--scheduler-file", str(at)], env=env, **quiet)  # type: ignore[call-overload]
    processes, end = [scheduler], time.monotonic() + 120
    try:
        while not at.exists():
            assert time.monotonic() < end, "the scheduler did not begin"
            time.sleep(0.02)
        for i in range(2):
            (folder / f"worker{i}").mkdir()
            command = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(at), "--nthreads", str(threads)]
            command += ["--no-dashboard", "--no-nanny"]
            processes.append(subprocess.Popen(command, cwd=folder / f"worker{i}", env=env, **quiet))  # type: ignore[call-overload]
        yield json.loads(at.read_text())["address"], processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Noting(Executor):
    """Another executor, whose workers leave a file when they begin to compute what is not there, and one when it is."""

    def __init__(self, inner: Executor, folder: Path) -> None:
        self.inner, self.folder = inner, folder
        for kind in ("begun", "ended"):
            (folder / kind).mkdir()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Of a step."""
        return self.inner.submit(noted, self.folder, *args)


def noted(folder: Path, task: Any) -> Any:
    """On a worker: compute, and note it."""
    maker, todo = executors._graph(task, "here")
    if maker.done(todo[task.step]):  # the answer was lost, the result was not
        return compute(task)
    name = f"{os.getpid()}-{task.step}"
    (folder / "begun" / name).touch()
    found = compute(task)
    (folder / "ended" / name).touch()
    return found


def killed_in_a_step(pid: int, folder: Path, done: Callable[[int], bool]) -> str:
    """Kill a worker in the middle of a step, whose result is not there; returns which."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        begun, ended = ({p.name for p in (folder / kind).glob(f"{pid}-*")} for kind in ("begun", "ended"))
        lost = [name.partition("-")[2] for name in begun - ended]
        if lost and not done(int(lost[0])):
            os.kill(pid, signal.SIGKILL)
            return lost[0]
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)


def on_dask(run: Run, outputs: Outputs, folder: Path, after: int | None) -> tuple[Any, list[str], Counter[str]]:
    """Compute outputs.

    Args:
        run: with its store.
        outputs: what is wanted.
        folder: for notes, and where scheduler and workers stand.
        after: so many steps one worker is killed; None: none is.

    Returns:
        What was made; the numbers of the steps that were lost; how often each step was begun.
    """
    todo, ended, lost = run.missing(outputs.read), list[Any](), list[str]()
    with cluster(folder) as (address, processes), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images calibrate

        def listener(h: Any, i: int, n: int) -> Any:
            def hear(done: int, of: int) -> None:
                ended.append(h)
                if len(ended) == after:
                    lost.append(killed_in_a_step(processes[1].pid, folder, lambda i: run.done(todo[i])))

            return hear

        with executor_called(f"dask:{address}") as executor:
            outcome = run.compute(outputs.read, listener, executor=Noting(executor, folder))
    return outcome, lost, Counter(p.name.partition("-")[2] for p in (folder / "begun").iterdir())


def compared(recipe: Callable[[Run], Outputs], words: str) -> JSON:
    """Both ways, and what came of it.

    Args:
        recipe: what is computed.
        words: what it is called.
    """
    about: JSON = {"recipe": words, "parameters": {}, "seed": 0, "numerics": "float32", "command": f"salientry run {words}", "out": "out"}
    with tempfile.TemporaryDirectory() as temporary:
        at, seconds = Path(temporary), dict[str, float]()
        for name in ("here", "there"):
            (at / name).mkdir()
        here, there = Run(at / "here" / "store"), Run(at / "there" / "store")
        began = time.perf_counter()
        with warnings.catch_warnings(action="ignore"):
            alone = here.compute((outputs := recipe(here)).read)
        seconds["one process"] = time.perf_counter() - began
        export(here, outputs, alone, at / "here" / "out", about)
        print(f"one process: {seconds['one process']:.0f} s", flush=True)
        outputs = recipe(there)
        todo, began = there.missing(outputs.read), time.perf_counter()
        outcome, lost, begun = on_dask(there, outputs, at / "there", len(todo) // 2)
        seconds["two workers, one killed"] = time.perf_counter() - began
        export(there, outputs, outcome, at / "there" / "out", about)
        mine, theirs = (_records(at / name / "out") for name in ("here", "there"))
        same = [name for name in mine if mine[name] == theirs.get(name)]
        return {
            "recipe": words,
            "steps": len(outcome.made),
            "seconds": seconds,
            "killed in": [todo[int(i)].slug for i in lost],
            "begun twice": [todo[int(i)].slug for i, times in begun.items() if times > 1],
            "begun": sum(begun.values()),
            "files of records": len({*mine, *theirs}),
            "the same to the byte": len(same),
        }


def _records(out: Path) -> dict[str, bytes]:
    """All that is recorded but when, where and how long."""
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "run.json"}
