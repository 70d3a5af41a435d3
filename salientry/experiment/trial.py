"""A trial: one detector, trained on some attacks under one protocol, calibrated, and scored on everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..protocol import Rules
from .handles import Handle
from .steps import calibrate, fit_detector, score
from .subjects import Shown, Subjects


@dataclass(frozen=True)
class Training:
    """What a detector is trained on.

    Attributes:
        attacks: of several, each natural meets one.
        called: in tables.
        form: the manner, in tables; default the rules' own.
        shuffled: on shuffled labels.
    """

    attacks: tuple[Any, ...]
    called: str = ""
    form: str = ""
    shuffled: bool = False


@dataclass(frozen=True)
class Judged:
    """A fitted detector and its scores, as handles; ``sets`` are the images of the scores, as the detector was shown them."""

    detector: Handle
    calibrated: Handle
    scored: Handle
    sets: list[Handle]

    @property
    def findings(self) -> list[Handle]:
        """What a report reads."""
        return [self.calibrated, self.scored]


def trained(subjects: Subjects, detector: Any, rules: Rules, training: Training, how: Shown, *, seed: int = 0) -> Handle:
    """A detector, fitted on the *detect* images of some attacks."""
    twins = [subjects.shown(detector, subjects.attacked(a, "detect", rules), "detect", how) for a in training.attacks]
    natural = subjects.shown(detector, subjects.natural["detect"], "detect", how)
    settings = {"trained_on": training.called, "form": training.form, "shuffled": training.shuffled}
    return subjects.run.do(fit_detector, natural, twins, detector, rules, seed=seed, **settings)


def judge(
    subjects: Subjects,
    detector: Any,
    rules: Rules,
    training: Training,
    tests: Sequence[Handle],
    how: Shown,
    *,
    seed: int = 0,
    briefly: bool = False,
) -> Judged:
    """Fit, calibrate and score a detector.

    Args:
        subjects: the images.
        detector: its settings.
        rules: of the protocol.
        training: on what.
        tests: test image sets beside the naturals.
        how: the images are shown.
        seed: repetition.
        briefly: without the scores that tell how it trained.
    """
    run, natural = subjects.run, subjects.natural

    def see(images: Handle, role: str) -> Handle:
        return subjects.shown(detector, images, role, how)

    twins = {r: [see(subjects.attacked(a, r, rules), r) for a in training.attacks] for r in ("detect", "select")}
    fitted = trained(subjects, detector, rules, training, how, seed=seed)
    sets = [see(natural["calibrate"], "calibrate")]
    if not briefly:
        sets += [see(natural[r], r) for r in ("fit", "detect")] + twins["detect"] + [see(natural["select"], "select")] + twins["select"]
    calibrated = run.do(calibrate, sets, fitted, rules)
    shown = [see(images, "test") for images in (natural["test"], *tests)]
    return Judged(fitted, calibrated, run.do(score, shown, fitted, calibrated), shown)
