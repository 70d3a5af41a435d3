"""Frames to verdicts, and one alarm over time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..drift import FlagRate
from ..errors import UsageError
from ..guard import Guard
from ..pixels import Resize, resized
from ..rates import measured
from ..store import JSON, one_of
from ..verdict import Verdict
from .frames import Frame, frames
from .overlay import Overlay

TOGETHER = 16  # frames that are judged at once


@dataclass(frozen=True)
class Seen:
    """What the guard says of a frame.

    Attributes:
        frame: its number.
        seconds: when it is shown.
        predicted: the classifier's answer.
        score: of the guard.
        p_value: share of calibration images that are as suspicious or more.
        flagged: whether the score is above the threshold.
        reasons: which answers to the changed frame differ from its own, in words.
        alarm: whether there is an alarm, when the frame is judged.
    """

    frame: int
    seconds: float
    predicted: int
    score: float
    p_value: float
    flagged: bool
    reasons: str
    alarm: bool

    def json(self) -> JSON:
        """For programs."""
        return vars(self) | {"seconds": round(self.seconds, 4), "score": self.score if math.isfinite(self.score) else None}


@dataclass(frozen=True)
class Stretch:
    """Some frames whose share of flags the test looks at once.

    Attributes:
        start: when its first frame is shown, in seconds.
        end: when its last one is.
        share: of its frames that were flagged.
        log10_wealth: of the test's bets after it; the alarm is raised at log10(1 / alpha).
    """

    start: float
    end: float
    share: float
    log10_wealth: float


@dataclass(frozen=True)
class Watched:
    """What came of a video.

    Attributes:
        seen: its frames, those that were judged.
        blocks: of frames, each looked at once.
        alarm: whether there was one.
        alarm_at: in which second; None: there was none.
        since: from which second on more frames seem to be flagged, an estimate; None: there was no alarm.
        level: false-positive rate of the guard.
        alpha: bound of the probability of a false alarm.
        rate: judged frames a second, as the video shows them; None of a single frame.
        speed: frames a second that were read, resized and judged.
    """

    seen: tuple[Seen, ...]
    blocks: tuple[Stretch, ...]
    alarm: bool
    alarm_at: float | None
    since: float | None
    level: float
    alpha: float
    rate: float | None
    speed: float

    @property
    def dropped(self) -> float:
        """Share of the frames that could not be judged in time, if the video were a camera's."""
        return 0.0 if self.rate is None else max(0.0, 1 - self.speed / self.rate)

    def json(self) -> JSON:
        """In short, for programs."""
        flagged = sum(s.flagged for s in self.seen)
        body: JSON = {"frames": len(self.seen), "flagged": flagged, "blocks": len(self.blocks), "level": self.level, "alpha": self.alpha}
        body |= {k: getattr(self, k) for k in ("alarm", "alarm_at", "since")}
        return body | {"frames_a_second": round(self.speed, 2), "dropped_if_live": round(self.dropped, 4)}

    def line(self) -> str:
        """In short, for people."""
        n, k = len(self.seen), sum(s.flagged for s in self.seen)
        rang = f"ALARM at {self.alarm_at:.1f} s, flags more frequent since about {self.since:.1f} s" if self.alarm else "no alarm"
        live = f"live, {measured(self.dropped)} of the frames would be dropped" if self.dropped else "fast enough to be live"
        return f"{rang}; {k} of {n} frames flagged; {self.speed:.1f} frames a second judged: {live}"


class _Bets:
    """One bet a block: the share of its frames that were flagged."""

    def __init__(self, level: float, alpha: float, block: float) -> None:
        self.block, self.rates = block, FlagRate(level, alpha)
        self.blocks: list[Stretch] = []
        self._open: list[tuple[float, bool]] = []

    def add(self, seconds: float, flagged: bool) -> None:
        """A frame; where it begins a block, the one before it is bet on first."""
        if self._open and self._number(seconds) != self._number(self._open[0][0]):
            self.close()
        self._open.append((seconds, flagged))

    def close(self) -> None:
        """Bet on the frames so far."""
        if self._open:
            share = float(np.mean([f for _, f in self._open]))
            self.rates.update_shares([share])
            self.blocks.append(Stretch(self._open[0][0], self._open[-1][0], share, self.rates.summary()["log10_wealth"]))
            self._open = []

    def _number(self, seconds: float) -> int:
        return math.floor(seconds / self.block + 1e-6)

    def said(self) -> dict[str, Any]:
        """Whether, when and since when."""
        found = self.rates.summary()
        if not found["alarm"]:
            return {"alarm": False, "alarm_at": None, "since": None}
        return {"alarm": True, "alarm_at": self.blocks[found["alarm_at"] - 1].end, "since": self.blocks[found["since"]].start}


