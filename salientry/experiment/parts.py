"""What a guard is made of, as handles; what of it can be built from these images, and how long it will take."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..errors import AttackTooWeak, MapCheckFailed, UsageError
from ..evidence import FROM_SALIENCY
from ..keys import label, name_of
from ..layers import choose_layers, has_features
from ..metrics import of_mixture
from ..protocol import STRICT
from .choice import choose, on_select, select_names
from .evaluation import TrainingSet, trained
from .fusion import fit_fusion
from .handles import Handle
from .image_sets import EvidenceVariant, ImageSets, Reader
from .run import Run
from .sanity import SanityCheck, sanity, sanity_check
from .scoring import natural_set, score, scores_of, set_name
from .steps import fit_saliency
from .stored_evidence import FEWEST_PAIRS

FEWEST_OF_A_CLASS, SHARE_OF_CLASSES = 12, 0.9  # images that a map learns a class from; classes that must have as many


@dataclass
class Parts:
    """What there is to build a guard from.

    Attributes:
        image_sets: the images.
        wanted: settings of detectors.
        attacks: settings of attacks.
        level: the false-positive rate that the threshold guarantees.
        saliency_model: the saliency model before its sanity check, and after it; None without maps.
        left_out: part and reason, as in the warnings.
    """

    image_sets: ImageSets
    wanted: list[Any]
    attacks: list[Any]
    level: float
    saliency_model: Handle | None = None
    left_out: list[str] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """Where they are written down."""
        return self.image_sets.run

    @property
    def adversarials(self) -> list[Handle]:
        """The adversarials that are learnt and chosen from."""
        return [self.image_sets.attacked(a, role, STRICT) for a in self.attacks for role in ("detector_train", "validation")]

    def leave_out(self, part: str, why: str, way: str) -> None:
        """Go on without a part, and say so once."""
        self.left_out.append(f"{part}: {why}; {way}")
        warn_caller(f"left out {self.left_out[-1]}")

    # --- what cannot be built ---

    def check_features(self, net: nn.Module, shape: tuple[int, ...]) -> None:
        """Leave out layers that give no row an image, and what reads layers where there are none.

        Args:
            net: the classifier, a private one: its layers are noted there.
            shape: (C, H, W) of the images.

        Raises:
            UsageError: when nothing is left.
        """
        text = choose_layers(net, shape)
        if not has_features(net):
            why = text or "the classifier has no convolution, batch norm or linear layer whose means could be taken"
            self._without(
                "features", {"features", "activations"}, why, "wrap what it computes in such layers, or name another detector", UsageError
            )
        elif text and any(c.needs & {"features", "activations"} for c in self.wanted):
            warn_caller(text)

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
                sanity_check, self.run.do(sanity, self.image_sets.natural["validation"], f, made), made, bounds
            )

    def check_maps(self, action: str) -> None:
        """Leave out maps that are none.

        Raises:
            MapCheckFailed: when they are to stop it, or nothing is left.
        """
        if self.saliency_model is None:
            return
        try:
            self.run.get(self.saliency_model)
        except MapCheckFailed as e:
            if action == "stop":
                raise
            self.saliency_model = None
            way = "more images or other `saliency` settings may help, and on_failed_maps='mark' uses such maps all the same"
            self._without("the maps", FROM_SALIENCY, str(e), way, MapCheckFailed)

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
        """Leave out attacks that fool too few images to learn from.

        Raises:
            AttackTooWeak: when none is left.
        """
        counted = {
            a: [self.run.get(self.image_sets.attacked(a, r, STRICT)).column("evaluated") for r in ("detector_train", "validation")]
            for a in self.attacks
        }
        few = {a: f"{label(a)} ({int(d.sum())} of {len(d)} images)" for a, (d, _) in counted.items()}
        kept = [a for a, (d, s) in counted.items() if d.sum() >= FEWEST_PAIRS and s.sum() >= FEWEST_PAIRS // 2]
        while len(kept) > 1 and not _enough([counted[a][0] for a in kept]):
            kept.remove(min(kept, key=lambda a: int(counted[a][0].sum())))
        weak = [few[a] for a in self.attacks if a not in kept]
        if not kept:
            raise AttackTooWeak(
                f"no attack fools the classifier often enough to learn from, which takes {FEWEST_PAIRS} images: {', '.join(weak)}; give "
                "stronger `attacks`, or more images that the classifier is right on (if its gradient in the images is 0, because it rounds "
                "or saturates, attacks that need one leave all images as they are)"
            )
        self.attacks = kept
        if weak:
            self.leave_out(
                "attacks", f"they hardly fool this classifier: {', '.join(weak)}", "more images or larger budgets would bring them in"
            )

    # --- what is built ---

    def built(self) -> tuple[Handle, Handle, Handle]:
        """The detector, its calibration, and its scores of *validation* naturals and of each attack's images of that role."""
        run, image_sets, attacks, variant = self.run, self.image_sets, tuple(self.attacks), EvidenceVariant(self.saliency_model)
        protocol, called = replace(STRICT, levels=(self.level,)), "combined" if len(attacks) > 1 else ""
        fits = {c: trained(image_sets, c, protocol, TrainingSet(attacks, called), variant) for c in self.wanted}
        chosen, reader = next(iter(fits.values())), Reader.of(self.wanted)
        if len(fits) > 1:
            scored = [on_select(image_sets, t, c, attacks, protocol, variant) for c, t in fits.items()]
            twins = [image_sets.attacked(a, "validation", protocol) for a in attacks]
            fused = run.do(fit_fusion, scored, list(fits.values()), select_names([label(a) for a in attacks]), twins, protocol)
            chosen = choose(image_sets, fits, fused, attacks, protocol, variant, self.level).detector
        asked, calibration = (
            image_sets.classifier_argument(reader),
            image_sets.with_evidence(reader, image_sets.natural["calibration"], "calibration", variant),
        )
        calibrated = run.do(score, chosen, [calibration], protocol=protocol, **asked)
        sets = [image_sets.natural["validation"], *(image_sets.attacked(a, "validation", protocol) for a in attacks)]
        return (
            chosen,
            calibrated,
            run.do(score, chosen, [image_sets.with_evidence(reader, images, "validation", variant) for images in sets], **asked),
        )

    def fit_facts(self, scored: Any, threshold: float, choice: Any) -> dict[str, Any]:
        """How good the guard is on *validation* images."""
        natural, rates = scores_of(scored, natural_set("validation")), {} if choice is None else choice["rates"][choice["chosen"]]
        found = []
        for a in self.attacks:
            rows = self.run.get(self.image_sets.attacked(a, "validation", STRICT))
            counts = rows.column("evaluated")
            hits = scores_of(scored, set_name(rows.facts))[counts] > threshold
            found.append({"attack": label(a), "found": [int(hits.sum()), int(counts.sum())], "unseen": rates.get(label(a))})
        return {"natural": [int((natural > threshold).sum()), len(natural)], "attacks": found, "left_out": self.left_out}


