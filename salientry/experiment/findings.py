"""What a recipe wants: the handles that the report prints and the guard that is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .handles import Handle


@dataclass(frozen=True)
class GuardParts:
    """The parts of a guard, as handles.

    Attributes:
        classifier: who is guarded.
        saliency: its saliency model.
        detector: fitted.
        calibration: the detector's scores of calibration naturals.
        thresholds: by level.
        level: which of them the guard uses.
    """

    classifier: Handle
    saliency: Handle
    detector: Handle
    calibration: Handle
    thresholds: Handle
    level: float

    @property
    def handles(self) -> list[Handle]:
        """All of them."""
        return [self.classifier, self.saliency, self.detector, self.calibration, self.thresholds]


@dataclass
class Findings:
    """The handles that a recipe wants.

    Attributes:
        classifier: the classifier under attack.
        sanity: per-image figures of maps.
        gates: gates of saliency models.
        scores: scores of image sets, each by one detector.
        gallery: pictures.
        guard: what to leave behind for use.
    """

    classifier: Handle
    sanity: list[Handle] = field(default_factory=list)
    gates: list[Handle] = field(default_factory=list)
    scores: list[Handle] = field(default_factory=list)
    gallery: Handle | None = None
    guard: GuardParts | None = None

    def __iter__(self) -> Iterator[Handle]:
        """Every handle, in the order in which they should be computed."""
        yield from [self.classifier, *self.gates, *self.sanity, *self.scores]
        if self.gallery:
            yield self.gallery
        if self.guard:
            yield from self.guard.handles
