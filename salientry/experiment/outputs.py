"""What a recipe wants: the handles that the report prints and the guard that is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..runner.step import Handle
from .scoring import Scored


@dataclass(frozen=True)
class GuardParts:
    """The parts of a guard, as handles.

    Attributes:
        classifier: who is guarded.
        saliency: its saliency model.
        detector: fitted.
        calibrated: the detector's scores of calibration naturals, and its thresholds.
        level: which of them the guard uses.
    """

    classifier: Handle
    saliency: Handle
    detector: Handle
    calibrated: Handle
    level: float

    @property
    def handles(self) -> list[Handle]:
        """All of them."""
        return [self.classifier, self.saliency, self.detector, self.calibrated]


@dataclass
class Outputs:
    """The handles that a recipe wants.

    Attributes:
        classifier: the classifier under attack.
        sanity: per-image figures of maps.
        map_checks: sanity checks of saliency models.
        accuracies: of classifiers that were tried.
        strength: whether each attack attacks.
        sets: image sets that stand in the records although no detector scored them.
        scores: scores of image sets, each by one detector.
        shifts: how far maps move.
        gradients: sizes of input gradients.
        choice: rates on unseen attacks and the chosen detector.
        gallery: pictures.
        guard: what to leave behind for use.
        mixed_parts: scores of detectors on mixed parts of naturals and adversarials.
        recipe: settings that were chosen on *validation*.
        white_box: attacks on classifier and detector together, and checks that these attacks work.
        hardened: detectors after each round of adversarial training.
        confidence: rates of an attack at several confidences.
        compact: records are kept small: compressed, and scores rounded.
        class_names: by number; empty where the data set has none but numbers.
        expected: seconds of steps on this machine by key, told before anything is computed; None: of recorded runs.
    """

    classifier: Handle
    sanity: list[Handle] = field(default_factory=list)
    map_checks: list[Handle] = field(default_factory=list)
    accuracies: list[Handle] = field(default_factory=list)
    strength: list[Handle] = field(default_factory=list)
    sets: list[Handle] = field(default_factory=list)
    scores: list[Scored] = field(default_factory=list)
    shifts: list[Handle] = field(default_factory=list)
    gradients: list[Handle] = field(default_factory=list)
    choice: list[Handle] = field(default_factory=list)
    gallery: Handle | None = None
    guard: GuardParts | None = None
    mixed_parts: list[Handle] = field(default_factory=list)
    recipe: Handle | None = None
    white_box: list[Handle] = field(default_factory=list)
    hardened: list[Handle] = field(default_factory=list)
    confidence: list[Handle] = field(default_factory=list)
    compact: bool = False
    class_names: tuple[str, ...] = ()
    expected: Callable[[list[Handle]], dict[str, float]] | None = None

    @property
    def images(self) -> list[Handle]:
        """The image sets of the records, each once: records hold their columns, so whoever computes for records wants them too."""
        scored = (images for one in self.scores for images in one.sets)
        return list({images.fingerprint: images for images in (*self.sets, *scored)}.values())

    @property
    def read(self) -> list[Handle]:
        """Everything that records are made from: the outputs, the image sets of the scores, and the detectors that gave them."""
        return [*self, *self.images, *{s.detector.fingerprint: s.detector for s in self.scores}.values()]

    def __iter__(self) -> Iterator[Handle]:
        """Every handle, in the order in which they should be computed."""
        yield from [self.classifier, *self.map_checks, *self.sanity, *self.strength, *(s.scores for s in self.scores), *self.shifts]
        yield from [*self.gradients, *self.choice, *self.mixed_parts, *self.white_box, *self.hardened, *self.confidence, *self.accuracies]
        yield from (h for h in (self.recipe, self.gallery) if h)
        if self.guard:
            yield from self.guard.handles