def watch(
    guard: Guard,
    source: Path | str,
    *,
    every: int = 1,
    resize: Resize | None = None,
    block: float = 1.0,
    alpha: float = 0.01,
    rate: float = 25.0,
    overlay: Path | str | None = None,
    size: int = 360,
    hear: Callable[[Seen], Any] | None = None,
) -> Watched:
    """Judge the frames of a video, and raise one alarm if too many are flagged.

    One frame in twenty is flagged though nothing is wrong, at a level of 5 %, and frames of one scene are flagged together. So the alarm
    over time does not look at single frames: the share of flagged frames of each block of ``block`` seconds is one step of
    :class:`~salientry.drift.FlagRate`, the test of the guard's level.

    Guarantee: a video of any length raises an alarm with probability ``alpha`` at most, if, given all blocks before it, the expected share
    of flagged frames of each block is at most the level. How frames depend on one another within a block does not matter; the blocks must
    not be predictable. That holds where the scene changes about once a block. It does not hold where a scene lasts for many blocks: the
    guard's level says that one natural scene in twenty may be flagged throughout, and at a level of 5 % it takes 4 such blocks for an
    alarm at the beginning of a video, 5 after 20 others or after 10,000. For a camera that looks at one scene take ``block`` as long as the
    scene stays the same (minutes), or know that the alarm is on the scene.

    Args:
        guard: of the classifier.
        source: a video file or a folder of pictures of one size.
        every: judge every N-th frame alone.
        resize: how frames are brought to the guard's size, ``"squash"`` or ``"crop"``; None: as the guard's pictures, else ``"crop"``.
        block: length of a block in seconds.
        alpha: bound of the probability of a false alarm.
        rate: frames a second of a folder.
        overlay: video file that gets each judged frame with its map, where the guard has one, its answer and what was found.
        size: pixels of the shorter side of that video.
        hear: hears of each judged frame.

    Raises:
        UsageError: for arguments out of range, a guard of images that are neither grey nor colour, or when PyAV is not installed.
        DataError: for a file that cannot be used.
        StoreError: when the overlay cannot be written.
    """
    how = resize or guard.resize or "crop"
    one_of("way to resize", how, ("squash", "crop"))
    if not 0 < block < math.inf:
        raise UsageError(f"block must be a number of seconds above 0; found {block!r}")
    if guard.shape.channels not in (1, 3):
        raise UsageError(f"frames are grey or colour; the guard's images have {guard.shape.channels} channels")
    bets, seen, spent, began = _Bets(guard.level, alpha, block), list[Seen](), 0.0, time.perf_counter()
    with contextlib.nullcontext() if overlay is None else Overlay(Path(overlay), size) as drawn:
        for some in _together(frames(source, every, rate)):
            verdict = guard(torch.stack([brought(f, guard, how) for f in some]))
            spent += time.perf_counter() - began
            for i, frame in enumerate(some):
                bets.add(frame.seconds, bool(verdict.flagged[i]))
                seen.append(_seen(frame, verdict[i : i + 1], bets.rates.alarm))
                if drawn is not None:
                    drawn.add(frame, verdict[i : i + 1], seen[-1].json(), bets.said()["since"])
                if hear is not None:
                    hear(seen[-1])
            began = time.perf_counter()
    bets.close()
    shown = (len(seen) - 1) / (seen[-1].seconds - seen[0].seconds) if len(seen) > 1 and seen[-1].seconds > seen[0].seconds else None
    speed = len(seen) / max(spent, 1e-9)
    return Watched(tuple(seen), tuple(bets.blocks), **bets.said(), level=guard.level, alpha=alpha, rate=shown, speed=speed)


def brought(frame: Frame, guard: Guard, how: Resize) -> Tensor:
    """A frame as an image of the guard's, float (C, H, W) in [0, 1], of whole 255ths."""
    picture = Image.fromarray(frame.pixels)
    if guard.shape.channels == 1:
        picture = picture.convert("L")
    if picture.size != (guard.shape.width, guard.shape.height):
        picture = resized(picture, (guard.shape.height, guard.shape.width), how)
    pixels = np.array(picture)
    return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy()).float() / 255


def _seen(frame: Frame, verdict: Verdict, alarm: bool) -> Seen:
    predicted, score, p, flagged = (v.item() for v in (verdict.predicted, verdict.score, verdict.p_value, verdict.flagged))
    return Seen(frame.index, frame.seconds, int(predicted), score, p, bool(flagged), verdict.reasons[0], alarm)


def _together(source: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Some frames at a time."""
    some: list[Frame] = []
    for frame in source:
        some.append(frame)
        if len(some) == TOGETHER:
            yield some
            some = []
    if some:
        yield some


__all__ = ["Seen", "Stretch", "Watched", "brought", "watch"]
