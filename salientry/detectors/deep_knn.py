"""Whether the neighbours of an image have the class that the classifier says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..attacks._gradient import check_settings
from ..evidence import Evidence
from . import _logistic
from ._fitted import Fitted
from ._reference import Reference, layer_needs, numbers, reference_of


@dataclass(frozen=True)
class DeepKNN:
    """Deep k-nearest neighbours (Papernot, McDaniel 2018, algorithm 1): how many of an image's k nearest training naturals, over all
    layers, have another class than the answer (its nonconformity), and which share of calibration naturals have as many (its
    credibility, the p-value of the answer).

    Departures: exact Euclidean neighbours among ``reference`` naturals, where the paper hashes the whole training set by cosine; a layer
    is its channel means; the calibration naturals are those that the detector is fitted on; the image itself counts among them,
    so that no p-value is 0. Beside minus the logarithm of the credibility, which has no more values than there are calibration naturals,
    the logistic regression reads the nonconformity itself; neither slope is below .001.

    It counts: not differentiable in the image. Cost: nothing but the classifier's own pass, and L distances to each natural of the
    reference. It is fitted on the classifier's training naturals and on naturals; attacked images give the slopes alone.

    Attributes:
        neighbours: k in each layer; the paper's 75, for which each class wants some hundred naturals: fewer where there are fewer.
        reference: naturals to compare with; fewer where there are fewer.
        layers: names of the classifier's layers or blocks of layers; none: every convolution, batch norm and linear layer.

    Raises:
        UsageError: for a setting out of range.
    """

    neighbours: int = 75
    reference: int = 2000
    layers: tuple[str, ...] = ()
    group = "baseline"
    words = "deep kNN"
    description = "the classes of its neighbours"
    reads, seeded, candidate = "activations", False, False
    build = _logistic.build

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        check_settings(neighbours=(self.neighbours, 1, 10**6), reference=(self.reference, self.neighbours, 10**6))

    @property
    def needs(self) -> frozenset[str]:
        """The answer and activations; and the classifier's training naturals, to compare with."""
        return layer_needs(self.layers) | {"predicted"}

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 2) minus the log credibility, and the nonconformity as a share of all neighbours."""
        reference, calibration = parts
        assert isinstance(calibration.values, Tensor)
        against = self.nonconformity(evidence, reference)
        return torch.stack([-p_values(against, calibration.values).log(), against], 1)

    @torch.no_grad()
    def nonconformity(self, evidence: Evidence, reference: Any) -> Tensor:
        """(N,) share of the neighbours, over all layers, that have another class than the answer."""
        found = []
        for d in reference.distances(evidence):
            near = d.topk(min(self.neighbours, d.shape[1]), 1, largest=False).indices
            found.append((reference.classes[near] != evidence.predicted[:, None]).to(d.dtype).mean(1))
        return torch.stack(found).mean(0)

    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """A reference from the training naturals, the naturals' nonconformity, then slopes and offset; the seed is not used.

        Raises:
            UsageError: where there are no training naturals.
        """
        if not parts:
            reference = reference_of("DeepKNN", evidence.training, self.layers, self.reference)
            parts = reference, self.calibrated(evidence, labels, reference)
        return _logistic.fit(self, evidence, labels, *parts, seed=seed, bounded=True)

    def calibrated(self, evidence: Any, labels: Tensor, reference: Reference) -> nn.Module:
        """The naturals' nonconformity, (n,), sorted."""
        against = torch.cat([self.nonconformity(e, reference) for e in evidence.pieces()])
        return numbers(against[(labels == 0).to(against.device)].sort().values)


def p_values(scores: Tensor, calibration: Tensor) -> Tensor:
    """(N,) share of sorted calibration scores (n,) that are at least as large, the score itself counted among them."""
    below = torch.searchsorted(calibration, scores.contiguous())
    return (len(calibration) - below + 1).to(scores.dtype) / (len(calibration) + 1)
