"""A robust classifier: trained on adversarials of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..attacks import BIM
from ..errors import UsageError
from ..learned import with_recipe
from ..types import Attack, Images, Shape
from .compact import CompactCNN
from .residual import ResidualCNN


@dataclass(frozen=True)
class AdversariallyTrained:
    """A net that is shown, in each step of its training, adversarials of the net that it is then (Madry et al. 2018, equation 2.1).

    All else is as the base is trained: augmentation first, then the attack on what came of it, with the true label as the one to leave.

    Departures: the attack sees the net in eval mode, as it will be attacked (Madry et al. have no batch norm on MNIST, and train mode
    on CIFAR-10); BIM starts at the natural image (theirs, PGD, at a random point of the ball).

    Cost: with BIM ``steps`` + 1 times what the base costs.

    Attributes:
        base: whose net, and whose training.
        attack: with a budget; its ``eps`` is what the net is robust to.
        share: of each batch that is attacked, the rest is natural; 1: Madry et al.'s. Rounded to whole images.

    Raises:
        UsageError: for another base, an attack without a budget, or a share outside (0, 1].
    """

    base: CompactCNN | ResidualCNN = field(default_factory=CompactCNN)
    attack: Attack = field(default_factory=lambda: BIM(0.2, 0.05, 7))
    share: float = 1.0

    def __post_init__(self) -> None:
        base: Any = self.base
        if not isinstance(base, CompactCNN | ResidualCNN):
            raise UsageError(f"the base is CompactCNN or ResidualCNN; found {type(base).__name__}")
        if getattr(self.attack, "eps", None) is None:
            raise UsageError(f"an attack with a budget is expected; found {type(self.attack).__name__}, which has none")
        if not 0 < self.share <= 1:
            raise UsageError(f"share must lie in (0, 1]; found {self.share}")

    def build(self, shape: Shape) -> nn.Module:
        """An untrained net for images of this shape; gives logits (N, K)."""
        return with_recipe(self.base.build(shape), self, shape)

    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int) -> nn.Module:
        """Build and train; ``labels`` int64 (N,) on the device that the images come to. Training that was interrupted goes on from the
        last whole epoch.
        """
        return with_recipe(self.base.fit(images, labels, shape, seed=seed, changed=self.attacked), self, shape)

    def attacked(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """A batch (N, C, H, W) with its first images in place of which stand their adversarials; seeds come from torch's own generator."""
        count = round(self.share * len(x))
        seeds = torch.randint(2**62, (count,)).to(x.device)
        return torch.cat([self.attack(net, x[:count], y[:count], seeds=seeds), x[count:]])
