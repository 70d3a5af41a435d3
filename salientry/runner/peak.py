"""The rate of products of matrices on a device, measured once a machine and kept in the store: what shares of it are shares of."""

from __future__ import annotations

import functools
import time
from typing import Any

import torch

from ..errors import Error
from ..files import read_json, write_json
from ..machine import machine
from ..store import Store

SIDE, LONG = 1024, 0.5  # of the matrices; seconds that are spent on it
SAME = ("device", "hardware", "system", "processor", "torch")


def peak(store: Store, at: dict[str, Any]) -> float | None:
    """Operations a second at most.

    Args:
        store: that keeps what was measured.
        at: the machine of a step, as its record says.

    Returns:
        None for another machine than this.
    """
    try:
        here = machine(at["device"])
    except (RuntimeError, AssertionError, KeyError):  # of a record without one, or of a device that is not here
        return None
    if any(at.get(k) != here[k] for k in SAME):
        return None
    threads = int(at.get("threads", 1))
    name, path = ", ".join([*(str(at[k]) for k in SAME), f"{threads} threads"]), store.root / ".peaks.json"
    try:
        known = read_json(path) if path.exists() else {}
        found = float(known[name])
    except (Error, KeyError, TypeError, ValueError):
        known, found = {}, 0.0
    if not found > 0:
        found = products(at["device"], threads)
        write_json(path, (known if isinstance(known, dict) else {}) | {name: found})
    return found


@functools.cache
def products(device: str, threads: int) -> float:
    """Multiplications and additions a second of the fastest of some float32 products of two square matrices."""
    before, best, began = torch.get_num_threads(), 0.0, time.perf_counter()
    now = time.thread_time if device == "cpu" and threads == 1 else time.perf_counter  # as the seconds of a step, whatever else runs there
    torch.set_num_threads(threads)
    try:
        a, b = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
        while not best or time.perf_counter() - began < LONG:
            start = now()
            (a @ b)[0, 0].item()  # waits for a device that computes by itself
            best = max(best, 2 * SIDE**3 / (now() - start))
    finally:
        torch.set_num_threads(before)
    return best
