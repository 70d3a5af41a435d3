"""A run: steps written down as handles, results in a store, and an engine that computes them, here or in worker processes.

``run.do(step, *inputs)`` returns a handle at once; nothing is computed. The handles are the graph. ``run.compute(wanted)``
computes what is not in the store yet and is wanted, or is needed for what is. A result is named by its *key*: the step, its
revision, its settings, the keys of its inputs, its seed if it takes one, and the numerics mode; device, versions and seconds
are recorded beside it and are no part of it. So what was computed once is never computed again, and a killed run goes on where it was.

A step computes on one thread with fixed shard and batch borders, so that on one machine a result is the same to the last
bit however it was reached; but for long trainings in the numerics mode ``threads``.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..batches import DEVICE
from ..errors import CheckFailed, DeviceError, UsageError, theirs
from ..keys import digest
from ..machine import ALONE, THREADS, cores
from ..progress import PROGRESS
from ..renamed import translated
from ..store import JSON, Store, home, one_of
from . import results
from .executors import on_executor
from .graph import Computation, Listener, Outcome, missing, standing_on, width
from .pool import NotPicklable, side_by_side, threads_of
from .step import Handle, Step, handles_in, make_handle

NUMERICS = ("float32", "threads")
MOST_WORKERS = 64


class Run:
    """A store and an engine.

    Args:
        store: folder of the results; default ``SALIENTRY_HOME``, or the user's cache folder.
        seed: run seed: everything that is drawn or learned depends on it.
        device: where tensors live: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        numerics: ``"float32"``: one thread a step, the same to the last bit however it was reached. ``"threads"``: long trainings
            use the cores on which nothing else can run; what they give differs by rounding, and has other keys.

    Attributes:
        given_as: what the modules that are :meth:`given` are called when they fail.

    Raises:
        UsageError: for an unknown numerics mode or a negative seed.
        DeviceError: when the device is not here.
        StoreError: when the store cannot be written.
    """

    given_as = "a module"

    def __init__(self, store: Path | str | None = None, *, seed: int = 0, device: str = "cpu", numerics: str = "float32") -> None:
        one_of("numerics mode", numerics, NUMERICS)
        if seed < 0:
            raise UsageError(f"a seed is 0 or more; found {seed}")
        self.store, self.seed, self.device, self.numerics = Store(store or home()), seed, usable(device), numerics
        self._given: dict[str, Any] = {}
        self._memory: dict[str, Any] = {}
        self._steps: dict[str, Step] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process: all but the results, which it reads from the store."""
        return vars(self) | {"_memory": {}, "_steps": {}}

    # --- writing the run down ---

    def do(self, made_by: Step, *args: Any, seed: int = 0, **kwargs: Any) -> Handle:
        """A handle for the step on these inputs: handles, settings, numbers, strings, lists of them.

        ``seed`` counts repetitions (0, 1, 2 ...) of a step that draws; the run's own seed is added to it.
        """
        assert self._steps.setdefault(made_by.name, made_by) is made_by, f"two steps are called {made_by.name}"
        return make_handle(made_by, made_by.bind(args, kwargs), 1000 * self.seed + seed, self.numerics)

    def given(self, value: Any, fingerprint: str, name: str = "given") -> Handle:
        """Something made elsewhere (a module of one's own), keyed by its content."""
        handle = Handle(None, {}, None, digest("given", fingerprint), name)
        self._given[handle.fingerprint] = value.to(self.device) if isinstance(value, nn.Module) else value
        return handle

    # --- looking at it ---

    def order(self, wanted: Any) -> list[Handle]:
        """Every stored step that the wanted handles depend on, and they themselves, inputs first, each once."""
        found: dict[str, Handle] = {}

        def visit(h: Handle) -> None:
            if h.fingerprint not in found:
                for upstream in h.inputs:
                    visit(upstream)
                found[h.fingerprint] = h

        for h in handles_in(wanted):
            visit(h)
        return [h for h in found.values() if h.step is not None and h.step.stored]

    def missing(self, wanted: Any) -> list[Handle]:
        """The steps that would be computed, inputs first: the wanted ones that the store lacks, and what they, or the reading of
        the others, depend on.
        """
        return missing(list(handles_in(wanted)), self._there([h for h in self.order(wanted) if self.done(h)]))

    def _there(self, done: list[Handle]) -> dict[str, str]:
        """Keys of results in the store, with the name of the argument that a choosing one chose."""
        return {h.fingerprint: self.record(h)["argument"] if h.step and h.step.chooses else "" for h in done}

    def path(self, h: Handle) -> Path:
        """Where its result lives."""
        assert h.step is not None
        return self.store.path(h.step.name, h.slug, h.fingerprint)

    def done(self, h: Handle) -> bool:
        """Whether its result is in the store, or it needs none."""
        return h.step is None or not h.step.stored or self.store.done(self.path(h))

    def record(self, h: Handle) -> JSON:
        """The JSON beside a finished result: settings, input keys, facts, seconds, device, versions."""
        body = self.store.body(self.path(h))
        return body | {"facts": translated(body["facts"])} if "facts" in body else body

    # --- computing it ---

    def compute(
        self,
        wanted: Any,
        listener: Listener | None = None,
        *,
        workers: int = 1,
        seconds: Mapping[str, float] | None = None,
        executor: Executor | None = None,
    ) -> Outcome:
        """Compute what is :meth:`missing`. A failed sanity check skips what depends on it; independent steps finish.

        Args:
            wanted: handles, also in lists.
            listener: called before each step; what it returns is called with the step's progress.
            workers: processes that compute side by side, 0 for one per core (on a device that is not the processor: one).
                With 1 everything is computed here. The results are the same to the last bit.
            seconds: how long a step is expected to take, by key, so that the longest chain is started first.
            executor: that computes in place of worker processes of this call: any of ``concurrent.futures`` whose workers see the same
                store at the same path.

        Raises:
            UsageError: for a negative number of workers, or more than 64 and four a core.
            Error: whatever a step raised, but for a failed sanity check; what was complete is in the store.
        """
        if workers < 0:
            raise UsageError(f"workers must be 1 or more, or 0 for one per core; found {workers}")
        if workers > (most := max(MOST_WORKERS, 4 * cores())):
            raise UsageError(f"workers must be {most} or fewer, there are {cores()} cores; found {workers}")
        self.store.sweep()
        work = self._start(wanted, listener)
        if executor is not None:
            on_executor(self, work, executor, seconds or {})
        most = workers or (cores() if self.device == "cpu" else 1)
        count = min(most, width(work))
        if executor is None and count > 1:
            try:
                side_by_side(self, work, count, seconds or {}, most - count)
            except NotPicklable as e:
                warnings.warn(
                    f"computing in one process: the steps cannot be sent to others ({e}); a class or function that is defined in a "
                    "script or notebook can, once it stands in a module that is imported",
                    stacklevel=2,
                )
            finally:
                self.store.sweep()  # half-written folders of workers that were stopped
        self._one_by_one(work, most)
        return work.ordered()

    def _start(self, wanted: Any, listener: Listener | None) -> Computation:
        """What there is to do, and what of it is lost already."""
        outcome, lost = Outcome(), dict[str, str]()
        outcome.reused = [h for h in self.order(wanted) if self.done(h)]
        for h in outcome.reused:
            if h.step and h.step.chooses and (message := self.record(h)["failed"]):
                lost[h.fingerprint] = message
                outcome.failed.append((h, message))
        there = self._there(outcome.reused)
        todo = missing(list(handles_in(wanted)), there)
        return Computation(todo, {h.fingerprint: standing_on(h, there) for h in todo}, outcome, lost, listener)

    def _one_by_one(self, work: Computation, most: int) -> None:
        """The engine of this process, with so many threads at most."""
        for h in work.todo:
            if h.fingerprint in work.finished or work.skips(h):
                continue
            began, failed = time.perf_counter(), None
            on_progress = work.starts(h)
            listening = PROGRESS.set(on_progress) if on_progress else None
            threads = THREADS.set(threads_of(h, most, 0))
            try:
                self.get(h)
            except CheckFailed as e:
                failed = str(e)
            finally:
                THREADS.reset(threads)
                if listening:
                    PROGRESS.reset(listening)
            if on_progress:
                on_progress(1, 1)
            work.ends(h, time.perf_counter() - began, failed)

    def get(self, h: Handle) -> Any:
        """The result: from memory, from the store, or computed now; other threads of this process wait."""
        if h.step is None:
            return self._given[h.fingerprint]
        with ALONE:
            if h.fingerprint not in self._memory:
                with exact(self.device, threads_of(h, THREADS.get(), 0)):
                    self._memory[h.fingerprint] = self._made(h)
            return self._memory[h.fingerprint]

    def forget(self, kept: int) -> None:
        """Let go of the oldest results in memory but for so many; the store has them."""
        with ALONE:
            for key in list(self._memory)[: max(len(self._memory) - kept, 0)]:
                del self._memory[key]

    def value(self, v: Any) -> Any:
        """Handles replaced by their results, also inside lists."""
        if isinstance(v, Handle):
            return self.get(v)
        if isinstance(v, list | tuple):
            return [self.value(x) for x in v]
        return v

    def _made(self, h: Handle) -> Any:
        assert h.step is not None, "a given value is no step"
        if not h.step.stored:
            return h.step.function(**{n: self.value(v) for n, v in h.args.items()})
        path = self.path(h)
        if not self.store.done(path):
            args = {n: self.value(v) for n, v in h.args.items()}
            facts = h.step.facts(**args) if h.step.facts else {}
            given = [v for v in self._given.values() if isinstance(v, nn.Module)]
            with theirs(f"{self.given_as} fails", *given) if given else contextlib.nullcontext():
                results.compute(self.store, path, h, args, facts)
        return results.load(self.store, path, h, self.value, self.device)


@contextlib.contextmanager
def exact(device: str, count: int = 1) -> Iterator[None]:
    """So many threads, full float32, algorithms that repeat, rows on this device: with one the same to the last bit however reached."""
    threads, where, cudnn = torch.get_num_threads(), DEVICE.set(device), torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    torch.set_num_threads(count)
    cudnn.allow_tf32, cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.allow_tf32, cudnn.deterministic = before
        DEVICE.reset(where)


def usable(device: str) -> str:
    """The device's name, unchanged, when something can be put there and read back.

    Raises:
        DeviceError: says what there is.
    """
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as e:
        cuda = f"there are {torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device is here"
        raise DeviceError(f"cannot use device {device!r}: use cpu, or cuda ({cuda}; {str(e).splitlines()[0][:120]})") from None
    return device


__all__ = ["Listener", "Outcome", "Run", "exact", "usable"]
