"""Small tables of what was tried in several forms: classifiers, and C&W at several confidences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..rates import short
from ..results.names import detector_title, detector_words
from ..results.scores import Scores
from . import render
from .page import Block, Maker, listed
from .spec import Column, Number, Table

CONFIDENCE = (
    "C&W goes on until another class leads by so much, in logits. Detectors were trained on it at the first confidence; thresholds at "
    "{level} false positives, frozen. Detection: of the images that fool. In brackets: exact 95 % interval over images. The last "
    "line: the confidence that gets most images past classifier and detector, chosen on these images, in the attacker's favour."
)

ARCHITECTURES = Table(
    "Architectures of image detectors (Appendix A)",
    "Balanced accuracy at the head's own 0, published protocol, unpaired training; beside it what the architecture gains over the printed "
    "one, on the same images. The paper: changes of architecture do not help (C18).",
    rows=("title", "trained_on"),
    where={"kind": "architecture", "protocol": "published"},
    heads=("detector", "trained on"),
    columns=(
        Column("accuracy", "{accuracy}"),
        Column("false-positive rate", "{fpr@own}"),
        Column("extra false alarms, noise", "{noise/excess-flags-on-unchanged}"),
        Column("gain", "{gain}"),
    ),
    warned=True,
)


def blocks(s: Scores, m: Maker) -> list[Block | None]:
    """What of it the records hold."""
    return [*(_confidence(c) for c in s.body.get("confidence", [])), _accuracies(s), m.table(ARCHITECTURES)]


def _share(share: Mapping[str, Any]) -> str:
    """A share with its interval and the number of images."""
    if share["value"] is None:
        return "no image"
    return f"{render.text(Number('', share['value'], share['lo'], share['hi'], share['n'], ()))}, n {share['n']}"


def _confidence(found: Mapping[str, Any]) -> Block | None:
    detectors = list(found["worst"])
    heads = [
        "confidence",
        "attack success rate",
        "mean L2",
        *(f"{detector_words(detector_title(d, 'paired'))}: detection rate" for d in detectors),
    ]
    rows = [
        [
            f"{c['confidence']:g}",
            _share(c["success"]),
            short(c["l2"], digits=2),
            *(_share(c["detection"][d]) for d in detectors),
        ]
        for c in found["confidences"]
    ]
    worst = [f"at {w['confidence']:g}: {_share(w['detection'])}" for w in found["worst"].values()]
    return listed(
        "C&W at several confidences",
        heads,
        [*rows, ["worst for each", "", "", *worst]],
        CONFIDENCE.format(level=render.percent(found["level"])),
    )


def _accuracies(s: Scores) -> Block | None:
    rows = [(a["called"], _share({**a, "value": a["accuracy"]}), a["role"]) for a in s.body.get("accuracies", [])]
    return listed(
        "Classifiers that were tried", ("classifier", "accuracy", "images"), rows, "In brackets: exact 95 % interval over images."
    )
