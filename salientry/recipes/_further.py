"""Questions that only some recipes ask: what changes a published number, how small a perturbation is seen, what a map's detector reads."""

from __future__ import annotations

from dataclasses import replace

from ..attacks import FGSM
from ..detectors import ID, SPD
from ..experiment.findings import Findings
from ..experiment.subjects import Shown, Subjects
from ..experiment.swap import swap
from ..experiment.trial import Training, judge, trained
from ..protocol import PUBLISHED, Rules
from ..protocol import REPLICA as UNPAIRED
from ._plan import Plan

FOOLING = Rules("fooling", bits=None, only_positives=True, paired=False)  # float32 as published, but only what fools counts
RUNGS = {  # form -> what changed against the one before
    "ladder 0": "as published: float32, all adversarials, the head's own 0, heads on the classifier's images, no batch norm, unpaired",
    "ladder 1": "only adversarials that fool count",
    "ladder 2": "8-bit images",
    "ladder 4": "heads on images that the classifier has not seen",
    "ladder 5": "batch norm and a one-cycle rate",
}  # 3 is the head of 2 at its calibrated threshold, 6 the strict detector itself: paired batches


def ladder(plan: Plan, subjects: Subjects, how: Shown, found: Findings) -> None:
    """From the published protocol to the strict one, one change at a time, for SPD and ID on the headline attacks, two seeds."""
    if not plan.ladder:
        return
    loose = replace(plan.strict, paired=False)
    for attack in plan.headline:
        for role in ("fit", "test"):
            subjects.attacked(attack, role, plan.strict)  # the same images, whoever trains on them
        for kind in (SPD, ID):
            rungs = [(UNPAIRED, "fit", plan.replica), (FOOLING, "fit", plan.replica), (loose, "fit", plan.replica)]
            rungs += [(loose, "detect", plan.replica), (loose, "detect", plan.head)]
            for form, (rules, role, head) in zip(RUNGS, rungs, strict=True):
                training, tests = Training((attack,), form=form, role=role), [subjects.attacked(attack, "test", rules)]
                for seed in range(min(plan.seeds, 2)):
                    found.scores += judge(subjects, kind(head), rules, training, tests, how, seed=seed, briefly=True).findings


def sweep(plan: Plan, subjects: Subjects, how: Shown, found: Findings) -> None:
    """The four defences, trained on FGSM at each budget and tested on it at each budget: published protocol, one seed."""
    attacks = [FGSM(eps) for eps in plan.sweep]
    tests = [subjects.attacked(a, "test", PUBLISHED) for a in attacks]
    for a in attacks:
        for d in plan.defences:
            found.scores += judge(subjects, d, PUBLISHED, Training((a,), form="sweep"), tests, how, briefly=True).findings


def swap_parts(plan: Plan, subjects: Subjects, maps: dict[str, Shown], found: Findings) -> None:
    """SMD and SPD on mixed parts of naturals and adversarials: strict, seed 0, the headline attacks; ``maps`` by the detectors' form."""
    for attack in plan.headline:
        for form, how in maps.items():
            for d in plan.defences[:2]:
                fitted = trained(subjects, d, plan.strict, Training((attack,), form=form), how)
                images = subjects.natural["test"], subjects.attacked(attack, "test", plan.strict)
                found.swaps.append(subjects.run.do(swap, *images, how.saliency, fitted))