def _enough(counts: list[NDArray[np.bool_]]) -> bool:
    """Whether there are pairs enough for all attacks together, and without each one in turn."""
    mixtures = [counts, *([c for j, c in enumerate(counts) if j != i] for i in range(len(counts)))]
    return all(of_mixture(m).sum() >= FEWEST_PAIRS for m in mixtures)


def warn_caller(text: str) -> None:
    """Warn in the name of the line that called the package."""
    here, level, frame = Path(__file__).parents[1], 1, sys._getframe()
    while (above := frame.f_back) is not None and Path(frame.f_code.co_filename).is_relative_to(here):
        frame, level = above, level + 1
    warnings.warn(text, stacklevel=level)


# --- how long it will take -------------------------------------------------------------------------------------


def expected(todo: Sequence[Handle], count: int, pixels: int, forward: float) -> dict[str, float]:
    """Rough seconds of each step, by key.

    Args:
        todo: what is missing.
        count: of all images.
        pixels: values of an image.
        forward: seconds of one image through the classifier.
    """
    net = 1.5e-6 * pixels  # one image through a small CNN, there and back
    out = {}
    for h in todo:
        assert h.step is not None
        name, settings = h.step.name, next((v for k, v in h.args.items() if k in ("settings", "attack")), None)
        role = 0.25 if "detect" in repr(h.slug) else 0.15
        if name == "attack_images":
            passes = getattr(settings, "steps", 1) * getattr(settings, "search_steps", 1)
            seconds = role * count * 3 * forward * (min(passes, 300) if passes > 1 else 100 if "JSMA" in label(settings) else 1)
        elif name == "fit_saliency":
            seconds = 0.45 * count * net * (getattr(settings, "epochs", 10) + getattr(getattr(settings, "encoder", None), "epochs", 10))
        elif name == "fit_detector":
            epochs = getattr(getattr(settings, "head", None), "epochs", 0)
            seconds = 0.2 + 0.25 * count * net * 2 * epochs
        else:
            seconds = 0.05 + 0.2 * count * (2 * forward + net * (name in ("draw", "sanity")))
        out[h.fingerprint] = seconds
    return out
