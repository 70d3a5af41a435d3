"""Tables of attackers who know the detector."""

from __future__ import annotations

from .spec import Across, Column, Table

METHODS = ("Selective", "Orthogonal", "Joint")


def success(budgets: list[str], alarms: list[str], effort: str) -> Table:
    """Who gets past classifier and detector; ``effort``: steps and restarts of the attacks."""
    return Table(
        "An attacker who knows classifier, map, detector and threshold",
        "Attack success rate: share of images on which any believed attack of that budget or a smaller one succeeded: wrong, in budget, "
        "8 bits and not flagged "
        "at the threshold; where a second column stands beside it, the same at the smaller false-positive rate, a lower bound. L2: "
        "median of the smallest perturbation that gets past both, over the classifier's alone. "
        f"{'False alarm can be made: images that keep their right answer and are flagged. ' if alarms else ''}"
        f"Each attack: {effort} (a restart begins at a random point, for the images that are left).",
        rows=("title",),
        where={"kind": "white box"},
        heads=("detector",),
        empty="–",
        columns=(
            Across(
                "budget",
                (Column("at LEVEL", "{success}", {"attack": "union"}), Column("at SECOND", "{success|bare}", {"attack": "union@SECOND"})),
                budgets,
            ),
            Column("false-positive rate", "{naturals flagged}"),
            Column("L2 it costs", "{cost}"),
            Across("budget", (Column("false alarm can be made", "{alarm}"),), alarms),
        ),
        warned=True,
    )


def alone(budgets: list[str]) -> Table:
    """Without a detector."""
    return Table(
        "The same attacks without a detector",
        "Attack success rate: share of the images on which any of these attacks, whatever it was up against, fooled the classifier.",
        rows=("title",),
        where={"kind": "white box", "attack": None, "measure": "success"},
        columns=(Across("budget", (Column("", "{success}"),), budgets),),
    )


BELIEF = Table(
    "Can these attacks be believed?",
    "An attack on a detector is believed when it beats every image without a budget and finds at least .95 of the adversarials that are "
    "known to exist (the binarization test); an attack that fails is not reported. Twice the steps: success with twice the steps, minus "
    "success with the steps; more than .03 is marked, and such a share is a lower bound.",
    rows=("title", "attack"),
    where={"kind": "white box", "attack": METHODS},
    heads=("detector", "attack"),
    columns=(
        Column("without a budget", "{unbounded}"),
        Column("known adversarials found", "{binarization}"),
        Column("by chance", "{binarization by chance|bare}"),
        Across("budget", (Column("twice the steps", "{doubled}"),)),
    ),
    empty="–",
    warned=True,
)
DOUBLED = Table(
    "What twice the steps add to all attacks together",
    "Independent runs with twice the steps; the union keeps them.",
    rows=("title",),
    where={"kind": "white box", "measure": "doubled adds"},
    heads=("detector",),
    columns=(Across("budget", (Column("", "{doubled adds}"),)),),
    fold=True,
)


def each(budgets: list[str]) -> Table:
    """Each attack by itself."""
    return Table(
        "Each attack by itself",
        "Attack success rate, past classifier and detector; a dash: not run, or not believed.",
        rows=("title", "attack"),
        where={"kind": "white box", "attack": METHODS, "measure": "success"},
        heads=("detector", "attack"),
        columns=(Across("budget", (Column("", "{success}"),), budgets),),
        empty="–",
        fold=True,
    )


WEAK_DETECTORS = Table(
    "Detectors that are weak by construction",
    "Each hides its slope in a way that published detectors have; the attacks that answer to it must together leave no image robust.",
    rows=("part",),
    where={"kind": "weak detector"},
    heads=("weakness",),
    columns=(Column("images left robust", "{evaded}"), Column("… by an attacker who does not answer to it", "{blind}")),
)
NUMBERS = (
    Column("classifier accuracy", "{classifier|seeds}"),
    Column("attacked images flagged", "{detector|seeds}"),
    Column("naturals not flagged", "{natural|seeds}"),
    Column("balanced", "{balanced|seeds}"),
    Column("wrong and unflagged", "{joint|seeds}"),
    Column("median L∞", "{linf|bare}"),
)
ALGORITHMS = Table(
    "The paper's own white box (Table 3)",
    "Algorithms 1 (JSD), 2 (SPD), 3 (SMD) and the one for ID, float32, published heads trained on all attacks, the head's own 0, after 5 "
    "passes (equations 3 and 4: one step). As printed: steps along the slope at what the detector reads, never brought back to a ball; "
    "true gradient: the same loop with the slope at the image, projected, in steps of eps/4 where nothing else is said.",
    rows=("part", "budget", "title"),
    where={"kind": "table 3", "step": lambda t: t in (1, 5), "measure": lambda m: True},
    heads=("attack", "eps", "defence"),
    columns=tuple(Column(c.head, c.cell, {"step": 5}) for c in NUMBERS),
)
SINGLE = Table(
    "One step (equations 3 and 4)",
    "One step on the classifier, or on the detector.",
    rows=("part", "budget", "title"),
    where={"kind": "table 3", "step": 1, "part": lambda p: p is not None and p.startswith(("Eq. 3", "Eq. 4"))},
    heads=("attack", "eps", "defence"),
    columns=NUMBERS,
)
TRAINING = Table(
    "Adversarial training (C14)",
    "Each round trains the detector on, from its weights, on naturals, black-box adversarials and every white-box set so far; the row is "
    "the attack remade against the new detector, on test images. Round 0: before.",
    rows=("against", "title", "round"),
    where={"kind": "hardened", "when": None},
    heads=("trained against", "defence", "round"),
    columns=NUMBERS,
)
RERUNS = Table(
    "The first and the last detector attacked independently once more",
    "Another loss, more steps, from a random start, at a strict threshold of its own, with the budget it was trained on; two of the three "
    "attacks are of a kind that it never saw. L2: of the first seed.",
    rows=("against", "title"),
    where={"kind": "hardened", "round": None},
    heads=("trained against", "defence"),
    columns=(
        Across(
            "when",
            (
                Across("attack", (Column("", "{success}"),), {**{m: m for m in METHODS}, "any": "any of them"}),
                Column("L2 it costs", "{cost}"),
            ),
            ("before", "after"),
        ),
    ),
)
