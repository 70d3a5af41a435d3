"""Classifiers and images that are at hand: detectors judged on them can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..classifiers import CompactCNN
from ..datasets import Digits
from ..experiment.run import Run
from ..experiment.steps import train_classifier
from ..recipes.fast import CONFIGS
from ..runner.graph import Listener
from ..store import one_of

MOST = 3_000  # images
ROLES = ("detector_train", "validation", "calibration", "test")  # that the classifier was not trained on


@dataclass(frozen=True)
class Recorded:
    """A classifier of the recipe ``fast``, or of the digits, with images that it was not trained on.

    Attributes:
        classifier: trained.
        images: uint8 (N, C, H, W), at most :data:`MOST`.
        labels: (N,).
    """

    classifier: nn.Module
    images: Tensor
    labels: Tensor


def recorded(name: str, run: Run, listener: Listener | None = None, most: int = MOST, classifier: Any = None) -> Recorded:
    """The classifier of a data set, trained in the run's store where it is not there yet, as the recipe ``fast`` does.

    Args:
        name: ``digits``, ``mnist``, ``cifar10`` or ``assira``.
        run: where it is written down.
        listener: hears of the steps.
        most: images.
        classifier: settings of another one, trained on the same images; None: the recipe's.

    Raises:
        UsageError: for another name.
        DataMissing: when the data set is not here.
    """
    one_of("data set", name, ("digits", *CONFIGS))
    settings: Any = (Digits(), CompactCNN(epochs=4)) if name == "digits" else (CONFIGS[name].data, CONFIGS[name].classifier)
    data = run.dataset(settings[0])
    net, roles = (
        run.do(train_classifier, data["train"], classifier or settings[1]),
        [data[r] for r in ROLES if getattr(settings[0].roles, r)],
    )
    run.compute([net, *roles], listener)
    rows = [run.get(r) for r in roles]
    images, labels = (torch.from_numpy(np.concatenate([r.column(n) for r in rows])[-most:]) for n in ("image", "label"))
    return Recorded(run.get(net), images, labels)


__all__ = ["Recorded", "recorded"]
