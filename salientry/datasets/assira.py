"""ASIRRA's cats and dogs (Elson, Douceur, Howell, Saul 2007), as the paper spells it: ASSIRA. A folder of pictures for each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ..errors import DataDamaged, DataMissing, StoreError, UsageError
from ..files import read_text, sha256_of
from ..keys import digest
from ..pixels import Resize
from ..store import one_of
from ..types import Pool, Roles
from ._files import data_folder
from ._folder import SUFFIXES
from .folder import Folder

PLACES = (
    "assira",
    "asirra",
    "PetImages",
)  # under SALIENTRY_DATA; the second is its other spelling, the last what the public archive unpacks to
CLASSES = ("cat", "dog")
MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class ASSIRA:
    """Cats and dogs, brought to (3, 112, 112) RGB, two classes, from ``SALIENTRY_DATA/assira``, a sub-folder each.

    Any pictures of cats and dogs will do, 3,000 or more: which of them take a role is drawn by a fixed seed, stratified. So results
    are keyed by the pictures' bytes. Where a ``manifest.csv`` with the columns ``file`` and ``sha256`` lies beside the sub-folders,
    every picture is compared with it.

    There are too few for heads of their own: ``detector_train`` is 0, and detectors learn on *train* images, which the
    classifier was trained on.
    That is not the paper's split either, which it does not give.

    Attributes:
        roles: how many pictures take which role.
        size: height and width that Pillow brings the 8-bit pictures to before anything else; the paper's 112.
        resize: ``squash`` or ``crop``, see :class:`Folder`. The paper says "scaled to 112x112x3".

    Raises:
        DataMissing: on reading, when the folder or one of the two is not there.
        DataDamaged: when a picture cannot be read, is not what the manifest says, or is missing from one of them.
        UsageError: for another way to resize; on reading, for more sub-folders or too few pictures.
    """

    roles: Roles = Roles(train=2133, detector_train=0, validation=237, calibration=315, test=315)
    size: int = 112
    resize: Resize = "squash"
    home: ClassVar[str] = "https://www.microsoft.com/en-us/download/details.aspx?id=54765"
    class_names: ClassVar[tuple[str, ...]] = CLASSES

    def __post_init__(self) -> None:
        one_of("way to resize", self.resize, ("squash", "crop"))

    def files(self) -> dict[str, Path | None]:
        """The two folders: where each goes under ``SALIENTRY_DATA``, and where it lies."""
        root = self._place()
        return {f"{PLACES[0]}/{c}": _of_class(root, c) if root else None for c in CLASSES}

    def read(self) -> tuple[Pool, ...]:
        """One pool: all pictures, cats first, decoded as they are asked for."""
        root = self._root()
        mine = [_of_class(root, c) for c in CLASSES]
        others = [p.name for p in sorted(root.iterdir()) if p.is_dir() and p not in mine]
        if others:
            raise UsageError(f"{root} holds the sub-folder {others[0]}; {' and '.join(CLASSES)} and no other expected")
        self._compare()
        return Folder(root, self.roles, (self.size, self.size), self.resize).read()

    @cached_property
    def fingerprint(self) -> str:
        """Of the pictures' bytes and the settings."""
        found = [[k, sorted(hashes.values())] for k, hashes in enumerate(self._hashes().values())]
        return digest("assira", found, self.roles, self.size, self.resize)

    @property
    def known(self) -> bool:
        """Whether there is a manifest to compare with."""
        root = self._place()
        return root is not None and (root / MANIFEST).is_file()

    def _place(self) -> Path | None:
        folder = data_folder()
        return next((folder / p for p in PLACES if (folder / p).is_dir()), None) if folder else None

    def _root(self) -> Path:
        root, folder = self._place(), data_folder()
        get = f"Get cats and dogs, {self.home} or your own, 3,000 or more; a manifest is not needed."
        if folder is None:
            raise DataMissing(f"ASSIRA is not here: SALIENTRY_DATA is not set. Set it to a folder that holds {PLACES[0]}/cat. {get}")
        if root is None:
            raise DataMissing(f"ASSIRA is not here: no {' or '.join(PLACES)} under {folder}. {get}")
        for c in CLASSES:
            if _of_class(root, c) is None:
                raise DataMissing(f"ASSIRA is incomplete: no sub-folder {c} in {root}. {get}")
        return root

    def _hashes(self) -> dict[str, dict[str, str]]:
        """Class to file, as the manifest names it, to the sha256 of its bytes."""
        root = self._root()
        folders = [f for f in (_of_class(root, c) for c in CLASSES) if f]
        return {f.name: {f"{f.name}/{p.name}": sha256_of(p) for p in _pictures(f)} for f in folders}

    def _compare(self) -> None:
        """With the manifest, where there is one."""
        if not self.known:
            return
        path = self._root() / MANIFEST
        try:
            said = {row["file"]: row["sha256"] for row in csv.DictReader(io.StringIO(read_text(path), newline=""))}
            if None in said or None in said.values():
                raise KeyError("a line has no checksum")
        except (StoreError, KeyError, DataDamaged, csv.Error) as e:
            raise DataDamaged(f"{path} is no manifest with the columns file and sha256: {type(e).__name__}: {e}") from None
        found = {k: v for hashes in self._hashes().values() for k, v in hashes.items()}
        for name in sorted(said.keys() | found.keys()):
            if name not in found:
                raise DataDamaged(f"{path} names {name}, which is not there; remove its line, or the manifest, if that is meant")
            if name not in said:
                raise DataDamaged(f"{path.parent / name} is not in {path.name}; add it, or remove the manifest, if that is meant")
            if said[name] != found[name]:
                sums = f"sha256 {found[name][:16]}..., expected {said[name][:16]}..."
                raise DataDamaged(f"{path.parent / name} has the wrong checksum: {sums}; get it again")


def _of_class(root: Path, name: str) -> Path | None:
    """The sub-folder of a class: ``cat``, ``Cat``, ``cats``."""
    return next((p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower().removesuffix("s") == name), None)


def _pictures(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
