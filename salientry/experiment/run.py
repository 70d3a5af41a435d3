"""A run: steps written down as handles, results in a store, and the engine that walks them in this process.

``run.do(step, *inputs)`` returns a handle at once; nothing is computed. The handles are the graph. ``run.walk(wanted)``
computes what is not in the store yet. A result is named by its *key*: the step, its revision, its settings, the keys of
its inputs, its seed if it takes one, and the numerics mode; device, versions and seconds are recorded beside it and are no
part of it. So what was computed once is never computed again, and a killed run goes on where it was.

A step computes on one thread with fixed shard and batch borders, so that on one machine a result is the same to the last
bit however it was reached.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..contracts import DEVICE, PROGRESS, Progress
from ..errors import DeviceError, GateFailed, UsageError
from ..keys import digest
from ..store import JSON, Store, home, one_of
from . import _results
from .handles import Handle, Step, handles_in, make_handle, read_data

NUMERICS = ("float32",)


@dataclass
class Outcome:
    """What a walk did.

    Attributes:
        reused: results that were in the store.
        made: handle and seconds of what was computed.
        skipped: handle and reason: a gate that it stands on did not pass.
        failed: the gates that did not pass.
    """

    reused: list[Handle] = field(default_factory=list)
    made: list[tuple[Handle, float]] = field(default_factory=list)
    skipped: list[tuple[Handle, str]] = field(default_factory=list)
    failed: list[tuple[Handle, str]] = field(default_factory=list)


Listener = Callable[[Handle, int, int], Progress]  # about to make this handle, the i-th of n; returns who hears its progress


class Run:
    """A store and an engine.

    Args:
        store: folder of the results; default ``SALIENTRY_HOME``, or the user's cache folder.
        seed: run seed: it moves everything that is drawn or learned, never who is tested.
        device: where tensors live: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        numerics: ``"float32"``.

    Raises:
        UsageError: for an unknown numerics mode or a negative seed.
        DeviceError: when the device is not here.
        StoreError: when the store cannot be written.

    Example:
        >>> import tempfile
        >>> from salientry import DATASETS, CLASSIFIERS, Run
        >>> from salientry.experiment.steps import train_classifier
        >>> run = Run(tempfile.mkdtemp())
        >>> digits = run.dataset(DATASETS["digits"]())
        >>> run.do(train_classifier, digits["fit"], CLASSIFIERS["compact"]()).slug
        'CompactCNN'
    """

    def __init__(self, store: Path | str | None = None, *, seed: int = 0, device: str = "cpu", numerics: str = "float32") -> None:
        one_of("numerics mode", numerics, NUMERICS)
        if seed < 0:
            raise UsageError(f"a seed is 0 or more; found {seed}")
        self.store, self.seed, self.device, self.numerics = Store(store or home()), seed, usable(device), numerics
        self._memory: dict[str, Any] = {}
        self._steps: dict[str, Step] = {}

    # --- writing the run down ---

    def do(self, made_by: Step, *args: Any, seed: int = 0, **kwargs: Any) -> Handle:
        """A handle for the step on these inputs: handles, settings, numbers, strings, lists of them.

        ``seed`` counts repetitions (0, 1, 2 ...) of a step that draws; the run's own seed is added to it.
        """
        assert self._steps.setdefault(made_by.name, made_by) is made_by, f"two steps are called {made_by.name}"
        return make_handle(made_by, made_by.bind(args, kwargs), 1000 * self.seed + seed, self.numerics)

    def dataset(self, settings: Any) -> Handle:
        """A data set as rows; ``handle["fit"]``, ``handle["test"]`` ... are the rows of a role."""
        return self.do(read_data, settings)

    def given(self, value: Any, fingerprint: str, name: str = "given") -> Handle:
        """Something made elsewhere (a network of one's own), keyed by its content."""
        handle = Handle(None, {}, None, digest("given", fingerprint), name)
        self._memory[handle.fingerprint] = value.to(self.device) if isinstance(value, nn.Module) else value
        return handle

    # --- looking at it ---

    def order(self, wanted: Any) -> list[Handle]:
        """Every stored step that the wanted handles stand on, and they themselves, inputs first, each once."""
        found: dict[str, Handle] = {}

        def visit(h: Handle) -> None:
            if h.fingerprint not in found:
                for upstream in h.inputs:
                    visit(upstream)
                found[h.fingerprint] = h

        for h in handles_in(wanted):
            visit(h)
        return [h for h in found.values() if h.step is not None and h.step.stored]

    def path(self, h: Handle) -> Path:
        """Where its result lives."""
        assert h.step is not None
        return self.store.path(h.step.name, h.slug, h.fingerprint)

    def done(self, h: Handle) -> bool:
        """Whether its result is in the store, or it needs none."""
        return h.step is None or not h.step.stored or self.store.done(self.path(h))

    def record(self, h: Handle) -> JSON:
        """The JSON beside a finished result: settings, input keys, facts, seconds, device, versions."""
        return self.store.body(self.path(h))

    # --- walking it ---

    def walk(self, wanted: Any, listener: Listener | None = None) -> Outcome:
        """Compute what is missing, in order. A failed gate skips what stands on it; independent steps finish.

        Raises:
            Error: whatever a step raised, but for a failed gate; what was complete is in the store.
        """
        self.store.sweep()
        outcome, lost = Outcome(), dict[str, str]()
        todo: list[Handle] = []
        for h in self.order(wanted):
            (outcome.reused if self.done(h) else todo).append(h)
        for h in outcome.reused:
            if h.step and h.step.chooses and (message := self.record(h)["failed"]):
                lost[h.fingerprint] = message
                outcome.failed.append((h, message))
        for i, h in enumerate(todo):
            if reason := next((lost[u.fingerprint] for u in self._standing_on(h) if u.fingerprint in lost), None):
                lost[h.fingerprint] = reason
                outcome.skipped.append((h, reason))
                continue
            began = time.perf_counter()
            heard = PROGRESS.set(listener(h, i, len(todo))) if listener else None
            try:
                self.get(h)
            except GateFailed as e:
                lost[h.fingerprint] = str(e)
                outcome.failed.append((h, str(e)))
            finally:
                if heard:
                    PROGRESS.reset(heard)
            outcome.made.append((h, time.perf_counter() - began))
        return outcome

    def _standing_on(self, h: Handle) -> Iterator[Handle]:
        for u in h.inputs:
            yield u
            if u.step is not None and not u.step.stored:
                yield from self._standing_on(u)

    def get(self, h: Handle) -> Any:
        """The result: from memory, from the store, or computed now."""
        if h.fingerprint not in self._memory:
            with self._computing():
                self._memory[h.fingerprint] = self._made(h)
        return self._memory[h.fingerprint]

    def value(self, v: Any) -> Any:
        """Handles replaced by their results, also inside lists."""
        if isinstance(v, Handle):
            return self.get(v)
        if isinstance(v, list | tuple):
            return [self.value(x) for x in v]
        return v

    def _made(self, h: Handle) -> Any:
        assert h.step is not None, "a given value is in memory"
        if not h.step.stored:
            return h.step.function(**{n: self.value(v) for n, v in h.args.items()})
        path = self.path(h)
        if not self.store.done(path):
            args = {n: self.value(v) for n, v in h.args.items()}
            facts = h.step.facts(**args) if h.step.facts else {}
            _results.compute(self.store, path, h, args, facts)
        return _results.load(self.store, path, h, self.value, self.device)

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """One thread, this run's device, full float32."""
        threads, where = torch.get_num_threads(), DEVICE.set(self.device)
        exact = torch.backends.cudnn.allow_tf32
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.allow_tf32 = exact
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
