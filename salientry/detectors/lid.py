"""How many dimensions the neighbourhood of an image has, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..attacks._gradient import check_settings
from ..evidence import Evidence
from . import _logistic
from ._fitted import Fitted
from ._reference import layer_needs, reference_of


@dataclass(frozen=True)
class LID:
    """Local intrinsic dimensionality (Ma, Li, Wang, Erfani, Wijewickrema et al. 2018, ICLR): in each layer the
    maximum-likelihood estimate -1 / mean_i ln(r_i / r_k) from the distances r_1 to r_k to the nearest of a set of naturals, and a
    logistic regression on all layers.

    With ``multi`` it is multiLID (Lorenz, Keuper, Keuper 2022): the regression reads each neighbour's -ln(r_i / r_k) by itself, where
    LID takes one over their mean; its authors put a random forest in the regression's place.

    Departures: a layer is its channel means, not all its values; the neighbours are among fixed naturals that the classifier was
    trained on, not among a random minibatch of 100 that also holds the image's own natural; noisy images are not among the negatives.

    Differentiable in the image, but for who the neighbours are. Cost: nothing but the classifier's own pass, and L distances to each
    natural of the reference. It is fitted on the classifier's training naturals and on attacked images.

    Attributes:
        neighbours: k, at least 2; the authors' 20.
        reference: naturals to compare with; fewer where there are fewer.
        layers: names of the classifier's layers or blocks of layers; none: every convolution, batch norm and linear layer.
        multi: each neighbour's part by itself.

    Raises:
        UsageError: for a setting out of range.
    """

    neighbours: int = 20
    reference: int = 1000
    layers: tuple[str, ...] = ()
    multi: bool = False
    group = "baseline"
    description = "the dimension of the neighbourhood"
    reads, seeded, candidate = "activations", False, False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        check_settings(neighbours=(self.neighbours, 2, 10**6), reference=(self.reference, self.neighbours, 10**6))

    @property
    def name(self) -> str:
        """What tables call it: one table may hold both."""
        return "MultiLID" if self.multi else "LID"

    @property
    def needs(self) -> frozenset[str]:
        """Activations; and the classifier's training naturals, to compare with."""
        return layer_needs(self.layers)

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, L) estimates; with ``multi`` (N, L (k - 1)), each neighbour's part, nearest first."""
        (reference,) = parts
        distances: list[Tensor] = reference.distances(evidence)  # type: ignore[operator]
        if self.multi:
            return torch.cat([growth(d, self.neighbours)[:, :-1] for d in distances], 1)
        return torch.stack([dimension(d, self.neighbours) for d in distances], 1)

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector."""
        return _logistic.build(self, view, *parts, monotone=False)

    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """A reference from the training naturals, then slopes and offset by logistic regression; the seed is not used.

        Raises:
            UsageError: where there are no training naturals.
        """
        found = parts or (reference_of("LID", evidence.training, self.layers, self.reference),)
        return _logistic.fit(self, evidence, labels, *found, seed=seed)


def growth(distances: Tensor, neighbours: int) -> Tensor:
    """(N, k) minus ln(r_i / r_k) of the nearest k of distances (N, M), nearest first, the last one 0; k is M at most."""
    near = distances.topk(min(neighbours, distances.shape[1]), 1, largest=False).values.clamp_min(1e-12)
    return (near[:, -1:] / near).log()


def dimension(distances: Tensor, neighbours: int) -> Tensor:
    """(N,) maximum-likelihood estimates of the local intrinsic dimension from distances (N, M)."""
    return 1 / growth(distances, neighbours).mean(1).clamp_min(1e-6)
