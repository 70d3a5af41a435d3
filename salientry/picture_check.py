"""A picture in a file or in memory, and what a guard says of it: for the command line and for the service."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .guard import Guard
from .picture_decoding import Wanted, pixels_of, pixels_within
from .pixels import MOST_PIXELS, Resize, write_pixels
from .rates import percent
from .types import Shape
from .verdict import Verdict, largest, said


@dataclass(frozen=True)
class PictureVerdict:
    """A picture and what the guard says of it.

    Attributes:
        path: of the picture, or its name.
        flagged: whether the guard flags it.
        score: higher = more adversarial.
        threshold: a score above it is flagged.
        p_value: share of calibration images that are at least as suspicious.
        predicted: the classifier's answer.
        contributions: what each of the guard's components adds to the score, by name.
        reasons: which answers differ from its own, in words; of a flagged one with none that does, what raised its score most.
        answers: to the image after each change that the guard asks about.
    """

    path: Path | str
    flagged: bool
    score: float
    threshold: float
    p_value: float
    predicted: int
    contributions: dict[str, float]
    reasons: str = ""
    answers: dict[str, int] = field(default_factory=dict)

    def why(self) -> str:
        """Of a flagged picture which answers differ from its own; where none does, the contributions that raised the score most."""
        if self.flagged and self.reasons:
            return self.reasons
        return largest(self.contributions) if self.flagged else ""

    def line(self) -> str:
        """For people."""
        word, why = "FLAGGED" if self.flagged else "clean  ", self.why()
        what = f"class {self.predicted}, score {self.score:.2f} (flagged above {self.threshold:.2f})"
        because = f"; {why}" if why else ""
        return f"{word} {self.path}: {what}; {percent(self.p_value, 2)} of calibration images are as suspicious or more{because}"

    def json(self) -> dict[str, Any]:
        """For programs."""
        score = self.score if math.isfinite(self.score) else None  # JSON has no nan
        found = {k: getattr(self, k) for k in ("flagged", "score", "threshold", "p_value", "predicted")}
        found["contributions"] = {k: v if math.isfinite(v) else None for k, v in self.contributions.items()}
        return found | {"score": score, "image": str(self.path), "reasons": self.reasons, "answers": self.answers}


def picture_verdicts(guard: Guard, names: Sequence[Path | str], verdict: Verdict) -> list[PictureVerdict]:
    """What a guard said of N pictures, one by one.

    Args:
        guard: that said it.
        names: (N,) of the pictures.
        verdict: of all of them.
    """
    flagged, score, p_value, predicted = (
        v.reshape(-1).tolist() for v in (verdict.flagged, verdict.score, verdict.p_value, verdict.predicted)
    )
    answers = {name: v.reshape(-1).tolist() for name, v in verdict.answers.items()}
    added, reasons, components = verdict.contributions.tolist(), verdict.reasons, guard.components
    return [
        PictureVerdict(
            name,
            bool(flagged[i]),
            score[i],
            guard.threshold,
            p_value[i],
            int(predicted[i]),
            said(components, added[i]),
            reasons[i],
            {k: int(v[i]) for k, v in answers.items()},
        )
        for i, name in enumerate(names)
    ]


def read_picture(path: Path, shape: Shape, resize: Resize | None = None) -> torch.Tensor:
    """A picture as (C, H, W) floats in [0, 1]; a grey one for a guard of colour images is repeated.

    Args:
        path: the file.
        shape: of the guard's images.
        resize: how a picture of another size is brought to it.

    Raises:
        DataMissing: when there is no such file.
        DataDamaged: when it is no readable picture.
        UsageError: when its size is not the guard's and nobody said how to bring it there, it is colour and the guard's images are
            grey, or 8 bits of grey or RGB do not say what it says.
    """
    return torch.from_numpy(read_pixels_for(path, shape, resize).copy()).float() / 255


def read_pixels_for(path: Path, shape: Shape, resize: Resize | None = None) -> NDArray[np.uint8]:
    """A picture as (C, H, W) 8-bit pixels; else as :func:`read_picture`."""
    return pixels_of(path, wanted_of(shape, resize))


def picture_in(
    data: bytes,
    name: str,
    shape: Shape,
    resize: Resize | None = None,
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP"),
    most: int = MOST_PIXELS,
) -> NDArray[np.uint8]:
    """A picture in memory as (C, H, W) 8-bit pixels: what :func:`read_picture` reads of a file, times 255.

    Args:
        data: what would stand in the file.
        name: what errors call it.
        shape: of the guard's images.
        resize: how a picture of another size is brought to it.
        formats: Pillow's names of the kinds of file that are read.
        most: pixels; a picture that says that it has more is refused before it is decoded.

    Raises:
        DataDamaged: when it is no readable picture.
        UsageError: as of :func:`read_picture`, and for more pixels.
    """
    return pixels_within(data, name, wanted_of(shape, resize), formats, most)


def wanted_of(shape: Shape, resize: Resize | None) -> Wanted:
    """The pixels of a guard's images."""
    return Wanted(shape.channels, shape.height, shape.width, resize)


__all__ = ["PictureVerdict", "picture_in", "picture_verdicts", "read_picture", "said", "wanted_of", "write_pixels"]
