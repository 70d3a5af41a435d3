"""Questions that only some recipes ask: what changes a published number, how small a perturbation is seen, what a map's detector reads."""

from __future__ import annotations

from dataclasses import replace

from ..attacks import FGSM
from ..detectors import ID, SPD, Margin, SecondNet
from ..errors import UsageError
from ..experiment import confidence
from ..experiment.evaluation import TrainingSet, evaluate, trained
from ..experiment.image_sets import EvidenceVariant, ImageSets
from ..experiment.input_ablations import mixed_parts
from ..experiment.outputs import Outputs
from ..protocol import PUBLISHED, EvaluationProtocol
from ..protocol import REPLICA as UNPAIRED
from .paper_config import Config

FOOLING = EvaluationProtocol("fooling", bits=None, only_positives=True, paired=False)  # float32 as published, but only what fools counts
# Training schemes; ``results.steps`` says what changes from each to the next. 3 is the head of 2 at its calibrated threshold, 6 the strict
# detector itself: paired batches.
SCHEMES = ("protocol step 0", "protocol step 1", "protocol step 2", "protocol step 4", "protocol step 5")


def protocol_steps(config: Config, image_sets: ImageSets, variant: EvidenceVariant, outputs: Outputs) -> None:
    """From the published protocol to the strict one, one change at a time, for SPD and ID on the headline attacks, two seeds."""
    if not config.protocol_steps:
        return
    loose = replace(config.strict, paired=False)
    for attack in config.headline:
        for role in ("train", "test"):
            image_sets.attacked(attack, role, config.strict)  # the same images, whoever trains on them
        for kind in (SPD, ID):
            ways = [(UNPAIRED, "train", config.replica), (FOOLING, "train", config.replica), (loose, "train", config.replica)]
            ways += [(loose, "detector_train", config.replica), (loose, "detector_train", config.head)]
            for scheme, (protocol, role, head) in zip(SCHEMES, ways, strict=True):
                training, tests = TrainingSet((attack,), scheme=scheme, role=role), [image_sets.attacked(attack, "test", protocol)]
                for seed in range(min(config.seeds, 2)):
                    outputs.scores += evaluate(image_sets, kind(head), protocol, training, tests, variant, seed=seed, briefly=True).outputs


def sweep(config: Config, image_sets: ImageSets, variant: EvidenceVariant, outputs: Outputs) -> None:
    """The four defences, trained on FGSM at each budget and tested on it at each budget: published protocol, one seed."""
    attacks = [FGSM(eps) for eps in config.sweep]
    tests = [image_sets.attacked(a, "test", PUBLISHED) for a in attacks]
    for a in attacks:
        for d in config.defences:
            outputs.scores += evaluate(image_sets, d, PUBLISHED, TrainingSet((a,), scheme="sweep"), tests, variant, briefly=True).outputs


def confidence_sweep(config: Config, image_sets: ImageSets, variant: EvidenceVariant, outputs: Outputs) -> None:
    """The margin, SMD and the second net, trained on C&W at confidence 0 and tested at each confidence: strict, one seed. The rates say
    what each finds at the confidence that is worst for it.

    Raises:
        UsageError: for a protocol without a level.
    """
    if config.by_confidence is None:
        return
    if not config.strict.levels:
        raise UsageError(f"a protocol with a level is expected; found levels {config.strict.levels}")
    detectors = (Margin(), config.defences[0], SecondNet())
    outputs.confidence.append(confidence.confidence_sweep(image_sets, config.by_confidence, detectors, config.strict, variant).rates)


def mix_parts(config: Config, image_sets: ImageSets, maps: dict[str, EvidenceVariant], outputs: Outputs) -> None:
    """SMD and SPD on mixed parts of naturals and adversarials: strict, seed 0, the headline attacks; ``maps`` by training scheme."""
    for attack in config.headline:
        for scheme, variant in maps.items():
            for d in config.defences[:2]:
                fitted = trained(image_sets, d, config.strict, TrainingSet((attack,), scheme=scheme), variant)
                images = image_sets.natural["test"], image_sets.attacked(attack, "test", config.strict)
                outputs.mixed_parts.append(image_sets.run.do(mixed_parts, *images, variant.saliency, fitted))
