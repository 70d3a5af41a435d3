"""What a part adds to a fusion, in log loss and AUROC beside the detection rate: at one threshold a part may cost what it gives at others.

Kind ``part adds``: ``part``; ``against`` what it is added to (``the others`` or ``the logits``); ``trained_on``, ``tested_on`` (the same
attack or mixture; for the log loss also each attack of a mixture); measure ``tpr@LEVEL``, ``auroc`` and ``log loss``: with the part minus
without it, paired over images. Less log loss is better: a useful part has a negative one. The log loss weighs naturals and attacked
images equally and reads the fusion's score as the logit that it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..metrics import Floats, auroc_difference, balanced_mean, log_losses
from .detection import FEWEST, missing_controls, rate_gap
from .names import NATURAL, fusion_of
from .place import Row, row
from .scores import Scores, Trained

OTHERS, LOGITS = "the others", "the logits"


def rows(s: Scores) -> list[Row]:
    """All of it; none where the records hold no fusion."""
    fusions = [g for g in s.trained if g.detector == "Fused" and g.protocol == "strict"]
    by_scheme = {(g.trained_on, g.scheme): g for g in fusions}
    numbers: list[Row] = []
    for g in fusions:
        if missing_controls(s, [by_scheme.get((g.trained_on, "all"), g)]):
            continue
        whole, logits = by_scheme.get((g.trained_on, "all")), by_scheme.get((g.trained_on, "logits alone"))
        base, part = fusion_of(g.scheme)
        if base == "whole" and whole and g is not whole:
            numbers += _added(s, whole, g, {"part": part, "against": OTHERS})
        if base == "logits" and logits and g is not logits:
            numbers += _added(s, g, logits, {"part": part, "against": LOGITS})
    return numbers


def _added(s: Scores, more: Trained, fewer: Trained, place: Row) -> Iterator[Row]:
    own, natural = s.like(more), s.natural("test")["id"]
    keys = sorted({*more.keys, *fewer.keys})
    place |= {"protocol": "strict", "trained_on": more.trained_on}
    for x in [x for x in s.attacked("strict") if x["attack"] in more.of and len(more.of) > 1] + ([own] if own else []):
        c = x["evaluated"]
        ids = x["id"][c]
        if len(ids) < FEWEST or any(len(g.on(x["name"], NATURAL)) < len(g.seeds) for g in (more, fewer)):
            continue
        place |= {"tested_on": x["attack"]}
        with_, without = (list(zip(g.scores(NATURAL), [a[c] for a in g.scores(x["name"])], strict=True)) for g in (more, fewer))
        losses = [tuple(_gain(a, b, k > 0) for k, (a, b) in enumerate(zip(m, f, strict=True))) for m, f in zip(with_, without, strict=True)]
        yield row("part adds", "log loss", balanced_mean(s.draws, natural, ids, losses), keys, **place)  # type: ignore[arg-type]
        if x is own:
            both = list(zip(with_, without, strict=True))
            yield row("part adds", "auroc", auroc_difference(s.draws, natural, ids, both), keys, **place)
            yield row("part adds", f"tpr@{more.level}", rate_gap(s, more, fewer, x), keys, **place)


def _gain(more: np.ndarray, fewer: np.ndarray, adversarial: bool) -> Floats:
    """(N,) what the part changes in the log loss of each image."""
    return np.asarray(log_losses(more, adversarial) - log_losses(fewer, adversarial))
