"""A trial: one detector, trained on some attacks under one protocol, calibrated, and scored on everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..protocol import EvaluationProtocol
from ..runner.step import Handle
from .image_sets import EvidenceVariant, ImageSets
from .scoring import Scored
from .steps import fit_detector
from .stored_evidence import Mixture


@dataclass(frozen=True)
class TrainingSet:
    """What a detector is trained on.

    Attributes:
        attacks: of them.
        called: in tables.
        scheme: the manner of training, in tables; default the protocol's own.
        shuffled: on shuffled labels.
        role: whose images.
        mixture: of several attacks: each natural meets one, or ``all`` adversarials of all attacks are seen and naturals as often.
    """

    attacks: tuple[Any, ...]
    called: str = ""
    scheme: str = ""
    shuffled: bool = False
    role: str = "detector_train"
    mixture: Mixture = "each"


@dataclass(frozen=True)
class TrialResult:
    """A fitted detector and its scores, as handles.

    Attributes:
        detector: fitted.
        calibrated: scores of images that are not for testing, and thresholds.
        scored: scores of test images.
    """

    detector: Handle
    calibrated: Scored
    scored: Scored

    @property
    def outputs(self) -> list[Scored]:
        """What a report reads."""
        return [self.calibrated, self.scored]


def trained(
    image_sets: ImageSets,
    detector: Any,
    protocol: EvaluationProtocol,
    training: TrainingSet,
    variant: EvidenceVariant,
    *,
    seed: int = 0,
    chosen: Handle | None = None,
) -> Handle:
    """A detector, fitted on images of some attacks; with ``chosen`` its settings are that result, and ``detector`` stands for its kind."""
    role = training.role
    twins = [image_sets.with_evidence(detector, image_sets.attacked(a, role, protocol), role, variant) for a in training.attacks]
    natural = image_sets.with_evidence(detector, image_sets.natural[role], role, variant)
    beside = image_sets.fit_arguments(detector, training.attacks, role, protocol, variant)
    settings = {"trained_on": training.called, "scheme": training.scheme, "shuffled": training.shuffled, "mixture": training.mixture}
    return image_sets.run.do(fit_detector, natural, twins, chosen or detector, protocol, seed=seed, **beside, **settings)


def evaluate(
    image_sets: ImageSets,
    detector: Any,
    protocol: EvaluationProtocol,
    training: TrainingSet,
    tests: Sequence[Handle],
    variant: EvidenceVariant,
    *,
    seed: int = 0,
    briefly: bool = False,
    chosen: Handle | None = None,
) -> TrialResult:
    """Fit, calibrate and score a detector.

    Args:
        image_sets: the images.
        detector: its settings.
        protocol: its storage and predicate.
        training: on what.
        tests: test image sets beside the naturals.
        variant: of the evidence.
        seed: repetition.
        briefly: without the scores that show how it trained.
        chosen: see :func:`trained`.
    """
    natural = image_sets.natural

    def see(images: Handle, role: str) -> Handle:
        return image_sets.with_evidence(detector, images, role, variant)

    fitted = trained(image_sets, detector, protocol, training, variant, seed=seed, chosen=chosen)
    sets = [see(natural["calibration"], "calibration")]
    if not briefly:
        few = {r: image_sets.overfit_subset(see(natural[r], r)) for r in ("train", "detector_train", "validation")}
        twins = {
            r: [image_sets.overfit_subset(see(image_sets.attacked(a, r, protocol), r)) for a in training.attacks]
            for r in ("detector_train", "validation")
        }
        sets += [few["train"], few["detector_train"], *twins["detector_train"], few["validation"], *twins["validation"]]
    calibrated = Scored(fitted, sets, image_sets.scores(detector, fitted, sets, protocol=protocol))
    shown = [see(images, "test") for images in (natural["test"], *tests)]
    found = image_sets.scores(detector, fitted, shown, calibrated=calibrated.scores)
    return TrialResult(fitted, calibrated, Scored(fitted, shown, found))
