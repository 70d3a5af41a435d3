"""What a part of the paper's experiment costs on this machine: multiplications counted, and one pass of the net timed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attacks._cost import passes_of
from ..experiment.cost import THERE_AND_BACK, images_of, only_joins
from ..paper_cnn import PaperCNN
from ..runner.run import exact
from ..runner.step import Handle, handles_in
from ..types import Roles, Shape

TIMED = 50  # images of the pass that is timed


@dataclass(frozen=True)
class Cost:
    """Seconds of the steps of the recipe.

    Attributes:
        roles: of the data set.
        net: multiplications of one image through the classifier; a detector's head has about as many.
        encoder: through the saliency model's encoder.
        drawing: through encoder and decoder.
        unit: seconds of one multiplication.
    """

    roles: Roles
    net: float
    encoder: float
    drawing: float
    unit: float

    @classmethod
    def measured(cls, roles: Roles, net: PaperCNN, saliency: Any, shape: Shape, device: str) -> Cost:
        """Count, and time one batch through the classifier, there and back; takes a second or so."""
        x = torch.zeros(1, shape.channels, shape.height, shape.width)
        drawer = saliency.build(shape)
        classifier = net.build(shape)
        counted = multiplications(classifier, x)
        encoder, drawing = multiplications(drawer.encoder, drawer.pad(x)), multiplications(drawer, x, torch.zeros(1, dtype=torch.long))
        batch = torch.rand(TIMED, *x.shape[1:], device=device)
        classifier.to(device)
        with exact(device):  # as steps are computed
            seconds = min(_seconds(classifier, batch) for _ in range(3))
        return cls(roles, counted, encoder, drawing, seconds / (TIMED * THERE_AND_BACK * counted))

    def seconds(self, todo: list[Handle]) -> dict[str, float]:
        """Of each step, by key."""
        return {h.fingerprint: self.unit * self.work(h) for h in todo}

    def work(self, h: Handle) -> float:
        """Multiplications of a step."""
        assert h.step is not None
        n, s, name = self.count(h), h.args.get("settings"), h.step.name
        if name == "train_classifier":
            return THERE_AND_BACK * self.net * n * float(getattr(s, "epochs", 1))
        if name == "fit_encoder":
            return THERE_AND_BACK * self.encoder * n * float(getattr(s, "epochs", 1))
        if name == "fit_saliency":
            epochs = float(getattr(s, "epochs", 0))  # of a decoder; kept and destroyed images go through the classifier, there and back
            return n * (self.encoder + epochs * (THERE_AND_BACK * self.drawing + 2 * THERE_AND_BACK * self.net)) if epochs else 0.0
        if name == "fit_detector":
            return THERE_AND_BACK * self.net * 2 * n * float(getattr(getattr(s, "head", None), "epochs", 0.01))
        if name == "attack_images":
            return THERE_AND_BACK * self.net * n * passes_of(h.args["attack"])
        sets = max(1, sum(1 for _ in handles_in([v for v in h.args.values() if isinstance(v, list)])))
        each = {
            "draw": self.drawing,
            "differentiate": THERE_AND_BACK * self.net,
            "map_shift": sets * self.drawing,
            "scores": sets * self.net * (not only_joins(h)),
        }
        each |= {"sanity": self.drawing * 3 + 6 * self.net, "gradient_sizes": 3 * THERE_AND_BACK * self.net}
        return n * each.get(name, self.net)

    def count(self, h: Handle) -> int:
        """Images that a step works on, or that a view holds."""
        return images_of(h, self.roles)


def multiplications(module: nn.Module, *inputs: Tensor) -> float:
    """Of one forward pass: convolutions and linear layers."""
    found = [0.0]

    def count(layer: nn.Module, _: Any, out: Tensor) -> None:
        weight: Any = layer.weight
        found[0] += out[0, 0].numel() * weight.numel() if isinstance(layer, nn.Conv2d) else weight.numel()

    hooks = [m.register_forward_hook(count) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0]


def _seconds(net: nn.Module, batch: Tensor) -> float:
    """Of one pass there and back; on the processor those that were spent on it, whatever else runs there."""
    clock = time.perf_counter if batch.is_cuda else time.process_time
    began = clock()
    F.cross_entropy(net(batch), torch.zeros(len(batch), dtype=torch.long, device=batch.device)).backward()  # type: ignore[no-untyped-call]
    if batch.is_cuda:
        torch.cuda.synchronize()
    return clock() - began
