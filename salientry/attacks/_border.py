"""What every attack does with what it is given, before and after: one place for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..contracts import frozen
from ..errors import UsageError
from ..inputs import as_images, as_labels, as_seeds, dtype_of, plainly

Call = TypeVar("Call", bound=Callable[..., Tensor])


def bordered(attack: Call) -> Call:
    """An attack's ``__call__`` that is handed ordinary images (N, C, H, W), labels (N,) and seeds (N,), and a classifier whose first
    answer is looked at and which says when it has no gradient; modes, flags and graphs around it are as they were.

    Inside, gradients are off: an attack turns them on where it needs them.

    Raises:
        UsageError: for images, labels or seeds outside the conventions, and for answers that no attack can use.
    """

    @functools.wraps(attack)
    def call(self: Any, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        x = as_images(x, dtype=dtype_of(classifier))
        y, seeds = as_labels(y, len(x)), as_seeds(seeds, len(x))
        with plainly(grad=False), frozen(classifier):
            return attack(self, Attacked(classifier, y), x, y, seeds=seeds).detach()

    return cast(Call, call)


class Attacked(nn.Module):
    """A classifier as an attack sees it: images to logits (N, K), looked at once, at no cost in passes.

    Args:
        classifier: who is attacked.
        labels: (N,) those of the whole batch.
    """

    def __init__(self, classifier: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.classifier, self.labels, self.seen = classifier, labels, False

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        z: Tensor = self.classifier(x.clone())  # it may work in place
        if not self.seen:
            self._look(z, len(x))
            self.seen = True
        if torch.is_grad_enabled() and x.requires_grad and not z.requires_grad:
            raise UsageError(
                "this attack needs the gradient of the logits in the image, and the classifier's forward gives none (does it run under "
                "no_grad, detach, or leave PyTorch?); give a network that PyTorch can differentiate, or a differentiable stand-in"
            )
        return z

    def _look(self, z: Tensor, count: int) -> None:
        if not isinstance(z, Tensor) or z.dim() != 2 or len(z) != count:
            found = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise UsageError(f"the classifier should give logits (N, K); it gave {found} for {count} images: wrap it in External")
        as_labels(self.labels, len(self.labels), z.shape[1])
