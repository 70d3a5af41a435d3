"""What a guard is made of, as handles; and what of it can be built from these images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..attacks import Mixture
from ..controls import Transplant
from ..detectors import Cascade, LearnedFusion
from ..errors import AttackTooWeak, CheckFailed, UsageError
from ..evidence import FROM_SALIENCY, SECOND, unders_in
from ..harmless import HARMLESS, JPEG, TRAINED, OneOf, WebP
from ..keys import label, name_of
from ..layers import has_features
from ..protocol import GUARD, EvaluationProtocol
from ..runner.step import Handle
from ..store import JSON
from ..types import Roles
from .agreement import Second, agreement_of
from .cost import attack_seconds
from .cross_fit import cross_fit, drawn_of, unchanged
from .given import warn_caller
from .guard_choice import Labels, choose_for_guard
from .image_sets import EvidenceVariant, ImageSets, Reader
from .run import Run
from .sanity import SanityCheck, sanity, sanity_check
from .steps import answered_right, fit_detector, fit_saliency, second_opinion
from .stored_evidence import FEWEST_PAIRS
from .transferred import Elsewhere, attacked_elsewhere

FEWEST_OF_A_CLASS, SHARE_OF_CLASSES = 12, 0.9  # images that a map learns a class from; classes that must have as many
CHOSEN_ENCODING = JPEG(85)  # of attacked images that it is chosen with, and never trained on
TRIED_ENCODINGS = (JPEG(75), WebP(80))  # of attacked images that it is tried on
SHARE_OF_TIME = 0.2  # that a trial may take
LENDERS = 2  # sets of attacked images whose perturbations other images get: with fewer, more of those are flagged
TURNS = 2  # attacks, and harmless changes, that each image meets


@dataclass
class Parts:
    """What there is to build a guard from.

    Attributes:
        image_sets: the images.
        wanted: settings of detectors.
        attacks: settings of attacks.
        level: the false-positive rate that the threshold guarantees.
        channels: of the images.
        roles: how many images have which role.
        unseen: attacks that it is tried on beside those that it learns from.
        elsewhere: attacks on another network, whose images it learns from too.
        lenders: attacks that lend other images their perturbations, as harmless changes, and that nothing else is made of.
        correct: whether the threshold is for naturals that the classifier is right on.
        effort: that was asked for.
        second: the second network, which the image sets have the handle of; None: there is none.
        asked: how often it is right on these images, once that is known.
        saliency_model: the saliency model before its sanity check, and after it; None without maps.
        left_out: part and reason, as in the warnings.
    """

    image_sets: ImageSets
    wanted: list[Any]
    attacks: list[Any]
    level: float
    channels: int
    roles: Roles
    unseen: list[Any] = field(default_factory=list)
    elsewhere: list[Elsewhere] = field(default_factory=list)
    lenders: tuple[Any, ...] = ()
    correct: bool = False
    effort: str = "usual"
    protocol: EvaluationProtocol = GUARD
    second: Second | None = None
    asked: JSON = None
    saliency_model: Handle | None = None
    left_out: list[str] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """Where they are written down."""
        return self.image_sets.run

    @property
    def learnt(self) -> list[Any]:
        """The attacks as images meet them: each image one or two of them."""
        attacks = tuple(self.attacks)
        return [Mixture(attacks, turn) for turn in range(min(TURNS, len(attacks)))] if len(attacks) > 1 else [attacks[0]]

    @property
    def pictures(self) -> bool:
        """Whether images can be saved as JPEG."""
        return self.channels in (1, 3)

    @property
    def changes(self) -> dict[str, Any]:
        """The harmless changes that are learnt from, by name."""
        return {n: HARMLESS[n] for n in TRAINED if self.pictures or not isinstance(HARMLESS[n], JPEG)}

    @cached_property
    def tried_changes(self) -> dict[str, Any]:
        """All harmless changes, by name."""
        return {n: c for n, c in HARMLESS.items() if self.pictures or not isinstance(c, JPEG | WebP)}

    @property
    def adversarials(self) -> list[Handle]:
        """The adversarials that are learnt from."""
        found = [self.image_sets.attacked(a, "detector_train", self.protocol) for a in self.learnt]
        return [*found, *self.from_elsewhere("detector_train", self.protocol).values()]

    def from_elsewhere(self, role: str, protocol: EvaluationProtocol) -> dict[Elsewhere, Handle]:
        """Images of a role that were attacked on another network, by attack."""
        number = {e: len(self.attacks) + i for i, e in enumerate(self.elsewhere)}
        return {e: attacked_elsewhere(self.image_sets, e, number[e], role, protocol) for e in self.elsewhere}

    @property
    def encoded(self) -> list[Handle]:
        """Some of them saved in another way, which no detector is trained on."""
        protocol = self.protocol.encoded(CHOSEN_ENCODING)
        return [self.image_sets.attacked(self.learnt[0], "detector_train", protocol)] if self.pictures else []

    @property
    def copies(self) -> list[Handle]:
        """The learnt images after harmless changes; the last sets have another image's perturbation."""
        some = [OneOf(tuple(self.changes.values()), turn) for turn in range(TURNS)]
        found = [self.image_sets.harmless(change, "detector_train", self.protocol) for change in some]
        lent = self.adversarials[:LENDERS] + [self.image_sets.attacked(a, "detector_train", self.protocol) for a in self.lenders]
        return found + [self.image_sets.control_of(Transplant(), a, self.protocol, "detector_train") for a in lent]

    @property
    def labels(self) -> Labels:
        """What attacks and changes are called."""
        return Labels(tuple(title_of(a) for a in (*self.attacks, *self.elsewhere)), tuple(c.title for c in self.changes.values()))

    def leave_out(self, part: str, why: str, way: str) -> None:
        """Go on without a part, and say so once."""
        self.left_out.append(f"{part}: {why}; {way}")
        warn_caller(f"left out {self.left_out[-1]}")

    # --- what cannot be built ---

    def check_features(self, net: nn.Module, text: str) -> None:
        """Leave out what reads layers where there are none.

        Args:
            net: the classifier, a private one: its layers are noted there (:func:`~salientry.layers.choose_layers`).
            text: what was left out of them, in words.

        Raises:
            UsageError: when nothing is left.
        """
        if not has_features(net):
            why = text or "the classifier has no convolution, batch norm or linear layer whose means could be taken"
            self._without(
                "features", {"features", "activations"}, why, "wrap what it computes in such layers, or name another detector", UsageError
            )
        elif text and any(c.needs & {"features", "activations"} for c in self.wanted):
            warn_caller(text)

    def check_time(self, forward: float, minutes: float) -> None:
        """Leave out attacks that take too long: those that it learns from, of which the shortest stays, and those that it would only be
        tried on, without which the guard is the same.

        Args:
            forward: seconds of one image through the classifier.
            minutes: of one core, for everything.
        """
        learnt = self.roles.detector_train * len(self.learnt) / len(self.attacks) if self.attacks else 0.0
        for found, what, count in ((self.attacks, "training on", learnt), (self.unseen, "the trial on", float(self.roles.test))):
            needed = [attack_seconds(a, count, forward) / 60 for a in found]
            shortest = int(np.argmin(needed)) if needed and found is self.attacks else None
            for i, (attack, took) in enumerate(list(zip(found, needed, strict=True))):
                if took > SHARE_OF_TIME * minutes and i != shortest:
                    found.remove(attack)
                    why = f"would take about {took:.0f} minutes of one core, more than a fifth of the {minutes:g} that there are"
                    self.leave_out(f"{what} {title_of(attack)}", why, "minutes= gives it more")

    def check_classes(self, labels: NDArray[np.int64], classes: int) -> None:
        """Leave out maps where too few classes have enough images to learn them from.

        Args:
            labels: of the images that maps are fitted on.
            classes: K of the classifier.

        Raises:
            UsageError: when nothing is left.
        """
        enough = int((np.bincount(labels, minlength=classes) >= FEWEST_OF_A_CLASS).sum())
        if enough < math.ceil(SHARE_OF_CLASSES * classes):
            why = f"{enough} of {classes} classes have {FEWEST_OF_A_CLASS} or more of the {len(labels)} images that maps are fitted on"
            way = f"nine of ten classes must: give more images, about {math.ceil(FEWEST_OF_A_CLASS / 0.45)} a class"
            self._without("the maps", FROM_SALIENCY, why, way, UsageError)

    def draw(self, fit: Handle, saliency: Any, action: str) -> None:
        """Write maps down, if somebody reads them."""
        if any(c.needs & FROM_SALIENCY for c in self.wanted):
            f, bounds = self.image_sets.classifier, SanityCheck(action="mark" if action == "mark" else "stop")
            made = self.run.do(fit_saliency, fit, f, saliency)
            self.saliency_model = self.run.do(
                sanity_check, self.run.do(sanity, self.image_sets.natural["detector_train"], f, made), made, bounds
            )

    def check_maps(self, action: str) -> None:
        """Leave out maps that are none.

        Raises:
            CheckFailed: when they are to stop it, or nothing is left.
        """
        if self.saliency_model is None:
            return
        try:
            self.run.get(self.saliency_model)
        except CheckFailed as e:
            if action == "stop":
                raise
            self.saliency_model = None
            way = "more images or other `saliency` settings may help, and on_failed_maps='mark' uses such maps all the same"
            self._without("the maps", FROM_SALIENCY, str(e), way, CheckFailed)

    def _without(self, part: str, needs: frozenset[str] | set[str], why: str, way: str, error: type[Exception]) -> None:
        kept = [c for c in self.wanted if not c.needs & needs]
        if len(kept) == len(self.wanted):
            return
        if not kept:
            raise error(
                f"{', '.join(name_of(c) for c in self.wanted)} needs {part}, and {why}; {way}, or name a detector that does without"
            )
        self.wanted = kept
        self.leave_out(part, why, way)

    def check_attacks(self) -> None:
        """Warn of attacks that hardly fool this classifier.

        Raises:
            AttackTooWeak: when there is too little to learn from.
        """
        counts = {a: [0, 0] for a in self.attacks}
        for h in self.adversarials:
            rows = self.run.get(h)
            drawn, fools = drawn_of(rows), rows.column("evaluated")
            for i, a in enumerate(self.attacks):
                counts[a][0] += int(fools[drawn == i].sum())
                counts[a][1] += int((drawn == i).sum())
        few = {a: f"{title_of(a)} ({k} of {n} images)" for a, (k, n) in counts.items()}
        if sum(k for k, _ in counts.values()) < 2 * FEWEST_PAIRS:
            raise AttackTooWeak(
                f"no attack fools the classifier often enough to learn from, which takes {2 * FEWEST_PAIRS} images: "
                f"{', '.join(few.values())}; give stronger `attacks`, or more images that the classifier is right on (if its gradient in "
                "the images is 0, because it rounds or saturates, attacks that need one leave all images as they are)"
            )
        weak = [few[a] for a, (k, _) in counts.items() if k < FEWEST_PAIRS // 2]
        if weak:
            self.leave_out(
                "attacks", f"they hardly fool this classifier: {', '.join(weak)}", "more images or larger budgets would bring them in"
            )

    @property
    def opinions(self) -> list[Handle]:
        """The second network's answers on all images, where some detector asks it."""
        if self.second is None or not any(SECOND in d.needs for d in self.wanted):
            return []
        return [self.run.do(second_opinion, h, self.second.handle) for h in self.image_sets.natural.values()]

    def check_second(self) -> None:
        """Warn of a second network that is none, as far as can be seen."""
        if self.second is not None and (opinions := self.opinions):
            self.asked = agreement_of(self.run, opinions) | {"trained": self.second.facts}
            if self.asked["doubt"]:
                warn_caller(f"the second network: {self.asked['doubt']}")

    # --- what is built ---

    def built(self) -> tuple[Handle, Handle, Handle]:
        """The detector, its calibration, and its scores of the images that say how good it is."""
        run, reader = self.run, Reader.of(self.wanted)
        fits = [self.fitted(c) for c in self.wanted]
        chosen = fits[0]
        if len(fits) > 1:
            crossed = [self._crossed(c) for c in self.wanted]
            names, passes = [called(c) for c in self.wanted], [passes_of(c) for c in self.wanted]
            tried = [*self.adversarials, *self.encoded]
            chosen = run.do(choose_for_guard, fits, crossed, tried, self.copies, names, passes, self.labels, self.level)
        calibration = self.seen(reader, self.image_sets.natural["calibration"], "calibration")
        if self.correct:
            calibration = run.do(answered_right, calibration)
        protocol = replace(self.protocol, levels=(self.level,))
        calibrated = self.image_sets.scores(reader, chosen, [calibration], protocol=protocol)
        shown = [self.seen(reader, h, "test") for h in (self.image_sets.natural["test"], *self.trials)]
        return chosen, calibrated, self.image_sets.scores(reader, chosen, shown)

    @property
    def trials(self) -> list[Handle]:
        """Test images: attacked, as they are and saved in other ways; changed harmlessly."""
        return [*self.attacked_trials.values(), *self.harmless_trials.values()]

    @property
    def attacked_trials(self) -> dict[tuple[Any, Any], Handle]:
        """By attack and encoding."""
        encodings = (None, *(TRIED_ENCODINGS if self.pictures else ()))
        how = {e: self.protocol if e is None else self.protocol.encoded(e) for e in encodings}
        found = {(a, e): self.image_sets.attacked(a, "test", p) for a in (*self.attacks, *self.unseen) for e, p in how.items()}
        return found | {(a, e): h for e, p in how.items() for a, h in self.from_elsewhere("test", p).items()}

    @property
    def harmless_trials(self) -> dict[str, Handle]:
        """By name."""
        found = {n: self.image_sets.harmless(c, "test", self.protocol) for n, c in self.tried_changes.items()}
        return found | {"transplant": self.image_sets.control(Transplant(), self.attacks[0], self.protocol)}

    def seen(self, reader: Any, images: Handle, role: str) -> Handle:
        """Images with the evidence that is read."""
        return self.image_sets.with_evidence(reader, images, role, EvidenceVariant(self.saliency_model))

    def _beside(self, detector: Any) -> dict[str, Any]:
        """What a detector is fitted on beside naturals and their twins."""
        found: dict[str, Any] = self.image_sets.classifier_argument(detector)
        if "training" in detector.needs:
            found["training"] = self.seen(detector, self.image_sets.natural["train"], "train")
        return found

    def fitted(self, detector: Any) -> Handle:
        """A detector, fitted on all images for it."""
        role, beside = "detector_train", self._beside(detector)
        if "copies" in detector.needs:
            beside["copies"] = [self.run.do(unchanged, self.seen(detector, h, role)) for h in self.copies]
        natural, twins = self.image_sets.natural[role], [self.seen(detector, h, role) for h in self.adversarials]
        called = "combined" if len(self.attacks) > 1 else title_of(self.attacks[0])
        return self.run.do(
            fit_detector, self.seen(detector, natural, role), twins, detector, self.protocol, mixture="all", trained_on=called, **beside
        )

    def _crossed(self, detector: Any) -> Handle:
        """How it does on what it was not trained on."""
        role = "detector_train"
        sets = [self.image_sets.natural[role]], self.adversarials, self.copies, self.encoded
        natural, twins, copies, encoded = ([self.seen(detector, h, role) for h in some] for some in sets)
        return self.run.do(cross_fit, natural[0], twins, copies, detector, encoded, **self._beside(detector))


def title_of(attack: Any) -> str:
    """What an attack is called in tables."""
    return str(getattr(attack, "title", label(attack)))


def called(detector: Any) -> str:
    """What a candidate is called where it is chosen: a fusion by what it looks at."""
    return str(detector.description) if isinstance(detector, LearnedFusion | Cascade) else name_of(detector)


def passes_of(detector: Any) -> int:
    """Images that networks see for each image that is judged, the classifier's own pass among them; a map counts as five."""
    if isinstance(detector, Cascade):
        return passes_of(detector.first) + round(detector.share * passes_of(detector.second))
    needs = detector.needs
    return 1 + len(unders_in(needs)) + ("second_logits" in needs) + 5 * bool(needs & FROM_SALIENCY) + 5 * ("classifier" in needs)
