"""Words for what stands in the frame's columns: detectors, attacks, training, maps, measures, warnings. No key of a setting is printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..rates import percent as in_percent
from ..results.ablations import INPUT_ABLATIONS
from ..results.names import attack_title, data_set, detector_words, kind_title, map_words, own_trunk

ATTACKS = ("trained_on", "tested_on", "attack", "against")
SCHEMES = INPUT_ABLATIONS | {"replica": "the paper's manner"}
WARNINGS = {
    "COLLAPSED": "did not train",
    "ONE SCORE": "one score for all images",
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
KINDS = {  # what a number is about
    "detection": "detection",
    "headline": "map against baseline",
    "attack": "attack",
    "accuracy": "classifier",
    "map": "saliency map",
    "shift": "map under attack",
    "gradient": "gradient",
    "transfer": "transfer between attacks",
    "fusion": "ablation of the fusion",
    "part adds": "ablation",
    "input ablation": "input ablation",
    "mixed parts": "what a map's detector reads",
    "sweep": "budget of FGSM",
    "sweep fit": "smallest budget detected",
    "protocol step": "from published to strict",
    "undetected": "wrong and unflagged",
    "worst case": "worst case over attacks",
    "false positives": "false positives by class",
    "white box": "attacker who knows",
    "weak detector": "detector weak by construction",
    "table 3": "the paper's white box",
    "hardened": "adversarial training",
    "paper table": "beside the paper",
    "correlation": "correlation with size",
    "claim": "claim of the paper",
    "architecture": "architecture",
}
CHANGES = {
    "noise": "harmless sign noise",
    "MatchedNoise-kind=gaussian": "harmless Gaussian noise",
    "Transplant": "another image's perturbation",
    "Shuffled": "own values, other pixels",
}
MEASURES = {
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "tpr": "detection rate",
    "tpr@": "detection rate",
    "fpr@": "false-positive rate",
    "fpr-right@": "false-positive rate, rightly classified",
    "fpr-wrong@": "false-positive rate, wrongly classified",
    "undetected@": "wrong and unflagged",
    "gap-to-floor@": "detection rate minus best baseline's",
    "fools": "attack success rate",
    "success": "attack success rate",
    "changed": "prediction changed",
    "excess-flags-on-unchanged": "extra false alarms",
    "flags-on-changed": "flagged where the prediction changed",
    "round-trip": "extra false alarms: C&W's round trip",
    "float-minus-8-bit": "detection rate in float minus 8 bits",
    "null-difference": "largest difference of the null control",
    "train-auroc": "AUROC on training pairs",
    "select-auroc": "AUROC on validation pairs",
    "membership": "AUROC, training images against new ones",
    "rms": "L2 (root mean square)",
    "rms-spread": "L2, standard deviation",
    "linf": "L∞",
    "linf-spread": "L∞, standard deviation",
    "l0": "L0 (share)",
    "l0-spread": "L0, standard deviation",
    "counts": "images that count",
    "natural-wrong": "images wrong before the attack",
    "unchanged": "images right and not fooled",
    "over-budget": "images over budget",
    "fooled-in-float-only": "images fooled in float only",
    "survives-rounding": "fool after rounding",
    "survives-search": "fool after a search",
    "search-cost": "size after the search over before",
    "shift": "distance of the maps",
    "spread": "distance, standard deviation",
    "pair": "distance of two attacks' maps",
    "noise": "distance under harmless noise",
    "MatchedNoise": "distance under harmless sign noise",
    "MatchedNoise, class held": "distance under harmless sign noise, class held",
    "Transplant": "distance under another image's perturbation",
    "Transplant, class held": "distance under another image's perturbation, class held",
    "Reversed": "distance under the perturbation reversed",
    "Reversed, class held": "distance under the perturbation reversed, class held",
    "other": "distance between different images",
    "same class": "distance within a class",
    "classifier": "classifier accuracy",
    "detector": "attacked images flagged",
    "natural": "naturals not flagged",
    "balanced": "balanced accuracy",
    "joint": "wrong and unflagged",
    "naturals flagged": "false-positive rate",
    "alarm": "false alarms that can be made",
    "cost": "L2 over the classifier's alone",
    "half": "budget at accuracy .75",
    "area": "area of the map",
    "fake_area": "area, class that is not there",
    "kept": "prediction stays, only the marked part kept",
    "kept_other": "prediction stays, another image's part kept",
    "destroyed": "prediction stays, the marked part destroyed",
    "destroyed_other": "prediction stays, another image's part destroyed",
    "emptied": "prediction stays, all removed",
    "combined-minus-specific": "trained on all attacks minus on that one",
    "printed": "as the paper prints",
    "difference": "difference",
    "units": "difference in units of the spread",
    "value": "value",
}
DATASETS = {"digits": "MNIST, 5,000 digits", "mnist": "MNIST", "cifar10": "CIFAR-10", "assira": "ASSIRA"}
FILLS = {"Fill": "the paper's blur and colour", "Fill-kind=black": "black pixels"}
ONCE = {"combined": "all attacks", "mean over attacks": "mean over attacks", "diagonal": "", "union": "any of the attacks"}


def said(column: str, value: Any) -> str:
    """A value of a column as it is printed."""
    if column in ATTACKS:
        head, _, level = str(value).partition("@")
        if level:
            return f"{said(column, head)}, threshold for {in_percent(level)}"
        return ONCE[str(value)] if value in ONCE else " – ".join(map(attack_title, str(value).split("|")))
    if column in ("saliency", "map"):
        return map_words(str(value))
    if column == "scheme":
        return str(SCHEMES.get(value, value))
    if column in ("trained_at", "tested_at"):
        return f"{value:.4f}"
    if column in ("detector", "title"):
        return detector_words(str(value))
    if column == "part":
        return FILLS.get(str(value)) or attack_title(str(value))
    if column == "dataset":
        return DATASETS.get(data_set(str(value)), str(value))
    return str(value)


def setting_words(name: str) -> str:
    """A setting's name as a page prints it: ``step_size`` is ``step size``."""
    return name.replace("_", " ")


def measure(name: str) -> str:
    """A measure in words: ``noise/excess-flags-on-unchanged`` is ``extra false alarms: harmless sign noise``."""
    change, _, what = name.rpartition("/")
    head, at, level = what.partition("@")
    words = MEASURES.get(head + at, MEASURES.get(what, what.replace("-", " ")))
    out = f"{words}: {CHANGES.get(change, attack_title(change))}" if change else CHANGES.get(name, words) if name != "noise" else words
    return out + (" (own threshold)" if level == "own" else f" (threshold for {in_percent(level)})" if level else "")


def about(r: Mapping[str, Any]) -> str:
    """What a number is about, in words."""
    return KINDS.get(r["kind"], str(r["kind"]))


__all__ = [
    "SCHEMES",
    "WARNINGS",
    "about",
    "attack_title",
    "kind_title",
    "measure",
    "own_trunk",
    "said",
    "setting_words",
]
