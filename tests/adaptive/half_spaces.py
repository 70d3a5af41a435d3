"""A classifier and a detector whose edges are planes, so that what an attack can find at best is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salientry.adaptive import Defended
from salientry.detectors import ExternalDetector
from salientry.detectors.external import FittedExternal

Array = NDArray[np.float64]


class Side(nn.Module):
    """Class 1 where weight . image > offset, of which there is one for all images or one for each."""

    def __init__(self, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        beyond = x.flatten(1) @ self.weight - self.offset
        return torch.stack([-beyond, beyond], 1)

    def take(self, rows: Tensor) -> Side:
        """For some of the images."""
        return Side(self.weight, self.offset[rows])


@dataclass(frozen=True)
class Planes:
    """Images, and the plane that is to be crossed and the one that is not to be, each at a known distance from every image.

    Attributes:
        x: (N, C, H, W) float64, 8-bit, in the middle of [0, 1].
        w: (d,) the classifier's normal, of length 1.
        v: (d,) the detector's normal, of length 1, with ``cosine`` to ``w``.
        far: (N,) distance to the classifier's plane.
        room: (N,) distance to the detector's plane.
    """

    x: Tensor
    w: Tensor
    v: Tensor
    far: Tensor
    room: Tensor

    @property
    def y(self) -> Tensor:
        """(N,) zeros."""
        return torch.zeros(len(self.x), dtype=torch.int64)

    def target(self, *, detected: bool = True) -> Defended:
        """With the detector, which leaves torch; or without one."""
        flat, v = self.x.flatten(1), self.v.numpy()
        task = Side(self.w, flat @ self.w + self.far)
        alone = Defended(task, task=task)
        if not detected:
            return alone
        outside = ExternalDetector(lambda images: np.asarray(images).reshape(len(images), -1) @ v, name="plane")
        return replace(alone, detector=FittedExternal(outside, outside.ready()).eval(), threshold=flat @ self.v + self.room)

    def one_plane(self) -> Defended:
        """The same with one plane to cross for all images, in the middle of theirs: an ordinary classifier, without a ``task``."""
        middle = Side(self.w, (self.x.flatten(1) @ self.w + self.far).mean())
        return replace(self.target(), classifier=middle, task=None)

    def succeeds(self, images: Tensor) -> NDArray[np.bool_]:
        """(N,) by numpy: beyond the one plane and not beyond the other."""
        moved = (images - self.x).flatten(1).numpy()
        return (moved @ self.w.numpy() > self.far.numpy()) & (moved @ self.v.numpy() <= self.room.numpy())

    def least(self) -> Array:
        """(N,) the smallest L2 distance at which one can succeed: the quadratic programme's optimum, shown by its multipliers."""
        found = []
        for far, room in zip(self.far.tolist(), self.room.tolist(), strict=True):
            normals, cosine = np.stack([self.w.numpy(), self.v.numpy()]), float(self.w @ self.v)
            if far * cosine <= room:  # the nearest point of the classifier's plane is not detected
                found.append(far)
                continue
            crossed, held = np.linalg.solve(normals @ normals.T, np.array([far, room]))
            assert crossed > 0 > held  # the conditions of Karush, Kuhn and Tucker: of a convex programme they are enough
            found.append(float(np.linalg.norm(normals.T @ [crossed, held])))
        return np.array(found)

    def starts(self, count: int = 3) -> Tensor:
        """(count, C, H, W) 8-bit images that pass for every image: far beyond the one plane, well before the other, and some noise."""
        way = self.w - (self.w @ self.v + 0.3) * self.v
        noise = torch.rand((count, *self.x.shape[1:]), generator=torch.Generator().manual_seed(7), dtype=torch.float64) - 0.5
        here = 0.5 + 2.0 * (way / way.norm()).view(self.x[:1].shape) + 0.05 * noise
        return (here * 255).clamp(0, 255).round() / 255


def planes(n: int, shape: tuple[int, int, int] = (1, 8, 8), *, far: float = 0.6, room: float = 0.2, cosine: float = 0.6) -> Planes:
    """Random ones: distances from 0.8 to 1.2 times those named."""
    g, d = torch.Generator().manual_seed(0), int(np.prod(shape))
    w, other = torch.randn((2, d), generator=g, dtype=torch.float64)
    w = w / w.norm()
    other = other - (other @ w) * w
    v = cosine * w + (1 - cosine**2) ** 0.5 * other / other.norm()
    x = ((0.45 + 0.1 * torch.rand((n, *shape), generator=g, dtype=torch.float64)) * 255).round() / 255
    share = torch.linspace(0.8, 1.2, n, dtype=torch.float64)
    return Planes(x, w, v, far * share, room * share.flip(0))


def most(p: Planes, eps: float, *, detected: bool = True) -> Array:
    """(N,) how far along ``w`` an image gets within eps of the natural (away from 0 and 1), undetected: the linear programme's optimum, by
    its dual, min over k >= 0 of k room + eps |w - k v|_1, which is least where a term is 0.
    """
    w, v = p.w.numpy(), p.v.numpy()
    if not detected:
        return np.full(len(p.x), eps * np.abs(w).sum())
    corners = np.append((w / v)[w / v > 0], 0.0)
    reach = eps * np.abs(w - corners[:, None] * v).sum(1)
    found: Array = (corners * p.room.numpy()[:, None] + reach).min(1)
    return found
