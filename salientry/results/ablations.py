"""What a detector reads, and what each part adds: the fusion taken apart, ablations of inputs and labels, maps and images exchanged.

Kinds: ``fusion`` (``part`` as it stands in the id; ``member`` is what is taken out or added, ``base`` whether of the ``whole`` fusion or to
the ``logits`` alone, ``adds`` whether the number is what it adds); ``input ablation`` (``scheme``: which, see ``INPUT_ABLATIONS``;
``paired``: none); ``mixed parts`` (strict, one seed: pixels, the image that goes into the map, and the class that the map is drawn for,
each natural or adversarial).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..metrics import Interval, auroc_interval, difference, interval, rate, rate_draws, share, with_few
from .detection import FEWEST, NAN, control, missing_controls, rate_gap, where
from .names import NATURAL, ORDINARY, fusion_of
from .place import Row, row
from .scores import Scores
from .trained import Array, Images, Trained

FACTORS = {"pixels": 0, "image into the map": 1, "selector class": 2}
INPUT_ABLATIONS = {
    "paired": "as it is",
    "random map": "maps are random values",
    "constant map": "maps are .5 everywhere",
    "another image's map": "each image has another image's map",
    "untrained decoder": "maps of a decoder that was never trained",
    "natural's class": "maps for the natural's predicted class, also under attack",
    "true class": "maps for the true class (the leak that the paper avoids)",
    "labels shuffled": "half of the training pairs have their labels exchanged",
    "gradient zeroed": "gradient channels are 0",
    "another image's gradient": "each image has another image's gradient",
}


def rows(s: Scores) -> list[Row]:
    """All that the records hold."""
    mixed = [r for x in s.images.values() if x["kind"] == "mixed parts" and x["evaluated"].sum() >= FEWEST for r in _mixed_parts(s, x)]
    return [*_fusion(s), *_input_ablations(s), *mixed]


def _fusion(s: Scores) -> list[Row]:
    """Nothing where the records hold no fusion of everything."""
    fused = {g.scheme: g for g in s.trained if g.detector == "Fused" and g.trained_on == "combined"}
    if "all" not in fused or missing_controls(s, [fused["all"]]):
        return []
    tests = [x for x in s.attacked("strict") if x["evaluated"].sum() >= FEWEST and x["attack"] in s.labels]
    out: list[Row] = []
    for g in fused.values():
        base, member = fusion_of(g.scheme)
        of = where(g) | {"base": base, "member": member, "adds": False}
        label = "all parts" if g.scheme == "all" else g.scheme
        detected = [[f[x["evaluated"]] for f in g.flags(x["name"], g.level)] for x in tests]
        out.append(row("fusion", "tpr", _mean(s, tests, detected), g.keys, **of, part=label, tested_on="mean over attacks"))
        if g.scheme != "all":
            control(out, s, g, "MatchedNoise", g.level)
        other = fused.get("all" if base == "whole" else "logits alone")
        if other is not None and g.scheme not in ("all", "logits alone"):
            more, fewer = (other, g) if base == "whole" else (g, other)
            out += _adds(s, more, fewer, tests, of | {"adds": True})
    return out


def _adds(s: Scores, more: Trained, fewer: Trained, tests: list[Images], of: Row) -> list[Row]:
    """Detection rate of the fusion with a part minus that of the one without it, by attack and in the mean."""
    of = of | {"part": f"{of['member']} adds{'' if of['base'] == 'whole' else ' to the logits'}"}
    keys, out, deltas = sorted({*more.keys, *fewer.keys}), [], []
    for x in tests:
        out.append(row("fusion", "tpr", rate_gap(s, more, fewer, x), keys, **of, tested_on=x["attack"]))
        flags = [[f[x["evaluated"]] for f in g.flags(x["name"], g.level)] for g in (more, fewer)]
        deltas.append([a.astype(float) - b for a, b in zip(*flags, strict=True)])
    return [*out, row("fusion", "tpr", _mean(s, tests, deltas), keys, **of, tested_on="mean over attacks")]


def _mean(s: Scores, tests: list[Images], values: list[list[Any]]) -> Interval:
    """The mean over attacks of each seed's mean value, images resampled together. ``values``: by attack and seed, (n,) each."""
    if not tests:
        return Interval(NAN, NAN, NAN, 0)
    weights = [s.draws.of(x["id"][x["evaluated"]]) for x in tests]
    seeds = range(len(values[0]))
    means = [float(np.mean([np.mean(v[k], dtype=float) for v in values])) for k in seeds]
    draws = [np.mean(np.stack([rate_draws(v[k], w) for v, w in zip(values, weights, strict=True)]), 0) for k in seeds]
    found = interval(means, draws, min(int(x["evaluated"].sum()) for x in tests))
    ids = [x["id"][x["evaluated"]] for x in tests]
    return share(found, *ids) if values[0][0].dtype == bool else with_few(found, list(zip(ids, values, strict=True)))


