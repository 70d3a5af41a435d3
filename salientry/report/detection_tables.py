"""Tables of detection: detection rates, false alarms, controls."""

from __future__ import annotations

from ..results.choice import BESIDE_MAPS
from ..results.names import ORDINARY
from .spec import Across, Column, Table

NOISE = "{noise/excess-flags-on-unchanged}"
TRANSPLANT = "{Transplant/excess-flags-on-unchanged}"
MORE = (
    "Extra false alarms: share flagged of the harmlessly changed images whose prediction stays, minus the share of the same images "
    "untouched; "
    "near 0 the detector is specific to attacks, near 1 it detects that something was changed."
)


def headline(attacks: list[str], baselines: list[str]) -> Table:
    """Strict, trained and tested on the same attack: the map beside what needs none."""
    return Table(
        "Detectors with a map beside baselines",
        "Trained and tested on the same attack, 8-bit images that fool, one frozen threshold a detector. " + MORE,
        rows=("trained_on", "title"),
        where={"kind": ("detection", "headline"), "protocol": "strict", "measure": lambda m: m != "difference"},
        heads=("trained and tested on", "detector"),
        order={"trained_on": attacks, "title": list(dict.fromkeys((*BESIDE_MAPS, "fusion without the map", *baselines)))},
        diagonal=True,
        warned=True,
        columns=(
            Column("detection rate", "{tpr@LEVEL|seeds}"),
            Column("false-positive rate", "{fpr@LEVEL}"),
            Column("extra false alarms: noise of that size", NOISE),
            Column("extra false alarms: another image's perturbation", TRANSPLANT),
        ),
    )


GAINS = Table(
    "Differences of detection rates",
    "Paired by image, both trained and tested on that attack; the best baseline is the one with the best AUROC on validation pairs.",
    rows=("title",),
    where={"kind": "headline", "measure": "difference", "protocol": "strict"},
    heads=("difference",),
    columns=(Across("trained_on", (Column("", "{difference|seeds}"),)),),
)
SIGN = Table(
    "SPD beside ID, as the paper measures",
    "Float32, every adversarial counts, the head's own 0; accuracy on half natural, half adversarial images, chance .5. The paper prints "
    "no heights of these bars.",
    rows=("scheme", "trained_on", "tested_on"),
    where={"kind": "headline", "protocol": "published"},
    heads=("heads", "trained on", "tested on"),
    order={"scheme": {"replica": "the paper's manner", "paired": "batch norm, paired batches"}},
    columns=(
        Column("SPD, accuracy", "{accuracy}", {"title": "SPD"}),
        Column("ID, accuracy", "{accuracy}", {"title": "ID"}),
        Column("SPD minus ID", "{difference}", {"title": "SPD minus ID"}),
    ),
)


def combined(attacks: list[str]) -> Table:
    """The paper's Table 6 and its strict counterpart."""
    return Table(
        "Table 6: trained on all attacks at once",
        "Natural image i meets attack i modulo their number, in training and in the first columns' test; a fusion is a logistic "
        "combination of detectors, its weights from validation images.",
        rows=("title",),
        where={"kind": "detection", "trained_on": "combined", "scheme": ORDINARY},
        heads=("detector",),
        columns=(
            Column("published: accuracy, all", "{accuracy}", {"protocol": "published", "tested_on": "combined"}),
            Column("strict: detection rate, all", "{tpr@LEVEL}", {"protocol": "strict", "tested_on": "combined"}),
            Across("tested_on", (Column("strict: detection rate at LEVEL", "{tpr@LEVEL}", {"protocol": "strict"}),), attacks),
            Column("false-positive rate", "{fpr@LEVEL}", {"protocol": "strict"}),
        ),
    )


