"""Distance of the classifier's activations to those of the classes that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import LAYER, Evidence
from ..learned import with_recipe
from . import _asking, _logistic
from ._fitted import Fitted


@dataclass(frozen=True)
class Mahalanobis:
    """Lee, Lee, Lee, Shin 2018: each layer's channel means as one Gaussian a class, with a covariance that the classes share, fitted on
    the classifier's own training naturals by their true labels; an image's score in a layer is its squared distance to the nearest
    class, and a logistic regression weighs the layers.

    With a ``magnitude`` the image is first moved, for each layer, by so much in every value against the sign of that distance's gradient
    (their input preprocessing), which brings naturals nearer than others.

    Departures: the covariance is shrunk towards a multiple of the identity, no layer's slope is negative, and the default magnitude is 0,
    where the authors choose one on validation images.

    Differentiable in the image; the sign of the gradient is taken as fixed. Cost: nothing but the classifier's own pass; with a magnitude
    two forward passes and a backward pass a layer.

    Attributes:
        layers: names of the classifier's layers or blocks of layers; none: every convolution, batch norm and linear layer.
        shrinkage: share of the identity in the covariance, 0 to 1, in units of its mean variance.
        magnitude: of the move of each value, in [0, 1].

    Raises:
        UsageError: for a shrinkage or a magnitude outside [0, 1].
    """

    layers: tuple[str, ...] = ()
    shrinkage: float = 1e-2
    magnitude: float = 0.0
    group = "baseline"
    description = "the distance of the classifier's activations to their classes"
    reads, seeded, candidate = "activations", False, False
    build = _logistic.build

    def __post_init__(self) -> None:
        if not 0 <= self.shrinkage <= 1:
            raise UsageError(f"shrinkage lies in [0, 1]; found {self.shrinkage!r}")
        if not 0 <= self.magnitude <= 1:
            raise UsageError(f"magnitude lies in [0, 1]; found {self.magnitude!r}")

    @property
    def needs(self) -> frozenset[str]:
        """Activations; the classifier's training naturals, to be fitted on; with a magnitude the classifier, to be asked again."""
        asked = {"classifier"} if self.magnitude else set()
        return frozenset({"training", *asked, *((LAYER + n for n in self.layers) if self.layers else ("activations",))})

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, L) squared distances to the nearest class, layer by layer."""
        (gaussians,) = parts
        distances: Tensor = gaussians(evidence, self.magnitude)
        return distances

    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Gaussians by class from the training naturals, then slopes and offset by logistic regression; the seed is not used.

        Raises:
            UsageError: where there are no training naturals.
        """
        if not parts and evidence.training is None:
            raise UsageError("Mahalanobis is fitted on naturals that the classifier was trained on; there are none")
        gaussians = parts or (gaussians_of(evidence.training, self.layers, self.shrinkage),)
        seen = _asking.views(self, evidence, labels, *gaussians) if self.magnitude else evidence
        return _logistic.fit(self, seen, labels, *gaussians, seed=seed, bounded=True)


class ClassGaussians(nn.Module):
    """A Gaussian a class and layer, all classes of a layer of one covariance."""

    def __init__(self, names: tuple[str, ...], widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.names = names
        for i, w in enumerate(widths):
            self.register_buffer(f"mean{i}", torch.zeros(classes, w))
            self.register_buffer(f"whitening{i}", torch.eye(w))

    @property
    def needs(self) -> frozenset[str]:
        """Activations of its layers."""
        return frozenset(LAYER + n for n in self.names)

    def forward(self, evidence: Evidence, magnitude: float = 0.0) -> Tensor:
        """(N, L) squared Mahalanobis distance to the nearest class, layer by layer; after a move of the image that makes it smaller."""
        seen = [self._moved(evidence, n, i, magnitude) if magnitude else evidence for i, n in enumerate(self.names)]
        return torch.stack([self._nearest(i, e.activations[n].mean) for i, (n, e) in enumerate(zip(self.names, seen, strict=True))], 1)

    def _moved(self, evidence: Evidence, name: str, layer: int, magnitude: float) -> Evidence:
        """A look at the images after a move against the sign of the gradient of their distance in one layer."""
        needs, here = frozenset({LAYER + name}), evidence.image.detach().requires_grad_()
        with torch.enable_grad():
            total = self._nearest(layer, Evidence(evidence.classifier, None, here, needs).activations[name].mean).sum()
        (gradient,) = torch.autograd.grad(total, here)
        with torch.set_grad_enabled(evidence.image.requires_grad):
            return Evidence(evidence.classifier, None, evidence.image - magnitude * gradient.sign(), needs)

    def _nearest(self, layer: int, found: Tensor) -> Tensor:
        mean, whitening = getattr(self, f"mean{layer}"), getattr(self, f"whitening{layer}")
        distances: Tensor = ((found[:, None] - mean) @ whitening).square().sum(2)
        return distances.amin(1)


@dataclass(frozen=True)
class GaussianSizes:
    """What :class:`ClassGaussians` are built from.

    Attributes:
        names: of the layers.
        widths: their channels.
        classes: how many.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    classes: int

    def build(self) -> ClassGaussians:
        """Unfitted ones."""
        return with_recipe(ClassGaussians(self.names, self.widths, self.classes), self)


def gaussians_of(training: Any, layers: tuple[str, ...], shrinkage: float) -> ClassGaussians:
    """Means and shared covariance of each layer, from naturals of known class.

    Args:
        training: an :class:`~salientry.evidence_set.EvidenceSet` with ``classes``.
        layers: names; none: all that it holds.
        shrinkage: see :class:`Mahalanobis`.
    """
    names, classes = layers or tuple(training.activations), training.classes
    seen = [training.activations[n].mean.detach().double().cpu() for n in names]
    present, which = torch.unique(classes.cpu(), return_inverse=True)
    found = GaussianSizes(names, tuple(f.shape[1] for f in seen), len(present)).build()
    for i, f in enumerate(seen):
        mean = torch.zeros(len(present), f.shape[1], dtype=torch.float64).index_add_(0, which, f)
        mean /= torch.bincount(which)[:, None]
        rest = f - mean[which]
        covariance = rest.T @ rest / len(f)
        size = covariance.diagonal().mean().clamp_min(1e-12)
        covariance = (1 - shrinkage) * covariance + (shrinkage * size + 1e-9 * size) * torch.eye(f.shape[1], dtype=torch.float64)
        getattr(found, f"mean{i}").copy_(mean)
        getattr(found, f"whitening{i}").copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))
    return found.to(classes.device)
