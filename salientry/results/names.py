"""How records name things, older ones too; and what stands for them in tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..rates import grey_levels
from ..renamed import DETECTORS, KINDS, ROLES, renamed_title

TITLES = {"IDPlus": "ID+", "Fused": "fusion", "LearnedFusion": "learned fusion", "Cascade": "cascade"}
ARCHITECTURE = "architecture: "  # schemes of a search over them
ORDINARY = ("paired", "replica", "all", "trunk", "all 6n")  # the other training schemes are controls, and fusions without a part
WORDS = {  # what stands for a detector's title on a page, where records do not say it; the others are words already
    "SortedLogits": "sorted logits",
    "TopLogits": "top logits",
    "Margin": "linear margin",
    "Margin2": "logit margin",
    "PooledActivations": "activations",
    "LayerStatistics": "layer statistics",
    "ClassPresence": "class presence",
    "SecondNet": "second net",
    "SecondOpinion": "second opinion",
    "BlackShare": "black pixels",
    "HighFrequency": "fine structure",
    "Consistency": "consistency",
    "Masked": "masked answer",
    "Energy": "energy",
    "FeatureSqueezing": "feature squeezing",
    "KernelDensity": "kernel density",
    "DeepKNN": "deep kNN",
    "CounterAttack": "counter-attack",
    "FourierSpectrum": "Fourier spectrum",
    "LayerSpectrum": "Fourier spectrum of layers",
    "PValues": "p-values",
    "fusion with the map minus without": "the map adds to everything else",
    "logits with the map minus without": "the map adds to the logits alone",
    "SPD minus the best floor": "SPD minus the best baseline",
}
MANNERS = {"replica": "the paper's manner", "trunk": "trunk"}
MAPS = {
    "Gradient": "gradient",
    "GradientInput": "gradient × input",
    "GuidedBackprop": "guided backpropagation",
    "Gradient-of=prob": "gradient of the probability",
}
SAID: dict[str, dict[str, str]] = {k: {} for k in ("title", "words", "explained", "description")}  # what detectors say of themselves
NATURAL = "any/test/natural"
ATTACKS: dict[str, dict[str, Any]] = {  # what older records do not say of their attacks: today's classes say it
    "FGSM": {"norm": "linf", "strength": "weak"},
    "BIM": {"norm": "linf", "strength": "weak"},
    "MIM": {"norm": "linf", "strength": "weak"},
    "CarliniWagner": {"norm": "l2", "strength": "strong"},
    "DeepFool": {"norm": "l2", "strength": "strong"},
    "JSMA": {"norm": "l0", "strength": None},
}


def data_set(name: str) -> str:
    """A data set as commands name it, by what records call it: of ``Digits-roles=...`` it is ``digits``."""
    return name.split("-")[0].lower()


def architecture_of(scheme: str) -> str | None:
    """Which architecture a detector has whose training scheme says so; None for others."""
    return scheme.removeprefix(ARCHITECTURE) if scheme.startswith(ARCHITECTURE) else None


def fusion_of(scheme: str) -> tuple[str, str]:
    """What a fusion is of, by its scheme: all (``whole``) without a part, or the ``logits`` with one; and which part."""
    base = "logits" if scheme.startswith("logits ") else "whole"
    return base, scheme.removeprefix("logits ").removeprefix("without ").removeprefix("with ")


def set_name(name: str) -> str:
    """An image set's name with today's names of its kind, role and detector: ``any/fit/natural`` is ``any/train/natural``."""
    head, *rest = name.split("/")
    return "/".join([KINDS.get(head, head), *(ROLES.get(r, r) for r in rest[:1]), *(DETECTORS.get(r, r) for r in rest[1:])])


def heard(facts: Mapping[str, Any]) -> None:
    """Keep what a detector says of itself in records: its ``title`` by the name of its class, the rest, which older records have not, by
    its title.
    """
    name = facts["detector"]
    title = facts.get("title") or TITLES.get(name, name)
    SAID["title"][name] = title
    for kind in ("words", "explained", "description"):
        if words := facts.get(kind):
            SAID[kind][title] = words


def detector_title(detector: str, scheme: str, title: str | None = None) -> str:
    """A detector as it stands in a table: ``SMD``, ``SMD (replica)``. ``title``: what it says of itself; older records do not."""
    return (title or TITLES.get(detector, detector)) + ("" if scheme in ("paired", "all") else f" ({scheme})")


def attack_title(label: str) -> str:
    """An attack's label as it stands in a table: ``CarliniWagner-steps=60-...`` is ``C&W``, ``DeepFool-steps=2`` is ``DeepFool 2``."""
    head, *settings = label.split("-")
    if head == "DeepFool" and settings:
        return f"DeepFool {settings[0].removeprefix('steps=')}"
    if settings and settings[0].startswith("eps="):
        eps = float(settings[0].removeprefix("eps="))
        return f"{head} {grey_levels(eps) or f'{eps:g}'}"
    return {"CarliniWagner": "C&W"}.get(head, head)


