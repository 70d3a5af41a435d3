"""How often a computation makes the host wait for a device: counted on any device, so on a processor alone what a GPU would be asked.

A host waits where it reads a number of a tensor: ``item``, ``bool``, ``len`` of what ``nonzero`` finds, an index of bools, whose rows
must be counted first. On a GPU torch itself counts (``torch.cuda.set_sync_debug_mode``), and copies between host and device are among them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

SAID = "called a synchronizing CUDA operation"  # torch
READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive")
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")


class _Quiet(TorchFunctionMode):
    """Notes when torch is inside of ``one_hot``, which looks at its labels on a processor alone."""

    inside = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        quiet = getattr(func, "__name__", "") == "one_hot"
        self.inside += quiet
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.inside -= quiet


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts reads; every result stays what it is."""

    def __init__(self, quiet: _Quiet) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total, self.quiet = 0, quiet

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        if name in READS and not self.quiet.inside:
            self.total += 1
        elif name in INDEXED:
            self.total += sum(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        return func(*args, **(kwargs or {}))


def reads(work: Callable[[], Any]) -> int:
    """How many numbers the host reads of tensors in one piece of work."""
    with _Quiet() as quiet, _Counting(quiet) as counting:
        work()
    found: int = counting.total
    return found


def synchronisations(work: Callable[[], Any]) -> int:
    """How often a GPU makes the host wait in one piece of work, as torch counts it."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum(SAID in str(w.message) for w in said)


def waits(work: Callable[[], Any], device: str) -> int:
    """Times that the host waits for the device in one piece of work; without a GPU those that a GPU would make of it."""
    return synchronisations(work) if device.startswith("cuda") else reads(work)


def a_step(work: Callable[[int], Any], device: str, few: int, many: int) -> float:
    """Waits of one step of a loop: the difference between ``many`` and ``few`` of them."""
    return (waits(lambda: work(many), device) - waits(lambda: work(few), device)) / (many - few)
