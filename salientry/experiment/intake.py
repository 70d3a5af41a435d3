"""Images as people have them, brought into one file of 8-bit pixels, a piece at a time: memory holds one piece."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets import Folder
from ..errors import UsageError, theirs
from ..files import replacing
from ..inputs import as_images, as_labels, as_uint8
from ..rows import Concatenated, slices
from ..types import Roles

PIECE = 2**20  # values in memory at once of what comes as one tensor
WANTED = "a tensor (N, C, H, W), a data set, a loader or another iterable of (images, labels) batches, or a folder of pictures"
NO_LABELS = "labels are missing: give them beside the images, or batches (images, labels)"


class Pixels:
    """8-bit pixels by index, as floats in [0, 1]: a ``types.Images``."""

    def __init__(self, source: NDArray[np.uint8]) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, at: Tensor) -> Tensor:
        return torch.from_numpy(self.source[at.numpy()]).float() / 255


def as_source(images: Any) -> Any:
    """What :func:`taken` takes, in place of a path the folder's settings, which know its classes."""
    return Folder(images, Roles(0, 0, 0, 0, 0)) if isinstance(images, str | Path) else images


def taken(images: Any, labels: Any, folder: Path, required: bool = True) -> tuple[NDArray[np.uint8], Any]:
    """Pixels uint8 (N, C, H, W), memory-mapped from a file in ``folder``, and labels (N,).

    Args:
        images: a tensor or array, uint8 or floats in [0, 1]; a ``Dataset`` or ``DataLoader`` of torch or any iterable of (images,
            labels), one or a batch at a time; settings of a data set (``Folder``, ``Arrays``); the path of a folder of pictures.
        labels: where they do not come with the images.
        folder: where the file is written.
        required: False: there may be no labels, and None is returned for them.

    Raises:
        UsageError: says what was found and what was expected.
        DataError: for pictures that cannot be used.
        StoreError: when the file cannot be written.
    """
    images = as_source(images)
    if hasattr(images, "read") and hasattr(images, "roles"):
        pools = images.read()
        _once(labels)
        return _written(folder, (torch.from_numpy(p) for p in slices(Concatenated([p.images for p in pools])))), _concatenated(
            [p.labels for p in pools]
        )
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    if isinstance(images, Tensor):
        as_images(images if images.dim() != 4 else images[:0])  # its shape and type, before anything is written
        if labels is None and required:
            raise UsageError(NO_LABELS)
        size = max(1, PIECE // max(1, math.prod(images.shape[1:])))
        return _written(folder, (images[s : s + size] for s in range(0, max(1, len(images)), size))), _tensor(labels)
    if not isinstance(images, Iterable) and not hasattr(images, "__getitem__"):
        raise UsageError(f"images must be {WANTED}; found {type(images).__name__}")
    found: list[int] = []
    pixels = _written(folder, _batches(images, labels, found, required))
    if not len(pixels):
        raise UsageError(f"there are no images in the {type(images).__name__}")
    return pixels, _tensor(labels) if labels is not None else torch.tensor(found) if found else None


def _once(labels: Any) -> None:
    if labels is not None:
        raise UsageError("labels come with the images, and a second time by themselves: give them once")


def _tensor(labels: Any) -> Any:
    return torch.from_numpy(labels) if isinstance(labels, np.ndarray) else labels


def _concatenated(labels: list[NDArray[np.int64]]) -> Tensor:
    return torch.from_numpy(np.concatenate(labels).astype(np.int64))


def _written(folder: Path, pieces: Iterator[Tensor]) -> NDArray[np.uint8]:
    """Write batches of images one after another, and map the file.

    Raises:
        UsageError: for images outside the conventions, or of other sizes than the first.
    """
    path, count, shape = folder / "images.u8", 0, None
    with replacing(path) as f:
        for i, piece in enumerate(pieces):
            x = _eight_bits(piece)
            if shape is not None and x.shape[1:] != shape:
                sizes = " and ".join(" x ".join(map(str, s)) for s in (tuple(shape), tuple(x.shape[1:])))
                raise UsageError(
                    f"all images must be of one size; batch {i} differs from those before it: {sizes} (channels, height, width)"
                )
            shape, count = x.shape[1:], count + len(x)
            f.write(np.ascontiguousarray(x.cpu().numpy()).data)
    if not count:
        return np.zeros((0, *(shape or (1, 1, 1))), np.uint8)
    assert shape is not None
    return np.memmap(path, np.uint8, "r", 0, (count, *shape))


def _eight_bits(piece: Tensor) -> Tensor:
    """Images of either kind as 8 bits."""
    if isinstance(piece, Tensor) and piece.dtype == torch.uint8 and piece.dim() == 4:
        return piece
    return as_uint8(as_images(piece))


def _batches(source: Any, labels: Any, found: list[int], required: bool) -> Iterator[Tensor]:
    """The batches of images of an iterable; their labels go into ``found``."""
    items = iter(source) if hasattr(source, "__iter__") else (source[i] for i in range(len(source)))
    i = 0
    while True:
        with theirs(f"the {type(source).__name__} fails at batch {i}"):
            item = next(items, None)
        if item is None:
            return
        x, y = (item, None) if isinstance(item, Tensor) and (labels is not None or not required) else _pair(item, i)
        if y is not None:
            _once(labels)
        one = x.dim() == 3
        x = x[None] if one else x
        if y is not None:
            y = torch.as_tensor(y)
            found += as_labels(
                y[None] if one and y.dim() < 2 else y, len(x)
            ).tolist()  # small tensors that stay keep the large ones' memory
        elif labels is None and required:
            raise UsageError(NO_LABELS)
        yield x
        i += 1


def _pair(item: Any, i: int) -> tuple[Tensor, Any]:
    if isinstance(item, Tensor):
        return item, None
    if not isinstance(item, tuple | list) or len(item) != 2:
        length = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise UsageError(f"batch {i} is a {type(item).__name__}{length}; a pair (images, labels) expected")
    x = torch.from_numpy(item[0]) if isinstance(item[0], np.ndarray) else item[0]
    if not isinstance(x, Tensor):
        raise UsageError(f"the images of batch {i} are a {type(x).__name__}; a tensor expected (add ToTensor or the like to the data set)")
    return x, item[1]


__all__ = ["Pixels", "taken"]
