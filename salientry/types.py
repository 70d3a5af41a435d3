"""What the parts of the package are to each other: Protocols, no base classes; and its conventions, once.

* images: float32 (N, C, H, W) in [0, 1] at every interface; naturals are stored uint8
* labels: int64 (N,); ``y`` given to an attack is the label to leave
* logits: (N, K), never softmax
* maps: (N, 1, H, W) in [0, 1]
* scores: (N,), higher = more adversarial, 0 = the head's own decision; adversarial = 1, natural = 0
* eps: in units of [0, 1], written ``8/255``
* randomness: per image, from ``seeds`` int64 (N,), through a counter hash that is the same on every device
* settings are frozen dataclasses; what was learned is an ``nn.Module``; a module is left as it was found
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .rows import Sliceable

ROLES = ("train", "detector_train", "validation", "calibration", "test")


@dataclass(frozen=True)
class Shape:
    """What a network is built for: image channels, height, width, and number of classes K."""

    channels: int
    height: int
    width: int
    classes: int


@dataclass(frozen=True)
class Roles:
    """How many images of a data set have which role; each image has one.

    Attributes:
        train: classifier, encoder, saliency net.
        detector_train: detectors.
        validation: every choice, and the sanity checks.
        calibration: thresholds, read when all choices are frozen.
        test: numbers.
    """

    train: int
    detector_train: int
    validation: int
    calibration: int
    test: int


@dataclass(frozen=True)
class Pool:
    """Images that may take some of the roles: a whole data set, its training file, its test file.

    Attributes:
        images: uint8 (N, C, H, W): an array, or what is read by slices like one.
        labels: int64 (N,).
        roles: which roles take their images from it.
        pinned: so many images at its start may take the first of those roles only.
        classes: how many there are; None: the highest label and one.
        names: what errors call each image, (N,); empty: its number.
        groups: int64 (N,), which images belong together, so that one role has them all; None: each stands for itself.
    """

    images: Sliceable
    labels: NDArray[np.int64]
    roles: tuple[str, ...] = ROLES
    pinned: int = 0
    classes: int | None = None
    names: Sequence[str] = ()
    groups: NDArray[np.int64] | None = None


class DataSet(Protocol):
    """A frozen dataclass that reads itself; ``roles`` says how many images of it have which role."""

    @property
    def roles(self) -> Roles: ...
    def read(self) -> tuple[Pool, ...]: ...


class Images(Protocol):
    """Images by index: a float tensor (N, C, H, W) in [0, 1] is one; so are the rows of a store."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: Tensor, /) -> Tensor: ...


class ClassifierSettings(Protocol):
    """Settings of a classifier: ``build`` an untrained net, ``fit`` = build and train."""

    def build(self, shape: Shape) -> nn.Module: ...
    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int) -> nn.Module: ...


class EncoderSettings(Protocol):
    """Settings of a saliency net's encoder; ``build(shape)`` gives an :class:`Encoder`."""

    def build(self, shape: Shape) -> Encoder: ...
    def fit(self, images: Images, labels: Tensor, shape: Shape, *, seed: int) -> Encoder: ...


class Encoder(nn.Module):
    """A network whose ``forward`` gives feature maps, shallow to deep and each half the size, and its own logits.

    Attributes:
        widths: channels of each feature map.
    """

    widths: tuple[int, ...]

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Image (N, C, H, W) in [0, 1] to (feature maps, logits (N, K))."""
        raise NotImplementedError


@runtime_checkable
class Attack(Protocol):
    """A frozen dataclass you call. It returns images; rounding, measuring and counting are the caller's.

    ``eps``: the attack's Linf budget in [0, 1] units, or None for a minimal-norm attack.

    It may say what it is: ``title`` (as in tables; else its label), ``norm`` (``linf``, ``l2`` or ``l0``: what it bounds or keeps small),
    ``strength`` (``weak`` or ``strong``, in the paper's words), ``sparse`` (it moves few pixels, or most by little: its own values at
    shuffled pixels are a control), ``reduced`` (its settings are weaker than the paper's), ``must_fool`` (False: an attack that does
    not fool nine images in ten is no fault) and ``passes`` (of an image through the network, there and back; else its ``steps``).
    """

    @property
    def eps(self) -> float | None: ...
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor: ...


@runtime_checkable
class Control(Protocol):
    """An image that a detector should not flag, made from a natural and its stored adversarial."""

    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor: ...


@runtime_checkable
class HarmlessChange(Protocol):
    """A change of an image that should neither change the classifier's answer nor be flagged: a frozen dataclass you call.

    The result has the shape of ``x`` and lies in [0, 1]; rounding to 8 bits is the caller's. Row i depends on ``x[i]`` and ``seeds[i]``
    alone.

    Attributes:
        differentiable: whether the result is in the graph of ``x`` where gradients are on.
        title: what it is, with its size, as it stands in a sentence.
    """

    @property
    def differentiable(self) -> bool: ...
    @property
    def title(self) -> str: ...
    def __call__(self, x: Tensor, *, seeds: Tensor) -> Tensor: ...


class SaliencySettings(Protocol):
    """Settings of a saliency model. The module maps (image, class index) to a dict with at least ``map``."""

    def build(self, shape: Shape, *parts: nn.Module) -> nn.Module: ...
    def fit(self, images: Images, labels: Tensor, classifier: nn.Module, shape: Shape, *parts: nn.Module, seed: int) -> nn.Module: ...


class Pairs(Protocol):
    """What a detector learns from: views of naturals and of their adversarials."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]: ...


class Detector(Protocol):
    """Settings of a detector: ``fit(evidence, labels, seed=...)`` gives a module, ``module(evidence) -> scores (N,)``.

    ``fit`` sees an :class:`~salientry.evidence_set.EvidenceSet`: naturals of the detectors' role and their adversarial twins, and their
    labels (N,), 1 for adversarial. Ours look at one ``view`` of the evidence and ``build`` a head for it; a detector that does not
    comes in as an :class:`~salientry.detectors.ExternalDetector`.

    Attributes:
        needs: what it reads of the evidence: names of parts, ``activations`` of all usual layers, ``activations/NAME`` of one;
            ``classifier`` to ask it about other images; for ``fit`` alone ``training``, the naturals that the classifier was trained
            on, and ``copies``, harmless copies of the detectors' naturals.
        group: in tables: ``"saliency"``, ``"image"``, ``"baseline"``, ``"fusion"``, or any other.
        description: what it goes by, in words.
        reads: what it adds to a fusion: detectors of one word are left out together.
        seeded: whether a seed moves its training, so that it is repeated.
        candidate: whether recipes and guards take it where nobody names one.

    It may say more of itself: ``title`` (in ids of numbers and in tables; else its class's name), ``words`` (what tables print for the
    title) and ``explained`` (in a sentence, what it looks at, ``{map}`` in it for the saliency map; else its ``description``).
    """

    @property
    def needs(self) -> frozenset[str]: ...
    @property
    def group(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def reads(self) -> str: ...
    @property
    def seeded(self) -> bool: ...
    @property
    def candidate(self) -> bool: ...
    def view(self, evidence: Any, *parts: nn.Module) -> Tensor: ...
    def build(self, view: tuple[int, ...], *parts: nn.Module) -> nn.Module: ...
    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> nn.Module: ...


def shape_of(images: Images, classes: int) -> Shape:
    """The :class:`Shape` of a set of images."""
    _, c, h, w = images[torch.arange(1)].shape
    return Shape(c, h, w, classes)
