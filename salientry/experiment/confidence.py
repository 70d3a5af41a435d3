"""C&W told to go on until another class leads by a confidence, against detectors trained on C&W that stops at the boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..keys import name_of
from ..metrics import worst_case
from ..protocol import EvaluationProtocol
from ..rates import share_of
from ..rows import Rows
from ..runner.step import Found, Handle, step
from ..store import JSON
from .evaluation import TrainingSet, TrialResult, evaluate
from .image_sets import EvidenceVariant, ImageSets
from .scoring import natural_set, scores_of, set_name

CONFIDENCES = (0.0, 1.0, 3.0, 10.0, 20.0)
SCHEME = "confidence"


@dataclass(frozen=True)
class ConfidenceSweep:
    """Of each detector what it was trained and tested on, and what follows from it, as handles.

    Attributes:
        trials: one a detector, trained on the attack at the first confidence, tested on it at each.
        rates: of :func:`confidence_rates`.
    """

    trials: list[TrialResult]
    rates: Handle


def confidence_sweep(
    image_sets: ImageSets,
    attack: Any,
    detectors: Sequence[Any],
    protocol: EvaluationProtocol,
    variant: EvidenceVariant,
    confidences: Sequence[float] = CONFIDENCES,
    seed: int = 0,
) -> ConfidenceSweep:
    """Each detector trained once, at the first confidence, its threshold frozen, and tested at every one.

    Images are stored as the protocol has it but for one thing: the search for an 8-bit image does not go below the attack's own
    perturbation (``shrink=False``), which would give back some of the confidence that was asked for.

    Args:
        image_sets: the images.
        attack: with a field ``confidence``, in units of logits.
        detectors: settings.
        protocol: with a level: the first is the threshold's.
        variant: of the evidence.
        confidences: the first one is trained on.
        seed: repetition of the detectors.
    """
    protocol = replace(protocol, name=f"{protocol.name}, unshrunk", shrink=False)
    attacks = [replace(attack, confidence=c) for c in confidences]
    tests = [image_sets.attacked(a, "test", protocol) for a in attacks]
    training = TrainingSet((attacks[0],), scheme=SCHEME)
    trials = [evaluate(image_sets, d, protocol, training, tests, variant, seed=seed, briefly=True) for d in detectors]
    calibrated, scored = [t.calibrated.scores for t in trials], [t.scored.scores for t in trials]
    told = [list(confidences), [name_of(d) for d in detectors], str(protocol.levels[0])]
    return ConfidenceSweep(trials, image_sets.run.do(confidence_rates, tests, calibrated, scored, *told))


@step("confidence_rates")
def confidence_rates(
    attacked: list[Rows], calibrated: list[Found], scored: list[Found], confidences: list[float], detectors: list[str], level: str
) -> dict[str, JSON]:
    """What came of an attack at each confidence, and the confidence that each detector is judged at: the one that is worst for it.

    The attacker knows his target and takes, against each detector, the confidence that gets the most images past classifier and
    detector. So a baseline and the detector that is compared with it are each attacked as is worst for it. The choice is made on
    the images that it is measured on, in the attacker's favour.

    Args:
        attacked: the stored test images of each confidence, aligned.
        calibrated: each detector's thresholds.
        scored: each detector's scores of these images, and of their naturals.
        confidences: of the attacks.
        detectors: names.
        level: whose threshold.

    Returns:
        ``confidences``, for each: ``confidence``, ``attack``; ``success`` (of the images that the classifier had right, the share that
        fools), ``l2`` and ``median_l2`` of the perturbations that fool (L2 over all values in [0, 1]; None where none does);
        ``detection`` by detector (of those that fool, the share that is flagged) and ``undetected`` (of those that were right, the
        share that fools and is not flagged). ``worst``, by detector: the confidence with the most undetected (of equals the
        smallest), its ``detection``, ``undetected`` and ``l2``. ``any``, by detector: undetected at one confidence at least. ``natural``:
        share of the test naturals that is flagged. A share is ``value``, ``lo``, ``hi`` (Clopper and Pearson, 95 %) and ``n``.
    """
    assert all((a.ids == attacked[0].ids).all() for a in attacked), "the same images at every confidence"
    right, fooled = attacked[0].column("right").astype(bool), [a.column("evaluated").astype(bool) for a in attacked]
    thresholds = {d: float(c.value[level]) for d, c in zip(detectors, calibrated, strict=True)}
    scores = dict(zip(detectors, scored, strict=True))
    flags = {d: [scores_of(scores[d], set_name(a.facts)) > thresholds[d] for a in attacked] for d in detectors}
    each: list[dict[str, JSON]] = []
    for k, (c, rows, f) in enumerate(zip(confidences, attacked, fooled, strict=True)):
        l2 = rows.column("rms")[f].astype(float) * rows.values**0.5
        each.append(
            {"confidence": c, "attack": rows.facts["attack"], "success": _share(f[right])}
            | {"l2": float(l2.mean()) if len(l2) else None, "median_l2": float(np.median(l2)) if len(l2) else None}
            | {"detection": {d: _share(flags[d][k][f]) for d in detectors}}
            | {"undetected": {d: _share((f & ~flags[d][k])[right]) for d in detectors}}
        )
    worst, ever = {}, {}
    for d in detectors:
        at = max(each, key=lambda e: e["undetected"][d]["value"] or 0.0)
        worst[d] = {"confidence": at["confidence"], "detection": at["detection"][d], "undetected": at["undetected"][d], "l2": at["l2"]}
        detected, attackable = worst_case(flags[d], fooled)
        ever[d] = _share((attackable & ~detected)[right])
    natural = {d: _share(scores_of(scores[d], natural_set("test")) > thresholds[d]) for d in detectors}
    return {"level": level, "confidences": each, "worst": worst, "any": ever, "natural": natural}


def _share(flags: NDArray[np.bool_]) -> dict[str, JSON]:
    """A share with its interval; None where there is nothing to speak of."""
    found = share_of(flags)
    return {"value": found["share"], "lo": found["low"], "hi": found["high"], "n": found["of"]}
