"""What every harmless change does with its settings and with what it is given."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..errors import UsageError
from ..inputs import as_images, as_seeds, plainly
from ..rates import grey_levels
from ..types import HarmlessChange

Call = TypeVar("Call", bound=Callable[..., Tensor])


def validated(change: Call) -> Call:
    """A change's ``__call__`` that is handed ordinary images and seeds, and whose result is clipped to [0, 1]: float64 if the images
    are, else float32. Where gradients are on and the images need one, the result is in their graph.

    Raises:
        UsageError: for images or seeds outside the conventions.
    """

    @functools.wraps(change)
    def call(self: Any, x: Tensor, *, seeds: Tensor) -> Tensor:
        dtype = torch.float64 if isinstance(x, Tensor) and x.dtype == torch.float64 else torch.float32
        plain = as_images(x, dtype=dtype)
        seeds = as_seeds(seeds, len(x))
        graph = torch.is_grad_enabled() and x.requires_grad
        with plainly(grad=graph):
            return change(self, x.to(dtype).contiguous() if graph else plain, seeds=seeds).clamp(0, 1)

    return cast(Call, call)


def unchecked(change: HarmlessChange, x: Tensor) -> Tensor:
    """One of :data:`~salientry.harmless.TRANSFORMS` of float images that are known to lie in [0, 1], in the modes that are on: what
    :func:`validated` looks at is not looked at again.
    """
    plain = x.to(torch.float64 if x.dtype == torch.float64 else torch.float32).contiguous()
    inner: Callable[..., Tensor] = type(change).__call__.__wrapped__  # type: ignore[attr-defined]
    return inner(change, plain, seeds=x.new_zeros(x.shape[0], dtype=torch.int64)).clamp(0, 1)


def check_settings(**bounds: tuple[float, float, float]) -> None:
    """Raise for a setting that is no number, or outside its bounds; ``name=(value, lowest, highest)``. Where the lowest and the
    highest are of type int, the value must be too.

    Raises:
        UsageError: says what was found and what was expected.
    """
    for name, (value, lo, hi) in bounds.items():
        whole = isinstance(lo, int) and isinstance(hi, int)
        number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not lo <= value <= hi:
            raise UsageError(f"{name} must be a {'whole ' if whole else ''}number in [{lo:g}, {hi:g}]; found {value!r}")


def in_levels(size: float) -> str:
    """A size in [0, 1] units in words: ``8/255`` where it is a whole number of grey levels."""
    return grey_levels(size) or f"{size:g}"
