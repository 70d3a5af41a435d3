"""What image sets say by themselves: the classifier and the attacks, how far maps move, where gradients vanish, what maps keep.

Kinds: ``accuracy``; ``attack``; ``shift``, the paper's Tables 1 and 5 (``spread`` with the attack None: of the distances between
different images; ``pair``: between the maps under two attacks, ``part`` and ``against``); ``gradient`` (``attack`` None: naturals);
``map`` (``part``: the fill, or ``class 3``, with its ``class_number``; the training scheme ``trunk``: from the classifier's own).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metrics import Interval, Resamples, difference, rank_test, rate
from .names import own_trunk
from .place import Row, row
from .scores import Images, Scores

PARTS = ("shift", "noise", "class", "pixels", "true label")  # of a shift; the last three only where it was taken apart
HELD = ("MatchedNoise", "Transplant", "Reversed")  # controls that were measured with the class of the natural held as well
FIGURES = ("area", "fake_area", "kept", "kept_other", "destroyed", "destroyed_other", "emptied")
GAINS = {"kept-gain": ("kept", "kept_other"), "destroyed-gain": ("destroyed_other", "destroyed")}


def rows(s: Scores) -> list[Row]:
    """All image sets."""
    numbers: list[Row] = []
    natural = s.natural("test")
    numbers.append(row("accuracy", "accuracy", rate(s.draws, natural["id"], [natural["right"]]), [natural["key"]], protocol="any"))
    for protocol in ("published", "strict"):
        for x in s.attacked(protocol):
            _attack(numbers, s, x)
    kinds = {"shift": _shift, "gradients": _gradients, "sanity": _map}
    for x in s.images.values():
        if x["kind"] in kinds:
            kinds[x["kind"]](numbers, x)
    return numbers


def _attack(numbers: list[Row], s: Scores, x: Images) -> None:
    """Accuracy under an attack, how large its perturbations are, and which of its images count."""
    protocol, attack, ids, n = x["protocol"], x["attack"], x["id"], x["n"]
    right, changed = x["right"], x["changed"]

    def add(measure: str, found: Interval | float, *also: Images) -> None:
        numbers.append(row("attack", measure, found, [x["key"], *(o["key"] for o in also)], n, protocol=protocol, attack=attack))

    for measure, values in {"accuracy": x["predicted"] == x["label"], **{k: x[k] for k in ("changed", "rms", "linf", "l0")}}.items():
        add(measure, rate(s.draws, ids, [values]))
    for k in ("rms", "linf", "l0"):
        add(f"{k}-spread", float(np.std(x[k], ddof=1)))
    add("counts", float(x["evaluated"].sum()))
    add("natural-wrong", float((~right).sum()))
    add("unchanged", float((right & ~changed).sum()))
    add("over-budget", float((right & changed & ~x["in_budget"]).sum()))
    floats = s.images.get(f"published/test/{attack}")
    if floats is None:
        return
    if protocol == "strict":
        add("fooled-in-float-only", float((floats["changed"] & ~changed).sum()), floats)
    if "plain" in x:
        fooled = right & floats["changed"]
        add("survives-rounding", rate(s.draws, ids[fooled], [x["plain"][fooled]]), floats)
        add("survives-search", rate(s.draws, ids[fooled], [changed[fooled]]), floats)
        both = fooled & changed & (floats["rms"] > 0)
        add("search-cost", rate(s.draws, ids[both], [x["rms"][both] / floats["rms"][both]]), floats)


def _shift(numbers: list[Row], x: Images) -> None:
    """How far one saliency model's maps move under each attack, beside the distance between maps of different images."""
    draws = Resamples(x["id"])

    def add(measure: str, found: Any, **more: Any) -> None:
        value = rate(draws, x["id"], [found]) if isinstance(found, np.ndarray) else found
        numbers.append(row("shift", measure, value, [x["key"]], x["n"], protocol=x["protocol"], saliency=x["saliency"], **more))

    for measure in ("other", "same class", "true label", "other, class held"):
        if measure in x:
            add(measure, x[measure])
    add("spread", float(np.std(x["other"], ddof=1)))
    for i, a in enumerate(x["attacks"]):
        for part in (*PARTS, *(k for c in HELD if f"{a}/{c}" in x for k in (c, f"{c}, class held"))):
            if f"{a}/{part}" in x:
                add(part, x[f"{a}/{part}"], attack=a)
        add("spread", float(np.std(x[f"{a}/shift"], ddof=1)), attack=a)
        test = rank_test(x[f"{a}/shift"], x["other"])
        for measure, value in {"rank-biserial": test.effect, "p-two-sided": test.two_sided, "p-greater": test.greater}.items():
            add(measure, value, attack=a)
        add("beyond-noise", difference(draws, x["id"], [(x[f"{a}/shift"], x[f"{a}/noise"])]), attack=a)
        for b in x["attacks"][i + 1 :]:
            add("pair", x[f"{a}|{b}"], attack=f"{a}|{b}", part=a, against=b)


def _gradients(numbers: list[Row], x: Images) -> None:
    """Shares of images whose gradient is 0 everywhere (or, of the sum, below 1e-6)."""
    zero = {"logit": x["logit"] == 0, "probability": x["probability"] == 0, "sum": x["sum"] < 1e-6}
    draws = Resamples(x["id"])
    for k, v in zero.items():
        numbers.append(row("gradient", f"{k} is zero", rate(draws, x["id"], [v]), [x["key"]], protocol="any", attack=x["attack"]))


def _map(numbers: list[Row], x: Images) -> None:
    """What a saliency model's maps keep and destroy, under one fill of all images, or within each class that the classifier named."""
    rows: list[tuple[str, Any, int | None]] = [(x["fill"], slice(None), None)]
    if x.get("within"):
        rows = [(f"class {k}", x["predicted"] == k, int(k)) for k in np.unique(x["predicted"])]
    for part, mine, number in rows:
        ids = x["id"][mine]
        draws = Resamples(ids)
        found = {k: rate(draws, ids, [x[k][mine]]) for k in FIGURES}
        found |= {k: difference(draws, ids, [(x[a][mine], x[b][mine])]) for k, (a, b) in GAINS.items()}
        of = {"protocol": "any", "saliency": x["saliency"], "scheme": "trunk" if own_trunk(x["saliency"]) else None}
        for measure, value in found.items():
            numbers.append(row("map", measure, value, [x["key"]], **of, part=part, class_number=number))
