"""Which detector to keep: each candidate, and their fusion, trained without one attack in turn and tried on that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..detectors import DETECTORS, IDPlus, SmallCNN
from ..keys import label, name_of
from ..protocol import EvaluationProtocol
from ..runner.step import Handle
from .evaluation import TrainingSet, trained
from .fusion import choose_detector, unseen_rates
from .image_sets import EvidenceVariant, ImageSets


def candidates(head: SmallCNN, fair: SmallCNN) -> tuple[Any, ...]:
    """What a guard may be, and what is fused: every entry of ``DETECTORS`` that is a candidate, in order.

    Args:
        head: of those that have a CNN.
        fair: that of ID+.
    """
    every: list[Any] = list(DETECTORS.values())
    kinds = [kind for kind in every if kind.candidate]
    heads = {k: {"head": fair if k is IDPlus else head} for k in kinds if "head" in k.__dataclass_fields__}
    return tuple(kind(**heads.get(kind, {})) for kind in kinds)


@dataclass(frozen=True)
class Choice:
    """What was chosen, as handles.

    Attributes:
        detector: the chosen one.
        rates: of every candidate on each attack when it was left out.
    """

    detector: Handle
    rates: list[Handle]


def select_names(labels: Sequence[str]) -> list[str]:
    """What recorded keys call the image sets that :func:`on_select` scores, in order."""
    return ["select/natural", *(f"select/{a}" for a in labels)]


def on_select(
    image_sets: ImageSets, fitted: Handle, settings: Any, attacks: Sequence[Any], protocol: EvaluationProtocol, variant: EvidenceVariant
) -> Handle:
    """A detector's scores of *validation* naturals and of every attack's images of that role."""
    sets = [image_sets.natural["validation"], *(image_sets.attacked(a, "validation", protocol) for a in attacks)]
    shown = [image_sets.with_evidence(settings, images, "validation", variant) for images in sets]
    return image_sets.scores(settings, fitted, shown)


def choose(
    image_sets: ImageSets,
    candidates: dict[Any, Handle],
    fused: Handle,
    attacks: Sequence[Any],
    protocol: EvaluationProtocol,
    variant: EvidenceVariant,
    level: float,
) -> Choice:
    """The candidate with the best rate on its worst unseen attack; only *detector_train* and *validation* images are read.

    Args:
        image_sets: the images.
        candidates: settings to detectors trained on all attacks.
        fused: their fusion.
        attacks: with a single one nothing can be left out, and it is tried on its own *validation* images.
        protocol: its storage and predicate.
        variant: of the evidence.
        level: share of the validation naturals that may be flagged.
    """
    run, natural, rates = image_sets.run, image_sets.natural, []
    called, labels = [name_of(c) for c in candidates], [label(a) for a in attacks]
    names = select_names(labels)
    for unseen in attacks:
        others = [a for a in attacks if a != unseen] or [unseen]
        scored = []
        for settings in candidates:
            fitted = trained(image_sets, settings, protocol, TrainingSet(tuple(others), f"all but {label(unseen)}"), variant)
            scored.append(on_select(image_sets, fitted, settings, attacks, protocol, variant))
        seen = [image_sets.attacked(a, "validation", protocol) for a in others]
        rates.append(
            run.do(
                unseen_rates, natural["validation"], image_sets.attacked(unseen, "validation", protocol), seen, scored, names, called, level
            )
        )
    chosen = run.do(choose_detector, [*candidates.values(), fused], [*called, "Fused"], rates, labels)
    return Choice(chosen, rates)
