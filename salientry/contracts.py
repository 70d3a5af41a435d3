"""The conventions of the package, once.

* images: float32 (N, C, H, W) in [0, 1] at every border; naturals are stored uint8
* labels: int64 (N,); ``y`` given to an attack is the label to leave
* logits: (N, K), never softmax
* maps: (N, 1, H, W) in [0, 1]
* scores: (N,), higher = more adversarial, 0 = the head's own decision; adversarial = 1, natural = 0
* eps: in units of [0, 1], written ``8/255``
* randomness: per image, from ``seeds`` int64 (N,), through a counter hash that is the same on every device
* settings are frozen dataclasses; what was learned is an ``nn.Module``; a module is left as it was found
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .keys import decode, digest, encode
from .modules import feed
from .slicing import Sliceable, slices
from .store import JSON, Rows

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

ROLES = ("fit", "detect", "select", "calibrate", "test")
ATTACK_STREAM, CONTROL_STREAM = 1, 2  # stream numbers of the per-image randomness


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
        fit: classifier, encoder, saliency net.
        detect: detector heads.
        select: every choice, and the sanity gates.
        calibrate: thresholds, read when all choices are frozen.
        test: numbers.
    """

    fit: int
    detect: int
    select: int
    calibrate: int
    test: int


# --- what a method is: Protocols, no base classes ------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Images that may take some of the roles: a whole data set, its training file, its test file.

    Attributes:
        images: uint8 (N, C, H, W): an array, or what is read by slices like one.
        labels: int64 (N,).
        roles: which roles are dealt out of it.
        pinned: so many images at its start may take the first of those roles only.
        classes: how many there are; None: the highest label and one.
        names: what errors call each image, (N,); empty: its number.
    """

    images: Sliceable
    labels: NDArray[np.int64]
    roles: tuple[str, ...] = ROLES
    pinned: int = 0
    classes: int | None = None
    names: Sequence[str] = ()


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
    """A frozen dataclass you call. It proposes images; others round, measure and count them.

    ``eps``: the attack's Linf budget in [0, 1] units, or None for a minimal-norm attack.
    """

    @property
    def eps(self) -> float | None: ...
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor: ...


@runtime_checkable
class Control(Protocol):
    """An image that a detector should not flag, made from a natural and its settled adversarial."""

    def __call__(self, x: Tensor, x_adv: Tensor, *, seeds: Tensor) -> Tensor: ...


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
    """Settings of a detector: a view of the evidence and a head that scores it.

    ``needs`` names the parts of the evidence that the view reads; ``family`` is ``"saliency"``, ``"image"``, ``"floor"`` or
    ``"fusion"``; ``says`` is what it goes by, in words.
    """

    @property
    def needs(self) -> frozenset[str]: ...
    @property
    def family(self) -> str: ...
    @property
    def says(self) -> str: ...
    def view(self, evidence: Any, *parts: nn.Module) -> Tensor: ...
    def build(self, view: tuple[int, ...], *parts: nn.Module) -> nn.Module: ...
    def fit(self, pairs: Pairs, *parts: nn.Module, seed: int) -> nn.Module: ...


# --- learned things: how to build them again, what is known of them --------------------------------------------


def made(module: M, spec: Any, *args: Any) -> M:
    """Note how to build this module again: ``spec.build(*args)``. Returns it in eval mode."""
    vars(module)["origin"] = (spec, args)
    return module.eval()


def origin(module: nn.Module) -> JSON:
    """The note of :func:`made` as JSON; modules among the arguments are noted by the same rule."""
    spec, args = vars(module)["origin"]
    return {"build": encode(spec), "args": [{"module": origin(a)} if isinstance(a, nn.Module) else encode(a) for a in args]}


def rebuilt(body: JSON, trusted: bool = False) -> nn.Module:
    """An untrained module from the JSON of :func:`origin`; its weights are for the caller to load. ``trusted``: see ``store.decode``."""
    args = [rebuilt(a["module"], trusted) if isinstance(a, dict) and "module" in a else decode(a, trusted) for a in body["args"]]
    module: nn.Module = decode(body["build"], trusted).build(*args)
    return module


def facts_of(thing: Any) -> dict[str, JSON]:
    """Small facts that travel with a module or with rows; empty when there are none."""
    return dict(vars(thing).get("facts", {}))


def with_facts(module: M, **facts: JSON) -> M:
    """Add facts to a module."""
    vars(module)["facts"] = facts_of(module) | facts
    return module


def fingerprint(module: nn.Module) -> str:
    """Sha256 over the names, shapes and bytes of all weights and buffers (also those that ``state_dict`` leaves out), of what else
    there is in ``state_dict`` (packed weights, extra state), and the module's own ``identity`` if it has one.

    Numbers that are kept in Python attributes, and the code, have no part in it: two networks of one fingerprint may answer
    differently. Where that matters, their answers are compared as well.
    """
    h = hashlib.sha256(digest(getattr(module, "identity", None)).encode())
    for name, value in sorted((dict(module.named_buffers()) | module.state_dict()).items()):
        feed(h, name, value)
    return h.hexdigest()


def device_of(module: nn.Module) -> torch.device:
    """Where a module lives; the processor, when it has no weights."""
    return next(chain(module.parameters(), module.buffers()), torch.empty(0)).device


@contextlib.contextmanager
def frozen(*modules: nn.Module | None) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; mode, flags and ``.grad`` as found afterwards, also after an exception."""
    here = [m for m in modules if m is not None]
    modes = [(m, m.training) for top in here for m in top.modules()]
    flags = [(p, p.requires_grad) for top in here for p in top.parameters()]
    try:
        for top in here:
            top.eval().requires_grad_(False)
        yield
    finally:
        for m, training in modes:
            m.training = training
        for p, flag in flags:
            p.requires_grad_(flag)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global CPU generator at ``seed`` inside (initial weights, dropout), as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


