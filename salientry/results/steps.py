"""Detectors along a line of settings: the budget of their attack, and from the published protocol to the strict one.

Kinds: ``sweep``, balanced accuracy at the head's own 0, trained on FGSM with the budget ``trained_at`` and tested with ``tested_at``;
``sweep fit``, measure ``half``: the budget at which a fitted curve passes .75, with the curve's ``slope``, and ``beyond``: whether it lies
above all budgets that were tried; ``protocol step``: ``step`` 0 to 6, ``part`` what changes, ``untrained`` heads of which the last mean
loss is that of a coin.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..metrics import Floats, Interval, auroc_interval, balanced_accuracy, interval, rate_draws
from .detection import FEWEST, NAN, where
from .names import NATURAL
from .place import Row, row
from .scores import Scores, Trained

FAR = np.geomspace(1e-4, 1.0, 161)  # budgets at which a fitted curve may pass half of its way
STEEP = np.geomspace(0.5, 64.0, 29)  # its slopes, per factor e of the budget
UNTRAINED = 0.69  # a mean loss of the last pass above this is that of a coin
FIRST = "protocol step 0"
STEPS = (  # what changes, whose training scheme it is, the protocol of its images, whether its threshold is calibrated
    ("as published: float32, all count, own 0; heads on the classifier's images, no batch norm, unpaired", FIRST, "published", False),
    ("only adversarials that fool count, in training and test", "protocol step 1", "fooling", False),
    ("8-bit images", "protocol step 2", "strict", False),
    ("threshold from calibration naturals (FPR ≤ 5 %, PAC)", "protocol step 2", "strict", True),
    ("heads on images that the classifier was not trained on", "protocol step 4", "strict", True),
    ("batch norm and a one-cycle rate", "protocol step 5", "strict", True),
    ("paired batches: the strict detector", "paired", "strict", True),
)  # fmt: skip


def rows(s: Scores) -> list[Row]:
    """All that the records hold."""
    swept = [g for g in s.trained if g.scheme == "sweep"]
    first = dict.fromkeys((g.detector, g.trained_on) for g in s.trained if g.scheme == FIRST)
    curves = [r for d in dict.fromkeys(g.detector for g in swept) for r in _sweep(s, [g for g in swept if g.detector == d])]
    return [*curves, *(r for d, a in first for r in _protocol_steps(s, d, a))]


def _sweep(s: Scores, trained: list[Trained]) -> Iterator[Row]:
    """One detector. The curve's interval: of the same resamples at every budget."""
    ids = s.natural("test")["id"]
    diagonal: list[tuple[float, float, Floats, list[str]]] = []
    for g in trained:
        at = float(s.images[f"published/test/{g.trained_on}"]["eps"])
        for x in s.images.values():
            if x.get("protocol") != "published" or x["role"] != "test" or not g.on(x["name"]):
                continue
            flags = list(zip(g.flags(NATURAL, "own", x["name"]), g.flags(x["name"], "own", NATURAL), strict=True))
            found, of = balanced_accuracy(s.draws, ids, x["id"], flags), where(g) | {"trained_at": at, "tested_at": float(x["eps"])}
            yield row("sweep", "accuracy", found, [*g.keys, x["key"]], **of, tested_on=x["attack"])
            if at == of["tested_at"]:
                n, a = flags[0]
                draws = (1 - rate_draws(n, s.draws.of(ids)) + rate_draws(a, s.draws.of(x["id"]))) / 2
                diagonal.append((at, found.value, draws, g.keys))
    diagonal.sort(key=lambda d: d[0])
    eps = np.array([d[0] for d in diagonal])
    half, slope = (float(v[0]) for v in fit(eps, np.array([[d[1] for d in diagonal]])))
    ends = fit(eps, np.stack([d[2] for d in diagonal]).T)[0]
    found = interval([half], [ends], len(ids)) if np.isfinite(half) else Interval(NAN, NAN, NAN, len(ids))
    keys = sorted({k for d in diagonal for k in d[3]})
    of = where(trained[0]) | {"trained_on": None, "slope": slope, "beyond": bool(half > eps.max())}
    yield row("sweep fit", "half", found, keys, **of)


def fit(eps: Floats, accuracy: Floats) -> tuple[Floats, Floats]:
    """Logistic curves .5 + .5 / (1 + (half / eps)^slope), by least squares on a grid.

    Args:
        eps: (B,) budgets.
        accuracy: (R, B) accuracies.

    Returns:
        (R,) budgets at half of the way, and (R,) slopes; a curve that never leaves chance has its half at the end of the grid.
    """
    half, slope = (v.ravel() for v in np.meshgrid(FAR, STEEP, indexing="ij"))
    shapes = curve(eps[None], half[:, None], slope[:, None])
    errors = (shapes**2).sum(1)[None] - 2 * np.asarray(accuracy, float) @ shapes.T  # what does not depend on the curve is left out
    good = errors <= errors.min(1, keepdims=True) + 1e-9
    best = good.shape[1] - 1 - good[:, ::-1].argmax(1)  # of equals the one with its half farthest out
    return half[best], slope[best]


def curve(eps: Floats, half: Floats | float, slope: Floats | float) -> Floats:
    """Accuracy of such a curve."""
    return np.asarray(0.5 + 0.5 / (1 + (half / eps) ** slope))


def _protocol_steps(s: Scores, detector: str, attack: str) -> Iterator[Row]:
    """One detector on one attack."""
    ids = s.natural("test")["id"]
    for k, (change, scheme, protocol, calibrated) in enumerate(STEPS):
        g, x = s.one(protocol, detector, attack, scheme), s.images.get(f"{protocol}/test/{attack}")
        if g is None or x is None or x["evaluated"].sum() < FEWEST:
            continue
        c, level = x["evaluated"], g.level if calibrated else "own"
        lost = sum(bool(r.curve) and float(np.asarray(r.curve)[-1]) > UNTRAINED for r in g.seeds)
        of = where(g) | {"tested_on": attack, "step": k, "part": change, "untrained": f"{lost}/{len(g.seeds)}" if lost else ""}
        flags = [(n, f[c]) for n, f in zip(g.flags(NATURAL, level), g.flags(x["name"], level), strict=True)]
        scores = [(n, a[c]) for n, a in zip(g.scores(NATURAL), g.scores(x["name"]), strict=True)]
        keys = [*g.keys, x["key"]]
        yield row("protocol step", "accuracy", balanced_accuracy(s.draws, ids, x["id"][c], flags), keys, **of)
        yield row("protocol step", "auroc", auroc_interval(s.draws, ids, x["id"][c], scores), keys, **of)
