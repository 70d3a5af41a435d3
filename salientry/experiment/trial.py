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
        role: whose images.
    """

    attacks: tuple[Any, ...]
    called: str = ""
    form: str = ""
    shuffled: bool = False
    role: str = "detect"


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


def trained(
    subjects: Subjects, detector: Any, rules: Rules, training: Training, how: Shown, *, seed: int = 0, chosen: Handle | None = None
) -> Handle:
    """A detector, fitted on images of some attacks; with ``chosen`` its settings are that result, and ``detector`` stands for its kind."""
    role = training.role
    twins = [subjects.shown(detector, subjects.attacked(a, role, rules), role, how) for a in training.attacks]
    natural = subjects.shown(detector, subjects.natural[role], role, how)
    settings = {"trained_on": training.called, "form": training.form, "shuffled": training.shuffled}
    return subjects.run.do(fit_detector, natural, twins, chosen or detector, rules, seed=seed, **settings)


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
    chosen: Handle | None = None,
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
        chosen: see :func:`trained`.
    """
    run, natural = subjects.run, subjects.natural

    def see(images: Handle, role: str) -> Handle:
        return subjects.shown(detector, images, role, how)

    fitted = trained(subjects, detector, rules, training, how, seed=seed, chosen=chosen)
    sets = [see(natural["calibrate"], "calibrate")]
    if not briefly:
        few = {r: subjects.few(see(natural[r], r)) for r in ("fit", "detect", "select")}
        twins = {r: [subjects.few(see(subjects.attacked(a, r, rules), r)) for a in training.attacks] for r in ("detect", "select")}
        sets += [few["fit"], few["detect"], *twins["detect"], few["select"], *twins["select"]]
    calibrated = run.do(calibrate, sets, fitted, rules)
    shown = [see(images, "test") for images in (natural["test"], *tests)]
    return Judged(fitted, calibrated, run.do(score, shown, fitted, calibrated), shown)
