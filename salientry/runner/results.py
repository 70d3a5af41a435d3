"""How results are computed, written and read back: the engine's hands."""

from __future__ import annotations

import contextlib
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..batches import DEVICE, Batch
from ..errors import CheckFailed, DataDamaged, Error, UsageError
from ..keys import digest, encode
from ..learned import facts_of, frozen, rebuild, recipe_of, with_facts
from ..machine import machine
from ..progress import ticking
from ..renamed import COUNT, translated, translated_columns
from ..rows import ReadColumn, Rows, at_once, id_bytes, ids_from
from ..store import JSON, Store
from ..training import CHECKPOINTS, Checkpoints
from .operations import Operations
from .step import Chosen, Found, Handle

MOST_PARTS = 100  # of a result that is kept after each batch; each holds files open while they are put together

# --- computing -------------------------------------------------------------------------------------------------


def compute(store: Store, path: Path, h: Handle, args: dict[str, Any], facts: dict[str, JSON]) -> None:
    """Compute a handle's result and write it."""
    assert h.step is not None
    now = clock()
    began = now()
    if h.seed is not None:
        args = args | {"seed": h.seed}
    try:
        if h.step.each_row:
            _each_row(store, path, h, args, facts, now)
        else:
            with checkpointed(path):
                out = h.step.function(**args)
            _whole(store, path, h, out, facts, now() - began)
    except Error as e:
        e.add_note(f"in step {h.step.name} ({h.slug})")
        raise


def clock() -> Callable[[], float]:
    """What tells the seconds of a step: of the thread that computes it on a CPU, of the process where the step has several, whatever else
    runs there and however long it was halted; with a GPU, of the wall.
    """
    if DEVICE.get() != "cpu":
        return time.perf_counter
    return time.thread_time if torch.get_num_threads() == 1 else time.process_time


@contextlib.contextmanager
def checkpointed(path: Path) -> Iterator[None]:
    """Trainings inside go on where they were when this result was computed last; what they kept is swept when the result is whole."""
    token = CHECKPOINTS.set(Checkpoints(_parts(path)))
    try:
        yield
    finally:
        CHECKPOINTS.reset(token)


def _parts(path: Path) -> Path:
    """Where pieces of a result lie until it is whole."""
    return path.with_name(path.name + ".parts")


def _whole(store: Store, path: Path, h: Handle, out: Any, facts: dict[str, JSON], seconds: float) -> None:
    assert h.step is not None
    assert isinstance(out, Chosen) == h.step.chooses, f"{h.step.name}: what it returns is not what its mark says"
    body = _record(h, seconds)
    if isinstance(out, nn.Module):
        arrays = {k: [v.detach().cpu().numpy()] for k, v in out.state_dict().items()}
        store.write(
            path,
            body | {"kind": "module", "module": _recipe(out), "facts": facts_of(out) | facts},
            arrays,
        )
    elif isinstance(out, Rows):
        columns: dict[str, Any] = {k: [ReadColumn(out, k)] for k in out.names} | {"id": [id_bytes(out.ids)]}
        store.write(path, body | {"kind": "rows", "facts": out.facts | facts}, columns)
    elif isinstance(out, Chosen):
        store.write(
            path, body | {"kind": "chosen", "value": out.why, "facts": facts} | {k: vars(out)[k] for k in ("argument", "index", "failed")}
        )
    elif isinstance(out, Found):
        store.write(path, body | {"kind": "found", "value": out.value, "facts": facts}, {k: [np.asarray(v)] for k, v in out.arrays.items()})
    else:
        store.write(path, body | {"kind": "value", "value": out, "facts": facts})


def _recipe(module: nn.Module) -> JSON:
    """How to build it again; None where it, or a part of it, holds what cannot be written down."""
    written = all("recipe" in vars(m) for m in (module, *getattr(module, "parts", ())))
    return recipe_of(module) if written else None


def _rows_in(value: Any) -> Iterator[Rows]:
    if isinstance(value, Rows):
        yield value
    elif isinstance(value, list):
        for v in value:
            yield from _rows_in(v)


def _cut(value: Any, at: Any) -> Any:
    if isinstance(value, Rows):
        return Batch(value, at)
    return [_cut(v, at) for v in value] if isinstance(value, list) else value


