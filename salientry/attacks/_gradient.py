"""What the gradient attacks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError


def loss_gradient(classifier: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N, C, H, W) gradient of each image's cross-entropy with its label ``y``: one forward and one backward pass."""
    here = x.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(classifier(here), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, here)
    return gradient


def check_settings(**bounds: tuple[float, float, float]) -> None:
    """Raise for a setting outside its bounds; ``name=(value, lowest, highest)``.

    Raises:
        UsageError: says what was found and what was expected.
    """
    for name, (value, lo, hi) in bounds.items():
        if not lo <= value <= hi:
            raise UsageError(f"{name} must lie in [{lo:g}, {hi:g}]; found {value!r}")


def columns(z: Tensor, order: Tensor, here: Tensor) -> list[Tensor]:
    """For j = 0, 1, ...: the gradient in the image of each row's j-th logit in ``order`` (N, J); one backward pass each."""
    total = order.shape[1]
    with torch.enable_grad():
        chosen = [z.gather(1, order[:, j : j + 1]).sum() for j in range(total)]
    return [torch.autograd.grad(chosen[j], here, retain_graph=j < total - 1)[0] for j in range(total)]
