"""A video with what the guard saw in each frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import StoreError, UsageError
from ..files import replacing
from ..store import JSON
from ..verdict import Verdict
from .frames import Frame, needs_av, reason

BAR, BORDER = 62, 6  # pixels: the words below a frame, the frame around a flagged one
RED, DARK, LIGHT = (214, 40, 40), (24, 24, 27), (240, 240, 240)


class Overlay:
    """Writes frames with their saliency map in red, the answer, the p-value and the reason; a red border around flagged ones.

    A context: the file is there when it ends well.

    Args:
        path: of the video, an MP4 file; one that is there is replaced.
        size: pixels of the shorter side, before the words are set below.

    Raises:
        UsageError: for a size out of range, or when PyAV is not installed.
        StoreError: when it cannot be written.
    """

    def __init__(self, path: Path, size: int) -> None:
        if not isinstance(size, int) or not 64 <= size <= 4320:
            raise UsageError(f"size must be a whole number of pixels from 64 to 4320; found {size!r}")
        self.path, self.size, self.av = path, size, needs_av()
        self.file: Any = None
        self.stream: Any = None
        self.last = -1
        self._held = contextlib.ExitStack()

    def add(self, frame: Frame, verdict: Verdict, said: JSON, since: float | None) -> None:
        """One frame.

        Args:
            frame: as it came.
            verdict: on it alone.
            said: the same as JSON.
            since: since when flags are more frequent, where there is an alarm.
        """
        picture = drawn(frame, verdict, said, since, self.size)
        with self._said():
            if self.file is None:
                self._open(picture.size)
            image = self.av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            image.time_base, image.pts = Fraction(1, 1000), max(self.last + 1, round(frame.seconds * 1000))
            self.last = image.pts
            self.file.mux(self.stream.encode(image))

    def _open(self, size: tuple[int, int]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.av.open(self._held.enter_context(replacing(self.path)), "w", format="mp4")
        codec = "libx264" if "libx264" in self.av.codecs_available else "mpeg4"
        self.stream = self.file.add_stream(codec, rate=25)
        self.stream.width, self.stream.height, self.stream.pix_fmt = *size, "yuv420p"
        self.stream.time_base = self.stream.codec_context.time_base = Fraction(1, 1000)

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """What goes wrong becomes one line."""
        try:
            yield
        except (self.av.FFmpegError, OSError, ValueError) as e:
            raise StoreError(f"{self.path} cannot be written: {reason(e)}") from None

    def __enter__(self) -> Overlay:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        """The end of the video; after an exception there is none."""
        with self._held:
            if self.file is not None:
                with self._said():
                    if kind is None:
                        self.file.mux(self.stream.encode())
                    self.file.close()
            if e is not None:
                raise e


def drawn(frame: Frame, verdict: Verdict, said: JSON, since: float | None, size: int) -> Image.Image:
    """A frame with its map and words; both sides are even, as codecs want it.

    Args:
        frame: as it came.
        verdict: on it alone.
        said: the same as JSON.
        since: since when flags are more frequent, where there is an alarm.
        size: pixels of the shorter side, without the words.
    """
    h, w = frame.pixels.shape[:2]
    scale = size / min(h, w)
    wide, high = (2 * max(1, round(v * scale / 2)) for v in (w, h))
    picture = Image.fromarray(frame.pixels).resize((wide, high), Image.Resampling.BICUBIC)
    if verdict.map is not None:
        m = Image.fromarray((verdict.map[0, 0].cpu().numpy() * 140).astype(np.uint8)).resize((wide, high), Image.Resampling.BILINEAR)
        picture.paste(Image.new("RGB", (wide, high), RED), mask=m)
    whole = Image.new("RGB", (wide, high + BAR), DARK)
    whole.paste(picture)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
    if said["flagged"]:
        draw.rectangle((0, 0, wide - 1, high - 1), outline=RED, width=BORDER)
    word = "FLAGGED" if said["flagged"] else "clean"
    draw.text((8, high + 5), f"{frame.seconds:.1f} s  class {said['predicted']}  p {said['p_value']:.2g}  {word}", LIGHT, font)
    for k, line in enumerate(_lines(said["reasons"] if said["flagged"] else "", wide - 16, draw, font)):
        draw.text((8, high + 23 + 18 * k), line, LIGHT, font)
    if said["alarm"]:
        text = "ALARM" if since is None else f"ALARM since {since:.1f} s"
        left = wide - draw.textlength(text, font) - 16
        draw.rectangle((left - 8, 8, wide - 8, 30), fill=RED)
        draw.text((left, 11), text, (255, 255, 255), font)
    return whole


def _lines(text: str, room: float, draw: ImageDraw.ImageDraw, font: Any) -> list[str]:
    """At most two lines; what there is no room for is dots."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(f"{longer} ..." if len(lines) == 2 else longer, font) <= room:
            lines[-1] = longer
        elif len(lines) == 1:
            lines.append(word)
        else:
            return [lines[0], f"{lines[1]} ..."]
    return lines


__all__ = ["Overlay", "drawn"]
