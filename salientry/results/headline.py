"""What a page answers first: what the map finds, what finds as much without it, and whether the paper's sign comes again.

Kind ``headline``. Strict, by training attack, ``measure`` ``difference`` and ``title`` the two that are compared: differences in the
detection rate, paired by image; and of the fusion without the map, which stands in no other table, its rates and controls. Published,
``title`` ``SPD``, ``ID`` and ``SPD minus ID``: accuracies and their difference where the paper says that SPD detects and ID does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..metrics import balanced_accuracy, difference, rate
from .detection import FEWEST, Together, rate_gap, together
from .place import NOISE, Row, row
from .scores import Scores
from .trained import Images, Trained

WEAK = "FGSM"  # the attack that the strong ones are tried from
WITHOUT = "fusion without the map"


def rows(s: Scores) -> Iterator[Row]:
    """All of it; none where the records hold no fusion for an attack."""
    fused = [g.trained_on for g in s.trained if g.detector == "Fused" and g.scheme == "all"]
    wanted = [t for t in together(s) if t.protocol == "strict" and t.trained_on in fused and not t.missing]
    if not any(t.trained_on != "combined" for t in wanted):
        return
    for t in sorted(wanted, key=lambda t: t.trained_on == "combined"):
        attacked = s.like(t.trained[0])
        if attacked is not None and attacked["evaluated"].sum() >= FEWEST:
            yield from _gains(s, t, attacked)
            yield from _without(s, t.trained_on, attacked)
    yield from _signs(s)


def _gains(s: Scores, t: Together, attacked: Images) -> Iterator[Row]:
    """Differences in the detection rate, paired by image, mean over seeds."""
    of = {g.title: g for g in t.trained}
    fused = {f: s.one("strict", "Fused", t.trained_on, f) for f in ("without the map", "logits alone", "logits with the map")}
    pairs = {
        "SPD minus the best floor": (of.get("SPD"), t.baseline),
        "SPD minus ID+": (of.get("SPD"), of.get("ID+")),
        "fusion with the map minus without": (of.get("fusion"), fused["without the map"]),
        "logits with the map minus without": (fused["logits with the map"], fused["logits alone"]),
    }
    for title, (a, b) in pairs.items():
        if a is not None and b is not None:
            found, keys = rate_gap(s, a, b, attacked), sorted({*a.keys, *b.keys})
            yield row("headline", "difference", found, keys, protocol="strict", trained_on=t.trained_on, title=title)


def _without(s: Scores, trained_on: str, attacked: Images) -> Iterator[Row]:
    """The fusion without the map."""
    g, natural = s.one("strict", "Fused", trained_on, "without the map"), s.natural("test")
    if g is None:
        return
    place: dict[str, Any] = {"protocol": "strict", "trained_on": trained_on, "title": WITHOUT, "detector": "Fused", "scheme": g.scheme}
    evaluated, level = attacked["evaluated"], g.level
    found = [f[evaluated] for f in g.flags(attacked["name"], level)]
    yield row("headline", f"tpr@{level}", rate(s.draws, attacked["id"][evaluated], found), g.keys, **place)
    yield row("headline", f"fpr@{level}", rate(s.draws, natural["id"], g.flags(natural["name"], level)), g.keys, **place)
    for kind, measure in (("MatchedNoise", NOISE), ("Transplant", "Transplant/excess-flags-on-unchanged")):
        i = s.like(g, control=kind)
        if i is None or not g.on(i["name"]):
            continue
        same = ~i["changed"]
        pairs = zip(g.flags(i["name"], level), g.flags(natural["name"], level), strict=False)
        more = difference(s.draws, i["id"][same], [(a[same], b[same]) for a, b in pairs])
        yield row("headline", measure, more, [*g.keys, i["key"]], **place)


def _signs(s: Scores) -> Iterator[Row]:
    """SPD minus ID on C&W and DeepFool, trained on themselves and on FGSM; the paper's own manner of training first."""
    small = [a for a in s.labels if s.attacks[a]["strength"] == "strong"]
    weak = [a for a in s.labels if s.attacks[a]["method"] == WEAK][:1]
    for scheme in ("replica", "paired"):
        for trained, tested in [(a, a) for a in small] + [(w, a) for w in weak for a in small]:
            spd, image = (s.one("published", d, trained, scheme) for d in ("SPD", "ID"))
            i = s.images.get(f"published/test/{tested}")
            if spd is not None and image is not None and i is not None and spd.on(i["name"]) and image.on(i["name"]):
                yield from _sign(s, (spd, image), i)


def _sign(s: Scores, two: tuple[Trained, Trained], i: Images) -> Iterator[Row]:
    natural = s.natural("test")
    place: dict[str, Any] = {"protocol": "published", "scheme": two[0].scheme, "trained_on": two[0].trained_on, "tested_on": i["attack"]}
    flags = [list(zip(g.flags(natural["name"], "own"), g.flags(i["name"], "own"), strict=True)) for g in two]
    for g, f in zip(two, flags, strict=True):
        found = balanced_accuracy(s.draws, natural["id"], i["id"], f)
        yield row("headline", "accuracy", found, g.keys, title=g.detector, detector=g.detector, **place)
    # every image is natural once and adversarial once: what is right of both halves, image by image
    right = [[(1.0 - n + a) / 2 for n, a in f] for f in flags]
    gap = difference(s.draws, natural["id"], list(zip(*right, strict=True)))
    yield row("headline", "difference", gap, sorted({*two[0].keys, *two[1].keys}), title="SPD minus ID", **place)