def grid(title: str, protocol: str, attacks: list[str]) -> Table:
    """One detector: trained on each attack, tested on each."""
    return Table(
        title,
        "",
        rows=("trained_on",),
        where={"kind": "detection", "protocol": protocol, "title": title},
        order={"trained_on": [*attacks, "combined"]},
        heads=("trained on",),
        shaded=0.5 if protocol == "published" else 0.0,
        columns=(Across("tested_on", (Column("", "{accuracy|bare}" if protocol == "published" else "{tpr@LEVEL|bare}"),), attacks),),
    )


def pattern(attacks: list[str]) -> Table:
    """C9 and C12."""
    return Table(
        "What the pattern says (C9, C12)",
        "C9: mean detection rate on another attack of the same norm (FGSM, BIM, MIM; C&W, DeepFool) minus of the other norm. C12: "
        "detection rate "
        "when trained on all attacks, minus when trained on that one.",
        rows=("title",),
        where={"kind": "transfer"},
        heads=("detector",),
        columns=(
            Column("C9, published", "{within-norm-minus-across}", {"protocol": "published"}),
            Column("C9, strict", "{within-norm-minus-across}", {"protocol": "strict"}),
            Across("tested_on", (Column("C12, strict", "{combined-minus-specific}", {"protocol": "strict"}),), attacks),
        ),
    )


def controls(baselines: bool, trained_on: str | None) -> Table:
    """What is no attack, for detectors trained on that."""
    return Table(
        "Harmless changes: baselines" if baselines else "Harmless changes",
        MORE + " Made from each detector's own training attack. Round trip: naturals sent through C&W's tanh and back. Float minus 8 bits: "
        "detection rate of the same adversarials in float32, minus in 8 bits: what would be a trace of float numbers.",
        rows=("trained_on", "title"),
        where={
            "kind": "detection",
            "protocol": "strict",
            "trained_on": trained_on,
            "scheme": ORDINARY,
            "group": lambda g: (g == "baseline") == baselines,
        },
        heads=("trained on", "detector"),
        columns=(
            Column("sign noise", NOISE),
            Column("Gaussian noise", "{MatchedNoise-kind=gaussian/excess-flags-on-unchanged}"),
            Column("own values, other pixels", "{Shuffled/excess-flags-on-unchanged}"),
            Column("another image's perturbation", TRANSPLANT),
            Column("C&W round trip (float)", "{round-trip}"),
            Column("float minus 8 bits", "{float-minus-8-bit}"),
            Column("null control", "{null-difference|bare}"),
        ),
        warned=True,
        empty="–",
        fold=baselines,
    )


WORST = Table(
    "When the attacker may choose the attack",
    "An image counts as detected only if every attack on it that fools the classifier is detected, of the images that at least one fools; "
    "strict, trained on all attacks.",
    rows=("title",),
    where={"kind": "worst case", "trained_on": "combined"},
    heads=("detector",),
    columns=(Across("tested_on", (Column("detected", "{tpr@LEVEL|seeds}"),)),),
)
UNDETECTED = Table(
    "Wrong and unflagged, of all attacked images",
    "Share of the images which the classifier had right that an attack turns, without a detector, and that it turns unflagged; strict, "
    "trained on all attacks.",
    rows=("title",),
    where={"kind": "undetected", "trained_on": "combined"},
    heads=("detector",),
    columns=(Across("tested_on", (Column("", "{undetected@LEVEL}"),)),),
)
FOOLS = Table(
    "Attack success rate, without a detector",
    "Of the images which the classifier had right, 8 bits.",
    rows=("protocol",),
    where={"kind": "undetected", "measure": "fools"},
    columns=(Across("tested_on", (Column("", "{fools}"),)),),
)
FALSE = Table(
    "False positives by class",
    "Share flagged of the naturals that the classifier has wrong, and of each class by its label; strict, trained on all attacks.",
    rows=("title",),
    where={"kind": "false positives", "trained_on": "combined"},
    heads=("detector",),
    columns=(Column("classified wrongly", "{fpr-wrong@LEVEL}", {"part": None}), Across("part", (Column("", "{fpr@LEVEL}"),))),
    fold=True,
)
