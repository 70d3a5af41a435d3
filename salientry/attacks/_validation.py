"""What every attack does with what it is given, before and after: one place for all of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..inputs import as_images, as_labels, as_seeds, dtype_of, plainly
from ..preflight import no_logits, probabilities
from ._lent import lent

Call = TypeVar("Call", bound=Callable[..., Tensor])
NO_GRADIENT = (
    "this attack needs the gradient of the logits in the image, and the classifier's forward gives none (does it run under no_grad, "
    "detach, quantise, or leave PyTorch?); give a network that PyTorch can differentiate, or a differentiable stand-in"
)
UNUSED = "appears to not have been used in the graph"  # torch, of logits whose graph does not reach the image


def validated(attack: Call) -> Call:
    """An attack's ``__call__`` that is handed ordinary images (N, C, H, W), labels (N,) and seeds (N,), and a private copy of the
    classifier (it shares the weights) whose first answer is looked at and which says when it has no gradient. The classifier itself is
    not touched, so other threads may use it meanwhile; modes and graphs around the call are as they were.

    Inside, gradients are off: an attack turns them on where it needs them.

    Raises:
        UsageError: for images, labels or seeds outside the conventions, and for answers that no attack can use.
    """

    @functools.wraps(attack)
    def call(self: Any, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        x = as_images(x, dtype=dtype_of(classifier))
        y, seeds = as_labels(y, len(x)), as_seeds(seeds, len(x))
        try:
            with plainly(grad=False), lent(classifier) as net:
                return attack(self, Attacked(net, y), x, y, seeds=seeds).detach()
        except RuntimeError as e:
            if UNUSED in str(e):
                raise UsageError(NO_GRADIENT) from None
            raise

    return cast(Call, call)


def needs_gradient(z: Tensor) -> None:
    """Raise for logits that are in no graph.

    Raises:
        UsageError: with the way out.
    """
    if not z.requires_grad:
        raise UsageError(NO_GRADIENT)


class Attacked(nn.Module):
    """A classifier as an attack sees it: images to logits (N, K), looked at once, at no cost in passes.

    Args:
        classifier: who is attacked.
        labels: (N,) those of the whole batch.
    """

    labels: Tensor
    seen: bool
    trusted: bool

    def __init__(self, classifier: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self._modules["classifier"] = classifier
        vars(self).update(labels=labels, seen=False, trusted=bool(getattr(classifier, "trust_output", False)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K)."""
        z: Tensor = self._modules["classifier"](x)  # type: ignore[misc]  # as an attribute it is looked for three times
        if not self.seen:
            self._look(z, len(x))
            self.seen = True
        if torch.is_grad_enabled() and x.requires_grad:
            needs_gradient(z)
        return z

    def _look(self, z: Tensor, count: int) -> None:
        """Refuse what no attack can use, and labels that are none of the classes."""
        if not isinstance(z, Tensor) or z.dim() != 2 or len(z) != count or z.shape[1] < 2:
            found = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise UsageError(f"the classifier should give logits (N, K), K >= 2; it gave {found} for {count} images: wrap it in External")
        if len(self.labels) and int(self.labels.max()) >= z.shape[1]:
            as_labels(self.labels, len(self.labels), z.shape[1])
        lo, hi = (float(v) for v in torch.aminmax(z.detach())) if count else (0.0, 0.0)  # nan where one of them is
        if not (lo > -math.inf and hi < math.inf):
            raise UsageError("the classifier gives logits that are not finite on these images")
        if not self.trusted and lo >= 0 and hi <= 1 and (kind := probabilities(z.detach())):
            raise UsageError(no_logits(kind))
