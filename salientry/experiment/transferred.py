"""Attacked images that were made on another network: what somebody has who does not have the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attacks import MIM, PGD
from ..classifiers import CompactCNN
from ..protocol import EvaluationProtocol
from ..rows import Rows
from ..runner.step import Handle, step
from .image_sets import ImageSets
from .steps import attack_images, quantize_and_mark, train_classifier

SOURCE = CompactCNN()  # trained on the images that the guard learns from
FEWEST, A_CLASS = 1_000, 20  # images to train it on, and of a class: from fewer it learns too little
LARGEST = 64  # pixels of a side: else it takes too long


@dataclass(frozen=True)
class Elsewhere:
    """An attack that is made on another network.

    Attributes:
        attack: which.
    """

    attack: Any

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return f"{self.attack.title} on another network"


def default_elsewhere(shape: tuple[int, ...], classes: int, learnt: int) -> tuple[Elsewhere, ...]:
    """What a guard learns from beside attacks on its classifier: of random sizes, and along a sum of gradients, which transfers better.

    Args:
        shape: (C, H, W) of the images.
        classes: K.
        learnt: images to learn from.

    Returns:
        None where there are too few images for a network of the guard's own, or too large ones.
    """
    if learnt < max(FEWEST, A_CLASS * classes) or max(shape[1:]) > LARGEST:
        return ()
    eps = 0.3 if shape[0] == 1 else 8 / 255
    return Elsewhere(PGD(eps=eps, lowest=eps / 2)), Elsewhere(MIM(eps=eps, step_size=eps / 4))


@step("made_elsewhere", stored=False)
def made_elsewhere(rows: Rows, kind: int) -> Rows:
    """Attacked images under a name and a number of their own, so that they are told from those of the same attack on the classifier."""
    return rows.widen({"drawn": np.full(len(rows), kind, np.int64)}, {"attack": f"{rows.facts['attack']} on another network"})


def attacked_elsewhere(sets: ImageSets, how: Elsewhere, kind: int, role: str, protocol: EvaluationProtocol) -> Handle:
    """The stored images of an attack on a network that is trained on the images of *detector_train*.

    Args:
        sets: of the run.
        how: which attack.
        kind: its number among all attacks.
        role: of the images that are attacked.
        protocol: of storage, and what counts.
    """
    run, natural = sets.run, sets.natural[role]
    source = run.do(train_classifier, sets.natural["detector_train"], SOURCE)
    unstored = run.do(attack_images, natural, source, how.attack)
    return run.do(made_elsewhere, run.do(quantize_and_mark, unstored, natural, sets.classifier, protocol), kind)
