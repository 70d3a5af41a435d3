"""How a detector does on what it was not trained on: other images, and a kind of attack that was left out of its training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..learned import frozen
from ..progress import ticking
from ..protocol import GUARD
from ..rows import Rows
from ..runner.step import Found, step
from .scoring import scores_of_rows, set_name
from .steps import fit_detector

NATURAL, SEEN = "natural", "trained on, "  # names of p-values; the second before a set's name
NONE = -1  # no kind of attack is left out


def folds_of(rows: Rows, folds: int) -> NDArray[np.int64]:
    """(N,) the fold of each image, by its id; where images come in groups, by their group: an image, its twins and its group are always
    in one.
    """
    if "group" not in rows:
        return np.array([int(i[:8], 16) % folds for i in rows.ids], np.int64)
    kinds, which = np.unique(rows.column("group"), return_inverse=True)
    order = np.random.default_rng(0).permutation(len(kinds))
    return np.asarray(order[which] % folds, np.int64)


def drawn_of(rows: Rows) -> NDArray[np.int64]:
    """(N,) which of several attacks, or changes, each image has met; 0 where there is one."""
    return rows.column("drawn").astype(np.int64) if "drawn" in rows else np.zeros(len(rows), np.int64)


def kept(rows: Rows, keep: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Rows:
    """The rows to ``keep``; of them those are evaluated that are ``counted`` too."""
    return rows.widen({"evaluated": rows.column("evaluated") & counted}, {}).take(np.flatnonzero(keep))


def stayed(rows: Rows, keep: NDArray[np.bool_] | bool = True) -> Rows:
    """Harmlessly changed images on which the classifier's answer is the natural's, right or wrong."""
    return rows.take(np.flatnonzero(~rows.column("changed") & keep))


@step("keep_unchanged", stored=False)
def unchanged(rows: Rows) -> Rows:
    """Harmlessly changed images on which the answer stayed: what a detector is told not to flag."""
    return stayed(rows)


@step("cross_fit")
def cross_fit(
    natural: Rows,
    attacked: list[Rows],
    harmless: list[Rows],
    settings: Any,
    tried: list[Rows] | None = None,
    classifier: nn.Module | None = None,
    training: Rows | None = None,
    *,
    folds: int = 2,
    seed: int,
) -> Found:
    """How suspicious each image is to a detector that saw neither it nor its kind of attack.

    For each fold of the images and each kind of attack, the detector is trained on the other folds and the other kinds, and scores what
    was left out; and once on the other folds and all kinds. A score becomes the share of the fold's naturals that score as high: its
    p-value, which needs no threshold.

    Args:
        natural: naturals with the evidence that the detector reads.
        attacked: their twins, aligned; ``drawn`` says which kind of attack each image met.
        harmless: the same naturals changed harmlessly, aligned.
        settings: of the detector.
        tried: more attacked images, aligned, that it is only tried on.
        classifier: for a detector that asks it about other images.
        training: naturals that the classifier was trained on, likewise.
        folds: at least 2.
        seed: of the training.

    Returns:
        (N,) p-values by set name, nan where an image does not count, of detectors that saw no such attack; after ``SEEN`` of those that
        saw all kinds; those of naturals and of harmless images are means over all.

    Raises:
        UsageError: when too few images can be trained on.
    """
    fold, kinds = folds_of(natural, folds), sorted({int(k) for a in attacked for k in np.unique(drawn_of(a))})
    every = [*attacked, *(tried or [])]
    sets = {set_name(r.facts): r for r in (*every, *harmless)}
    sums = {n: np.zeros(len(natural)) for n in (NATURAL, *sets, *(SEEN + set_name(a.facts) for a in every))}
    times = {n: np.zeros(len(natural)) for n in sums}
    plans = [(k, kind) for k in range(folds) for kind in ([*kinds, NONE] if len(kinds) > 1 else [NONE])]
    for k, kind in ticking(plans, len(plans)):
        mine, others = fold == k, [drawn_of(a) != kind for a in attacked]
        detector = _trained(natural, attacked, harmless, settings, classifier, training, ~mine, others, seed)
        scores = _scores(detector, natural.take(np.flatnonzero(mine)), classifier)
        ranked = np.sort(scores)
        todo: list[tuple[str, Rows, NDArray[np.bool_]]] = [(NATURAL, natural, np.ones(len(natural), bool))]
        if kind == NONE:
            todo += [(SEEN + set_name(a.facts), a, a.column("evaluated")) for a in every]
        else:
            todo += [(set_name(a.facts), a, a.column("evaluated") & (drawn_of(a) == kind)) for a in every]
        todo += [(set_name(h.facts), h, ~h.column("changed")) for h in harmless]
        for name, rows, counts in todo:
            at = np.flatnonzero(mine & counts)
            if len(at):
                found = scores if name == NATURAL else _scores(detector, rows.take(at), classifier)
                above = len(ranked) - np.searchsorted(ranked, found)
                sums[name][at] += (above + (name != NATURAL)) / (len(ranked) + (name != NATURAL))
                times[name][at] += 1
    return Found(None, {n: np.where(times[n] > 0, sums[n] / np.maximum(times[n], 1), np.nan) for n in sums})


def _trained(
    natural: Rows,
    attacked: list[Rows],
    harmless: list[Rows],
    settings: Any,
    classifier: nn.Module | None,
    training: Rows | None,
    keep: NDArray[np.bool_],
    others: list[NDArray[np.bool_]],
    seed: int,
) -> nn.Module:
    """The detector, trained on some of the images and some of the attacks."""
    twins = [kept(a, keep, o) for a, o in zip(attacked, others, strict=True)]
    copies = [stayed(h, keep) for h in harmless] if "copies" in settings.needs else None
    given = {"training": training, "copies": copies, "classifier": classifier, "mixture": "all", "seed": seed}
    found: nn.Module = fit_detector.function(natural.take(np.flatnonzero(keep)), twins, settings, GUARD, **given)
    return found


def _scores(detector: nn.Module, rows: Rows, classifier: nn.Module | None) -> NDArray[Any]:
    """(n,) scores of stored images."""
    with frozen(detector, classifier), torch.no_grad():
        return scores_of_rows(detector, rows, classifier)
