"""A user's own images, held in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..contracts import Pool, Roles, image_ids
from ..errors import UsageError
from ..keys import digest


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images and labels from memory, keyed by their content.

    Args:
        images: uint8 (N, C, H, W).
        labels: integers (N,), 0 to K - 1.
        roles: how many images take which role; ``Roles`` that sum to at most N.

    Raises:
        UsageError: when shapes or dtypes are others, or a label is below 0.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    roles: Roles
    fingerprint: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise UsageError(f"images must be uint8 of shape (N, C, H, W); found {self.images.dtype} {self.images.shape}")
        if self.labels.shape != self.images.shape[:1] or not np.issubdtype(self.labels.dtype, np.integer):
            raise UsageError(f"labels must be integers of shape ({len(self.images)},); found {self.labels.dtype} {self.labels.shape}")
        if len(self.labels) and self.labels.min() < 0:
            raise UsageError(f"labels must count from 0; found {self.labels.min()}")
        content = digest("arrays", self.images.shape, image_ids(self.images).tolist(), self.labels.tolist(), self.roles)
        object.__setattr__(self, "fingerprint", content)

    def read(self) -> tuple[Pool, ...]:
        """One pool."""
        return (Pool(self.images, self.labels.astype(np.int64)),)
