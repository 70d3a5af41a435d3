"""The paper's search over architectures of image detectors (Appendix A), published protocol, at the head's own 0.

Kind ``architecture``: ``scheme`` says which (``architecture: as printed``, ``architecture: 9 convolutions, 64 doubling`` ...). Measures:
``accuracy`` (balanced); ``fpr@own``, share of natural test images above the head's 0; ``noise/...``, flags of harmless noise as large as
the attack, as of other detectors; ``gain``, the accuracy of this architecture minus that of the printed one, on the same images, paired.
"""

from __future__ import annotations

from ..metrics import balanced_accuracy, difference, rate
from .detection import FEWEST, control, missing_controls, where
from .names import ARCHITECTURE, NATURAL, architecture_of
from .place import Row, row
from .scores import Scores
from .trained import Array, Trained

AS_PRINTED = ARCHITECTURE + "as printed"
NAMED = 35  # so many architectures Appendix A names beside the printed one
BEYOND = (ARCHITECTURE + "He's weights", ARCHITECTURE + "drop-out 0.4")  # those that the paper does not name


def rows(s: Scores) -> list[Row]:
    """Of every architecture that has the mandatory controls; none where the records hold no search."""
    tried = [g for g in s.trained if architecture_of(g.scheme) and not missing_controls(s, [g])]
    printed = {(g.detector, g.trained_on): g for g in tried if g.scheme == AS_PRINTED}
    out: list[Row] = []
    for g in tried:
        control(out, s, g, "MatchedNoise", "own", "architecture", tested_on=g.trained_on)
        for x in s.attacked(g.protocol):
            c = x["evaluated"]
            if not g.on(x["name"]) or c.sum() < FEWEST:
                continue
            clean, found = g.flags(NATURAL, "own"), [f[c] for f in g.flags(x["name"], "own")]
            accuracy = balanced_accuracy(s.draws, s.natural("test")["id"], x["id"][c], list(zip(clean, found, strict=True)))
            out.append(row("architecture", "accuracy", accuracy, [*g.keys, x["key"]], **where(g), tested_on=x["attack"]))
            if x["attack"] == g.trained_on:
                false = rate(s.draws, s.natural("test")["id"], clean)
                out.append(row("architecture", "fpr@own", false, g.keys, **where(g), tested_on=x["attack"]))
            base = printed.get((g.detector, g.trained_on))
            if base is not None and base is not g and base.on(x["name"]) and c.all():
                pairs = list(zip(_right(g, x["name"]), _right(base, x["name"]), strict=False))
                gain = difference(s.draws, x["id"], pairs)
                out.append(row("architecture", "gain", gain, sorted({*g.keys, *base.keys, x["key"]}), **where(g), tested_on=x["attack"]))
    return out


def _right(g: Trained, name: str) -> list[Array]:
    """(N,) of each seed: how much of an image and of its adversarial is judged right, 0, .5 or 1; their mean is the balanced accuracy."""
    return [((~clean).astype(float) + found) / 2 for clean, found in zip(g.flags(NATURAL, "own"), g.flags(name, "own"), strict=True)]
