"""Real digits, two attacks, three detectors and seven floors, both protocols, a guard: the whole path, thin.

Command:   salientry run smoke
Hardware:  CPU, no GPU, 1 GiB
Time:      202 s of one thread (x86_64, torch 2.13.0); a second call re-uses all of it
Result:    results/smoke. Strict, trained and tested on DeepFool, TPR at 5 % with 95 % interval, n 782, 2 detector seeds:
           SMD .877 [.854, .899], SPD .870 [.847, .892], ID .988 [.980, .994], Margin2 1.000 [.995, 1.000]
"""

from __future__ import annotations

from typing import Any

from ..attacks import FGSM, DeepFool
from ..classifiers import CompactCNN
from ..controls import MatchedNoise, Null
from ..datasets import Digits
from ..detectors import ID, REPLICA, SMD, SPD, BlackShare, Exists, HighFrequency, Margin, Margin2, Opinion, SortedLogits
from ..errors import UsageError
from ..evidence import FROM_SALIENCY
from ..experiment.findings import Findings, GuardParts
from ..experiment.handles import Handle
from ..experiment.run import Run
from ..experiment.sanity import Gate, gallery, gate, sanity
from ..experiment.steps import (
    attack_images,
    calibrate,
    control_images,
    draw,
    fit_detector,
    fit_saliency,
    look,
    score,
    settle,
    train_classifier,
)
from ..protocol import PUBLISHED, STRICT, Rules
from ..protocol import REPLICA as UNPAIRED
from ..saliency import Eq2, Fill, SimpleClassifier, UNet

TRAINED = (FGSM(), DeepFool())  # detectors are trained on these ...
MEASURED = (DeepFool(steps=2),)  # ... and only measured on this, the paper's two iterations
HEADS = (SMD(), SPD(), ID())
REPLICAS = (SMD(head=REPLICA), SPD(head=REPLICA), ID(head=REPLICA))
FLOORS = (Margin(), Margin2(), Exists(), Opinion(), BlackShare(), HighFrequency())  # no seed moves these


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


def smoke(
    run: Run,
    seeds: int = 2,
    select: int = 250,
    *,
    data: Any = Digits(),
    classifier: Any = CompactCNN(),
    saliency: Any = NET,
    bounds: Gate = Gate(),
    strict: Rules = STRICT,
) -> Findings:
    """Everything that the report prints.

    Args:
        run: where it is written down.
        seeds: repetitions of each detector that draws; the published replica has one.
        select: how many images of the role *select* are attacked.
        data: the data set and its roles.
        classifier: its settings.
        saliency: settings of the saliency model.
        bounds: its gate.
        strict: the strict protocol's rules.

    Raises:
        UsageError: for a number of repetitions or of images that cannot be.
    """
    if not 1 <= seeds <= 100:
        raise UsageError(f"seeds must lie in [1, 100]; found {seeds}")
    if not 1 <= select <= data.roles.select:
        raise UsageError(f"select must lie in [1, {data.roles.select}], the images of that role; found {select}")
    images = run.dataset(data)
    f = run.do(train_classifier, images["fit"], classifier)
    drawer = run.do(fit_saliency, images["fit"], f, saliency)
    looked = {role: run.do(look, images[role], f) for role in ("fit", "detect", "select", "calibrate", "test")}
    measured = run.do(sanity, looked["select"], f, drawer)
    s = run.do(gate, measured, drawer, bounds)
    findings = Findings(classifier=f, gates=[s], sanity=[measured, run.do(sanity, looked["select"], f, drawer, fill=Fill("paper"))])
    views = Views(run, s)
    natural = {"fit": looked["fit"].first(data.roles.calibrate), "select": looked["select"].first(select)}
    natural |= {role: looked[role] for role in ("detect", "calibrate", "test")}
    for rules in (PUBLISHED, strict):
        settled, tested = _attacked(run, f, natural, rules)
        heads = [(d, rules, seed) for d in (*HEADS, SortedLogits()) for seed in range(seeds)] + [(d, rules, 0) for d in FLOORS]
        if rules is PUBLISHED:
            heads += [(d, UNPAIRED, 0) for d in REPLICAS]
        for attack in TRAINED:
            for detector, manner, seed in heads:
                see = views.of(detector)
                pair = {r: [see(natural[r]), see(settled[attack, r])] for r in ("detect", "select")}
                fitted = run.do(fit_detector, *pair["detect"], detector, manner, seed=seed)
                calibration = run.do(score, [see(natural["calibrate"])], fitted)
                thresholds = run.do(calibrate, calibration, manner)
                findings.scores += [
                    calibration,
                    *(run.do(score, sets, fitted) for sets in ([see(natural["fit"])], pair["detect"], pair["select"])),
                ]
                findings.scores += [run.do(score, [see(natural["test"]), *map(see, tested)], fitted, thresholds)]
                if (detector, manner, seed, attack) == (SPD(), strict, 0, DeepFool()):
                    findings.guard = GuardParts(f, s, fitted, calibration, thresholds, strict.levels[0])
        if rules is strict:
            findings.gallery = run.do(gallery, views.drawn(natural["test"]), [views.drawn(settled[a, "test"]) for a in TRAINED])
    return findings


class Views:
    """What a detector is shown: drawn images if its view reads a map, else only looked-at ones, so that a map that fails its
    gate takes along nothing that does not stand on it.
    """

    def __init__(self, run: Run, saliency: Handle) -> None:
        self.run, self.saliency = run, saliency

    def drawn(self, images: Handle) -> Handle:
        """The images with their maps."""
        return self.run.do(draw, images, self.saliency)

    def of(self, detector: Any) -> Any:
        """A function from images to what this detector is shown."""
        return self.drawn if detector.needs & FROM_SALIENCY else lambda images: images


def _attacked(run: Run, f: Handle, natural: dict[str, Handle], rules: Rules) -> tuple[dict[Any, Handle], list[Handle]]:
    """Settled adversarials by attack and role, and all test sets: adversarials, then the controls made from them."""
    settled: dict[Any, Handle] = {}
    for attack in (*TRAINED, *MEASURED):
        for role in ("detect", "select", "test") if attack in TRAINED else ("test",):
            proposed = run.do(attack_images, natural[role], f, attack)  # the same key under both rules: made once
            settled[attack, role] = run.do(settle, proposed, natural[role], f, rules)
    tests = [settled[attack, "test"] for attack in (*TRAINED, *MEASURED)]
    controls = [run.do(control_images, natural["test"], tests[0], Null())]
    controls += [run.do(control_images, natural["test"], settled[attack, "test"], MatchedNoise()) for attack in TRAINED]
    return settled, tests + [run.do(settle, c, natural["test"], f, rules) for c in controls]
