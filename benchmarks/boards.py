"""The classifiers of the leaderboard: on which images, beside which other network, and how many images that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from salientry.attacks import BIM
from salientry.classifiers import AdversariallyTrained, CompactCNN, PictureCNN, ResidualCNN
from salientry.datasets import ASSIRA
from salientry.detectors import PASA, CounterAttack
from salientry.judging import PUBLISHED, QUICK
from salientry.judging.baselines import ASKING
from salientry.recipes.fast import NET

COMPACT = CompactCNN(epochs=4)


@dataclass(frozen=True)
class Board:
    """A classifier and images that it was not trained on.

    Attributes:
        title: of its part of the page.
        data: whose images, as ``salientry judge --on`` names them.
        second: settings of the other network, of another kind, that a second opinion asks.
        asks: what that is, in words.
        classifier: settings; None: the recipe's.
        settings: of the data; None: the recipe's.
        images: how many are used, unless another number is asked for.
        adaptive: how many are attacked by somebody who knows the detector, likewise.
        without: detectors that are not judged, with the reason.
    """

    title: str
    data: str
    second: Any
    asks: str
    classifier: Any = None
    settings: Any = None
    images: int = 3_000
    adaptive: int = 64
    without: tuple[tuple[str, str], ...] = ()

    @property
    def detectors(self) -> dict[str, Any]:
        """Settings by name."""
        left_out = dict(self.without)
        return {n: d for n, d in (QUICK | PUBLISHED | ASKING).items() if n not in left_out}


BOARDS = {
    "cifar10": Board("CIFAR-10, the network of the recipe fast", "cifar10", COMPACT, "the compact network"),
    "cifar10-compact": Board("CIFAR-10, compact network", "cifar10", NET, "the network of the recipe fast", COMPACT),
    "cifar10-robust": Board(
        "CIFAR-10, compact network trained on BIM 4/255",
        "cifar10",
        NET,
        "the network of the recipe fast",
        AdversariallyTrained(COMPACT, BIM(4 / 255, 1 / 255, 5)),
    ),
    "assira": Board("ASSIRA, the network of the recipe fast, 112 px", "assira", CompactCNN(), "a compact network"),
    "assira-224": Board(
        "ASSIRA, a network for pictures of 224 px",
        "assira",
        CompactCNN(),
        "a compact network",
        PictureCNN(width=8, stages=5),
        ASSIRA(size=224),
        images=600,
        adaptive=16,
        without=(
            ("PASA", f"{PASA().passes} passes of such pictures for each image"),
            ("counter-attack", f"{CounterAttack().passes} passes of such pictures for each image"),
        ),
    ),
    "digits": Board(
        "Digits, compact network", "digits", ResidualCNN(epochs=10, flip=False), "a residual network", images=2_000, adaptive=48
    ),
}
