"""Which detector to keep: each candidate, and their fusion, trained without one attack in turn and tried on that one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..detectors import (
    SMD,
    SPD,
    BlackShare,
    Exists,
    HighFrequency,
    IDPlus,
    Margin,
    Margin2,
    Opinion,
    PooledActivations,
    SmallCNN,
    SortedLogits,
)
from ..keys import label
from ..protocol import Rules
from .fusion import SELECT_ATTACKED, SELECT_NATURAL, choose_detector, unseen_rates
from .handles import Handle
from .steps import score_sets
from .subjects import Shown, Subjects
from .trial import Training, trained

LOGISTIC = (Margin(), Margin2(), Exists(), Opinion(), BlackShare(), HighFrequency())  # no seed moves these
TRAINED = (SortedLogits(), PooledActivations())


def candidates(head: SmallCNN, fair: SmallCNN) -> tuple[Any, ...]:
    """What a guard may be, and what is fused: the map's two detectors, the image's, and every floor."""
    return SPD(head), SMD(head), IDPlus(fair), *TRAINED, *LOGISTIC


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
    """What :func:`on_select` scores, in order."""
    return [SELECT_NATURAL, *(f"{SELECT_ATTACKED}{a}" for a in labels)]


def on_select(subjects: Subjects, fitted: Handle, settings: Any, attacks: Sequence[Any], rules: Rules, how: Shown) -> Handle:
    """A detector's scores of *select* naturals and of every attack's images of that role."""
    sets = [subjects.natural["select"], *(subjects.attacked(a, "select", rules) for a in attacks)]
    return subjects.run.do(score_sets, [subjects.shown(settings, images, "select", how) for images in sets], fitted)


def choose(
    subjects: Subjects, candidates: dict[Any, Handle], fused: Handle, attacks: Sequence[Any], rules: Rules, how: Shown, level: float
) -> Choice:
    """The candidate with the best rate on its worst unseen attack; only *detect* and *select* images are read.

    Args:
        subjects: the images.
        candidates: settings to detectors trained on all attacks.
        fused: their fusion.
        attacks: with a single one nothing can be left out, and it is tried on its own *select* images.
        rules: of the protocol.
        how: the images are shown.
        level: share of the select naturals that may be flagged.
    """
    run, natural, rates = subjects.run, subjects.natural, []
    called, labels = [type(c).__name__ for c in candidates], [label(a) for a in attacks]
    names = select_names(labels)
    for unseen in attacks:
        others = [a for a in attacks if a != unseen] or [unseen]
        scored = []
        for settings in candidates:
            fitted = trained(subjects, settings, rules, Training(tuple(others), f"all but {label(unseen)}"), how)
            scored.append(on_select(subjects, fitted, settings, attacks, rules, how))
        seen = [subjects.attacked(a, "select", rules) for a in others]
        rates.append(
            run.do(unseen_rates, natural["select"], subjects.attacked(unseen, "select", rules), seen, scored, names, called, level)
        )
    chosen = run.do(choose_detector, [*candidates.values(), fused], [*called, "Fused"], rates, labels)
    return Choice(chosen, rates)
