"""A saved guard and a video to what came of it, for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..pixels import write_pixels
from ..video import Watched, timeline, watch
from .checking import loaded


def execute(
    folder: Path,
    video: Path,
    classifier: str | None,
    weights: Path | None,
    device: str,
    beside: dict[str, Any],
    out: Path | None,
    drawn: Path | None,
    **how: Any,
) -> Watched:
    """Watch, and write what was asked for.

    Args:
        folder: of the guard.
        video: that is watched.
        classifier: ``module:callable`` or a folder; None: the copy that the guard keeps.
        weights: for that classifier.
        device: where to compute.
        beside: what else :func:`~salientry.cli.checking.guard_of` takes.
        out: video to write; None: none.
        drawn: picture of the timeline to write; None: none.
        **how: of :func:`~salientry.video.watch`.

    Raises:
        Error: see :mod:`salientry.errors`.
    """
    for path, suffix in ((out, ".mp4"), (drawn, ".png")):
        if path is not None and (path.suffix.lower() != suffix or path.resolve() == video.resolve()):
            raise UsageError(f"{path} cannot be written: another file than the video, with the suffix {suffix}, expected")
    found = watch(loaded(folder, classifier, weights, device, **beside), video, overlay=out, **how)
    if drawn is not None:
        write_pixels(drawn, np.asarray(timeline(found)).transpose(2, 0, 1))
    return found


__all__ = ["execute"]
