"""Words for what stands in the frame's columns: attacks, training, maps, warnings."""

from __future__ import annotations

from typing import Any

from ..results.ablations import INPUT_ABLATIONS
from ..results.names import TITLES, attack_title, kind_title, own_trunk

ATTACKS = ("trained_on", "tested_on", "attack", "against")
SCHEMES = INPUT_ABLATIONS | {"replica": "the paper's manner"}
MAPS = {
    "Gradient": "gradient",
    "GradientInput": "gradient x input",
    "GuidedBackprop": "guided backpropagation",
    "Gradient-of=prob": "gradient of the probability",
}
WARNINGS = {
    "COLLAPSED": "did not train",
    "OVERFIT": "overfits",
    "MEMBERSHIP": "tells training images apart",
    "TRAINED ON FIT": "trained on the classifier's images",
    "SANITY CHECK FAILED": "its map failed the sanity check",
    "OWN MAPS": "own maps in some classes only",
    "NOISE UNMATCHED": "noise of another size",
    "GAUSSIAN UNMATCHED": "Gaussian noise of another size",
    "SHUFFLED UNMATCHED": "shuffled values of another size",
    "WEAK FILL": "this fill hides little",
}


def said(column: str, value: Any) -> str:
    """A value of a column as it is printed."""
    if column in ATTACKS:
        return {"combined": "all attacks", "mean over attacks": "mean over attacks", "diagonal": ""}.get(value) or " – ".join(
            map(attack_title, str(value).split("|"))
        )
    if column == "saliency":
        return MAPS.get(value) or ("learnt map, classifier's trunk" if own_trunk(value) else "learnt map")
    if column == "scheme":
        return SCHEMES.get(value, str(value))
    if column in ("trained_at", "tested_at"):
        return f"{value:.4f}"
    if column == "detector":
        return TITLES.get(value, str(value))
    if column == "dataset":
        return DATASETS.get(str(value).split("-")[0].lower(), str(value))
    return str(value).replace("best floor", "best baseline")


DATASETS = {"digits": "MNIST, 5,000 digits", "mnist": "MNIST", "cifar10": "CIFAR-10", "assira": "ASSIRA"}

__all__ = ["MAPS", "SCHEMES", "WARNINGS", "attack_title", "kind_title", "own_trunk", "said"]