# --- identity and randomness of an image ------------------------------------------------------------------------


def image_ids(images: Sliceable) -> NDArray[np.str_]:
    """(N,) ids: the first 16 hex digits of the sha256 of each image's uint8 pixels."""
    return np.array([hashlib.sha256(np.ascontiguousarray(i).tobytes()).hexdigest()[:16] for p in slices(images) for i in p], "<U16")


def image_seeds(ids: NDArray[np.str_], seed: int, stream: int) -> Tensor:
    """(N,) int64 seeds from run seed, image id and stream number, never from settings: two budgets of one attack start alike."""
    found = [hashlib.sha256(f"{seed}/{stream}/{i}".encode()).digest()[:8] for i in ids]
    return torch.tensor([int.from_bytes(b, "little", signed=True) for b in found], dtype=torch.int64)


def uniform(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniforms in [0, 1), (N, *shape) float32: row i depends on ``seeds[i]`` alone, in every batch and on every device.

    Counter-based: splitmix64 (Steele, Lea, Flood 2014) at seed + counter, upper 24 bits.
    """

    def right(v: Tensor, k: int) -> Tensor:  # logical, not arithmetic
        return (v >> k) & ((1 << (64 - k)) - 1)

    n = int(np.prod(shape))
    z = seeds[:, None] + (torch.arange(n, device=seeds.device) + 1) * -7046029254386353131
    z = (z ^ right(z, 30)) * -4658895280553007687
    z = (z ^ right(z, 27)) * -7723592293110705685
    z = z ^ right(z, 31)
    return (right(z, 40).to(torch.float64) / 2**24).to(torch.float32).reshape(len(seeds), *shape)


# --- batches of rows ---------------------------------------------------------------------------------------------

DEVICE: contextvars.ContextVar[str] = contextvars.ContextVar("device", default="cpu")  # where batches of rows come to


class Batch:
    """Some rows as tensors: ``batch.image`` is (n, C, H, W) float32 in [0, 1] whatever the storage; other columns as stored."""

    def __init__(self, rows: Rows, at: NDArray[Any]) -> None:
        self.rows, self.at, self.device = rows, at, DEVICE.get()
        self.ids, self.facts = rows.ids[at], rows.facts

    def __len__(self) -> int:
        return len(self.at)

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            value = torch.from_numpy(self.rows.column(name, self.at)).to(self.device)
        except KeyError as e:
            raise AttributeError(e.args[0]) from None
        return value.to(torch.float32) / 255 if value.dtype == torch.uint8 else value

    def parts(self, *names: str) -> dict[str, Tensor]:
        """Those of the named columns that there are."""
        return {n: getattr(self, n) for n in names if n in self.rows}

    def seeds(self, seed: int, stream: int) -> Tensor:
        """(n,) per-image seeds."""
        return image_seeds(self.ids, seed, stream).to(self.device)


class RowImages:
    """The images of rows, by index, read as they are asked for: an :class:`Images`."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Tensor) -> Tensor:
        return Batch(self.rows, at.numpy()).image


def shape_of(images: Images, classes: int) -> Shape:
    """The :class:`Shape` of a set of images."""
    _, c, h, w = images[torch.arange(1)].shape
    return Shape(c, h, w, classes)


# --- progress ----------------------------------------------------------------------------------------------------

Progress = Callable[[int, int], None]
PROGRESS: contextvars.ContextVar[Progress] = contextvars.ContextVar("progress")


def ticking(items: Iterable[T], total: int) -> Iterator[T]:
    """Hand the items on and tell whoever listens how far it is: ``PROGRESS.get()(done, total)``. The library never prints."""
    tell: Progress = PROGRESS.get(lambda done, total: None)
    for i, item in enumerate(items):
        tell(i, total)
        yield item
