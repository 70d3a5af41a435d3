"""Batches of rows as tensors, on the device where the work is done."""

from __future__ import annotations

import contextvars
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from .randomness import image_seeds
from .rows import Rows

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
