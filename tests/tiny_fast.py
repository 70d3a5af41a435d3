"""Everything that ``fast`` asks, in seconds: its config with small nets on a few digits. `python -m tests.tiny_fast OUT` runs it."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from salientry.attacks import BIM, FGSM, CarliniWagner, DeepFool
from salientry.classifiers import ResidualCNN
from salientry.datasets import Digits
from salientry.detectors import REPLICA, CounterAttack, LayerStatistics, Mahalanobis, SmallCNN
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.experiment.sanity import SanityCheck
from salientry.protocol import STRICT
from salientry.recipes.experiment import build
from salientry.recipes.paper_config import Config
from salientry.runner.run import Outcome
from salientry.saliency import Eq2, Fill, Trunk, UNet
from salientry.types import Roles

ROLES = Roles(train=600, detector_train=100, validation=100, calibration=120, test=120)
CW = CarliniWagner(search_steps=1, steps=40, lr=0.1, initial_const=10, confidence=0.1)
SMALL = BIM(0.15, 0.0375)
NET = ResidualCNN(width=8, epochs=10, batch=50, lr=0.1, crop=1, flip=False)
PUBLISHED = (CounterAttack(steps=2), Mahalanobis(), LayerStatistics())
MAPS: dict[str, Any] = {"loss": Eq2(area=3), "fill": Fill("black"), "epochs": 1, "base": 2, "batch": 32}


def config(**changes: Any) -> Config:
    """The config, with some settings changed."""
    head = SmallCNN(width=4, epochs=2)
    found = Config(
        data=Digits(roles=ROLES),
        classifier=NET,
        saliency=UNet(Trunk(replace(NET, epochs=4)), **MAPS),
        trunk=UNet(Trunk(NET, own=True), **MAPS),
        bounds=SanityCheck(action="mark"),
        attacks=(FGSM(), CW),
        printed=DeepFool(steps=2),
        beside=(FGSM(0.15), SMALL),
        headline=(CW, SMALL),
        detector_train=100,
        validation=60,
        test=110,
        overfit_images=60,
        head=head,
        replica=replace(REPLICA, width=4, epochs=2),
        fair=(replace(head, strides=(1, 2, 2)), replace(head, strides=(1, 1, 2))),
        strict=replace(STRICT, levels=(0.05,)),
        seeds=2,
        protocol_steps=True,
        sweep=(0.02, 0.1, 0.2),
        published=PUBLISHED,
        choice=False,
        compact=True,
    )
    return replace(found, **changes)


def finish(store: Path, out: Path) -> tuple[Run, Outputs, Outcome]:
    """Run it and write its records."""
    run = Run(store)
    outputs = build(run, config())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 120 calibration images: it says so, rightly
        outcome = run.compute(list(outputs))
    about = {"recipe": "tiny_fast", "parameters": {}, "seed": 0, "numerics": "float32", "command": "tests.tiny_fast", "out": str(out)}
    export(run, outputs, outcome, out, about)
    return run, outputs, outcome


if __name__ == "__main__":
    finish(Path(sys.argv[1]), Path(sys.argv[2]))
