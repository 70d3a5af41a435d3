"""A saved guard and new images to a guard with another threshold, for the command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..classifiers import save_classifier
from ..datasets._folder import SUFFIXES, pictures
from ..errors import DataMissing, UsageError
from ..files import JSON, read_json
from ..guard import Guard
from ..guard_files import description
from ..inputs import as_uint8
from ..learned import facts_of
from ..rates import percent, rate, share
from ..recalibration import recalibrate
from .checking import loaded, read_picture
from .fitting import refuse_other_files


def execute(
    folder: Path, images: Path, out: Path, classifier: str | None, weights: Path | None, level: float | None, device: str, **beside: Any
) -> list[str]:
    """Calibrate, write, and say what changed.

    Args:
        folder: of the guard.
        images: a folder of pictures or an .npz.
        out: folder of the new guard.
        classifier: ``module:callable`` or a folder; None: the copy that the guard keeps.
        weights: for that classifier.
        level: false-positive rate; None: the guard's.
        device: where to compute.
        **beside: what else :func:`~salientry.cli.checking.guard_of` takes.

    Returns:
        Lines to print.

    Raises:
        Error: see :mod:`salientry.errors`; nothing is written then.
    """
    if out.resolve() == folder.resolve():
        raise UsageError(f"--out {out} is the guard's own folder; another one expected, so that both can be compared")
    refuse_other_files(out, images)
    guard = loaded(folder, classifier, weights, device, **beside)
    x, labels = _read(images, guard, facts_of(guard.detector).get("fit"))
    new = recalibrate(guard, x, labels, level=level)
    _leave(new, folder, out)
    return _said(guard, new, x, facts_of(new.detector)["fit"]["recalibrated"], out)


def _read(path: Path, guard: Guard, fit: JSON) -> tuple[Tensor, Tensor | None]:
    """Images (N, C, H, W) uint8, and their labels where the promise asks for them."""
    if not (bool(fit) and fit.get("promise") == "correct"):
        return naturals(path, guard), None
    found = pictures(path)
    return torch.from_numpy(found.read(slice(None))), None if found.labels is None else torch.from_numpy(found.labels)


def naturals(path: Path, guard: Guard, most: int | None = None) -> Tensor:
    """Images (N, C, H, W), where nobody asks for their labels: of an .npz, or of a folder and its sub-folders, read as ``check`` does.

    Args:
        path: of the file or the folder.
        guard: that they are for.
        most: so many at most, evenly spaced.

    Raises:
        DataMissing: when there is nothing.
        DataError: for files that cannot be used.
        UsageError: for images that are not the guard's.
    """
    if not path.exists():
        raise DataMissing(f"no images at {path}: a folder of pictures or an .npz file expected")
    if not path.is_dir():
        return torch.from_numpy(pictures(path, most).read(slice(None)))
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    if not files:
        raise DataMissing(f"there are no pictures in {path}")
    count = min(len(files), most or len(files))
    chosen = [files[i * len(files) // count] for i in range(count)]
    return torch.stack([as_uint8(read_picture(p, guard.shape, guard.resize)) for p in chosen])


def _leave(new: Guard, old: Path, out: Path) -> None:
    """Write the guard, its classifier where the old guard kept it, and the report."""
    kept = description(old)["classifier"]["at"] is not None and "recipe" in vars(new.classifier)
    new.save(out, classifier_at="classifier" if kept else None)
    if kept:
        save_classifier(new.classifier, out / "classifier")
    card = read_json(old / "card.json") if (old / "card.json").is_file() else {}
    names, command = card.get("classes"), str(card.get("command", ""))
    command = command.replace(f"check {shlex.quote(str(old))} ", f"check {shlex.quote(str(out))} ")
    new.report(out, names if isinstance(names, list) else (), command)


def _said(old: Guard, new: Guard, x: Tensor, changed: JSON, out: Path) -> list[str]:
    """What changed."""
    n, (before, after) = changed["calibration"][1], changed["flagged"]
    promise = new.card()["promise"]["words"]
    taken = f"{n:,} images" if n == len(x) else f"{n:,} of {len(x):,} images, those that the classifier is right on"
    return [
        f"{taken}; {percent(old.level)} of such images may be flagged by the guard's own promise",
        f"flagged before: {rate(share(before, n))} above {old.threshold:.4g}",
        f"flagged now: {rate(share(after, n), ends=False)} above {new.threshold:.4g}",
        f"promise: {promise}",
        f"written: {out / 'guard.json'}, and the report: {out / 'card.md'}, {out / 'card.json'}",
    ]


__all__ = ["execute", "naturals"]
