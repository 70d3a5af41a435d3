"""What every layer gives, in three numbers a channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..evidence import LAYER, Evidence
from . import _committee


@dataclass(frozen=True)
class LayerStatistics:
    """Mean, deviation and maximum over the places of every channel of every usual layer: finds large perturbations, given many images.

    With one layer (``layers=("layer2",)``) this is the detector of Metzen, Genewein, Fischer, Bischoff 2017, which others know as a binary
    activation detector: a small network on what one layer gives, trained on naturals and attacked images.

    Departures from it: three numbers a channel stand for the map, small dense networks for a convolutional one, and the classifier is
    not attacked anew in training.

    Cost: nothing but the classifier's own pass.

    Attributes:
        layers: names, as in ``named_modules``; empty: all usual ones.
        head: settings of the networks.
    """

    layers: tuple[str, ...] = ()
    head: _committee.Committee = _committee.Committee()
    group = "baseline"
    words = "layer statistics"
    description = "the layers' statistics"
    reads, seeded, candidate = "activations", True, False
    build, fit = _committee.build, _committee.fit

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def needs(self) -> frozenset[str]:
        """The layers; in ``fit`` all naturals and harmless copies."""
        return _committee.BESIDE | (frozenset(LAYER + name for name in self.layers) or {"activations"})

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 3 F), layer by layer."""
        return torch.cat([getattr(evidence, LAYER + name).flatten(1) for name in self.layers or evidence.activations], 1)
