"""Naturals that others are compared with: what layers give of them, and their classes; and other numbers that a view reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import LAYER, Evidence
from ..learned import with_recipe


class Reference(nn.Module):
    """Channel means of M naturals in L layers.

    Attributes:
        names: of the layers.
        classes: (M,) int64, true classes.
    """

    classes: Tensor

    def __init__(self, names: tuple[str, ...], widths: tuple[int, ...], count: int) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("classes", torch.zeros(count, dtype=torch.int64))
        for i, w in enumerate(widths):
            self.register_buffer(f"known{i}", torch.zeros(count, w))

    @property
    def needs(self) -> frozenset[str]:
        """Activations of its layers."""
        return frozenset(LAYER + n for n in self.names)

    def known(self, layer: int) -> Tensor:
        """(M, C) channel means of its naturals in a layer."""
        found: Tensor = getattr(self, f"known{layer}")
        return found

    def distances(self, evidence: Evidence) -> list[Tensor]:
        """(N, M) Euclidean distance of each image to each natural, layer by layer."""
        return [apart(evidence.activations[n].mean, self.known(i)) for i, n in enumerate(self.names)]


def apart(found: Tensor, known: Tensor) -> Tensor:
    """(N, M) Euclidean distances between rows (N, C) and rows (M, C), without the shortcut that rounds small ones away."""
    return torch.cdist(found, known, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class ReferenceSizes:
    """What a :class:`Reference` is built from.

    Attributes:
        names: of the layers.
        widths: their channels.
        count: of the naturals.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    count: int

    def build(self) -> Reference:
        """An empty one."""
        return with_recipe(Reference(self.names, self.widths, self.count), self)


def reference_of(detector: str, training: Any, layers: tuple[str, ...], count: int) -> Reference:
    """A reference of naturals of known class, of every class as large a share as it has among them.

    Args:
        detector: what asks for it, for errors.
        training: an :class:`~salientry.evidence_set.EvidenceSet` with ``classes``.
        layers: names; none: all that it holds.
        count: of the naturals at most; the same ones at every call.

    Raises:
        UsageError: where there are no training naturals.
    """
    if training is None or not len(training):
        raise UsageError(f"{detector} compares with naturals that the classifier was trained on; there are none")
    classes = training.classes.cpu()
    order = classes.argsort(stable=True)
    at = order[torch.linspace(0, len(order) - 1, min(count, len(order)), dtype=torch.float64).round().long()]
    names = layers or tuple(training.activations)
    seen = [training.activations[n].mean.detach() for n in names]
    found = ReferenceSizes(names, tuple(f.shape[1] for f in seen), len(at)).build().to(seen[0].device)
    found.classes.copy_(classes[at])
    for i, f in enumerate(seen):
        found.known(i).copy_(f[at.to(f.device)])
    return found


class Numbers(nn.Module):
    """Fitted numbers that a view reads, of any shape."""

    values: Tensor
    needs: frozenset[str] = frozenset()

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(shape))


@dataclass(frozen=True)
class NumbersShape:
    """What :class:`Numbers` are built from.

    Attributes:
        shape: of them.
    """

    shape: tuple[int, ...]

    def build(self) -> Numbers:
        """Zeros."""
        return with_recipe(Numbers(self.shape), self)


def numbers(values: Tensor) -> Numbers:
    """These numbers as a module."""
    found = NumbersShape(tuple(values.shape)).build().to(values.device)
    found.values.copy_(values.detach())
    return found


def layer_needs(layers: tuple[str, ...]) -> frozenset[str]:
    """The needs of a detector that compares layers with training naturals; no names: all usual layers."""
    return frozenset({"training", *((LAYER + n for n in layers) if layers else ("activations",))})
