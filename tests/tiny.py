"""A whole run in seconds: the recipe ``smoke`` on a few digits with small nets. `python -m tests.tiny OUT [SEED]` runs it."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from salientry.attacks import FGSM, CarliniWagner
from salientry.classifiers import CompactCNN
from salientry.datasets import Digits
from salientry.experiment.outputs import Outputs
from salientry.experiment.records import export
from salientry.experiment.run import Run
from salientry.experiment.sanity import SanityCheck
from salientry.protocol import STRICT
from salientry.recipes.paper_white_box import WhiteBoxConfig
from salientry.recipes.smoke import smoke
from salientry.runner.run import Outcome
from salientry.saliency import Eq2, Fill, SimpleClassifier, UNet
from salientry.types import Roles

ROLES = Roles(train=400, detector_train=100, validation=100, calibration=80, test=100)
ATTACKS = (FGSM(), CarliniWagner(search_steps=1, steps=40, lr=0.1, initial_const=10, confidence=0.1))
NET = UNet(
    SimpleClassifier(base=4, scales=2, epochs=2, batch=32), Eq2(area=3), Fill("black"), epochs=2, batch=32, lr=3e-3, schedule="one_cycle"
)


WHITE_BOX = WhiteBoxConfig(
    budgets=(0.1, 0.3),
    more=(0.2,),
    l2=(2.0,),
    doubled=(0.3,),
    alarm=(0.2,),
    step=0.1,
    images=20,
    steps=12,
    table=24,
    seeds=1,
    rounds=2,
    trained_on=60,
    training_seeds=1,
    strict_training=0.2,
)


def tiny(run: Run, action: str = "mark", *, attacks: tuple[Any, ...] = ATTACKS, whitebox: bool = False) -> Outputs:
    """The recipe: everything that ``smoke`` does, once."""
    return smoke(
        run,
        seeds=1,
        detector_train=100,
        validation=60,
        whitebox=whitebox,
        white_box=WHITE_BOX,
        attacks=attacks,
        width=4,
        data=Digits(roles=ROLES),
        classifier=CompactCNN(width=8, epochs=8),
        saliency=NET,
        bounds=SanityCheck(action=action),
        strict=replace(STRICT, levels=(0.05,)),
    )


def finish(store: Path, out: Path, seed: int = 0, action: str = "mark") -> tuple[Run, Outputs, Outcome]:
    """Run it and write its records."""
    run = Run(store, seed=seed)
    outputs = tiny(run, action)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 80 calibration images: it says so, rightly
        outcome = run.compute(list(outputs))
    export(
        run,
        outputs,
        outcome,
        out,
        {"recipe": "tiny", "parameters": {}, "seed": seed, "numerics": "float32", "command": "tests.tiny", "out": str(out)},
    )
    return run, outputs, outcome


def recorded(out: Path) -> dict[str, bytes]:
    """The files that are equal, byte for byte, for equal runs: the records and every file of scores."""
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in (*out.glob("records.*"), *(out / "scores").iterdir())}
    assert {"records.json", "records.safetensors"} < set(found), "no scores"
    return found


if __name__ == "__main__":
    print("ready", flush=True)
    finish(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
