"""Pictures to verdicts, for the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..classifiers import load_classifier, named
from ..datasets._picture import write_pixels
from ..errors import DataMissing, Error, UsageError
from ..experiment.run import usable
from ..guard import Guard
from ..guard_files import description
from ..picture_check import PictureVerdict, picture_verdicts, read_picture


def kept(folder: Path) -> str:
    """Where the classifier lies that a guard keeps."""
    at = description(folder)["classifier"]["at"]
    if at is None:
        raise UsageError(f"the guard in {folder} keeps no classifier; name it: --classifier module:callable --weights FILE")
    classifier = Path(folder) / at
    if not (classifier / "classifier.json").is_file():
        raise DataMissing(f"the guard in {folder} wants its classifier in {classifier}, where there is none; name it: --classifier")
    return str(classifier)


def guard_of(
    folder: Path,
    classifier: nn.Module,
    device: str,
    *,
    second: str | None = None,
    second_weights: Path | None = None,
    detector: str | None = None,
) -> Guard:
    """Load a guard with what else it needs.

    Args:
        folder: of the guard.
        classifier: that it was fitted for.
        device: where to compute.
        second: the second network, if the guard asks one: ``module:callable`` or a folder.
        second_weights: for that network.
        detector: ``module:name`` of a detector that is not ours.

    Raises:
        UsageError: when the guard asks a second network and none is named, or weights are given without a network.
        WrongClassifier: when the classifier is another.
        DataError: for files that cannot be used.
    """
    if second is None and second_weights is not None:
        raise UsageError("--second-weights needs --second module:callable, the network that they are of")
    if second is None and description(folder).get("second") is not None:
        raise UsageError(f"the guard in {folder} asks a second network; name it: --second module:callable --second-weights FILE")
    given = None if detector is None else named(detector, "detector")
    other = None if second is None else load_classifier(second, second_weights).to(device)
    return Guard.load(folder, classifier.to(device), given, other)


def loaded(folder: Path, classifier: str | None, weights: Path | None, device: str, **beside: Any) -> Guard:
    """A guard with its classifier, named or the copy that it keeps.

    Args:
        folder: of the guard.
        classifier: ``module:callable`` or a folder; None: the copy that the guard names.
        weights: for that classifier.
        device: where to compute.
        **beside: what else :func:`guard_of` takes.

    Raises:
        UsageError: when no classifier is named and the guard names none; and as :func:`guard_of` does.
        DeviceError: when the device is not here.
        DataError: for files that cannot be used.
    """
    device = usable(device)
    if classifier is None:
        classifier = kept(folder)
    return guard_of(folder, load_classifier(classifier, weights), device, **beside)


def judge(
    folder: Path,
    paths: list[Path],
    *,
    classifier: str | None = None,
    weights: Path | None = None,
    second: str | None = None,
    second_weights: Path | None = None,
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
        second: the second network, if the guard asks one, named like the classifier.
        second_weights: for that network.
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
    nets: dict[str, Any] = {"second": second, "second_weights": second_weights, "detector": detector}
    guard = loaded(folder, classifier, weights, device, **nets)
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
    return picture_verdicts(guard, paths, verdict)


def _overlay(image: torch.Tensor, map_: torch.Tensor, path: Path) -> None:
    """The picture in grey with the map in red over it, enlarged to at least 224 pixels."""
    grey = image.mean(0).numpy()
    m = map_.numpy()
    mixed = np.stack([grey * (1 - m) + m, grey * (1 - 0.7 * m), grey * (1 - 0.7 * m)])
    factor = max(1, -(-224 // min(grey.shape)))
    write_pixels(path, (255 * mixed).round().clip(0, 255).astype(np.uint8).repeat(factor, 1).repeat(factor, 2))


__all__ = ["PictureVerdict", "guard_of", "judge", "kept", "read_picture"]
