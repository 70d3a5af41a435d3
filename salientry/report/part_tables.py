"""Tables of what parts add, and of what detectors read: fusions, input ablations, the steps between the protocols, budgets, mixed parts."""

from __future__ import annotations

from .spec import Across, Column, Table

INPUT_ABLATIONS = Table(
    "Input and label ablations",
    "Trained and tested in that form, seed 0, strict: what a detector keeps when its map is another image's, or was never trained, it does "
    "not owe to where the classifier looks. With labels exchanged the detection rate must stay near the false-positive rate.",
    rows=("detector", "trained_on", "scheme"),
    where={"kind": "input ablation"},
    heads=("detector", "trained and tested on", "its input"),
    columns=(Column("AUROC", "{auroc}"), Column("detection rate at LEVEL", "{tpr@LEVEL}")),
)
PROTOCOL_STEPS = Table(
    "From published to strict, one change at a time",
    "Balanced accuracy at the line's own threshold, trained and tested on the same attack; each line changes one thing against the one "
    "above it.",
    rows=("tested_on", "part"),
    where={"kind": "protocol step"},
    heads=("attack", "what changed"),
    columns=(Across("detector", (Column("accuracy", "{accuracy|seeds}"), Column("AUROC", "{auroc}"))),),
)
SWEEP = Table(
    "How small a perturbation is detected (C10)",
    "The budget at which a logistic curve from .5 to 1, fitted to the accuracies, passes .75.",
    rows=("detector",),
    where={"kind": "sweep fit", "beyond": False},
    heads=("detector",),
    columns=(Column("budget", "{half}"),),
)
SWEPT = Table(
    "Trained at one budget of FGSM, tested at each (after Gong et al. 2017)",
    "Balanced accuracy, published protocol, seed 0.",
    rows=("detector", "trained_at"),
    where={"kind": "sweep"},
    heads=("detector", "trained at"),
    columns=(Across("tested_at", (Column("", "{accuracy|bare}"),)),),
    shaded=0.5,
    fold=True,
)
MIXED_PARTS = Table(
    "What a map's detector reads",
    "Strict, seed 0, share flagged at the threshold. A factor's effect: adversarial minus natural in that factor, mean over the "
    "four settings of the other two. Only own map minus another adversarial's can say that locations move.",
    rows=("title", "tested_on"),
    where={"kind": "mixed parts"},
    heads=("detector", "attack"),
    columns=(
        Column("flagged: adversarials minus naturals", "{adversarial minus natural}"),
        Column("of that: pixels", "{pixels}"),
        Column("of that: image into the map", "{image into the map}"),
        Column("of that: selector class", "{selector class}"),
        Column("own map minus another adversarial's", "{own map minus another image's}"),
        Column("area of the map", "{area}"),
        Column("AUROC", "{auroc}"),
        Column("AUROC, another image's map of its kind", "{auroc with another image's map}"),
        Column("AUROC, flat map of its own area", "{auroc with a flat map}"),
    ),
)


def added(base: str, to: str, attacks: list[str]) -> Table:
    """What each part adds to the fusion; ``base``: ``whole`` or ``logits``."""
    return Table(
        f"Ablation: what each part adds to {to}",
        "Detection rate of the fusion with the part, minus by the fusion without it, each with a threshold of its own, paired "
        "over images; an interval that holds 0: nothing measurable.",
        rows=("member",),
        where={"kind": "fusion", "base": base, "adds": True},
        heads=("part",),
        columns=(Across("tested_on", (Column("", "{tpr}"),), [*attacks, "mean over attacks"]),),
    )


FOUND = Table(
    "Detection rates of these fusions",
    "Mean detection rate over the attacks.",
    rows=("part",),
    where={"kind": "fusion", "adds": False},
    heads=("fusion",),
    columns=(Column("detection rate, mean over attacks", "{tpr}"),),
    fold=True,
)
PART_ADDS = Table(
    "Ablation in log loss and AUROC",
    "With the part minus without it, paired over images; less log loss is better. At one threshold a part may cost what it gives at "
    "others.",
    rows=("against", "part", "trained_on"),
    where={"kind": "part adds", "tested_on": lambda a: True},
    heads=("added to", "part", "trained and tested on"),
    diagonal=True,
    columns=(Column("log loss", "{log loss}"), Column("AUROC", "{auroc}"), Column("detection rate at LEVEL", "{tpr@LEVEL}")),
)
