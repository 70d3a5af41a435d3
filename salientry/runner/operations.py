"""How many operations a step takes a row: multiplications and additions of its convolutions and products of matrices, as torch counts them.

Counting costs some time for each call of torch, so that of a step of many batches only two are counted, the first and the last of full
size. Where they differ, as of a search that ends early, the number depends on the rows, and none is given. What else a step does
(comparisons, sums, sorting) is not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is computed inside; every result stays what it is.

    Attributes:
        total: operations.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One call of torch."""
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += int(count(*args, **(kwargs or {}), out_val=out))
        return out


class Operations:
    """Of a step that works batch by batch.

    Args:
        sizes: rows of each batch.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes, self.found = sizes, dict[int, int]()
        full = [i for i, n in enumerate(sizes) if n == sizes[0]]
        self.at = set(range(len(sizes))) if len(sizes) <= 2 else {0, full[-1]}

    @contextlib.contextmanager
    def batch(self, i: int) -> Iterator[None]:
        """Around the work on a batch."""
        if i not in self.at:
            yield
            return
        with Counting() as counting:
            yield
        self.found[i] = counting.total

    @property
    def a_row(self) -> float | None:
        """Operations a row; None where there are none, too few batches were computed now, or it depends on the rows."""
        if set(self.found) != self.at or len(self.at) < min(2, len(self.sizes)):
            return None
        if len(self.sizes) > 2 and len(set(self.found.values())) > 1:
            return None
        rows = sum(self.sizes[i] for i in self.at)
        return sum(self.found.values()) / rows or None
