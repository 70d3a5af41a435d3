"""The same images in every kind of memory, and the modes of torch that may be on around a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """The same pixels as every second of a larger batch's."""
    out = torch.zeros(2 * len(x), x.shape[1], x.shape[2], 2 * x.shape[3], dtype=x.dtype)
    out[::2, :, :, ::2] = x
    return out[::2, :, :, ::2]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda x: x.clone(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "permuted": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "every second value": wide,
    "requires a gradient": lambda x: x.clone().requires_grad_(),
    "inside a graph": lambda x: x.clone().requires_grad_() * 1,
}


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default float64": lambda: default(torch.float64),
}
