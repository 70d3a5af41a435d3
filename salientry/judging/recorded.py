"""Classifiers and images that are at hand: detectors judged on them can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..batches import RowImages
from ..classifiers import CompactCNN
from ..datasets import Digits
from ..experiment.expected import training_seconds
from ..experiment.run import Run
from ..experiment.steps import train_classifier
from ..keys import label
from ..recipes.fast import CONFIGS
from ..runner.graph import Listener
from ..store import one_of
from ..types import shape_of

MOST = 3_000  # images
ROLES = ("detector_train", "validation", "calibration", "test")  # that the classifier was not trained on


@dataclass(frozen=True)
class Recorded:
    """A classifier of the recipe ``fast``, or of the digits, with images that it was not trained on.

    Attributes:
        classifier: trained.
        images: uint8 (N, C, H, W), at most :data:`MOST`.
        labels: (N,).
        second: another one, trained on the same images; None: none was asked for.
    """

    classifier: nn.Module
    images: Tensor
    labels: Tensor
    second: nn.Module | None = None


def recorded(
    name: str,
    run: Run,
    listener: Listener | None = None,
    most: int = MOST,
    classifier: Any = None,
    data: Any = None,
    second: Any = None,
    say: Callable[[str], Any] | None = None,
) -> Recorded:
    """The classifier of a data set, trained in the run's store where it is not there yet, as the recipe ``fast`` does.

    Args:
        name: ``digits``, ``mnist``, ``cifar10`` or ``assira``.
        run: where it is written down.
        listener: hears of the steps.
        most: images.
        classifier: settings of another one, trained on the same images; None: the recipe's.
        data: settings of the data set; None: the recipe's.
        second: settings of another classifier beside it; None: there is none.
        say: hears what training will take, where something must be trained.

    Raises:
        UsageError: for another name.
        DataMissing: when the data set is not here.
    """
    one_of("data set", name, ("digits", *CONFIGS))
    usual: Any = (Digits(), CompactCNN(epochs=4)) if name == "digits" else (CONFIGS[name].data, CONFIGS[name].classifier)
    found = run.dataset(data or usual[0])
    roles = [found[r] for r in ROLES if getattr((data or usual[0]).roles, r)]
    settings = [classifier or usual[1], *([] if second is None else [second])]
    nets = [run.do(train_classifier, found["train"], s) for s in settings]
    run.compute(roles, listener)
    rows = [run.get(r) for r in roles]
    if say is not None and (todo := run.missing(nets)):
        shape, count = shape_of(RowImages(rows[0]), rows[0].facts["classes"]), len(run.get(found["train"]))
        seconds = sum(training_seconds(h.args["settings"], shape, count) for h in todo if h.step is train_classifier)
        say(f"expected first: about {seconds / 60:.0f} min of one core to train {' and '.join(label(h.args['settings']) for h in todo)}")
    run.compute(nets, listener)
    images, labels = (torch.from_numpy(np.concatenate([r.column(n) for r in rows])[-most:]) for n in ("image", "label"))
    return Recorded(run.get(nets[0]), images, labels, run.get(nets[1]) if nets[1:] else None)


__all__ = ["Recorded", "recorded"]
