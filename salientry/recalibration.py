"""The same guard with another threshold, from new natural images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .calibration import allowed, pac_threshold, warn_if_small
from .errors import UsageError
from .guard import Guard
from .inputs import as_labels
from .learned import facts_of, with_facts
from .modules import private


def recalibrate(guard: Guard, images: Any, labels: Any = None, *, level: float | None = None) -> Guard:
    """A guard like this one, whose threshold and p-values come from other natural images, by the same rule
    (:func:`~salientry.calibration.pac_threshold`).

    For a guard that flags too many images because they are not like those that it was calibrated on (another camera, another mixture), as
    :class:`~salientry.drift.FlagRate` notices. Classifier and detector stay what they are, so that what the detector finds among such
    images is not known: where it finds less, :func:`~salientry.refit_guard` or :func:`~salientry.fit_guard` on them is the better way.
    The images must be natural (a guard that is calibrated on attacked images lets such images through), not those that raised the alarm,
    chosen for being flagged, and not those that it was fitted on.

    Args:
        guard: is left as it is.
        images: natural images like those to come, (N, C, H, W), floats in [0, 1] or uint8, a tensor or an array. As many as the level
            needs: 59 for 5 %, 299 for 1 %; 1,000 and 5,000 lose less power.
        labels: (N,) true classes; for a guard whose promise is of images that the classifier is right on, which alone are then taken.
        level: largest false-positive rate, which the threshold guarantees with 95 % confidence; None: the guard's.

    Returns:
        A guard, not saved. ``print(guard)`` and its card say what changed; they also say that what was measured when it was fitted was
        measured at the threshold from then.

    Raises:
        UsageError: for images that do not fit the guard, too few of them for the level (says how many it needs), scores that are not
            finite, or labels that are missing.

    Examples:
        >>> guard = salientry.recalibrate(guard, new_naturals)    # doctest: +SKIP
        >>> guard.save("guard")                                   # doctest: +SKIP
    """
    level = guard.level if level is None else level
    fit = dict(facts_of(guard.detector).get("fit") or {})
    correct = fit.get("promise") == "correct"
    if correct and labels is None:
        raise UsageError("this guard's promise is of images that the classifier is right on: give labels with the images")
    x = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    if isinstance(x, Tensor) and x.dim() == 4:
        allowed(len(x), level)  # too few: before they are judged
    verdict = guard(x)
    scores = verdict.score
    if correct:
        scores = scores[verdict.predicted == as_labels(torch.as_tensor(labels), len(x), guard.shape.classes).to(scores.device)]
        allowed(len(scores), level)
    threshold = pac_threshold(scores.cpu().numpy(), level)
    warn_if_small(len(scores), level)
    before = fit.get("recalibrated") or {"measured_at": guard.threshold}
    fit["recalibrated"] = {
        "measured_at": before["measured_at"],
        "threshold": [guard.threshold, threshold],
        "level": [guard.level, level],
        "calibration": [len(guard.calibration), len(scores)],
        "flagged": [int((scores > guard.threshold).sum()), int((scores > threshold).sum())],
    }
    detector = with_facts(private(guard.detector), fit=fit)
    new = Guard(guard.classifier, guard.saliency, detector, threshold, level, scores, guard.shape, guard.resize, guard.second)
    return new.to(guard.calibration.device)


__all__ = ["recalibrate"]
