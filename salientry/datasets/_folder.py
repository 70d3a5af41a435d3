"""A user's own images: a folder of pictures, read as they are asked for, or an .npz."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, DataMissing, Error, UsageError, brief
from ..files import opened, refuse_bomb
from ..pixels import brought, read_pixels
from ..randomness import image_ids

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images of one shape with their names.

    Attributes:
        names: (N,) file name without the folder; a number for an .npz.
        ids: (N,) hash of each image's pixels.
        shape: (C, H, W).
        labels: int64 (N,), or None when nobody said.
        classes: names of the labels, for a folder with sub-folders.
        eight_bit: whether every value is a whole number of 255ths.
        read: pixels of some rows, uint8 or float32.
    """

    names: tuple[str, ...]
    ids: NDArray[np.str_]
    shape: tuple[int, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    eight_bit: bool
    read: Callable[[slice], Pixels]

    def __len__(self) -> int:
        return len(self.names)


def pictures(path: Path, limit: int | None = None) -> Pictures:
    """A user's images.

    Args:
        path: folder of pictures, where sub-folders are classes in the order of their names; or an .npz with ``images``
            (uint8, or floats in [0, 1], (N, C, H, W)) and perhaps ``labels`` (integers (N,)).
        limit: so many of them at most, evenly spaced, so that classes that are sorted stay in proportion.

    Raises:
        DataMissing: when there is nothing, or no picture.
        DataDamaged: when a file cannot be read.
        UsageError: for images that are not alike, or arrays that are no images.
    """
    if path.is_dir():
        return _folder(path, limit)
    if not path.exists():
        raise DataMissing(f"no images at {path}: a folder of pictures or an .npz file expected")
    if path.suffix != ".npz":
        raise UsageError(f"{path} is neither a folder of pictures nor an .npz file")
    return _npz(path, limit)


def _spaced(count: int, limit: int | None) -> NDArray[np.int64]:
    wanted = count if limit is None else min(count, limit)
    return np.arange(wanted) * count // max(wanted, 1)


# --- a folder --------------------------------------------------------------------------------------------------


def _folder(root: Path, limit: int | None) -> Pictures:
    folders, members = classes_in(root)
    paths = [p for found in members for p in found]
    labels = numbered(members)
    at = _spaced(len(paths), limit)
    chosen = [paths[i] for i in at]
    ids, shapes = [], []
    for p in chosen:
        pixels = read_pixels(p)
        shapes.append(pixels.shape)
        ids.append(image_ids(pixels[None]))
    names = tuple(p.relative_to(root).as_posix() for p in chosen)
    colours = len({s[0] for s in shapes})
    refuse_unlike(root, names, [(3, *s[1:]) for s in shapes] if colours == 2 else shapes)
    wanted = shapes[0] if colours == 1 else _shared(chosen)
    if colours == 2:
        ids = [image_ids(brought(read_pixels(p), wanted[0])[None]) for p in chosen]

    def read(rows: slice) -> NDArray[np.uint8]:
        return np.stack([brought(read_pixels(p), wanted[0]) for p in chosen[rows]])

    classes = tuple(f.name for f in folders)
    return Pictures(names, np.concatenate(ids), wanted, labels[at] if folders else None, classes, True, read)


def _shared(paths: list[Path]) -> tuple[int, ...]:
    """The shape of grey and colour pictures together: grey when none of them shows a colour."""
    for p in paths:
        pixels = read_pixels(p)
        if len(pixels) == 3 and (pixels != pixels[:1]).any():
            return pixels.shape
    return (1, *pixels.shape[1:])


def classes_in(root: Path) -> tuple[list[Path], list[list[Path]]]:
    """The sub-folders of a folder of pictures and the pictures in each, in the order of their names; without sub-folders, one
    list of the pictures in it.

    Raises:
        DataMissing: when it cannot be read, or one of them holds no picture.
        UsageError: when pictures lie beside sub-folders.
    """
    top = _listed(root)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if top and folders:
        raise UsageError(
            f"{root} holds pictures ({top[0].name} ...) beside sub-folders ({folders[0].name} ...): "
            "either all pictures lie in sub-folders, one a class, or none do"
        )
    members = [_listed(f) for f in folders] if folders else [top]
    for f, found in zip(folders or [root], members, strict=True):
        if not found:
            raise DataMissing(
                f"no pictures ({', '.join(s[1:] for s in SUFFIXES)}) in {f}" + ("; a sub-folder is a class" if folders else "")
            )
    return folders, members


def numbered(members: list[list[Path]]) -> NDArray[np.int64]:
    """(N,) the number of its class for each picture, class after class."""
    return np.repeat(np.arange(len(members)), [len(m) for m in members]).astype(np.int64)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    except OSError as e:
        raise DataMissing(f"cannot read {folder}: {e.strerror or e}") from e


def refuse_unlike(root: Path, names: Sequence[str], shapes: list[tuple[int, ...]], hint: str = "") -> None:
    """Pictures are never resized or recoloured unasked: the numbers would be those of other images.

    Raises:
        UsageError: names those that differ from most.
    """
    usual = Counter(shapes).most_common(1)[0][0]
    others = [f"{n} is {_size_text(s)}" for n, s in zip(names, shapes, strict=True) if s != usual]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UsageError(
            f"the pictures in {root} must be of one size, all grey or all colour; "
            f"most are {_size_text(usual)}, but {', '.join(others[:3])}{more}{hint}"
        )


def refuse_two_labels(ids: NDArray[np.str_], labels: NDArray[np.int64], called: Callable[[int], str]) -> None:
    """One picture has one class.

    Args:
        ids: (N,) of the images.
        labels: (N,).
        called: what to call an image, by its number.

    Raises:
        DataDamaged: names the first picture that has two.
    """
    order = np.argsort(ids, kind="stable")
    apart = (ids[order][1:] == ids[order][:-1]) & (labels[order][1:] != labels[order][:-1])
    if apart.any():
        at = int(np.flatnonzero(apart)[0])
        one, other = (called(int(i)) for i in sorted(order[at : at + 2]))
        more = f" ({int(apart.sum())} such pairs)" if apart.sum() > 1 else ""
        raise DataDamaged(
            f"{one} and {other} are the same picture under two classes{more}; one class a picture expected: remove one of them"
        )


def _size_text(shape: tuple[int, ...]) -> str:
    return f"{shape[2]} x {shape[1]} {'grey' if shape[0] == 1 else 'colour'}"


# --- an .npz ---------------------------------------------------------------------------------------------------


def _npz(path: Path, limit: int | None) -> Pictures:
    arrays = _arrays(path)
    if "images" not in arrays:
        raise UsageError(f"{path} has no array 'images'; it has: {', '.join(arrays) or 'nothing'}")
    images, labels = arrays["images"], arrays.get("labels")
    if images.ndim != 4:
        hint = "; for grey images add an axis: images[:, None]" if images.ndim == 3 else ""
        raise UsageError(f"images in {path} must have shape (N, C, H, W); found {images.shape}{hint}")
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        raise UsageError(
            f"images in {path} must have shape (N, C, H, W); found {images.shape}, channels last: images.transpose(0, 3, 1, 2)"
        )
    if not images.size:
        raise DataMissing(f"there are no images in {path}: their shape is {images.shape}")
    if labels is not None:
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise UsageError(f"labels in {path} must be integers of shape ({len(images)},); found {labels.dtype} {labels.shape}")
        if labels.min() < 0:
            raise UsageError(f"labels in {path} must count from 0; found {labels.min()}")
    at = _spaced(len(images), limit)
    pixels = _pixels(path, images[at])
    names = tuple(f"{i:0{max(6, len(str(len(images))))}d}" for i in at)
    chosen = None if labels is None else labels[at].astype(np.int64)
    ids = image_ids(pixels)  # any bytes will do
    return Pictures(names, ids, pixels.shape[1:], chosen, (), pixels.dtype == np.uint8, lambda rows: pixels[rows])


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with opened(path) as f:
            with zipfile.ZipFile(f) as archive:
                inside = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
                wanted = [inside[k] for k in ("images", "labels") if k in inside]
                refuse_bomb(path, sum(i.file_size for i in wanted), sum(i.compress_size for i in wanted))
                for member in wanted:
                    _refuse_larger(archive, member)
            f.seek(0)
            with np.load(f, allow_pickle=False) as arrays:
                return {k: arrays[k] for k in ("images", "labels") if k in arrays} or dict.fromkeys(arrays.files, np.zeros(0))
    except Error:
        raise
    except Exception as e:  # what a damaged file makes the readers raise is anyone's guess
        raise DataDamaged(f"{path} cannot be read as an .npz of plain arrays: {brief(e)}") from None


def _refuse_larger(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise unless an array's own header says the size that the archive says: room is made for it before it is read."""
    with archive.open(member) as f:
        version = np.lib.format.read_magic(f)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(f)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize != member.file_size - f.tell():
            raise ValueError(f"{member.filename} says that its shape is {shape}, and is {member.file_size} bytes long")


def _pixels(path: Path, images: NDArray[np.generic]) -> Pixels:
    """As uint8 when every value is a whole number of 255ths, otherwise float32."""
    if images.dtype == np.uint8:
        return images  # type: ignore[return-value]
    if not np.issubdtype(images.dtype, np.floating):
        raise UsageError(f"images in {path} must be uint8 or floats in [0, 1]; found {images.dtype}")
    found = images.astype(np.float32)
    lo, hi = float(found.min()), float(found.max())
    if not (lo >= 0 and hi <= 1):
        raise UsageError(f"images in {path} must lie in [0, 1] when they are floats; found [{lo:.4g}, {hi:.4g}]")
    levels = (found * 255).round()
    return levels.astype(np.uint8) if np.abs(found * 255 - levels).max() < 1e-3 else found


__all__ = ["Pictures", "classes_in", "numbered", "pictures", "refuse_two_labels", "refuse_unlike"]
