"""The white box, on one data set: what an attacker who knows classifier, map, detector and threshold can do, and what that shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..adaptive import Alarm, Alternating, Joint, Minimal, Orthogonal, Selective, Simultaneous, SingleStep
from ..adaptive.binarization import Binarization
from ..adaptive.hardening import Hardening
from ..detectors import PASA, PUBLISHED_DETECTORS, CounterAttack, DeepKNN, IDPlus
from ..evidence import FROM_SALIENCY
from ..experiment.outputs import Outputs
from ..experiment.scoring import score
from ..experiment.white_box import attack_defended, binarization, harden, known_weak_detectors, passes, right_ones
from ..keys import name_of
from ..protocol import PUBLISHED, EvaluationProtocol
from ..runner.step import Handle
from .experiment import Experiment

MARKS = [1, 2, 5, 10, 20]  # passes after which the paper's attacks are looked at; the paper has 5
PASSES = 5
FEW = "SMD", "SPD", "IDPlus", "Margin"
KINDS: tuple[Any, ...] = (Selective, Orthogonal, Joint)
COSTLY = CounterAttack, PASA  # a look of theirs is dozens of passes of the classifier
NO_SLOPE = (DeepKNN,)  # it counts: an attack along slopes would be one on the classifier alone


@dataclass(frozen=True)
class WhiteBoxConfig:
    """Budgets and sizes.

    Attributes:
        budgets: Linf budgets at which every attack is run on every detector, smallest first; the last is the binarization test's too.
        more: Linf budgets of the orthogonal attack alone.
        l2: L2 budgets.
        doubled: Linf budgets at which attacks are run once more, with twice the steps and other random numbers.
        alarm: Linf budgets of the attack that raises alarms.
        step: first step of the unbounded attacks.
        images: that the classifier has right, attacked with each.
        costly: as many of them are attacked where the detector is one of ``COSTLY``; of 20 the binarization test forgives a miss.
        steps: of each attack.
        restarts: of each attack at the frozen threshold: how often the images that it leaves are attacked again.
        free_restarts: the same without a budget, where every image must fall.
        paper: budget, and step, of the paper's algorithms.
        small: the same, a fifth; None: not asked.
        table: test images of Table 3.
        seeds: of its detectors.
        rounds: of adversarial training.
        trained_on: images of *detector_train* that it sees.
        training_seeds: of it, by the paper's attack and of strict detectors.
        strict_training: budget of the attack that strict detectors are trained against.
        few: where a step costs much: ``FEW`` detectors without their fusion and without detectors that are weak by construction; of the
            readings of the paper's attack, against SMD and SPD alone, as printed, with the true gradient, and Eq. 5; adversarial
            training against the paper's attack and the selective one alone; of the literature's detectors the ten without the ``COSTLY``.
        hardened_image_detectors: whether ID and JSD are trained adversarially as SMD and SPD are.
        random_weight: whether one of the attacks of adversarial training is Eq. 5 with Metzen's random weight.
    """

    budgets: tuple[float, ...]
    more: tuple[float, ...]
    l2: tuple[float, ...]
    doubled: tuple[float, ...]
    alarm: tuple[float, ...]
    step: float
    images: int = 64
    costly: int = 24
    steps: int = 100
    restarts: int = 0
    free_restarts: int = 0
    paper: float = 0.2
    small: float | None = 0.04
    table: int = 300
    seeds: int = 3
    rounds: int = 5
    trained_on: int = 1000
    training_seeds: int = 2
    strict_training: float = 8 / 255
    few: bool = False
    hardened_image_detectors: bool = False
    random_weight: bool = False


@dataclass(frozen=True)
class Target:
    """A detector to attack, as handles: fitted, calibrated (None: its own 0 is the threshold), who draws its maps (None: nobody), and the
    naturals that it is attacked on (None: all of them).
    """

    fitted: Handle
    calibrated: Handle | None
    saliency: Handle | None
    naturals: Handle | None = None


def attack_white_box(experiment: Experiment, config: WhiteBoxConfig, outputs: Outputs) -> None:
    """All of it: handles only, nothing is computed."""
    attacker = WhiteBoxExperiment(experiment, config, outputs)
    attacker.robustness()
    if not config.few:
        attacker.weak_detectors()
    attacker.algorithms()
    attacker.training()


@dataclass
class WhiteBoxExperiment:
    """An attacker who knows everything, on one data set; each part adds to the outputs."""

    experiment: Experiment
    config: WhiteBoxConfig
    outputs: Outputs

    def __post_init__(self) -> None:
        config, image_sets = self.experiment.config, self.experiment.image_sets
        self.run, self.classifier, self.strict = self.experiment.run, image_sets.classifier, config.strict
        self.level = str(self.strict.levels[0])
        self.right = self.run.do(right_ones, image_sets.natural["test"], self.config.images)
        self.table = image_sets.natural["test"].first(self.config.table)

    # --- who is attacked ---

    def saliency_model(self, settings: Any) -> Handle | None:
        """Who draws this detector's maps."""
        return self.experiment.variant.saliency if settings is None or settings.needs & FROM_SALIENCY else None

    def fair(self, settings: Any) -> Target:
        """A strict detector, trained on all attacks, seed 0."""
        judged = self.experiment.evaluated(settings, self.strict, self.experiment.combined, 0)
        return Target(judged.detector, judged.calibrated.scores, self.saliency_model(settings))

    def targets(self) -> Iterator[Target]:
        """SMD, SPD, JSD, ID+, every baseline, and the fusion of everything; or a few of them."""
        config, few = self.experiment.config, self.config.few
        smd, spd, _, jsd = config.defences
        for settings in (smd, spd, jsd, IDPlus(config.recipes[0]), *config.others):
            if not few or name_of(settings) in FEW or settings in config.detectors:
                yield self.fair(settings)
        if few:
            return
        fused, calibrated = self.experiment.full_fusion(self.experiment.combined, 0)
        yield Target(fused, calibrated, self.saliency_model(None))

    def literature(self) -> Iterator[Target]:
        """The published detectors that have a gradient."""
        config, few = self.experiment.config, self.config.few
        for settings in config.published:
            if isinstance(settings, NO_SLOPE) or (few and (isinstance(settings, COSTLY) or settings not in PUBLISHED_DETECTORS.values())):
                continue
            naturals = None
            if isinstance(settings, COSTLY) and self.config.costly < self.config.images:
                naturals = self.run.do(right_ones, self.experiment.image_sets.natural["test"], self.config.costly)
            yield replace(self.fair(settings), naturals=naturals)

    def attack(
        self, target: Target | None, attack: Any, protocol: EvaluationProtocol | None = None, independent_rerun: bool = False
    ) -> Handle:
        """One attack on the images that the classifier has right."""
        t = target or Target(None, None, None)  # type: ignore[arg-type]
        naturals = self.right if t.naturals is None else t.naturals
        level = "own" if t.calibrated is None else self.level
        where = (t.fitted, t.saliency, t.calibrated, level, independent_rerun)
        return self.run.do(attack_defended, naturals, self.classifier, attack, protocol or self.strict, *where)

    # --- the stronger standard ---

    def strong(self) -> Iterator[Any]:
        """Every attack at every budget."""
        a, again = self.config, self.config.restarts
        for eps, kind in product(a.budgets, KINDS):
            yield kind(eps, a.steps, restarts=again)
        for eps in a.more:
            yield Orthogonal(eps, a.steps, restarts=again)
        for eps, kind in product(a.l2, KINDS):
            yield kind(eps, a.steps, norm="l2", restarts=again)

    def robustness(self) -> None:
        """Every attack on every detector, checks that it works, what it costs, and alarms; and the classifier alone. On the literature's
        detectors at the smallest and the largest budget, on ``COSTLY`` ones at the largest, and the checks.
        """
        a, kinds, again = self.config, KINDS, self.config.restarts
        self.outputs.white_box.append(self.attack(None, Minimal(a.steps)))
        for eps in (*a.budgets, *a.more):
            self.outputs.white_box.append(self.attack(None, Selective(eps, a.steps)))
        for target in self.targets():
            out = [self.attack(target, attack) for attack in self.strong()]
            out += [
                self.attack(target, kind(eps, 2 * a.steps, restarts=again), independent_rerun=True)
                for eps, kind in product(a.doubled, kinds)
            ]
            out += self.attack_checks(target, again, a.free_restarts)
            out.append(self.attack(target, Minimal(a.steps)))
            out += [self.attack(target, Alarm(eps)) for eps in a.alarm]
            self.outputs.white_box += out
        for target in self.literature():
            some = dict.fromkeys((a.budgets[0] if target.naturals is None else a.budgets[-1], a.budgets[-1]))
            self.outputs.white_box += [self.attack(target, kind(eps, a.steps, restarts=again)) for eps, kind in product(some, kinds)]
            self.outputs.white_box += self.attack_checks(target, again, a.free_restarts)

    def attack_checks(self, target: Target, restarts: int = 0, free_restarts: int = 0) -> list[Handle]:
        """Of each attack on a detector: without a budget, and the binarization test at the largest budget."""
        a, eps = self.config, self.config.budgets[-1]
        free = [self.attack(target, kind(1.0, 2 * a.steps, step_size=a.step, restarts=free_restarts)) for kind in KINDS]
        test = (Binarization(eps, inner=64, corners=32), target.fitted, target.saliency)
        naturals = self.right if target.naturals is None else target.naturals
        attacks = [kind(eps, a.steps, restarts=restarts) for kind in KINDS]
        return free + [self.run.do(binarization, naturals, self.classifier, attack, *test) for attack in attacks]

    def weak_detectors(self) -> None:
        """Detectors that are weak by construction, each up against each attack."""
        config = self.experiment.config
        parts = [self.fair(d).fitted for d in (config.defences[0], IDPlus(config.recipes[0]))]
        calibration, a = self.experiment.image_sets.natural["calibration"], self.config
        where = (self.right, calibration, self.classifier, self.experiment.variant.saliency, parts)
        attacks = [kind(a.budgets[-1], 2 * a.steps, restarts=a.restarts) for kind in KINDS]
        self.outputs.white_box += [self.run.do(known_weak_detectors, *where, attack) for attack in attacks]

    # --- the paper's algorithms ---

    def variants(self) -> Iterator[tuple[Any, int]]:
        """The paper's attacks and their honest readings, each with the number of seeds."""
        a, last = self.config, MARKS[-1]
        for eps, seeds in ((a.paper, a.seeds), (a.small, 1)):
            if eps is not None:
                yield Alternating(eps, last), seeds
                yield Alternating(eps, last, gradient="image", project=True), seeds
        yield Simultaneous(a.paper, last), a.seeds
        if a.few:
            return
        yield Simultaneous(a.paper, last, gradient="image", project=True), 1
        yield Alternating(a.paper, last, project=True), 1
        yield Alternating(a.paper, last, step_size=a.paper / 4, project=True), 1
        yield Alternating(a.paper, last, step_size=a.paper, gradient="image", project=True), 1
        yield SingleStep(a.paper), 1
        yield SingleStep(a.paper, on="detector"), 1

    def published(self, settings: Any, seed: int) -> Target:
        """A published detector, trained on all attacks."""
        return Target(
            self.experiment.evaluated(settings, PUBLISHED, self.experiment.combined, seed).detector, None, self.saliency_model(settings)
        )

    def attacked_in_passes(self, attack: Any, target: Target, marks: list[int]) -> Handle:
        """The paper's Table 3: after some numbers of passes."""
        return self.run.do(passes, self.table, self.classifier, attack, marks, target.fitted, target.saliency)

    def algorithms(self) -> None:
        """Algorithms 1 to 3, the one for ID, Eq. 3, 4 and 5: published protocol."""
        for (attack, seeds), settings in product(self.variants(), self.experiment.config.defences[: 2 if self.config.few else None]):
            marks = [1] if isinstance(attack, SingleStep) else MARKS
            self.outputs.white_box += [self.attacked_in_passes(attack, self.published(settings, seed), marks) for seed in range(seeds)]

    # --- adversarial training ---

    def training(self) -> None:
        """SMD and SPD, perhaps ID and JSD, against the paper's attack, its simultaneous and its honest reading; and strict ones against the
        selective attack.
        """
        a = self.config
        honest = Alternating(a.paper, PASSES, gradient="image", project=True)
        modes = {"the paper's attack": Alternating(a.paper, PASSES), "Eq. 5": Simultaneous(a.paper, PASSES), "the true gradient": honest}
        modes |= {"Eq. 5, random weight": Simultaneous(a.paper, PASSES, weight="random")} if a.random_weight else {}
        defences = self.experiment.config.defences[: None if a.hardened_image_detectors else 2]
        for settings, seed in product(defences, range(a.training_seeds)):
            for called, attack in list(modes.items())[: None if seed == 0 and not a.few else 1]:  # readings beside the paper's: one seed
                self.hardened(settings, seed, called, attack, PUBLISHED)
            self.hardened(settings, seed, "selective", Selective(a.strict_training, 20), self.strict)

    def hardened(self, settings: Any, seed: int, called: str, attack: Any, protocol: EvaluationProtocol) -> None:
        """All rounds, each looked at by the attack that it is trained against; the last one attacked anew, and as it was before."""
        config, image_sets, variant, n = self.experiment.config, self.experiment.image_sets, self.experiment.variant, self.config.trained_on
        natural = image_sets.natural["detector_train"].first(n)
        seen = image_sets.with_evidence(settings, image_sets.natural["detector_train"], "detector_train", variant).first(n)
        sets = [
            image_sets.with_evidence(settings, image_sets.attacked(b, "detector_train", protocol), "detector_train", variant).first(n)
            for b in config.attacks
        ]
        saliency = self.saliency_model(settings)
        target = Target(self.experiment.evaluated(settings, protocol, self.experiment.combined, seed).detector, None, saliency)
        rounds = [target]
        for k in range(1, self.config.rounds + 1):
            where = (target.fitted, target.saliency)
            made = self.run.do(attack_defended, natural, self.classifier, attack, protocol, *where, seed=k)
            sets.append(image_sets.with_evidence(settings, made, "detector_train", variant))
            better = self.run.do(harden, seen, list(sets), target.fitted, Hardening(), protocol, k, called, seed=seed)
            target = Target(better, None, saliency)
            rounds.append(target)
        self.outputs.hardened += [t.fitted for t in rounds[1:]]
        if protocol is PUBLISHED:
            self.outputs.white_box += [self.attacked_in_passes(attack, t, [PASSES]) for t in rounds]
        for t in (rounds[0], rounds[-1]):
            self.rerun(self.calibrated(settings, t), attack.eps)
        if protocol is self.strict and seed == 0:
            self.outputs.white_box += self.attack_checks(self.calibrated(settings, rounds[-1]))  # training may have flattened its slope

    def calibrated(self, settings: Any, target: Target) -> Target:
        """With a strict threshold."""
        shown = self.experiment.image_sets.with_evidence(
            settings, self.experiment.image_sets.natural["calibration"], "calibration", self.experiment.variant
        )
        return Target(target.fitted, self.run.do(score, target.fitted, [shown], protocol=self.strict), target.saliency)

    def rerun(self, target: Target, eps: float) -> None:
        """By attacks with another loss, more steps and other random numbers that it was not trained on; and what it costs."""
        a = self.config
        for attack in (*(kind(eps, a.steps, start="random") for kind in KINDS), Minimal(a.steps)):
            self.outputs.white_box.append(self.attack(target, attack, independent_rerun=True))
