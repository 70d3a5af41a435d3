"""CIFAR-10 (Krizhevsky), the python version: five training batches and a test batch."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import DataDamaged
from ..types import Pool, Roles
from ._files import find, located, read_verified

SHA256 = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}
FOLDER = "cifar-10-batches-py"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
SEEN = 3000  # images at the start of the test file on which settings were tried before this code was written


@dataclass(frozen=True)
class CIFAR10:
    """All of CIFAR-10, (3, 32, 32) RGB, ten classes, from ``SALIENTRY_DATA/cifar-10-batches-py``.

    Heads and choices come from the training batches, thresholds and numbers from the test batch; the first 3,000 test images,
    on which settings were tried once, are for calibration, never for numbers.

    Raises:
        DataMissing: on reading, when a file is not there.
        DataDamaged: when a checksum is wrong; it is looked at before anything is unpickled.
    """

    roles: Roles = Roles(train=40_000, detector_train=5_000, validation=5_000, calibration=5_000, test=5_000)
    home: ClassVar[str] = HOME
    known: ClassVar[bool] = True
    class_names: ClassVar[tuple[str, ...]] = CLASSES

    def files(self) -> dict[str, Path | None]:
        """The six files: where each goes under ``SALIENTRY_DATA``, and where it lies."""
        return {f"{FOLDER}/{name}": located((f"{FOLDER}/{name}", name)) for name in SHA256}

    def read(self) -> tuple[Pool, ...]:
        """Two pools: the training batches (fit, detect, select) and the test batch (calibrate, test)."""
        parts = [self._batch(f"data_batch_{i}") for i in range(1, 6)]
        images, labels = (np.concatenate([p[k] for p in parts]) for k in (0, 1))
        test = self._batch("test_batch")
        pinned = min(SEEN, len(test[1]))
        return Pool(images, labels, ("train", "detector_train", "validation")), Pool(*test, ("calibration", "test"), pinned=pinned)

    def _batch(self, name: str) -> tuple[Any, Any]:
        """Images uint8 (N, 3, 32, 32) and labels int64 (N,) of one file."""
        get = f"Get the python version of CIFAR-10, {HOME}, and unpack it there; checksums are verified."
        path = find("CIFAR-10", (f"{FOLDER}/{name}", name), get)
        return parse_batch(read_verified(path, SHA256), path)


def parse_batch(body: bytes, path: Path) -> tuple[Any, Any]:
    """Images and labels of a batch in the published format: a pickled dictionary; only ever given bytes whose checksum is known.

    Raises:
        DataDamaged: when it holds something else.
    """
    try:
        found = pickle.loads(body, encoding="bytes")
        data, labels = found[b"data"], np.asarray(found[b"labels"], np.int64)
    except Exception as e:  # what a damaged pickle raises is anyone's guess
        raise DataDamaged(f"{path} is no batch of CIFAR-10: {type(e).__name__}: {e}") from None
    if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
        raise DataDamaged(f"{path}: {data.dtype} {data.shape} images and {len(labels)} labels; uint8 (N, 3072) and N expected")
    return data.reshape(-1, 3, 32, 32), labels
