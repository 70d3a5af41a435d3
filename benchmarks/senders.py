"""Ordinary senders of pictures, for `benchmarks.campaign`: nobody attacks, and some send many pictures that are nearly the same.

Each sends 1 to 250 pictures, a number drawn log-uniformly. How many of them show one scene is drawn, too, and not bounded by what the
alarm needs: one who edits sends up to 250 versions of one picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salientry.harmless import JPEG, Brightness, Resized, WebP
from salientry.inputs import as_uint8
from salientry.types import HarmlessChange

MOST = 250  # pictures of one sender
SHOTS = 60  # of one burst at most: two seconds of 30 a second
FEW = 5  # pictures that are sent again and again, at most
DIFFERENT, COPIES, EDITS, BURSTS = "different pictures", "a few pictures, saved again", "a few pictures, edited", "bursts of shots"
KINDS = (DIFFERENT, COPIES, EDITS, BURSTS)
SIZES = ((1, 20), (21, 50), (51, 100), (101, MOST))  # rows of the record, by the number of pictures
VERSIONS: tuple[HarmlessChange, ...] = (
    *(JPEG(q) for q in (50, 60, 75, 80, 85, 90, 95)),
    *(WebP(q) for q in (60, 80, 90)),
    *(Resized(s) for s in (0.5, 0.6, 0.75, 0.9)),
    *(Brightness(b) for b in (0.9, 0.95, 1.05, 1.1, 1.2)),
)  # of a fixed set of formats, sizes and filters, as programs make them: the same picture gives the same bytes each time


def as_bytes(x: Tensor) -> NDArray[np.uint8]:
    return np.asarray(as_uint8(x).numpy())


def log_uniform(least: int, most: int, rng: np.random.Generator) -> int:
    return int(math.exp(rng.uniform(math.log(least), math.log(most + 1))))


def copies(x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Each time one of the pictures (M, C, H, W), a third of the time as it is, else one of ``VERSIONS`` of it."""
    whole = [x, *(change(x, seeds=torch.zeros(len(x), dtype=torch.int64)) for change in VERSIONS)]
    version = np.where(rng.random(count) < 1 / 3, 0, rng.integers(1, len(whole), count))
    return torch.stack([whole[v][i] for v, i in zip(version.tolist(), rng.integers(0, len(x), count).tolist(), strict=True)])


def edits(x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Each time one of the pictures, made brighter or darker by up to 20 %, of up to 20 % more or less contrast, resized to half or more
    of its size, and saved as JPEG, all as a hand on sliders leaves them: no two are the same.
    """
    out, none = [], torch.zeros(1, dtype=torch.int64)
    for i in rng.integers(0, len(x), count).tolist():
        y = x[i : i + 1] * rng.uniform(0.8, 1.2)
        y = (y.mean() + (y - y.mean()) * rng.uniform(0.8, 1.2)).clamp(0, 1)
        y = Resized(float(rng.uniform(0.5, 1)))(y, seeds=none)
        out.append(JPEG(int(rng.integers(50, 96)))(y, seeds=none)[0])
    return torch.stack(out)


def series(x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """(count, C, H, W) of one scene (C, H, W): moved by a pixel at most, brighter or darker by 5 % at most, with the camera's noise."""
    out = []
    for _ in range(count):
        moved = torch.roll(x, tuple(rng.integers(-1, 2, 2).tolist()), (1, 2))
        out.append(moved * rng.uniform(0.95, 1.05) + 2 / 255 * torch.from_numpy(rng.standard_normal(x.shape)).to(x))
    return torch.stack(out).clamp(0, 1)


def bursts(x: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Scene after scene, 2 to ``SHOTS`` shots of each, a number drawn log-uniformly, until there are so many."""
    out, left = [], count
    while left:
        shots = min(left, log_uniform(2, SHOTS, rng))
        out.append(series(x[int(rng.integers(len(x)))], shots, rng))
        left -= shots
    return torch.cat(out)


def senders(x: Tensor, rng: np.random.Generator, count_of_each: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Kind and pictures of each, uint8."""
    for _ in range(count_of_each):
        for kind in KINDS:
            count = log_uniform(1, MOST, rng)
            few = x[rng.choice(len(x), int(rng.integers(1, FEW + 1)), replace=False)]
            if kind == DIFFERENT:
                yield kind, as_bytes(x[rng.choice(len(x), count, replace=False)])
            elif kind == COPIES:
                yield kind, as_bytes(copies(few, count, rng))
            elif kind == EDITS:
                yield kind, as_bytes(edits(few, count, rng))
            else:
                yield kind, as_bytes(bursts(x, count, rng))
