"""Tables of detection: what is found, false alarms, controls, what each part adds, what a detector reads."""

from __future__ import annotations

from dataclasses import replace

from ..results.names import ORDINARY
from .spec import Across, Column, Table

DEFENCES = ("SPD", "SMD", "ID", "JSD")
SHOWN = ("SPD", "SMD", "SPD (trunk)", "SMD (trunk)", "ID", "ID+", "fusion", "fusion without the map")
NOISE = "{noise/excess-flags-on-unchanged}"
TRANSPLANT = "{Transplant/excess-flags-on-unchanged}"
MORE = (
    "More flags: share flagged of the images whose prediction stays, minus the share of the same images untouched; near 0 the detector is "
    "specific to attacks, near 1 it detects that something was changed."
)


def headline(attacks: list[str], baselines: list[str]) -> Table:
    """Strict, trained and tested on the same attack: the map beside what needs none."""
    return Table(
        "The map against what needs none",
        "Trained and tested on the same attack, 8-bit images that fool, one frozen threshold a detector. " + MORE,
        rows=("trained_on", "title"),
        where={"kind": ("detection", "headline"), "protocol": "strict", "measure": lambda m: m != "difference"},
        heads=("trained and tested on", "detector"),
        order={"trained_on": attacks, "title": list(dict.fromkeys((*SHOWN, *baselines)))},
        diagonal=True,
        warned=True,
        columns=(
            Column("found", "{tpr@LEVEL|seeds}"),
            Column("naturals flagged", "{fpr@LEVEL}"),
            Column("more flags: noise of that size", NOISE),
            Column("more flags: another image's perturbation", TRANSPLANT),
        ),
    )


GAINS = Table(
    "Differences in the share found",
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
            Column("strict: found, all", "{tpr@LEVEL}", {"protocol": "strict", "tested_on": "combined"}),
            Across("tested_on", (Column("strict: found at LEVEL", "{tpr@LEVEL}", {"protocol": "strict"}),), attacks),
            Column("naturals flagged", "{fpr@LEVEL}", {"protocol": "strict"}),
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
        "C9: mean share found of another attack of the same norm (FGSM, BIM, MIM; C&W, DeepFool) minus of the other norm. C12: share found "
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


def detectors(protocol: str, trained: str, attacks: list[str]) -> tuple[Table, Table]:
    """Every detector of a protocol trained on one attack: what it finds, and the smaller print."""
    strict = protocol == "strict"
    main = "{tpr@LEVEL|seeds}" if strict else "{accuracy|seeds}"
    columns: list[Column | Across] = [
        Across("tested_on", (Column("found at LEVEL" if strict else "accuracy", main), Column("AUROC", "{auroc}")), attacks),
        Column("naturals flagged", "{fpr@LEVEL}" if strict else "{fpr@own}"),
        Column("more flags on noise, unchanged", NOISE),
        Column("flags on noise, changed", "{noise/flags-on-changed}"),
    ]
    columns += [Column("found, minus by the best baseline", "{gap-to-floor@LEVEL}", {"tested_on": trained})] if strict else []
    table = Table(
        "",
        "Noise of the attack's size; images that the noise itself fools are neither false alarm nor positive and stand in a column of "
        "their own.",
        rows=("title",),
        where={"kind": "detection", "protocol": protocol, "trained_on": trained, "scheme": ORDINARY},
        heads=("detector",),
        columns=columns,
        warned=True,
    )
    small = (
        Across("tested_on", (Column("found at SECOND", "{tpr@SECOND}"),), attacks),
        Column("naturals flagged at SECOND", "{fpr@SECOND}"),
        Column("flagged of naturals that are right", "{fpr-right@LEVEL}" if strict else "{fpr-right@own}"),
        Column("AUROC on training pairs", "{train-auroc|bare}"),
        Column("AUROC on validation pairs", "{select-auroc|bare}"),
        Column("AUROC, training images against new ones", "{membership|bare}"),
        Column("changed by noise", "{noise/changed|bare}"),
        Column("null control", "{null-difference|bare}"),
    )
    says = "Null control: largest score difference between a natural and the same image sent down the whole adversarial path; must be 0."
    return table, replace(table, title="Smaller print", says=says, columns=small, fold=True, warned=False)


def controls(baselines: bool) -> Table:
    """What is no attack."""
    return Table(
        "Things that are no attack: baselines" if baselines else "Things that are no attack",
        MORE + " Made from each detector's own training attack. Round trip: naturals sent through C&W's tanh and back. Float minus 8 bits: "
        "share found of the same adversarials in float32, minus in 8 bits: what would be a trace of float numbers.",
        rows=("trained_on", "title"),
        where={
            "kind": "detection",
            "protocol": "strict",
            "scheme": ORDINARY,
            "group": ("baseline",) if baselines else ("saliency", "image", "fusion"),
        },
        heads=("trained on", "detector"),
        columns=(
            Column("sign noise", NOISE),
            Column("Gaussian noise", "{MatchedNoise-kind=gaussian/excess-flags-on-unchanged}"),
            Column("own values, other pixels", "{Shuffled/excess-flags-on-unchanged}"),
            Column("another image's perturbation", TRANSPLANT),
            Column("C&W round trip (float)", "{round-trip}"),
            Column("float minus 8 bits", "{float-minus-8-bit}"),
            Column("null", "{null-difference|bare}"),
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
    "Fooled and undetected, of all attacked images",
    "Share of the images which the classifier had right that an attack turns, without a detector, and that it turns unflagged; strict, "
    "trained on all attacks.",
    rows=("title",),
    where={"kind": "undetected", "trained_on": "combined"},
    heads=("detector",),
    columns=(Across("tested_on", (Column("", "{undetected@LEVEL}"),)),),
)
FOOLS = Table(
    "Share of the images that an attack turns, without a detector",
    "Of the images which the classifier had right, 8 bits.",
    rows=("protocol",),
    where={"kind": "undetected", "measure": "fools"},
    columns=(Across("tested_on", (Column("", "{fools}"),)),),
)
FALSE = Table(
    "Who is flagged wrongly",
    "Share flagged of the naturals that the classifier has wrong, and of each class by its label; strict, trained on all attacks.",
    rows=("title",),
    where={"kind": "false positives", "trained_on": "combined"},
    heads=("detector",),
    columns=(Column("classified wrongly", "{fpr-wrong@LEVEL}", {"part": None}), Across("part", (Column("", "{fpr@LEVEL}"),))),
    fold=True,
)
