"""Small networks in float64, whose slopes can be checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from salientry.adaptive import ADAPTIVE, Defended
from salientry.detectors import ID, JSD, SMD, SPD, SmallCNN
from salientry.learned import seeded
from salientry.saliency import SimpleClassifier, UNet
from salientry.types import Shape
from tests.examples import conv, images, predicted

GREY, COLOUR = Shape(1, 12, 12, 4), Shape(3, 12, 16, 5)
HEAD = SmallCNN(width=4)
VIEWS = {"SMD": lambda s: (1, s.height, s.width), "JSD": lambda s: (2 * s.channels, s.height, s.width)}
SLOPES = tuple(name for name, kind in ADAPTIVE.items() if hasattr(kind, "steps"))  # the attacks that take a gradient; the others ask
FEW: dict[str, dict[str, Any]] = {name: {"steps": 3} for name in SLOPES}  # cheap settings
FEW |= {"hop_skip_jump": {"queries": 8}, "square_search": {"queries": 12}}
DEFENCES: dict[str, Any] = {"SMD": SMD(HEAD), "SPD": SPD(HEAD), "ID": ID(HEAD), "JSD": JSD(head=HEAD)}


def settled(module: nn.Module, seed: int, dtype: torch.dtype) -> Any:
    """Random weights, and batch norm as if trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean, m.running_var = torch.randn(m.num_features) * 0.1, torch.rand(m.num_features) + 0.5
                m.bias.data = torch.rand(m.num_features) * 0.5  # most units are alive
            elif isinstance(m, nn.Conv2d | nn.Linear):
                m.weight.data = torch.randn_like(m.weight) * (2 / m.weight[0].numel()) ** 0.5
    return module.to(dtype).eval()


def defended(name: str, shape: Shape = COLOUR, dtype: torch.dtype = torch.float64, threshold: float = 0.0, **extra: Any) -> Defended:
    """An untrained defence in front of an untrained classifier, with a saliency U-Net."""
    net, view = conv(shape, dtype=dtype), VIEWS.get(name, lambda s: (s.channels, s.height, s.width))(shape)
    with seeded(0):  # `settled` leaves some weights as they were built
        saliency_model = settled(UNet(SimpleClassifier(base=4, scales=2)).build(shape), 1, dtype)
        detector = settled(DEFENCES[name].build(view), 2, dtype)
    return Defended(net, saliency_model, detector, threshold, **extra)


def subjects(target: Defended, n: int = 4, shape: Shape = COLOUR, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Images well inside [0, 1] and the classifier's answers."""
    x = (51 + 0.6 * 255 * images(shape, n, seed=seed, dtype=torch.float64)).round() / 255
    return x, predicted(target.classifier, x)
