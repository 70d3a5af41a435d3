"""A user's own images as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataDamaged, UsageError
from ..keys import digest, label
from ..randomness import image_ids
from ..rows import Sliceable
from ..types import Pool, Roles
from ._folder import pictures, refuse_two_labels


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images and labels, keyed by their content.

    Args:
        images: uint8 (N, C, H, W): an array, or what is read by slices like one (``np.load("images.npy", mmap_mode="r")``),
            of which only a few megabytes are in memory at a time.
        labels: integers (N,), 0 to K - 1.
        roles: how many images take which role; ``Roles`` that sum to at most N.
        classes: K; None: the highest label and one.
        groups: integers (N,): images of one group have one role; roles are then as large as whole groups allow.

    Raises:
        UsageError: when shapes or dtypes are others, or a label is below 0 or not below ``classes``.
        DataDamaged: when the same image is there under two labels.
    """

    images: Sliceable
    labels: NDArray[np.int64]
    roles: Roles
    classes: int | None = None
    groups: NDArray[np.int64] | None = None
    fingerprint: str = field(init=False, default="")

    def __post_init__(self) -> None:
        images, labels, k = self.images, self.labels, self.classes
        if images.dtype != np.uint8 or len(images.shape) != 4:
            raise UsageError(f"images must be uint8 of shape (N, C, H, W); found {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise UsageError(f"labels must be integers of shape ({len(images)},); found {labels.dtype} {labels.shape}")
        if len(labels) and labels.min() < 0:
            raise UsageError(f"labels must count from 0; found {labels.min()}")
        if k is not None and (k < 1 or (len(labels) and labels.max() >= k)):
            raise UsageError(f"labels must lie below classes = {k}; found {labels.max() if len(labels) else 'no label'}")
        ids = image_ids(images)
        refuse_two_labels(ids, labels.astype(np.int64), "image {}".format)
        said: list[Any] = [] if k is None else [{"classes": k}]
        if self.groups is not None:
            if self.groups.shape != labels.shape or not np.issubdtype(self.groups.dtype, np.integer):
                raise UsageError(f"groups must be integers of shape ({len(labels)},); found {self.groups.dtype} {self.groups.shape}")
            said.append({"groups": self.groups.tolist()})
        object.__setattr__(self, "fingerprint", digest("arrays", images.shape, ids.tolist(), labels.tolist(), self.roles, *said))

    @classmethod
    def from_file(cls, path: Path | str, roles: Roles, classes: int | None = None) -> Arrays:
        """Images and labels from an .npz file, which are then held in memory.

        Args:
            path: an .npz with ``images`` (N, C, H, W), uint8 or floats that are whole 255ths, and ``labels``, integers (N,).
            roles: how many images take which role.
            classes: K; None: the highest label and one.

        Raises:
            DataMissing: when there is no such file, or no image in it.
            DataDamaged: when it cannot be read, or the same image is there under two labels.
            UsageError: when it holds other arrays, or a label that cannot be.
        """
        path = Path(path)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; an .npz file expected (Folder reads folders of pictures)")
        found = pictures(path)
        if found.labels is None:
            raise UsageError(f"{path} has no array 'labels'; integers ({len(found)},) expected")
        pixels = found.read(slice(None))
        if pixels.dtype != np.uint8:
            raise UsageError(f"images in {path} are floats that are no whole numbers of 255ths; uint8 or whole 255ths expected")
        try:
            return cls(pixels, found.labels, roles, classes)
        except (UsageError, DataDamaged) as e:
            raise type(e)(f"{path}: {e}") from None

    @property
    def name(self) -> str:
        """What results are called."""
        return label(self) if isinstance(self.images, np.ndarray) else "Arrays"

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process: a memory-mapped file goes as its place, not as its pixels."""
        images: Any = self.images
        if not (
            isinstance(images, np.memmap) and isinstance(getattr(images, "base", None), mmap) and images.flags.c_contiguous
        ):  # a view of one
            return vars(self)
        return vars(self) | {"images": (images.filename, images.dtype, "r", images.offset, images.shape)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        place = state["images"]
        vars(self).update(state | {"images": np.memmap(*place) if isinstance(place, tuple) else place})

    def read(self) -> tuple[Pool, ...]:
        """One pool."""
        return (Pool(self.images, self.labels.astype(np.int64), classes=self.classes, groups=self.groups),)
