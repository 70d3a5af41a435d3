"""Whether one source sends many near-duplicates of one picture: how attacks that ask for decisions or scores look from here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drift import as_flags
from .errors import UsageError

GRID = 8  # blocks of a fingerprint along each side


@dataclass
class _Source:
    """What is remembered of one source: of its last pictures fingerprints, flags and how many of the others are near."""

    prints: NDArray[np.float32]
    flags: NDArray[np.bool_]
    near: NDArray[np.int64]
    bytes: list[bytes] = field(default_factory=list)
    alarm: bool = field(default=False)


class Campaigns:
    """An alarm for attacks that try one picture in many variants.

    An attack without gradients asks about hundreds of variants of one picture, most of them a few grey levels apart, on their way over the
    edge of a class, where guards flag. So a source is reported while, among its last ``pictures``, a flagged picture has at least ``near``
    others at a distance of ``distance`` or less, or any picture ``many`` of them: where a guard flags few of an attack's queries, nothing
    but their number is to be seen. The idea of remembering each source's queries is that of Chen, Carlini and Wagner (2019, Stateful
    detection of black-box adversarial attacks); Li et al. (2022, Blacklight) compare pixels, too, in place of a learned code. Departures:
    block means are compared directly, exactly, and within a source; flags count.

    Distance: root mean square of the difference of two pictures' means over a grid of 8 x 8 blocks and all channels, in levels of 0 to 255.
    A change of single pixels hardly moves it; saving as JPEG moves it by 2 (quality 90) to 4 (50); other scenes are mostly 30 and more
    away. Of one scene, shots that shift by a pixel are mostly further apart than 5. Pictures of the same bytes count once: to ask again
    what was answered teaches nobody anything, and programs do it all the time.

    What it does not find: an attack from many sources, one that turns or shifts its queries for disguise (Feng et al. 2023), one that
    sends ``pictures`` others between its queries, one that ends before it has asked ``near`` or ``many`` times. What it reports though
    nobody attacks: a camera that looks at one scene, whose pictures are all near-duplicates (:meth:`exempt` it and watch it as a video),
    and someone who sends one picture in very many edited versions.

    Memory: ``sources`` times ``pictures`` fingerprints of 64 float32 a channel, and 16 bytes, at most; the source that was silent
    longest is forgotten first. Time a picture: one pass over its source's fingerprints. One thread at a time.

    Args:
        near: near-duplicates of a flagged picture, from which its source is reported.
        many: near-duplicates of any picture, from which its source is reported.
        distance: up to which pictures count as near-duplicates, in levels of 0 to 255.
        pictures: that are remembered of a source.
        sources: that are remembered.

    Attributes:
        alarms: how often a source came to be reported.
        reported: sources that are being reported now, in the order in which they last sent something.

    Raises:
        UsageError: for arguments out of range.
    """

    def __init__(self, near: int = 40, many: int = 50, distance: float = 5.0, pictures: int = 250, sources: int = 1_000) -> None:
        counts = (near, many, pictures, sources)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in counts) or not near <= many < pictures:
            raise UsageError(
                "near, many, pictures and sources must be whole numbers from 1, near at most many and many less than pictures; found "
                f"near={near!r}, many={many!r}, pictures={pictures!r}, sources={sources!r}"
            )
        if not 0 < distance < 255:
            raise UsageError(f"distance must lie between 0 and 255 levels; found {distance!r}")
        self.near, self.many, self.distance, self.pictures, self.sources = near, many, float(distance), pictures, sources
        self.alarms = 0
        self._known: OrderedDict[str, _Source] = OrderedDict()
        self._exempt: set[str] = set()

    @property
    def reported(self) -> list[str]:
        """Sources that are being reported now."""
        return [name for name, s in self._known.items() if s.alarm]

    def exempt(self, source: str) -> None:
        """Never report a source, and forget its pictures: a camera or a video, whose pictures are near-duplicates by nature."""
        self._exempt.add(source)
        self._known.pop(source, None)

    def update(self, source: str, images: NDArray[Any], flagged: Sequence[bool]) -> list[bool]:
        """Take note of pictures that a source sent, in their order; in how many calls does not matter.

        Args:
            source: who sent them: an account, a key, an address.
            images: uint8, or float in [0, 1], (N, C, H, W), all of a source of one C; as the guard saw them: rounded to bytes, the queries
                of an attacker who sends floats would be the same picture.
            flagged: (N,) bool, whether the guard flagged them.

        Returns:
            Of each picture whether the source is to be reported, with it and those before it.

        Raises:
            UsageError: for anything else.
        """
        images, flags = np.asarray(images), as_flags(flagged)
        kind = images.dtype == np.uint8 or (images.dtype.kind == "f" and bool(((images >= 0) & (images <= 1)).all()))
        if not kind or images.ndim != 4 or len(images) != len(flags) or 0 in images.shape[1:]:
            raise UsageError(
                f"images must be uint8, or float in [0, 1], of shape (N, C, H, W), with one flag each; found {images.dtype} of shape "
                f"{images.shape} and {len(flags)} flags"
            )
        if source in self._exempt:
            return [False] * len(images)
        prints = fingerprints(images)
        known = self._known.get(source) or _Source(prints[:0], flags[:0], np.zeros(0, np.int64))
        if known.prints.shape[1] != prints.shape[1]:
            raise UsageError(f"pictures of {source!r} had {known.prints.shape[1] // GRID**2} channels; found {images.shape[1]}")
        self._known[source] = known
        self._known.move_to_end(source)
        if len(self._known) > self.sources:
            self._known.popitem(last=False)
        return [self._add(known, p, bool(f), _digest(x)) for p, f, x in zip(prints, flags, images, strict=True)]

    def _add(self, known: _Source, new: NDArray[np.float32], flag: bool, digest: bytes) -> bool:
        """One picture more, and one less where there are too many; whether the source is to be reported."""
        if digest in known.bytes:
            known.flags[known.bytes.index(digest)] |= flag
        else:
            if len(known.flags) == self.pictures:
                oldest = self._close(known.prints[1:], known.prints[0])
                known.prints, known.flags, known.near = known.prints[1:], known.flags[1:], known.near[1:] - oldest
                known.bytes.pop(0)
            close = self._close(known.prints, new)
            known.prints = np.concatenate([known.prints, new[None]])
            known.flags = np.append(known.flags, flag)
            known.near = np.append(known.near + close, close.sum())
            known.bytes.append(digest)
        alarm = bool((known.near >= np.where(known.flags, self.near, self.many)).any())
        self.alarms += alarm and not known.alarm
        known.alarm = alarm
        return alarm

    def _close(self, prints: NDArray[np.float32], one: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(M,) which fingerprints are near one."""
        return np.asarray(np.square(prints - one).mean(1) <= self.distance**2)


def _digest(image: NDArray[Any]) -> bytes:
    return blake2b(image.tobytes(), digest_size=16).digest()


def fingerprints(images: NDArray[Any]) -> NDArray[np.float32]:
    """(N, 64 C): means over a grid of 8 x 8 blocks of images (N, C, H, W), uint8 or float in [0, 1], in levels of 0 to 255.

    Blocks are as equal as the size allows; of a side shorter than 8, pixels are repeated.
    """
    n, c, h, w = images.shape
    x = images.astype(np.float64) * (1 if images.dtype == np.uint8 else 255)
    for axis, size in ((2, h), (3, w)):
        first = np.arange(GRID) * size // GRID
        last = np.maximum(first + 1, (np.arange(GRID) + 1) * size // GRID)
        total = np.concatenate([np.zeros_like(x.take([0], axis)), x.cumsum(axis)], axis)
        length = (last - first).reshape([-1 if a == axis else 1 for a in range(4)])
        x = (total.take(last, axis) - total.take(first, axis)) / length
    return x.reshape(n, c * GRID * GRID).astype(np.float32)


__all__ = ["Campaigns", "fingerprints"]
