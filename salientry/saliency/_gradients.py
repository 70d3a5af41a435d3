"""Maps made of the classifier's own gradient: nothing is learnt but one constant, the scale."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import NO_GRADIENT
from ..learned import with_recipe
from ..rows import at_once
from ..types import Images, Shape

BATCH, QUANTILE = 250, 0.99
Draw = Callable[[nn.Module, Tensor, Tensor, bool], Tensor]  # classifier, image, class, keep the graph -> raw map (N, C, H, W)


class GradientMaps(nn.Module):
    """(image, class index) to a map, from one backward pass through the classifier, which is a part of it.

    The raw map is the largest magnitude over the channels; it is divided by one constant for all images, never by an image's own
    maximum, which would throw its size away, and cut at 1.
    """

    scale: Tensor

    def __init__(self, classifier: nn.Module, draw: Draw) -> None:
        super().__init__()
        self.classifier, self.draw = classifier, draw
        self.register_buffer("scale", torch.ones(()))

    def raw(self, image: Tensor, k: Tensor) -> Tensor:
        """(N, 1, H, W), not scaled, 0 where the gradient is."""
        alive = image.requires_grad
        with torch.enable_grad():
            x = image if alive else image.detach().requires_grad_()
            found = self.draw(self.classifier, x, k, alive).abs().amax(1, keepdim=True)
        return found if alive else found.detach()

    def forward(self, image: Tensor, k: Tensor) -> dict[str, Tensor]:
        """``map`` (N, 1, H, W) in [0, 1]."""
        return {"map": (self.raw(image, k) / self.scale).clamp(0, 1)}


def gradient(classifier: nn.Module, x: Tensor, k: Tensor, alive: bool, of: str = "logit") -> Tensor:
    """Gradient of the logit (or the probability) of class k in the image."""
    logits = classifier(x)
    if not logits.requires_grad:
        raise UsageError(f"this map is a gradient of the classifier, and {NO_GRADIENT}")
    values = logits if of == "logit" else logits.softmax(1)
    (found,) = torch.autograd.grad(values.gather(1, k[:, None]).sum(), x, create_graph=alive)
    return found


def build(settings: Any, shape: Shape, *parts: nn.Module) -> GradientMaps:
    """Maps of the classifier among the parts, not scaled yet.

    Raises:
        UsageError: without a classifier.
    """
    if len(parts) != 1:
        raise UsageError(f"{type(settings).__name__} maps are made of a classifier's gradient; found {len(parts)} classifiers")
    module = GradientMaps(parts[0], settings.draw)
    return with_recipe(module, settings, shape, *parts) if "recipe" in vars(parts[0]) else module.eval()


def fit(settings: Any, images: Images, labels: Tensor, classifier: nn.Module, shape: Shape, *parts: nn.Module, seed: int) -> GradientMaps:
    """A copy of the classifier, and the scale: of the given naturals' values (predicted classes) that are not 0, the 99 % quantile.
    Neither labels nor the seed are used.
    """
    module: GradientMaps = settings.build(shape, copy.deepcopy(classifier).eval().requires_grad_(False))
    seen = []
    for at in torch.split(torch.arange(len(images)), at_once(BATCH, images[torch.arange(1)].numel())):
        x = images[at]
        with torch.no_grad():
            k = module.classifier(x).argmax(1)
        raw = module.raw(x, k).flatten()
        seen.append(raw[raw > 0].cpu())
    values = torch.cat(seen).sort().values
    if len(values):
        module.scale.copy_(values[int(QUANTILE * (len(values) - 1))])
    return module


class _GuidedReLU(torch.autograd.Function):
    """ReLU whose backward pass lets through only what is positive on both sides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.relu(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0].clamp_min(0) * (x > 0)


@contextlib.contextmanager
def guided(module: nn.Module) -> Iterator[None]:
    """Every ``nn.ReLU`` of the module is a guided one inside.

    Raises:
        UsageError: when it has none (a ReLU written as a function cannot be reached).
    """
    layers = [m for m in module.modules() if isinstance(m, nn.ReLU)]
    if not layers:
        raise UsageError(f"guided backpropagation replaces nn.ReLU modules; {type(module).__name__} has none")
    for m in layers:
        vars(m)["forward"] = _GuidedReLU.apply
    try:
        yield
    finally:
        for m in layers:
            del vars(m)["forward"]
