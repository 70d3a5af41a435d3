"""Pictures to verdicts, for the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classifiers import load_classifier, named
from ..datasets._folder import brought
from ..datasets._picture import read_pixels, write_pixels
from ..datasets.folder import Resize, resized
from ..errors import DataMissing, Error, UsageError
from ..experiment.run import usable
from ..guard import Guard
from ..guard_files import description
from ..types import Shape

LARGEST = 2  # named in a line


@dataclass(frozen=True)
class PictureVerdict:
    """A picture and what the guard says of it."""

    path: Path
    flagged: bool
    score: float
    threshold: float
    p_value: float
    predicted: int
    contributions: dict[str, float]

    def words(self) -> str:
        """The contributions that raised the score most."""
        loud = sorted(((v, k) for k, v in self.contributions.items() if v > 0), reverse=True)[:LARGEST]
        return f"; largest contributions: {', '.join(k for _, k in loud)}" if self.flagged and loud else ""

    def line(self) -> str:
        """For people."""
        word = "FLAGGED" if self.flagged else "clean  "
        what = f"class {self.predicted}, score {self.score:.2f} (flagged above {self.threshold:.2f})"
        return f"{word} {self.path}: {what}; {100 * self.p_value:.2g} % of calibration images are as suspicious or more{self.words()}"

    def json(self) -> dict[str, Any]:
        """For programs."""
        score = self.score if math.isfinite(self.score) else None  # JSON has no nan
        found = {k: getattr(self, k) for k in ("flagged", "score", "threshold", "p_value", "predicted")}
        found["contributions"] = {k: v if math.isfinite(v) else None for k, v in self.contributions.items()}
        return found | {"score": score, "image": str(self.path)}


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
    size = (shape.height, shape.width)
    pixels = read_pixels(path, None if resize is None else lambda p: p if p.size == size[::-1] else resized(p, size, resize))
    try:
        pixels = brought(pixels, shape.channels)
    except UsageError:
        raise UsageError(f"{path} is a colour picture; the guard's images are grey") from None
    if pixels.shape[1:] != size:
        raise UsageError(
            f"{path} is {pixels.shape[2]} x {pixels.shape[1]} pixels; the guard's images are {shape.width} x {shape.height}"
            " (one of fit_guard(..., resize='squash') or resize='crop' brings pictures to its size)"
        )
    return torch.from_numpy(pixels.copy()).float() / 255


def judge(
    folder: Path,
    paths: list[Path],
    *,
    classifier: str | None = None,
    weights: Path | None = None,
    detector: str | None = None,
    overlay: Path | None = None,
    device: str = "cpu",
    refused: Callable[[Error], Any] | None = None,
) -> list[PictureVerdict]:
    """Load a guard and judge pictures.

    Args:
        folder: of the guard.
        paths: of the pictures.
        classifier: ``module:callable`` or a folder; default the copy that the guard names.
        weights: for that classifier.
        detector: ``module:name`` of a detector that is not ours: what was given to ``fit_guard``.
        overlay: folder for pictures with the map laid over them.
        device: where to compute.
        refused: hears of each picture that cannot be judged, and the others are; None: the first one ends it.

    Raises:
        UsageError: when no classifier is named and the guard names none, for pictures that do not fit, and when an overlay is
            wanted of a guard without a saliency model.
        DeviceError: when the device is not here.
        WrongClassifier: when the classifier is another.
        DataError: for files that cannot be used.
    """
    at = description(folder)["classifier"]["at"]
    device = usable(device)
    if classifier is None:
        if at is None:
            raise UsageError(f"the guard in {folder} keeps no classifier; name it: --classifier module:callable --weights FILE")
        classifier = str(Path(folder) / at)
        if not (Path(classifier) / "classifier.json").is_file():
            raise DataMissing(f"the guard in {folder} wants its classifier in {classifier}, where there is none; name it: --classifier")
    given = None if detector is None else named(detector, "detector")
    guard = Guard.load(folder, load_classifier(classifier, weights).to(device), given)
    if overlay is not None and guard.saliency is None:
        raise UsageError(f"the guard in {folder} has no saliency model: there is no map to lay over a picture")
    read: list[tuple[Path, torch.Tensor]] = []
    for path in paths:
        try:
            read.append((path, read_picture(path, guard.shape, guard.resize)))
        except Error as e:
            if refused is None:
                raise
            refused(e)
    if not read:
        return []
    paths, pictures = [p for p, _ in read], torch.stack([x for _, x in read])
    verdict = guard(pictures)
    if overlay is not None and verdict.map is not None:
        names = [p.stem for p in paths]
        for i, (x, m) in enumerate(zip(pictures, verdict.map.cpu(), strict=True)):
            again = f"-{names[:i].count(names[i]) + 1}" if names[i] in names[:i] else ""
            _overlay(x, m[0], overlay / f"{names[i]}{again}-map.png")
    columns = (verdict.flagged, verdict.score, verdict.p_value, verdict.predicted, verdict.contributions)
    found = zip(paths, *(c.tolist() for c in columns), strict=True)
    return [
        PictureVerdict(p, bool(f), float(s), guard.threshold, float(v), int(k), _said(guard.components, w)) for p, f, s, v, k, w in found
    ]


def _said(components: tuple[str, ...], added: list[float]) -> dict[str, float]:
    """How much was added in each voice's name; members that go by the same thing speak as one."""
    out = dict.fromkeys(components, 0.0)
    for name, value in zip(components, added, strict=True):
        out[name] += value
    return out


def _overlay(image: torch.Tensor, map_: torch.Tensor, path: Path) -> None:
    """The picture in grey with the map in red over it, enlarged to at least 224 pixels."""
    grey = image.mean(0).numpy()
    m = map_.numpy()
    mixed = np.stack([grey * (1 - m) + m, grey * (1 - 0.7 * m), grey * (1 - 0.7 * m)])
    factor = max(1, -(-224 // min(grey.shape)))
    write_pixels(path, (255 * mixed).round().clip(0, 255).astype(np.uint8).repeat(factor, 1).repeat(factor, 2))