def attack_facts(entry: dict[str, Any]) -> dict[str, Any]:
    """What one of the records' ``attacks`` says of itself: ``title``, ``norm`` (``linf``, ``l2``, ``l0``), ``strength`` (``weak``,
    ``strong``, in the paper's words), ``method`` (its class), ``reduced`` (weaker than the paper's). None where nobody knows.
    """
    nothing = {"title": attack_title(entry["label"]), "norm": None, "strength": None}
    known = nothing | ATTACKS.get(entry["attack"], {}) | {"method": entry["attack"], "reduced": entry["reduced"]}
    return known | {k: entry[k] for k in nothing if k in entry}


def kind_title(label: str) -> str:
    """An attack's name whatever its settings, where a column of a table holds one of each kind: ``FGSM-eps=0.025`` is ``FGSM``."""
    return attack_title(label.split("-")[0])


def own_trunk(saliency: str) -> bool:
    """Whether a saliency model of this label draws from the attacked classifier's own trunk."""
    return "-own=True" in saliency


def detector_words(title: str) -> str:
    """A detector's title as a page prints it: ``Margin2`` is ``logit margin``, ``SPD (replica)`` is ``SPD (the paper's manner)``."""
    head, _, inside = title.partition(" (")
    inside = inside.removesuffix(")")
    if which := architecture_of(inside):
        return f"{_words(head)}, {which}"
    return _words(head) + (f" ({MANNERS.get(inside, inside)})" if inside else "")


def _words(head: str) -> str:
    return SAID["words"].get(head) or WORDS.get(head, head)


def map_words(saliency: str) -> str:
    """A saliency model's label as a page prints it."""
    return MAPS.get(saliency) or ("learnt map, classifier's trunk" if own_trunk(saliency) else "learnt map")


def detector_class(name: str) -> str:
    """A detector's class, as choices of a guard and lists of networks name it, as a page prints it: ``IDPlus`` is ``ID+``, ``Exists``, its
    older name, is ``class presence``, ``SMD (replica)`` is ``SMD (the paper's manner)``.
    """
    head, space, rest = renamed_title(name, DETECTORS).partition(" ")
    return detector_words((SAID["title"].get(head) or TITLES.get(head, head)) + space + rest)


def in_words(text: str) -> str:
    """A sentence without keys: labels of attacks and maps and names of classes become what a page prints for them."""
    text = re.sub(r"\b[A-Z]\w*(?:-[a-z_]+=[^\s,;:|<>()]+)+", lambda m: _label_words(m[0]), text)
    names = sorted({*TITLES, *WORDS, *SAID["words"]}, key=len, reverse=True)
    return re.sub(rf"\b(?:{'|'.join(map(re.escape, names))})\b", lambda m: detector_class(m[0]), text)


def _label_words(label: str) -> str:
    return map_words(label) if label.startswith(("UNet", "Gradient")) else attack_title(label)
