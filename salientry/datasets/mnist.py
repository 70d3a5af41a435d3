"""MNIST (LeCun, Cortes, Burges), the four IDX files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import DataDamaged
from ..types import Pool, Roles
from ._files import find, located, parse_idx, read_verified

SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@dataclass(frozen=True)
class MNIST:
    """All of MNIST, (1, 28, 28), ten classes, from ``SALIENTRY_DATA/MNIST/raw`` (or ``.../MNIST``), packed or not.

    Heads and choices come from the training file, thresholds and numbers from the test file.

    Raises:
        DataMissing: on reading, when a file is not there.
        DataDamaged: when a checksum is wrong; it is looked at before anything is parsed.
    """

    roles: Roles = Roles(train=50_000, detector_train=5_000, validation=5_000, calibration=5_000, test=5_000)
    home: ClassVar[str] = "https://yann.lecun.com/exdb/mnist/"
    known: ClassVar[bool] = True

    def files(self) -> dict[str, Path | None]:
        """The four files: where each goes under ``SALIENTRY_DATA``, and where it lies."""
        names = (_places(f"{part}-{kind}") for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        return {n[0]: located(n) for n in names}

    def read(self) -> tuple[Pool, ...]:
        """Two pools: the training file (fit, detect, select) and the test file (calibrate, test)."""
        return (self._pool("train", ("train", "detector_train", "validation")), self._pool("t10k", ("calibration", "test")))

    def _pool(self, part: str, roles: tuple[str, ...]) -> Pool:
        images, labels = self._array(f"{part}-images-idx3-ubyte"), self._array(f"{part}-labels-idx1-ubyte")
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataDamaged(f"MNIST {part}: {images.shape} images and {labels.shape} labels do not fit together")
        return Pool(images[:, None], labels.astype(np.int64), roles)

    def _array(self, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        get = f"Get the four files of MNIST, {self.home} or any copy of them; checksums are verified."
        path = find("MNIST", _places(name), get)
        return parse_idx(read_verified(path, SHA256), path)


def _places(name: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}{end}" for folder in ("MNIST/raw", "MNIST") for end in (".gz", ""))
