"""What an audit can find in an evaluation, and what it says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..rates import percent

FAULT, REMARK = "fault", "remark"


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        severity: ``fault``, after which the numbers cannot be trusted, or ``remark``.
        what: what it is, to follow "whether".
        advice: what to do.
    """

    severity: str
    what: str
    advice: str


KINDS = {
    # images and their roles
    "trained-on-test-images": Kind(FAULT, "the detector was trained on test images", "test on images whose naturals did not train it"),
    "chosen-on-test-images": Kind(FAULT, "something was chosen by test images", "choose on images that are in no other split"),
    "threshold-saw-test-images": Kind(FAULT, "the threshold was set on test images", "calibrate on naturals that are not tested"),
    "threshold-on-training-images": Kind(
        FAULT, "the threshold was set on images that the detector learnt from", "calibrate on naturals that the detector has not seen"
    ),
    "too-few-naturals": Kind(FAULT, "too few naturals set the threshold", "calibrate on more naturals, or claim a higher rate"),
    "image-counted-twice": Kind(FAULT, "an image is counted twice", "keep one row of each image, attack, encoding, detector and seed"),
    "two-labels": Kind(FAULT, "an image has two labels", "say by the column image which natural a row was made from"),
    "two-answers": Kind(FAULT, "the classifier gives one natural two answers", "score all detectors on the same images and classifier"),
    "detectors-on-different-images": Kind(
        FAULT, "detectors are compared on different images", "compare detectors on the images that all have scored"
    ),
    "failed-attacks-counted": Kind(
        FAULT,
        "failed attacks are counted as attacked images",
        "count attacked images that fool the classifier, of naturals that it has right",
    ),
    "failed-attacks-in-the-table": Kind(
        REMARK, "failed attacks stand in the table", "say in evaluation.json how many attacked images the numbers count"
    ),
    "out-of-budget-counted": Kind(FAULT, "attacked images beyond their budget are counted", "count attacked images within the budget"),
    "out-of-budget-in-the-table": Kind(
        REMARK,
        "attacked images beyond their budget stand in the table",
        "say in evaluation.json how many attacked images the numbers count",
    ),
    "counts-differ": Kind(FAULT, "the claimed number of images is not that of the rows", "give the scores of all images that are counted"),
    "unequal-seeds": Kind(FAULT, "one detector was trained more often than another", "train all as often, and report all seeds"),
    "seeds-are-copies": Kind(REMARK, "several seeds have the same scores", "report one seed of a detector that no seed moves"),
    # scores
    "constant-scores": Kind(FAULT, "all scores are the same", "look for a detector that failed and left a default value"),
    "copied-scores": Kind(FAULT, "scores were copied", "score the images again"),
    "repeated-scores": Kind(FAULT, "scores repeat where a detector's would not", "look for default values and for rows that were doubled"),
    "scores-turned-round": Kind(REMARK, "scores are lower for attacked images", "turn the sign of the scores round, on validation images"),
    "few-images": Kind(REMARK, "few images were tested", "test more images, or print the interval beside the rate"),
    "only-seen-attacks": Kind(REMARK, "the detector was trained on every tested attack", "test on attacks that it was not trained on"),
    # claims
    "epoch-picked-on-test": Kind(FAULT, "the best epoch was picked on test", "pick the epoch on validation images"),
    "validation-is-test": Kind(FAULT, "validation and test are the same images", "take other images for validation"),
    "threshold-per-attack": Kind(FAULT, "each attack has its own threshold", "use one threshold: nobody knows the attack beforehand"),
    "threshold-from-test": Kind(FAULT, "the threshold is a number of the test naturals", "set it on calibration naturals"),
    "threshold-does-not-hold": Kind(
        FAULT, "the threshold flags more naturals than is claimed", "calibrate on naturals like those of the test"
    ),
    "best-seed-reported": Kind(FAULT, "the best seed is reported", "report the mean over seeds, of every detector"),
    "numbers-do-not-follow": Kind(
        FAULT, "a claimed rate does not follow from the scores", "compute the rates from the scores that you give"
    ),
    # images
    "float-against-8-bit": Kind(
        FAULT,
        "one set has 8-bit values and the other has not",
        "round attacked images to 8 bits, as the naturals are, and score them again",
    ),
    "different-range": Kind(FAULT, "naturals and attacked images differ in the range of values", "give both in [0, 1], or both as uint8"),
    "different-size": Kind(FAULT, "naturals and attacked images differ in size", "store both in the same size"),
    "different-preprocessing": Kind(
        FAULT, "naturals and attacked images were preprocessed differently", "take both through the same files and the same preprocessing"
    ),
    "attack-changed-nothing": Kind(FAULT, "attacked images are their naturals", "leave out what the attack did not change"),
    "budget-exceeded": Kind(FAULT, "attacked images exceed the claimed budget", "project on the budget, and round towards the natural"),
    "same-picture-twice": Kind(FAULT, "one picture stands in two splits under two names", "leave out doubled pictures before splitting"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        name: one of :data:`KINDS`; it stays the same between versions.
        sentence: what is wrong, in one sentence.
        numbers: the counts behind it.
        example: one row, image or number that shows it.
    """

    name: str
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    example: str = ""

    @property
    def severity(self) -> str:
        """``fault`` or ``remark``."""
        return KINDS[self.name].severity

    @property
    def advice(self) -> str:
        """What to do."""
        return KINDS[self.name].advice

    def json(self) -> dict[str, Any]:
        """As JSON."""
        given = {"name": self.name, "severity": self.severity, "sentence": self.sentence}
        return given | {"numbers": dict(self.numbers), "example": self.example, "advice": self.advice}


@dataclass(frozen=True)
class Unseen:
    """What could not be looked for.

    Attributes:
        names: the findings that cannot be excluded.
        why: what is missing.
    """

    names: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return f"that {'; that '.join(KINDS[n].what for n in self.names)} ({self.why})"


Seen = Finding | Unseen


def counted(number: int, of: int) -> str:
    """``3 of 200 (1.5 %)``."""
    return f"{number} of {of} ({percent(number / max(of, 1))})"


def of_detectors(found: Mapping[str, int]) -> str:
    """The detectors that a count is of, the largest first: ``SMD 12, margin 3``; three of them at most."""
    ranked = sorted(found.items(), key=lambda kv: -kv[1])
    return ", ".join(f"{n} {k}" for n, k in ranked[:3]) + (f" and {len(ranked) - 3} more" if len(ranked) > 3 else "")
