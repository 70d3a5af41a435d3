"""Forward and backward passes of a classifier, counted in images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def passes(net: nn.Module) -> Iterator[dict[str, int]]:
    """``{"forward": n, "backward": n}``, growing while the block runs; a second backward pass through one graph counts again."""
    found = {"forward": 0, "backward": 0}

    def back(gradient: Tensor) -> None:
        found["backward"] += len(gradient)

    def count(_: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        found["forward"] += len(inputs[0])
        if out.requires_grad:
            out.register_hook(back)

    handle = net.register_forward_hook(count)
    yield found
    handle.remove()
