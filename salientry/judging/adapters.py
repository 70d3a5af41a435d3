"""Detectors of other libraries as callables: images to scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError


class FromART:
    """A detector of the Adversarial Robustness Toolbox (``art.defences.detector.evasion``), fitted by its own ``fit``.

    What ``detect`` reports is the score: of two columns the second minus the first (``BinaryInputDetector``, ``BinaryActivationDetector``);
    ``scores`` as they are (``SubsetScanningDetector``); a similarity with its sign turned round (``BeyondDetectorPyTorch``, which flags low
    ones). It leaves torch, so it has no gradient.

    Args:
        detector: an object with ``detect(x)``, x float32 (N, C, H, W) in [0, 1] as numpy array, to (report, flags).

    Raises:
        UsageError: for an object without ``detect``; when called, for a report of another form.

    Examples:
        >>> salientry.judge(FromART(detector), classifier=model, images=x, labels=y)    # doctest: +SKIP
    """

    def __init__(self, detector: Any) -> None:
        if not callable(getattr(detector, "detect", None)):
            raise UsageError(f"a detector of ART has a method detect(x); found {type(detector).__name__}")
        self.detector, self.name = detector, type(detector).__name__

    def __call__(self, images: Tensor) -> Tensor:
        """(N,) scores."""
        report, _ = self.detector.detect(np.ascontiguousarray(images.detach().cpu().numpy()))
        if isinstance(report, dict):
            found = np.asarray(report["predictions"] if "predictions" in report else report.get("scores"))
        else:
            found = -np.asarray(report)
        if found.shape == (len(images), 2):
            found = found[:, 1] - found[:, 0]
        if found.shape != (len(images),):
            what = f"keys {', '.join(map(str, report))}" if isinstance(report, dict) else f"shape {found.shape}"
            raise UsageError(f"{self.name}.detect reports predictions (N, 2), scores (N,) or similarities (N,); found {what}")
        return torch.from_numpy(found.astype(np.float32)).to(images.device)


def is_of_art(thing: Any) -> bool:
    """Whether it is a detector of ART, or of a class derived from one."""
    return any(c.__module__.split(".")[:3] == ["art", "defences", "detector"] for c in type(thing).__mro__)


__all__ = ["FromART", "is_of_art"]
