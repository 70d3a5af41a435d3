"""The paper's experiment at the paper's own size, in parts: the nets of its Appendix A, its attacks as printed, its unpaired training.

::

    salientry plan paper dataset=cifar10 part=nets          # what it costs on this machine
    salientry run paper dataset=cifar10 part=attacks test=500   # the classifier, attacked: accuracy, success, norms
    salientry run paper dataset=cifar10 part=nets           # the saliency model
    salientry run paper dataset=cifar10 part=maps attack=fgsm,bim
    salientry run paper dataset=cifar10 part=grid attack=fgsm pairs=2000 --device cuda
    salientry run paper dataset=cifar10 part=confidence test=200 pairs=2000

Parts share one store: what one has computed the next one uses. A training that was stopped goes on from its last epoch.

Hardware:  2 cores for nets and attacks on CIFAR-10 and ASSIRA; a GPU for everything else in reasonable time
Time:      the plan says it, from a second's timing of the net on this machine
Result:    results/paper: CIFAR-10's classifier and its attacks
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..attacks import BIM, FGSM, JSMA, MIM, CarliniWagner, DeepFool
from ..controls import MatchedNoise, Null
from ..datasets import ASSIRA, CIFAR10, MNIST
from ..detectors import ID, JSD, SMD, SPD, Margin, Margin2, SecondNet
from ..errors import UsageError
from ..experiment.confidence import confidence_sweep
from ..experiment.evaluation import TrainingSet, evaluate
from ..experiment.image_sets import EvidenceVariant, ImageSets
from ..experiment.map_shift import map_shift
from ..experiment.outputs import Outputs
from ..experiment.run import Run
from ..experiment.sanity import SanityCheck, gallery, sanity, sanity_check
from ..experiment.steps import classify, fit_encoder, fit_saliency, train_classifier
from ..experiment.strength import gradient_sizes, strong_enough
from ..paper_cnn import ASSIRA_NET, CIFAR10_NET, MNIST_NET, PaperCNN
from ..protocol import PUBLISHED, STRICT, EvaluationProtocol
from ..protocol import REPLICA as UNPAIRED
from ..runner.step import Handle, reuse_split
from ..saliency import Gradient, SimpleClassifier, UNet
from ..saliency.paper_settings import PAPER_ASSIRA, PAPER_CIFAR10, PAPER_MNIST, variants
from ..store import one_of
from ..types import Roles, Shape
from .paper_cost import Cost

PARTS = ("attacks", "nets", "maps", "grid", "combined", "confidence")
SLICED = ("attacks", "maps", "grid")  # by attack
INPUTS = ("centred", "unit")  # of the nets
SHOWN, FEW = 500, 200  # images on which maps are checked; that tell how a detector trained


@dataclass(frozen=True)
class PaperConfig:
    """One data set at the paper's size.

    Attributes:
        data: with the standard split: the classifier is trained on *train* and *validation* together, as the paper re-trains it.
        shape: of its images.
        net: the classifier, and every detector's head.
        unet: the saliency model, under the paper's formula.
        attacks: as printed in Figure 4, by the names of ``ATTACKS``; ``deepfool2`` stops after two steps, as printed too.
    """

    data: Any
    shape: Shape
    net: PaperCNN
    unet: UNet
    attacks: dict[str, Any]

    def saliency(self, loss: str = "margin", base: int = 0) -> UNet:
        """One of the :func:`~salientry.saliency.paper_settings.variants`, with ``base`` channels at full resolution; 0: its own number."""
        known = variants(self.unet)
        one_of("loss", loss, list(known))
        found, encoder = known[loss], self.unet.encoder
        assert isinstance(encoder, SimpleClassifier)
        return replace(found, encoder=replace(encoder, base=base)) if base else found

    @property
    def grid(self) -> tuple[Any, ...]:
        """The six attacks that detectors are trained and tested on: DeepFool until it has fooled."""
        return tuple(a for name, a in self.attacks.items() if name != "deepfool2")


def _attacks(eps: float, budget: tuple[float, float], theta: float) -> dict[str, Any]:
    weak = {"fgsm": FGSM(eps), "bim": BIM(*budget), "mim": MIM(*budget)}
    return weak | {"cw": CarliniWagner(), "deepfool": DeepFool(), "jsma": JSMA(theta=theta), "deepfool2": DeepFool(steps=2)}


STANDARD = _attacks(0.2, (0.15, 0.015), 0.05)
CONFIGS = {
    "mnist": PaperConfig(
        MNIST(Roles(54_000, 0, 6_000, 5_000, 5_000)), Shape(1, 28, 28, 10), replace(MNIST_NET, centred=True), PAPER_MNIST, STANDARD
    ),
    "cifar10": PaperConfig(
        CIFAR10(Roles(45_000, 0, 5_000, 5_000, 5_000)), Shape(3, 32, 32, 10), replace(CIFAR10_NET, centred=True), PAPER_CIFAR10, STANDARD
    ),
    "assira": PaperConfig(
        ASSIRA(Roles(2_133, 0, 237, 315, 315)),
        Shape(3, 112, 112, 2),
        replace(ASSIRA_NET, centred=True),
        PAPER_ASSIRA,
        _attacks(0.025, (0.025, 0.0025), 0.025),
    ),
}


def paper(
    run: Run,
    dataset: str = "cifar10",
    part: str = "attacks",
    attack: str = "",
    seeds: int = 1,
    pairs: int = 0,
    test: int = 0,
    loss: str = "margin",
    base: int = 0,
    inputs: str = "centred",
) -> Outputs:
    """One part of the paper's experiment at its own size.

    Args:
        run: where it is written down.
        dataset: ``mnist``, ``cifar10`` or ``assira``.
        part: ``attacks``: the classifier, and images attacked as printed; no saliency model. ``nets``: the classifier and the saliency
            model. ``maps``: how far the maps of attacked images move, and pictures. ``grid``: SMD, SPD, ID and JSD with the classifier's
            own architecture, trained on one attack, unpaired, tested on six. ``combined``:
            the same, trained on all six (Table 6): each image attacked once, and, beside it, all adversarials of all six. ``confidence``:
            C&W at confidence 0 to 20 against detectors that were trained on it at 0, strict.
        attack: a name of that data set's attacks, or several with commas; of ``attacks``, ``maps`` and ``grid`` these alone, in a slice
            by itself; empty: all.
        seeds: repetitions of each detector; the paper does not say how many it has.
        pairs: training images that are attacked for the detectors; 0: all of them, as in the paper.
        test: test images; 0: all.
        loss: of the saliency model: ``margin`` (what the code that the paper adapts computes), ``eq2`` (the paper's formula with the
            published weights) or another of its :func:`~salientry.saliency.paper_settings.variants`, such as ``"margin, instance"``.
        base: channels of the saliency model at full resolution; 0: 32, and on ASSIRA 64.
        inputs: of the classifier and the detectors: ``centred``, (x - .5) / .25; or ``unit``, as they are. The paper says nothing about
            it; on CIFAR-10 the net dies with ``unit``, which is an error then.

    Raises:
        UsageError: for another data set, part, attack, loss or kind of inputs, or numbers of images that cannot be.
    """
    for kind, name, known in (("data set", dataset, list(CONFIGS)), ("part", part, list(PARTS)), ("kind of inputs", inputs, list(INPUTS))):
        one_of(kind, name, known)
    config = CONFIGS[dataset]
    config = replace(config, net=replace(config.net, centred=inputs == "centred"))
    for name in (names := _names(attack)):
        one_of("attack", name, list(config.attacks))
    if names and part not in SLICED:
        raise UsageError(f"part={part} has no slice of one attack; attack= goes with {', '.join(f'part={p}' for p in SLICED)}")
    return build(run, config, part, attack, seeds, pairs, test, loss, base)


def _names(attacks: str) -> list[str]:
    return [name.strip() for name in attacks.split(",")] if attacks else []


def build(run: Run, config: PaperConfig, part: str, attack: str, seeds: int, pairs: int, test: int, loss: str, base: int) -> Outputs:
    """See :func:`paper`; for any settings of a data set."""
    return PaperExperiment.of(run, config, seeds, pairs, test).outputs(part, attack, loss, base)


@dataclass(frozen=True)
class PaperExperiment:
    """The handles of one data set.

    Attributes:
        run: where they are written down.
        config: settings.
        seeds: repetitions of each detector.
        pairs: training images that are attacked.
        test: test images.
    """

    run: Run
    config: PaperConfig
    seeds: int
    pairs: int
    test: int

    @classmethod
    def of(cls, run: Run, config: PaperConfig, seeds: int, pairs: int, test: int) -> PaperExperiment:
        """With all pairs and all test images where their number is 0.

        Raises:
            UsageError: for numbers that cannot be.
        """
        roles = config.data.roles
        most = {"pairs": roles.train + roles.validation, "test": roles.calibration + roles.test}
        for name, value in (("pairs", pairs), ("test", test)):
            if not 0 <= value <= most[name]:
                raise UsageError(f"{name} must lie in [0, {most[name]}], where 0 is all of them; found {value}")
        if seeds < 1:
            raise UsageError(f"seeds must be 1 or more; found {seeds}")
        return cls(run, config, seeds, pairs or most["pairs"], test or most["test"])

    def outputs(self, part: str, attack: str, loss: str, base: int) -> Outputs:
        """One part."""
        config, attacks = self.config, tuple(self.config.attacks[name] for name in _names(attack) or self.config.attacks)
        saliency = config.saliency(loss, base)
        learnt_from = self.pairs if part in ("grid", "combined", "confidence") else min(self.pairs, SHOWN)
        found, image_sets, variant = self.prepared(None if part == "attacks" else saliency, learnt_from, calibrated=part == "confidence")
        if part in ("attacks", "nets", "maps", "confidence"):
            found.sets += image_sets.natural.values()  # no detector's scores bring them
        if part == "attacks":
            self.attack(image_sets, attacks, found)
        elif part == "maps":
            self.draw(image_sets, variant, attacks, found)
        elif part == "confidence":
            detectors = (Margin(), SMD(config.net), SecondNet())
            found.confidence.append(confidence_sweep(image_sets, config.attacks["cw"], detectors, STRICT, variant).rates)
        elif part != "nets":
            chosen = attacks if attack else config.grid
            combined = [TrainingSet(config.grid, "combined"), TrainingSet(config.grid, "combined", mixture="all")]
            for training in combined if part == "combined" else [TrainingSet((a,)) for a in chosen]:
                self.detect(image_sets, variant, training, found)
        return found

    def prepared(self, saliency: UNet | None, learnt_from: int, calibrated: bool = False) -> tuple[Outputs, ImageSets, EvidenceVariant]:
        """The nets and the natural images.

        Args:
            saliency: settings of the saliency model; None: there is none.
            learnt_from: training images that detectors see.
            calibrated: whether thresholds are calibrated, on images of the test set that then give no numbers; else all of it gives
                numbers, as in the paper, whose detectors decide at their own 0.
        """
        run, roles, images = self.run, self.config.data.roles, self.run.dataset(self.config.data)
        everything = images.roles("train", "validation")
        f = run.do(train_classifier, everything, self.config.net)
        held = run.do(classify, images["validation"].first(min(SHOWN, roles.validation)), f)
        seen = run.do(classify, everything.first(learnt_from), f)
        tested = images["test"].first(min(self.test, roles.test)) if calibrated else images.roles("test", "calibration").first(self.test)
        few = min(FEW, learnt_from, roles.validation)
        natural = {"train": seen, "validation": held.first(few), "test": run.do(classify, tested, f)}
        natural["detector_train"] = run.do(reuse_split, seen, "detector_train")
        natural["calibration"] = run.do(classify, images["calibration"], f) if calibrated else run.do(reuse_split, held, "calibration")
        found = Outputs(classifier=f, compact=True, class_names=getattr(self.config.data, "class_names", ()))
        found.expected = self.expected(saliency or self.config.saliency())
        if saliency is not None:
            s = run.do(fit_saliency, everything, f, saliency, run.do(fit_encoder, everything, saliency.encoder))
            found.sanity.append(run.do(sanity, held, f, s))
            found.map_checks.append(run.do(sanity_check, found.sanity[0], s, SanityCheck(action="mark")))
        return found, ImageSets(run, f, natural, few), EvidenceVariant(next(iter(found.map_checks), None))

    def detect(self, image_sets: ImageSets, variant: EvidenceVariant, training: TrainingSet, found: Outputs) -> None:
        """The detectors of one training set on all six attacks, with the controls without which no number is given."""
        tests = with_controls(image_sets, self.config.grid, training)
        for detector, protocol, seed in self.trials():
            if training.mixture == "all" and protocol is not UNPAIRED:
                continue  # a baseline of two fitted numbers is the same
            found.scores += evaluate(image_sets, detector, protocol, training, tests, variant, seed=seed).outputs

    def expected(self, saliency: UNet) -> Callable[[list[Handle]], dict[str, float]]:
        """How long steps take on this machine; nothing is timed before somebody asks."""

        def seconds(todo: list[Handle]) -> dict[str, float]:
            config = self.config
            return Cost.measured(config.data.roles, config.net, saliency, config.shape, self.run.device).seconds(todo)

        return seconds

    def trials(self) -> Iterator[tuple[Any, EvaluationProtocol, int]]:
        """The paper's detectors with the classifier's own architecture, unpaired, for each seed; and the baselines of the logits, which
        the paper lacks.
        """
        head = self.config.net
        for defence in (SMD(head), SPD(head), ID(head), JSD(head=head)):
            for seed in range(self.seeds):
                yield defence, UNPAIRED, seed
        for baseline in (Margin(), Margin2()):
            yield baseline, PUBLISHED, 0

    def attack(self, image_sets: ImageSets, attacks: tuple[Any, ...], found: Outputs) -> None:
        """Success, norms, gradients."""
        run, attacked = self.run, [image_sets.attacked(a, "test", PUBLISHED) for a in attacks]
        found.sets += attacked
        found.strength += [run.do(strong_enough, images, 0.0) for images in attacked]
        found.gradients += [run.do(gradient_sizes, images, image_sets.classifier) for images in (*attacked, image_sets.natural["test"])]

    def draw(self, image_sets: ImageSets, variant: EvidenceVariant, attacks: tuple[Any, ...], found: Outputs) -> None:
        """How far maps move, and pictures."""
        run, natural = self.run, image_sets.natural["test"]
        attacked = [image_sets.attacked(a, "test", PUBLISHED) for a in attacks]
        found.sets += attacked
        noisy = [image_sets.control(MatchedNoise(), a, PUBLISHED) for a in attacks]
        found.shifts.append(run.do(map_shift, natural, attacked, noisy, variant.saliency))
        shown: list[Handle] = [image_sets.with_evidence(SPD(), images, "test", variant) for images in attacked]
        gradient = run.do(fit_saliency, natural, image_sets.classifier, Gradient())
        found.gallery = run.do(gallery, image_sets.with_evidence(SPD(), natural, "test", variant), shown, [gradient])


def with_controls(image_sets: ImageSets, attacks: tuple[Any, ...], training: TrainingSet) -> list[Handle]:
    """Test images of these attacks, and the controls without which no number of a detector of this training set is given."""
    found = [image_sets.attacked(a, "test", PUBLISHED) for a in attacks]
    found += [image_sets.control(Null(), training.attacks[0], PUBLISHED)]
    return found + [image_sets.control(MatchedNoise(), a, PUBLISHED) for a in training.attacks]
