"""What every attack on a defended classifier does with what it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from torch import Tensor

from ..inputs import as_images, as_labels, as_seeds, dtype_of, plainly
from ._defended import Defended

Call = TypeVar("Call", bound=Callable[..., Tensor])
Passes = TypeVar("Passes", bound=Callable[..., Iterator[Tensor]])


def validated(attack: Call) -> Call:
    """An attack's ``__call__`` that is handed ordinary images (N, C, H, W), labels (N,) and seeds (N,), and private copies of what is
    attacked (they share the weights); modes and graphs around it are as they were.

    Raises:
        UsageError: for images, labels or seeds outside the conventions.
    """

    @functools.wraps(attack)
    def call(self: Any, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        x, y = given(target, x, y)
        with plainly(grad=False):
            return attack(self, target.apart(), x, y, seeds=as_seeds(seeds, len(x))).detach()

    return cast(Call, call)


def step_by_step(passes: Passes) -> Passes:
    """The same for an attack's ``passes``, whose seeds may be None where it draws nothing: whoever asks for the next images has his own
    modes while he looks at them.
    """

    @functools.wraps(passes)
    def call(self: Any, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor | None = None) -> Iterator[Tensor]:
        images = passes(self, target.apart(), *given(target, x, y), seeds=None if seeds is None else as_seeds(seeds, len(x)))
        while True:
            with plainly(grad=False):
                found = next(images, None)
            if found is None:
                return
            yield found

    return cast(Passes, call)


@validated
def last_pass(attack: Any, target: Defended, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
    """(N, C, H, W) images after the last of an attack's ``passes``. It is such an attack's ``__call__``."""
    *_, last = attack.passes(target, x, y, seeds=seeds)
    return cast(Tensor, last)


def given(target: Defended, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images and labels as the target computes with them."""
    x = as_images(x, dtype=dtype_of(target.classifier))
    return x, as_labels(y, len(x))