def _each_row(store: Store, path: Path, h: Handle, args: dict[str, Any], facts: dict[str, JSON], now: Callable[[], float]) -> None:
    """Shard by shard, each safe on disk when it is done; then one file of all."""
    assert h.step is not None
    inputs = [r for v in args.values() for r in _rows_in(v)]
    count = len(inputs[0])
    if not count:
        raise UsageError(f"step {h.step.name} has no rows to work on")
    for other in inputs[1:]:
        assert len(other) == count and (other.ids == inputs[0].ids).all(), f"{h.step.name}: rows are not aligned"
    folder = _parts(path)
    seconds = 0.0
    batch = at_once(h.step.batch, max(r.values for r in inputs))
    size = h.step.shard or batch * -(-count // (MOST_PARTS * batch))
    each = [range(start, min(start + size, count), batch) for start in range(0, count, size)]
    names = [folder / f"{part.start:09d}-{part.stop:09d}" for part in each]
    borders = iter(ticking(enumerate(at for part in each for at in part), sum(map(len, each))))
    operations = Operations([min(batch, part.stop - at) for part in each for at in part])
    with frozen(*(m for m in args.values() if isinstance(m, nn.Module))), torch.no_grad():
        for part, batches in zip(names, each, strict=True):
            began = now()
            if len(each) > 1 and store.done(part):
                seconds += store.body(part)["seconds"]
                _ = [next(borders) for _ in batches]
                continue
            out = []
            for _ in batches:
                number, at = next(borders)
                with operations.batch(number):
                    out.append(h.step.function(**{n: _cut(v, np.arange(at, min(at + batch, batches.stop))) for n, v in args.items()}))
            pieces = {k: [o[k].detach().cpu().numpy() for o in out] for k in out[0]}
            took = now() - began
            seconds += took
            if len(each) > 1:
                store.write(part, {"seconds": took}, pieces)
    if len(each) > 1:
        parts = [translated_columns(store.arrays(name)) for name in names]
        pieces = {k: [p[k] for p in parts] for k in parts[0]}
    body = _record(h, seconds) | {"kind": "columns", "facts": facts, COUNT: count, "ids": digest(inputs[0].ids.tolist())}
    body |= {} if operations.a_row is None else {"operations": operations.a_row}
    store.write(path, body, pieces)
    shutil.rmtree(folder, ignore_errors=True)


def _record(h: Handle, seconds: float) -> dict[str, JSON]:
    def plain(v: Any) -> JSON:
        if isinstance(v, Handle):
            return {"input": v.fingerprint}
        if isinstance(v, list | tuple):
            return [plain(x) for x in v]
        return {"content": str(v.fingerprint)} if hasattr(v, "fingerprint") else encode(v)

    assert h.step is not None
    return {
        "step": h.step.name,
        "key": h.fingerprint,
        "slug": h.slug,
        "arguments": {n: plain(v) for n, v in h.args.items()},
        "seed": h.seed,
        "seconds": round(seconds, 4),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1024**2),
        "machine": machine(DEVICE.get()),
    }


# --- reading back ----------------------------------------------------------------------------------------------

SAYS = {  # what the JSON of each kind of result holds
    "value": {"value"},
    "chosen": {"argument", "failed"},
    "found": {"value"},
    "rows": set(),
    "columns": {"ids"},
    "module": {"module"},
}


def load(store: Store, path: Path, h: Handle, value: Callable[[Any], Any], device: str) -> Any:
    """A finished result as what its step returned.

    Raises:
        CheckFailed: when it is a sanity check that did not pass.
        DataDamaged: when the store's files do not fit together.
    """
    body = store.body(path)
    kind = body.get("kind")
    if kind not in SAYS or not SAYS[kind] <= set(body) or not isinstance(body.get("facts"), dict):
        raise DataDamaged(f"{path} is damaged: its JSON is that of no result; remove {path}, and the same command computes it again")
    if kind == "value":
        return body["value"]
    if kind == "chosen":
        if body["failed"]:
            raise CheckFailed(body["failed"])
        chosen = h.args[body["argument"]]
        return value(chosen if body.get("index") is None else chosen[body["index"]])
    arrays = store.arrays(path)
    if kind == "found":
        return Found(body["value"], arrays)
    if kind == "rows":
        return Rows(ids_from(arrays.pop("id")), translated_columns(arrays), translated(body["facts"]))
    if kind == "columns":
        first = next(r for v in h.args.values() for r in _rows_in(value(v)))
        if digest(first.ids.tolist()) != body["ids"]:
            raise DataDamaged(f"{path} was made for other rows; remove {path}, and the same command computes it again")
        return first.widen(translated_columns(arrays), translated(body["facts"]))
    if body["module"] is None:  # what a user's own object has learnt cannot be written down: it learns it again
        seeded = {} if h.seed is None else {"seed": h.seed}
        made: nn.Module = h.step.function(**{n: value(v) for n, v in h.args.items()}, **seeded)  # type: ignore[union-attr]
        return with_facts(made.to(device).eval().requires_grad_(False), **translated(body["facts"]))
    module = rebuild(body["module"], trusted=True)
    try:
        module.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    except RuntimeError as e:
        why = f"{path}: weights do not fit the settings: {e}"
        raise DataDamaged(f"{why}; remove {path}, and the same command computes it again") from None
    return with_facts(module.to(device).eval().requires_grad_(False), **translated(body["facts"]))
