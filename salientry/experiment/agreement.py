"""What a second network is worth: how often it is right on the guard's own images, and how often it gives the classifier's answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..inference import exact_share
from ..learned import with_facts
from ..rates import measured
from ..runner.step import Handle
from ..store import JSON
from .run import Run

MANY = 50  # images from which chance and knowledge can be distinguished
COPIED = 5  # mistakes that two networks do not share by accident, when they agree on all else
NEARLY_ALL = 0.9  # of the classifier's mistakes; so many are right only by a network that saw these images, or is far better
OF_OTHERS = 0.98  # of the images that the classifier is right on, likewise
CHANCE = 3.0  # standard deviations


@dataclass(frozen=True)
class Second:
    """The second network of a fit.

    Attributes:
        handle: the network.
        given: the one that the user gave; None: it is trained here.
        facts: what is known of its training; None where it was given.
        seconds: expected, by key, of what its training computes.
    """

    handle: Handle
    given: nn.Module | None = None
    facts: JSON = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What is trained."""
        return f"a second network, trained on {self.facts['learnt']} of {self.facts['images']:,} images"

    def network(self, run: Run) -> nn.Module:
        """The one that was given, or the trained one, which is marked as the guard's own."""
        return with_facts(run.get(self.handle), second=self.facts) if self.given is None else self.given


def agreement(labels: NDArray[np.int64], answers: NDArray[np.int64], theirs: NDArray[np.int64]) -> JSON:
    """Counts, each (so many, of so many), and what is wrong with the network, if that can be seen.

    Args:
        labels: (N,) true classes.
        answers: (N,) of the classifier.
        theirs: (N,) of the second network.
    """
    wrong, right = answers != labels, theirs == labels
    found = {"right": _count(right), "agrees": _count(theirs == answers), "mistakes": _count(right[wrong])}
    return found | {"doubt": doubt(found["right"], found["agrees"], found["mistakes"], by_chance(labels, theirs))}


def by_chance(labels: NDArray[np.int64], theirs: NDArray[np.int64]) -> float:
    """The share that is right when the same answers are given in random order."""
    k = int(max(labels.max(), theirs.max())) + 1 if len(labels) else 1
    return float(np.bincount(labels, minlength=k) @ np.bincount(theirs, minlength=k)) / max(len(labels), 1) ** 2


def doubt(right: list[int], agrees: list[int], mistakes: list[int], chance: float) -> str:
    """One sentence on a network that should not be asked; empty for one on which nothing is seen.

    A network that learnt these very images is right on nearly all of the classifier's mistakes among them: one that never saw them finds
    the same images hard. One that learnt them in part, without being right on nearly all, cannot be told from one that is better.

    Args:
        right: images that the second network is right on, of how many.
        agrees: those that it gives the classifier's answer on, of how many.
        mistakes: those of the classifier's mistakes that it is right on, of how many.
        chance: share that is right by chance.
    """
    (k, n), (mended, missed) = right, mistakes
    if n >= MANY and k <= n * chance + CHANCE * (n * chance * (1 - chance)) ** 0.5:
        return (
            f"it is right on {k} of {n} of these images, hardly more than by chance ({measured(chance, 1)}): are its classes numbered in "
            "another order, or its inputs scaled in another way?"
        )
    if agrees[0] == n >= MANY and missed - mended >= COPIED:
        return f"it gives the classifier's answer on all {n} of these images, {missed} wrong ones among them: it is no second opinion"
    others = (k - mended) / max(n - missed, 1)
    if missed and exact_share(mended, missed)[0] > NEARLY_ALL and others >= OF_OTHERS:
        return (
            f"it is right on {mended} of the {missed} images that the classifier is wrong on, as one is that was trained on these very "
            "images. If it was, it agrees less on new ones, where the guard finds far less than is measured here: give one that has not "
            "seen them (if it is so much better, it had better be the classifier)"
        )
    return ""


def _count(flags: NDArray[Any]) -> list[int]:
    return [int(flags.sum()), len(flags)]


def agreement_of(run: Run, opinions: list[Handle]) -> JSON:
    """:func:`agreement` on stored images with the second network's logits."""
    rows = [run.get(h) for h in opinions]
    labels, answers = (np.concatenate([r.column(name) for r in rows]) for name in ("label", "predicted"))
    return agreement(labels, answers, np.concatenate([r.column("second_logits").argmax(1) for r in rows]))


__all__ = ["agreement", "agreement_of", "doubt"]
