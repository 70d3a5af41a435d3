"""A user's own pictures in a folder, decoded as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, UsageError
from ..keys import digest
from ..pixels import Resize, read_pixels, resized
from ..randomness import image_ids
from ..store import one_of
from ..types import Pool, Roles
from ._folder import SUFFIXES, classes_in, numbered, refuse_two_labels, refuse_unlike

NO_LOSS = ("thumbs.db", "desktop.ini")  # what file managers leave beside pictures


@dataclass(frozen=True)
class Folder:
    """Pictures in sub-folders, one a class, numbered in the order of the sub-folders' names.

    All are decoded once when this is made, and again when a run first reads them; never more than a few are in memory. They are
    keyed by their content: pixels, labels, roles, resizing. Names are no content, so the pictures of a class come in the order
    of their ids. Class names, by number, are ``class_names``.

    Args:
        path: the folder of the sub-folders. Pictures are grey or colour with 8 bits a channel.
        roles: how many pictures take which role; ``Roles`` that sum to at most N.
        size: (H, W) that pictures are brought to; None: they must all be of one size.
        resize: how, on uint8 with Pillow's bilinear filter (antialiased): ``squash`` brings height and width to ``size``
            each by itself; ``crop`` resizes until ``size`` is just covered (a square by the shorter side) and takes the middle.

    Raises:
        DataMissing: when there is no such folder, or a sub-folder holds no picture.
        DataDamaged: when a picture cannot be read, is there under two classes, or is not what it was when this was made.
        UsageError: when pictures differ in size or colour, have no class or more than 8 bits, when a sub-folder holds anything
            else, or a setting cannot be used.
    """

    path: Path | str
    roles: Roles
    size: tuple[int, int] | None = None
    resize: Resize = "squash"
    class_names: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False, default="")
    pictures: FolderPictures = field(init=False, repr=False, compare=False)
    labels: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        one_of("way to resize", self.resize, ("squash", "crop"))
        if self.size is not None and not (len(self.size) == 2 and all(isinstance(n, int) and n > 0 for n in self.size)):
            raise UsageError(f"size must be (height, width), two whole numbers above 0; found {self.size!r}")
        root = Path(self.path)
        folders, members = _classes(root)
        paths, labels = [str(p) for found in members for p in found], numbered(members)
        how = None if self.size is None else (tuple(self.size), self.resize)
        shapes: list[tuple[int, ...]] = []
        ids = np.array([_noted(pixels, shapes) for pixels in (_decoded(p, how) for p in paths)], "<U16")
        names = [Path(p).relative_to(root).as_posix() for p in paths]
        refuse_unlike(root, names, shapes, "" if len({s[1:] for s in shapes}) == 1 else "; size=(height, width) brings them to one size")
        refuse_two_labels(ids, labels, paths.__getitem__)
        order = np.lexsort((ids, labels))
        found = FolderPictures([paths[i] for i in order], ids[order], [names[i] for i in order], shapes[0], how)
        content = digest("folder", found.shape, found.ids.tolist(), labels[order].tolist(), self.roles, how)
        for name, value in (("class_names", tuple(f.name for f in folders)), ("fingerprint", content), ("pictures", found)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "labels", labels[order])

    @property
    def name(self) -> str:
        """What results are called; they are found again wherever the folder lies."""
        return "folder"

    def read(self) -> tuple[Pool, ...]:
        """One pool, whose images are decoded as they are asked for."""
        return (Pool(self.pictures, self.labels, classes=len(self.class_names), names=self.pictures.names),)


class FolderPictures:
    """Pictures as uint8 (N, C, H, W), decoded as they are asked for.

    Raises:
        DataDamaged: on reading, when a picture is not what it was.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, paths: list[str], ids: NDArray[np.str_], names: list[str], shape: tuple[int, ...], how: How) -> None:
        self.paths, self.ids, self.names, self.how = paths, ids, names, how
        self.shape = (len(paths), *shape)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        at = range(len(self))[rows]
        out = np.zeros((len(at), *self.shape[1:]), np.uint8)
        for row, i in enumerate(at):
            pixels = _decoded(self.paths[i], self.how)
            if pixels.shape != self.shape[1:] or image_ids(pixels[None])[0] != self.ids[i]:
                raise DataDamaged(f"{self.paths[i]} is not the picture that was there before: somebody changed it; start again")
            out[row] = pixels
        return out


How = tuple[tuple[int, ...], Resize] | None


def _noted(pixels: NDArray[np.uint8], shapes: list[tuple[int, ...]]) -> str:
    shapes.append(pixels.shape)
    return str(image_ids(pixels[None])[0])


def _classes(root: Path) -> tuple[list[Path], list[list[Path]]]:
    """Sub-folders and their pictures; nothing that might be a picture is passed over."""
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; a folder with one sub-folder of pictures a class expected")
    folders, members = classes_in(root)
    if not folders:
        raise UsageError(f"{members[0][0]} has no label: {root} has no sub-folders; one sub-folder of pictures a class expected")
    for folder, found in zip(folders, members, strict=True):
        for other in sorted(_others(folder, found)):
            kind = "a folder" if other.is_dir() else "no picture"
            known = ", ".join(s[1:] for s in SUFFIXES)
            raise UsageError(f"{other} is {kind}; nothing but pictures ({known}) expected in the sub-folder of a class")
    return folders, members


def _others(folder: Path, found: list[Path]) -> Iterator[Path]:
    known = {p.name for p in found}
    return (p for p in folder.iterdir() if p.name not in known and p.name[0] != "." and p.name.lower() not in NO_LOSS)


def _decoded(path: str, how: How) -> NDArray[np.uint8]:
    return read_pixels(path, None if how is None else lambda picture: resized(picture, *how))


__all__ = ["Folder", "FolderPictures"]
