"""The images of a run, each made once, with the evidence that a detector needs: naturals, adversarials, controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..controls import MatchedNoise, Null, RoundTrip
from ..evidence import FROM_SALIENCY, GRADIENTS, SECOND, layers_in, unders_in
from ..protocol import PUBLISHED, EvaluationProtocol
from ..runner.step import Handle
from .input_ablations import replaced
from .run import Run
from .scoring import by_set, score, score_images
from .steps import (
    attack_images,
    change_harmlessly,
    control_images,
    input_gradient,
    layer_activations,
    logits_under,
    quantize_and_mark,
    saliency_map,
    second_opinion,
    shift_by_one,
)


@dataclass(frozen=True)
class EvidenceVariant:
    """How evidence is made for a detector: the ordinary way, or an ablation of what it reads.

    Attributes:
        saliency: who draws the maps.
        part: a stored part of the evidence that is replaced after all.
        by: what replaces it (:func:`~salientry.experiment.input_ablations.replaced`).
        selector: whose class the map is drawn for: ``predicted`` (the image's own), ``natural`` (its natural's prediction),
            ``label`` (the truth).
    """

    saliency: Handle | None
    part: str = ""
    by: str = ""
    selector: str = "predicted"


@dataclass
class ImageSets:
    """All image sets of a run, as handles.

    Attributes:
        run: where they are written down.
        classifier: who is attacked.
        natural: classified naturals by role; roles are cut to what is attacked.
        overfit_images: how many of a role show how a detector trained; None: all.
        second: another classifier, whose opinion some detectors read; None: there is none.
    """

    run: Run
    classifier: Handle
    natural: dict[str, Handle]
    overfit_images: int | None = None
    second: Handle | None = None
    _known: dict[Any, Handle] = field(default_factory=dict)

    def overfit_subset(self, images: Handle) -> Handle:
        """Those of these images that show how a detector trained."""
        return images if self.overfit_images is None else images.first(self.overfit_images)

    def attacked(self, attack: Any, role: str, protocol: EvaluationProtocol) -> Handle:
        """The stored adversarials of an attack, which is run once, whatever the protocol."""
        key = (attack, role, protocol.name)
        if key not in self._known:
            natural = self.natural[role]
            unstored = self.run.do(attack_images, natural, self.classifier, attack)
            self._known[key] = self.run.do(quantize_and_mark, unstored, natural, self.classifier, protocol)
        return self._known[key]

    def control(self, control: Any, attack: Any, protocol: EvaluationProtocol, role: str = "test") -> Handle:
        """A stored control of the images of a role, made from the stored adversarials of an attack (which some do not look at)."""
        if getattr(control, "in_float", False):
            protocol = PUBLISHED
        key = (control, None if isinstance(control, Null | RoundTrip) else attack, protocol.name, role)
        if key not in self._known:
            self._known[key] = self.control_of(control, self.attacked(attack, role, protocol), protocol, role)
        return self._known[key]

    def control_of(self, control: Any, adversarials: Handle, protocol: EvaluationProtocol, role: str) -> Handle:
        """A stored control made from these stored adversarials of a role's images."""
        natural, borrows = self.natural[role], getattr(control, "borrows", False)
        donors = [self.run.do(shift_by_one, natural), self.run.do(shift_by_one, adversarials)] if borrows else None
        unstored = self.run.do(control_images, natural, adversarials, control, donors)
        return self.run.do(quantize_and_mark, unstored, natural, self.classifier, protocol)

    def harmless(self, change: Any, role: str, protocol: EvaluationProtocol) -> Handle:
        """The stored images of a role after a harmless change."""
        key = (change, role, protocol.name)
        if key not in self._known:
            natural = self.natural[role]
            unstored = self.run.do(change_harmlessly, natural, change)
            self._known[key] = self.run.do(quantize_and_mark, unstored, natural, self.classifier, protocol)
        return self._known[key]

    def with_evidence(self, detector: Any, images: Handle, role: str, variant: EvidenceVariant) -> Handle:
        """The images with what this detector's view reads: a map only if it does, so that a map that fails its sanity check takes along
        nothing that does not depend on it.
        """
        key = (detector.needs, images.fingerprint, role, variant)
        if key not in self._known:
            if detector.needs & FROM_SALIENCY:
                if variant.selector == "predicted":
                    images = self.run.do(saliency_map, images, variant.saliency)
                else:
                    by = "label" if variant.selector == "label" else "predicted"
                    images = self.run.do(saliency_map, images, variant.saliency, self.natural[role], by)
            for kind in sorted(detector.needs & set(GRADIENTS)):
                images = self.run.do(input_gradient, images, self.classifier, kind)
            if (layers := layers_in(detector.needs)) is None or layers:
                images = self.run.do(layer_activations, images, self.classifier, layers)
            if names := unders_in(detector.needs):
                images = self.run.do(logits_under, images, self.classifier, names)
            if SECOND in detector.needs:
                images = self.run.do(second_opinion, images, self.second)
            self._known[key] = self.run.do(replaced, images, variant.part, variant.by) if variant.part else images
        return self._known[key]

    def fit_arguments(
        self, detector: Any, attacks: Sequence[Any], role: str, protocol: EvaluationProtocol, variant: EvidenceVariant
    ) -> dict[str, Any]:
        """What this detector is fitted on beside naturals and their twins, as arguments of ``fit_detector``."""
        found: dict[str, Any] = self.classifier_argument(detector)
        if "training" in detector.needs:
            found["training"] = self.with_evidence(detector, self.natural["train"], "train", variant)
        if "copies" in detector.needs:
            copies = [self.control(MatchedNoise(), a, protocol, role) for a in attacks]
            found["copies"] = [self.with_evidence(detector, images, role, variant) for images in copies]
        return found

    def classifier_argument(self, detector: Any) -> dict[str, Any]:
        """The classifier, for a detector that asks it about other images."""
        return {"classifier": self.classifier} if "classifier" in detector.needs else {}

    def scores(self, detector: Any, fitted: Handle, sets: Sequence[Handle], **beside: Any) -> Handle:
        """The scores of image sets with the evidence that a detector reads: by one step, or by one for each set where they are long.

        Args:
            detector: its settings, or whoever reads what several need.
            fitted: the detector.
            sets: the images.
            **beside: ``protocol`` or ``calibrated``, see :func:`~salientry.experiment.scoring.score`.
        """
        run, asked = self.run, self.classifier_argument(detector)
        if len(sets) < 2 or not by_set(detector):
            return run.do(score, fitted, list(sets), **beside, **asked)
        after = {"calibrated": beside["calibrated"]} if "calibrated" in beside else {}
        return run.do(score, fitted, scored=[run.do(score_images, fitted, s, **after, **asked) for s in sets], **beside, **asked)


@dataclass(frozen=True)
class Reader:
    """Whoever reads what several detectors need: the one that is chosen among them, or their fusion.

    Attributes:
        needs: of all of them.
    """

    needs: frozenset[str]

    @classmethod
    def of(cls, detectors: Iterable[Any]) -> Reader:
        """Of these settings."""
        return cls(frozenset().union(*(d.needs for d in detectors)))
