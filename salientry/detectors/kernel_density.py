"""How dense the naturals of the predicted class lie about an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from . import _logistic
from ._fitted import Fitted
from ._reference import Reference, apart, layer_needs, numbers, reference_of

STEPS = torch.linspace(-4, 4, 33)  # powers of two, of a layer's median distance to the nearest, that a bandwidth is chosen among


@dataclass(frozen=True)
class KernelDensity:
    """Kernel density estimates (Feinman, Curtin, Shintre, Gardner 2017): the density of a layer's values under
    Gaussians of one bandwidth about those of the training naturals of the predicted class.

    Departures: in the logarithm. The paper reads the last hidden layer, which nothing but its name tells: give it (``layers=("fc1",)``);
    with none every usual layer has a density, and a logistic regression whose slopes are never below .001 weighs them. A layer is its
    channel means, which in a dense layer are its values. The dropout uncertainty that the paper adds is left out: it needs a
    network with dropout.

    Differentiable in the image. Cost: nothing but the classifier's own pass, and L distances to each natural of the reference. It is
    fitted on the classifier's training naturals; attacked images give the slopes.

    Attributes:
        bandwidth: standard deviation of the Gaussians in the layer's units (the authors': 1.20 for MNIST, 0.26 for CIFAR-10, 1.00 for
            SVHN, on their networks). 0: in each layer that with the largest likelihood of each natural under the others.
        reference: naturals to compare with; fewer where there are fewer.
        layers: names of the classifier's layers or blocks of layers; none: every convolution, batch norm and linear layer.

    Raises:
        UsageError: for a setting out of range.
    """

    bandwidth: float = 0.0
    reference: int = 2000
    layers: tuple[str, ...] = ()
    group = "baseline"
    words = "kernel density"
    description = "the density of its class"
    reads, seeded, candidate = "activations", False, False
    build = _logistic.build

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not 0 <= self.bandwidth < float("inf") or self.reference < 2:
            raise UsageError(f"bandwidth is 0 or above, reference at least 2; found {self.bandwidth!r} and {self.reference!r}")

    @property
    def needs(self) -> frozenset[str]:
        """The answer and activations; and the classifier's training naturals, to compare with."""
        return layer_needs(self.layers) | {"predicted"}

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, L) minus the log densities."""
        reference, widths = parts
        assert isinstance(reference, Reference) and isinstance(widths.values, Tensor)
        own = evidence.predicted[:, None] == reference.classes
        own = own | ~own.any(1, keepdim=True)  # a class that no natural has: all of them
        found = [
            -log_density(d, own, w, reference.known(i).shape[1])
            for i, (d, w) in enumerate(zip(reference.distances(evidence), widths.values, strict=True))
        ]
        return torch.stack(found, 1)

    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """A reference and bandwidths from the training naturals, then slopes and offset by logistic regression; the seed is not used.

        Raises:
            UsageError: where there are no training naturals.
        """
        if not parts:
            reference = reference_of("KernelDensity", evidence.training, self.layers, self.reference)
            parts = reference, numbers(self.bandwidths(reference))
        return _logistic.fit(self, evidence, labels, *parts, seed=seed, bounded=True)

    def bandwidths(self, reference: Reference) -> Tensor:
        """(L,) the bandwidth of each layer."""
        layers = range(len(reference.names))
        if self.bandwidth:
            return torch.tensor([self.bandwidth for _ in layers], device=reference.classes.device)
        return torch.stack([likeliest(reference.known(i), reference.classes) for i in layers])


def log_density(distances: Tensor, own: Tensor, bandwidth: Tensor, columns: int) -> Tensor:
    """(N,) logarithm of the mean, over those of ``own`` (N, M), of a Gaussian's density at these distances (N, M), in as many dimensions as
    there are ``columns``.
    """
    exponents = -0.5 * (distances / bandwidth).square()
    total = exponents.masked_fill(~own, float("-inf")).logsumexp(1)
    return total - own.sum(1).log() - columns * (bandwidth.log() + 0.5 * math.log(2 * math.pi))


def likeliest(known: Tensor, classes: Tensor) -> Tensor:
    """() the bandwidth under which each of the rows (M, C) is likeliest given the others of its class, on average."""
    distances = apart(known, known)
    others = (classes[:, None] == classes) & ~torch.eye(len(known), dtype=torch.bool, device=known.device)
    some = others.any(1)
    if not bool(some.any()):
        others, some = ~torch.eye(len(known), dtype=torch.bool, device=known.device), torch.ones_like(some)
    distances, others = distances[some], others[some]
    nearest = distances.masked_fill(~others, float("inf")).amin(1).median().clamp_min(1e-6)
    tried = nearest * 2 ** STEPS.to(nearest)
    found = torch.stack([log_density(distances, others, w, known.shape[1]).mean() for w in tried])
    return tried[found.argmax()]
