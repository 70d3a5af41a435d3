"""What every control does with what it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..errors import UsageError
from ..inputs import as_images, as_seeds, plainly

Call = TypeVar("Call", bound=Callable[..., Tensor])


def validated(control: Call) -> Call:
    """A control's ``__call__`` that is handed ordinary images and seeds, and makes no graph: float64 if the naturals are, else
    float32.

    Raises:
        UsageError: for images or seeds outside the conventions; an adversarial image that is borrowed may lie in [-1, 2].
    """

    @functools.wraps(control)
    def call(self: Any, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor:
        dtype = torch.float64 if isinstance(x, Tensor) and x.dtype == torch.float64 else torch.float32
        x, x_adv = as_images(x, dtype=dtype), as_images(x_adv, dtype=dtype, within=(-1, 2))
        if x.shape != x_adv.shape:
            raise UsageError(f"naturals and adversarials must be of one shape; found {tuple(x.shape)} and {tuple(x_adv.shape)}")
        with plainly(grad=False):
            return control(self, x, x_adv, seeds=as_seeds(seeds, len(x)))

    return cast(Call, call)