def _input_ablations(s: Scores) -> list[Row]:
    """Detectors of ablated inputs, each after the ordinary one that it is a control of; seed 0."""
    ablated = [g for g in s.trained if g.scheme in INPUT_ABLATIONS and g.scheme not in ORDINARY]
    out: list[Row] = []
    for detector, attack in dict.fromkeys((g.detector, g.trained_on) for g in ablated):
        ordinary = s.one("strict", detector, attack)
        if ordinary and missing_controls(s, [ordinary]):
            continue
        mine = [g for g in ablated if (g.detector, g.trained_on) == (detector, attack)]
        for g in [ordinary, *mine] if ordinary else mine:
            x = s.like(g)
            if x is None or not g.on(x["name"]) or x["evaluated"].sum() < FEWEST:
                continue
            c, of = x["evaluated"], where(g) | {"protocol": "strict", "tested_on": attack}
            runs = [(g.scores(NATURAL, x["name"])[0], g.scores(x["name"])[0][c])]
            out.append(row("input ablation", "auroc", auroc_interval(s.draws, s.natural("test")["id"], x["id"][c], runs), g.keys, **of))
            found = rate(s.draws, x["id"][c], [f[c] for f in g.flags(x["name"], g.level)[:1]])
            out.append(row("input ablation", f"tpr@{g.level}", found, g.keys, **of))
    return out


def _mixed_parts(s: Scores, x: Images) -> list[Row]:
    """One detector on one attack. A factor's number: what it alone changes in the share flagged, mean over the settings of the other two;
    ``own map minus another image's``: only this says "where"; with a flat map, everywhere the mean of the image's own, it is area alone.
    """
    g = s.one("strict", x["detector"], x["trained_on"], x["scheme"])
    if g is None:
        return []
    fitted = next(r for r in g.seeds if r.facts["seed"] == x["seed"])
    c, keys, of = x["evaluated"], [fitted.key, x["key"]], where(g) | {"protocol": "strict", "tested_on": x["attack"]}
    ids = x["id"][c]

    def flags(name: str) -> Array:
        return np.asarray(x[name][c] > fitted.thresholds[g.level], float)

    def gap(measure: str, more: Array, less: Array) -> Row:
        return row("mixed parts", measure, difference(s.draws, ids, [(more, less)]), keys, **of)

    def ranks(measure: str, natural: str, attacked: str) -> Row:
        return row("mixed parts", measure, auroc_interval(s.draws, ids, ids, [(x[natural][c], x[attacked][c])]), keys, **of)

    out = []
    for name, at in FACTORS.items():
        others = [tuple(o) for o in product("na", "na")]
        sides = [np.mean([flags("".join((*o[:at], k, *o[at:]))) for o in others], 0) for k in "an"]
        out.append(gap(name, *sides))
    return [
        *out,
        gap("adversarial minus natural", flags("aaa"), flags("nnn")),
        gap("own map minus another image's", flags("aaa"), flags("a other")),
        ranks("auroc", "nnn", "aaa"),
        ranks("auroc with another image's map", "n other", "a other"),
        ranks("auroc with a flat map", "n flat", "a flat"),
        gap("area", x["a area"][c], x["n area"][c]),
    ]
