"""The paper's experiment on the digits that ship with a dependency: six attacks, four defences, baselines, fusion, two protocols, controls.

::

    salientry run smoke                    # or: make demo
    salientry run smoke full_cw=true       # C&W and JSMA as the paper prints them

Hardware:  2 cores, no GPU, 3 GiB
Time:      1,109 s of one thread as recorded (x86_64, torch 2.13.0), 602 s when nothing else ran; a second call re-uses all of it
Result:    results/smoke. Strict, trained on all attacks, C&W found at 5 % false positives, n 781, 95 % interval, 2 detector seeds:
           SMD .864 [.841, .886], SPD .851 [.828, .874], ID .933 [.917, .950], fusion .999 [.996, 1.000], Margin2 1.000 [.995, 1.000]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..attacks import BIM, CW_FAST, FGSM, JSMA, MIM, CarliniWagner, DeepFool
from ..classifiers import CompactCNN
from ..datasets import Digits
from ..detectors import FULL_RESOLUTION, REPLICA, SmallCNN
from ..experiment.outputs import Outputs
from ..experiment.run import Run
from ..experiment.sanity import SanityCheck
from ..protocol import STRICT, EvaluationProtocol
from ..saliency import Eq2, Fill, SimpleClassifier, UNet
from .experiment import further_detectors, prepare
from .paper_config import Config
from .paper_white_box import WhiteBoxConfig, attack_white_box

REDUCED = (CW_FAST, JSMA(theta=0.1))  # faster than the paper prints, and still fool
PRINTED = (CarliniWagner(), JSMA())
WIDTH = 8
NET = UNet(
    SimpleClassifier(base=8, scales=2, epochs=6, batch=32),
    Eq2(area=3),
    Fill("black"),
    epochs=8,
    batch=32,
    lr=3e-3,
    schedule="one_cycle",
    selector_lr=1e-2,
)


WHITE_BOX = WhiteBoxConfig(
    budgets=(0.05, 0.1, 0.2, 0.3),
    more=(),
    l2=(),
    doubled=(0.3,),
    alarm=(0.05,),
    step=0.1,
    restarts=2,
    free_restarts=5,
    strict_training=0.2,
    trained_on=400,
)  # what the white box tries, with the paper's budget of .2


def smoke(
    run: Run,
    seeds: int = 2,
    detector_train: int = 800,
    validation: int = 200,
    full_cw: bool = False,
    whitebox: bool = False,
    *,
    data: Any = Digits(),
    classifier: Any = CompactCNN(),
    saliency: Any = NET,
    bounds: SanityCheck = SanityCheck(),
    strict: EvaluationProtocol = STRICT,
    attacks: tuple[Any, ...] | None = None,
    detectors: Any = "",
    width: int = WIDTH,
    white_box: WhiteBoxConfig = WHITE_BOX,
) -> Outputs:
    """Everything that the report prints.

    Args:
        run: where it is written down.
        seeds: repetitions of each detector that draws; the published replica has one.
        detector_train: how many images of that role are attacked.
        validation: likewise.
        full_cw: C&W and JSMA at the paper's settings, not at reduced ones.
        whitebox: also attack classifier and detectors together (as ``salientry run whitebox dataset=digits`` does alone).
        data: the data set and its roles.
        classifier: its settings.
        saliency: settings of the saliency model.
        bounds: of its sanity check.
        strict: the strict protocol's rules.
        attacks: in place of the six.
        detectors: further ones, your own too: names of ``DETECTORS`` and ``module:name`` with commas between, or a tuple of whatever
            ``fit_guard`` takes as one.
        width: of the detectors' CNNs.
        white_box: budgets and sizes of the white box.

    Raises:
        UsageError: for a number of repetitions or of images that cannot be.
        AttackTooWeak: when an attack that should fool does not.
    """
    made = replace(
        digits(seeds, detector_train, validation, full_cw, width), data=data, classifier=classifier, saliency=saliency, bounds=bounds
    )
    experiment, outputs = prepare(
        run, replace(made, strict=strict, attacks=attacks or made.attacks, detectors=further_detectors(detectors))
    )
    experiment.define_steps(outputs)
    if whitebox:
        attack_white_box(experiment, white_box, outputs)
    return outputs


def digits(seeds: int = 2, detector_train: int = 800, validation: int = 200, full_cw: bool = False, width: int = WIDTH) -> Config:
    """The digits: everything at a size that is done in minutes."""
    cw, jsma = PRINTED if full_cw else REDUCED
    return Config(
        data=Digits(),
        classifier=CompactCNN(),
        saliency=NET,
        bounds=SanityCheck(),
        attacks=(FGSM(), BIM(), MIM(), cw, DeepFool(), jsma),
        printed=DeepFool(steps=2),
        detector_train=detector_train,
        validation=validation,
        head=SmallCNN(width=width),
        replica=replace(REPLICA, width=width),
        fair=replace(FULL_RESOLUTION, width=width),
        strict=STRICT,
        seeds=seeds,
    )
