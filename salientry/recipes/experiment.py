"""The paper's whole experiment but for the white box, on one data set: what the recipes have in common.

Order: nets, images, the defences under both protocols, controls on what they read, fusion and choice, how far maps move.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..attacks import CarliniWagner
from ..batches import RowImages
from ..classifiers import named
from ..controls import MatchedNoise, Null, Reversed, RoundTrip, Shuffled, Transplant
from ..detectors import DETECTORS, ID, JSD, SPD, ExternalDetector, IDPlus, as_detector
from ..errors import UsageError
from ..experiment.choice import choose, on_select, select_names
from ..experiment.evaluation import TrainingSet, TrialResult, evaluate, trained
from ..experiment.fusion import choose_recipe, fit_fusion
from ..experiment.image_sets import EvidenceVariant, ImageSets, Reader
from ..experiment.map_shift import map_shift
from ..experiment.outputs import GuardParts, Outputs
from ..experiment.run import Run
from ..experiment.sanity import gallery, sanity, sanity_check
from ..experiment.scoring import Scored, score
from ..experiment.steps import classify, fit_encoder, fit_saliency, take_trunk, train_classifier
from ..experiment.strength import gradient_sizes, strong_enough
from ..keys import label, name_of
from ..protocol import PUBLISHED, EvaluationProtocol
from ..protocol import REPLICA as UNPAIRED
from ..runner.step import Handle, reuse_split
from ..saliency import Fill, Gradient, GradientInput, GuidedBackprop
from ..store import one_of
from ..types import ROLES, shape_of
from . import extras as extras
from .paper_config import Config

LEAST = 0.9  # share of images that a strong attack must fool
HEADLINE_FUSIONS = ("all", "without the map", "without the image", "logits alone", "logits with the map")


def build(run: Run, config: Config) -> Outputs:
    """Everything that the report prints, as handles.

    Raises:
        UsageError: for a number of repetitions or of images that cannot be.
    """
    experiment, outputs = prepare(run, config)
    experiment.define_steps(outputs)
    return outputs


def prepare(run: Run, config: Config) -> tuple[Experiment, Outputs]:
    """Nets, images and sanity checks: what every part of the experiment depends on.

    Raises:
        UsageError: for a number of repetitions or of images that cannot be.
    """
    roles = config.data.roles
    limits = [
        ("seeds", config.seeds, 100),
        ("detector_train", config.detector_train, roles.detector_train or roles.train),
        ("validation", config.validation, roles.validation),
    ]
    limits += [("test", config.test, roles.test)] if config.test is not None else []
    for name, value, most in limits:
        if not 1 <= value <= most:
            raise UsageError(f"{name} must lie in [1, {most}]; found {value}")
    images = run.dataset(config.data)
    config = replace(config, detectors=_entered(run, config, images["test"]))
    config = replace(config, published=tuple(d for d in config.published if d not in config.members))  # what is named is trained on all
    f = run.do(train_classifier, images["train"], config.classifier)
    encoder = run.do(fit_encoder, images["train"], config.saliency.encoder)
    saliency_model = run.do(fit_saliency, images["train"], f, config.saliency, encoder)
    classified = {role: run.do(classify, images[role], f) for role in ROLES if getattr(roles, role)}
    measured, saliency_models = run.do(sanity, classified["validation"], f, saliency_model), [saliency_model]
    s = run.do(sanity_check, measured, saliency_model, config.bounds)
    fit = config.detector_train if config.protocol_steps else min(roles.calibration, roles.train)
    natural = classified | {"train": classified["train"].first(fit)}
    heads = (
        classified["detector_train"].first(config.detector_train)
        if roles.detector_train
        else run.do(reuse_split, classified["train"].first(config.detector_train), "detector_train")
    )
    natural |= {"detector_train": heads, "validation": classified["validation"].first(config.validation)}
    natural |= {"test": classified["test"].first(config.test)} if config.test is not None else {}
    outputs = Outputs(
        classifier=f, map_checks=[s], sanity=[measured, run.do(sanity, classified["validation"], f, saliency_model, fill=Fill("paper"))]
    )
    outputs.compact = config.compact
    outputs.class_names = getattr(config.data, "class_names", ())
    overfit_images = None if config.overfit_images is None else min(config.overfit_images, fit, config.detector_train, config.validation)
    experiment = Experiment(run, config, ImageSets(run, f, natural, overfit_images), EvidenceVariant(s), encoder)
    if config.trunk is not None:
        drawn = run.do(fit_saliency, images["train"], f, config.trunk, run.do(take_trunk, images["train"], f, config.trunk.encoder))
        outputs.sanity.append(run.do(sanity, classified["validation"], f, drawn))
        experiment.trunk = EvidenceVariant(run.do(sanity_check, outputs.sanity[-1], drawn, config.bounds))
        outputs.map_checks.append(_is(experiment.trunk.saliency))
        saliency_models.append(drawn)
    outputs.sanity += [run.do(sanity, classified["validation"], f, d, within="class") for d in saliency_models]
    return experiment, outputs


@dataclass
class Experiment:
    """The paper's experiment on one data set; each part adds to the outputs.

    Attributes:
        run: where it is written down.
        config: settings.
        image_sets: all images.
        variant: the evidence as it is, nothing replaced.
        encoder: of the saliency model.
        trunk: with maps drawn from the classifier's own trunk, where the config wants them.
    """

    run: Run
    config: Config
    image_sets: ImageSets
    variant: EvidenceVariant
    encoder: Handle
    trunk: EvidenceVariant | None = None

    def define_steps(self, outputs: Outputs) -> None:
        """Every part, in order: handles only, nothing is computed."""
        self.attack(outputs)
        self.detect(outputs)
        self.ablate_inputs(outputs)
        self.fuse(outputs)
        self.shift_maps(outputs)
        extras.protocol_steps(self.config, self.image_sets, self.variant, outputs)
        extras.sweep(self.config, self.image_sets, self.variant, outputs)
        extras.confidence_sweep(self.config, self.image_sets, self.variant, outputs)
        extras.mix_parts(self.config, self.image_sets, {"": self.variant} | ({"trunk": self.trunk} if self.trunk else {}), outputs)

    def attack(self, outputs: Outputs) -> None:
        """The attacks must attack: measured on float images, before anything is judged on them."""
        config = self.config
        for a in config.tested:
            strong = a in (*config.attacks, *config.headline) and getattr(a, "must_fool", True)
            outputs.strength.append(self.run.do(strong_enough, self.image_sets.attacked(a, "test", PUBLISHED), LEAST if strong else 0.0))
            if a in (*config.attacks, config.printed):
                outputs.gradients.append(
                    self.run.do(gradient_sizes, self.image_sets.attacked(a, "test", PUBLISHED), self.image_sets.classifier)
                )
        outputs.gradients.append(self.run.do(gradient_sizes, self.image_sets.natural["test"], self.image_sets.classifier))

    def tests(self, protocol: EvaluationProtocol, attacks: tuple[Any, ...], every: bool) -> list[Handle]:
        """Test images of all attacks, then controls as large as the ``attacks``; ``every`` control, or the mandatory ones."""
        config, image_sets = self.config, self.image_sets
        found = [image_sets.attacked(a, "test", protocol) for a in config.tested]
        found += [image_sets.control(Null(), attacks[0], protocol)]
        found += [image_sets.control(MatchedNoise(), a, protocol) for a in attacks]
        if every:
            found += [image_sets.control(RoundTrip(), attacks[0], protocol)]
            for a in attacks:
                kinds = [MatchedNoise(kind="gaussian"), Transplant(), *([Shuffled()] if getattr(a, "sparse", False) else [])]
                found += [*(image_sets.control(k, a, protocol) for k in kinds), image_sets.attacked(a, "test", PUBLISHED)]
        return list({h.fingerprint: h for h in found}.values())

    def trainings(self, protocol: EvaluationProtocol) -> Iterator[TrainingSet]:
        """On each attack alone, and on all of them."""
        yield from (TrainingSet((a,)) for a in (self.config.rows if protocol.name == "strict" else self.config.attacks))
        yield self.combined

    def is_headline(self, training: TrainingSet) -> bool:
        """Whether this row carries the questions about the map."""
        return training.called == "combined" or not self.config.headline or training.attacks[0] in self.config.headline

    @functools.cached_property
    def recipe(self) -> Handle | None:
        """The settings of ID+ that are best on *validation*; None where there is nothing to choose."""
        config, rows = self.config, self.config.headline
        if len(config.recipes) < 2:
            return None
        tried = [IDPlus(r) for r in config.recipes]
        scored = [
            on_select(
                self.image_sets,
                trained(self.image_sets, d, config.strict, TrainingSet((a,)), self.variant),
                d,
                rows,
                config.strict,
                self.variant,
            )
            for d in tried
            for a in rows
        ]
        twins = [self.image_sets.attacked(a, "validation", config.strict) for a in rows]
        return self.run.do(choose_recipe, tried, twins, scored, select_names([label(a) for a in rows]))

    def evaluated(
        self, detector: Any, protocol: EvaluationProtocol, training: TrainingSet, seed: int, variant: EvidenceVariant | None = None
    ) -> TrialResult:
        """A trial with the controls that its place in the experiment asks for."""
        tests = self.tests(protocol, training.attacks, every=protocol.name == "strict" and seed == 0)
        chosen = self.recipe if isinstance(detector, IDPlus) else None
        return evaluate(self.image_sets, detector, protocol, training, tests, variant or self.variant, seed=seed, chosen=chosen)

    def ablation(self, detector: Any, training: TrainingSet, variant: EvidenceVariant) -> TrialResult:
        """A trial of a detector that is blinded: it is tested on its training attack alone."""
        strict = self.config.strict
        tests = [self.image_sets.attacked(a, "test", strict) for a in training.attacks]
        return evaluate(self.image_sets, detector, strict, training, tests, variant, briefly=True)

    def detect(self, outputs: Outputs) -> None:
        """The grids: trained on each attack, and on all, tested on each."""
        config = self.config
        replicas = [type(d)(head=config.replica) for d in config.defences]
        for protocol in (PUBLISHED, config.strict):
            strict = protocol is config.strict
            for training in (*self.trainings(protocol), *([] if strict or config.printed is None else [TrainingSet((config.printed,))])):
                fair = (IDPlus(config.recipes[0]),) if strict and self.is_headline(training) else ()
                beside = config.published if strict and training.called == "combined" else ()
                tried = (*config.defences, *fair, *config.others, *beside)
                trials = [(d, protocol, seed) for d in tried for seed in range(config.seeds if d.seeded else 1)]
                trials += [] if strict else [(d, UNPAIRED, 0) for d in replicas]
                for detector, manner, seed in trials:
                    outputs.scores += self.evaluated(detector, manner, training, seed).outputs
                if strict and self.trunk and self.is_headline(training):
                    own = replace(training, scheme="trunk")
                    for d, seed in product(config.defences[:2], range(config.seeds)):
                        outputs.scores += self.evaluated(d, protocol, own, seed, self.trunk).outputs
        outputs.recipe = self.recipe

    def ablate_inputs(self, outputs: Outputs) -> None:
        """Controls on what a detector reads: strict, seed 0, trained on the first headline, or on the first attack and on C&W."""
        config, run = self.config, self.run
        undrawn = run.do(fit_saliency, self.fit_rows, self.image_sets.classifier, replace(config.saliency, epochs=0), self.encoder)
        s = self.variant.saliency
        maps = {f"{by} map": EvidenceVariant(s, "map", by) for by in ("random", "constant", "another image's")}
        maps |= {
            "untrained decoder": EvidenceVariant(undrawn),
            "natural's class": EvidenceVariant(s, selector="natural"),
            "true class": EvidenceVariant(s, selector="label"),
        }
        gradients = {
            "gradient zeroed": EvidenceVariant(s, "gradient", "zero"),
            "another image's gradient": EvidenceVariant(s, "gradient", "another image's"),
        }
        usual = (config.attacks[0], *(a for a in config.attacks[1:] if isinstance(a, CarliniWagner)))
        for attack in config.headline[:1] or usual:
            for scheme, variant in (maps | gradients).items():
                detectors = config.defences[:2] if scheme in maps else config.defences[3:]
                for d in detectors:
                    outputs.scores += self.ablation(d, TrainingSet((attack,), scheme=scheme), variant).outputs
            for d in config.defences[:3]:
                shuffled = TrainingSet((attack,), scheme="labels shuffled", shuffled=True)
                outputs.scores += self.ablation(d, shuffled, self.variant).outputs

    @property
    def fit_rows(self) -> Handle:
        """The rows that nets are trained on."""
        return self.run.dataset(self.config.data)["train"]

    def fuse(self, outputs: Outputs) -> None:
        """The fusion of everything that was trained on all attacks, and without each of its parts in turn; and the choice of a guard.
        On a headline attack alone: with the map and without it.
        """
        config = self.config
        for training in (self.combined, *(TrainingSet((a,)) for a in config.headline)):
            for seed in range(config.seeds):
                trials = self.members(training, seed)
                kept, scores = self._fused(training, trials, seed)
                outputs.scores += scores
                if seed == 0 and training.called == "combined":
                    self.keep(outputs, {d: t.detector for d, t in trials.items()}, *kept)

    @property
    def combined(self) -> TrainingSet:
        """On all attacks at once."""
        return TrainingSet(self.config.attacks, "combined")

    def members(self, training: TrainingSet, seed: int) -> dict[Any, TrialResult]:
        """The detectors that are fused, by their settings."""
        return {d: self.evaluated(d, self.config.strict, training, seed if d.seeded else 0) for d in self.config.members}

    def full_fusion(self, training: TrainingSet, seed: int) -> tuple[Handle, Handle]:
        """The fusion of everything, and what it was calibrated to."""
        return self._fused(training, self.members(training, seed), seed)[0]

    def _fused(self, training: TrainingSet, trials: dict[Any, TrialResult], seed: int) -> tuple[tuple[Handle, Handle], list[Scored]]:
        """All fusions of these trials: the whole one and what it was calibrated to, and everything that they found."""
        config, run, image_sets, attacks = self.config, self.run, self.image_sets, training.attacks
        twins = [image_sets.attacked(a, "validation", config.strict) for a in attacks]
        selected = {d: on_select(image_sets, t.detector, d, attacks, config.strict, self.variant) for d, t in trials.items()}
        sets = [image_sets.natural["test"], *self.tests(config.strict, attacks, seed == 0)]
        names, whole, scores = select_names([label(a) for a in attacks]), list[Handle](), list[Scored]()
        for called, kept in _fusions(tuple(trials)).items():
            if training.called != "combined" and called not in HEADLINE_FUSIONS:
                continue
            members, scored = [trials[d].detector for d in kept], [trials[d] for d in kept]
            fused = run.do(fit_fusion, [selected[d] for d in kept], members, names, twins, config.strict, called, seed=seed)
            calibrated = run.do(score, fused, parts=[t.calibrated.scores for t in scored], protocol=config.strict)
            found = run.do(score, fused, sets, [t.scored.scores for t in scored], calibrated=calibrated)
            scores += [Scored(fused, scored[0].calibrated.sets, calibrated), Scored(fused, sets, found)]
            whole += [fused, calibrated] if called == "all" else []
        return (whole[0], whole[1]), scores

    def keep(self, outputs: Outputs, candidates: dict[Any, Handle], fused: Handle, calibrated: Handle) -> None:
        """Choose the guard's detector on *validation*, and only then calibrate it; without a choice it is the fusion."""
        config, image_sets, level = self.config, self.image_sets, self.config.strict.levels[0]
        if not config.choice:
            outputs.guard = GuardParts(image_sets.classifier, _is(self.variant.saliency), fused, calibrated, level)
            return
        choice = choose(image_sets, candidates, fused, config.attacks, config.strict, self.variant, level)
        reader = Reader.of(candidates)
        shown = image_sets.with_evidence(reader, image_sets.natural["calibration"], "calibration", self.variant)
        calibrated = image_sets.scores(reader, choice.detector, [shown], protocol=config.strict)
        outputs.choice = [*choice.rates, choice.detector]
        outputs.guard = GuardParts(image_sets.classifier, _is(self.variant.saliency), choice.detector, calibrated, level)

    def shift_maps(self, outputs: Outputs) -> None:
        """How far maps move, learnt ones and gradients; and pictures."""
        config, run, image_sets = self.config, self.run, self.image_sets
        others = [
            run.do(fit_saliency, image_sets.natural["validation"], image_sets.classifier, m)
            for m in (Gradient(), GradientInput(), GuidedBackprop(), Gradient(of="prob"))
        ]
        for protocol in (PUBLISHED, config.strict):
            strict = protocol is config.strict
            attacks = config.rows if strict else config.attacks
            attacked = [image_sets.attacked(a, "test", protocol) for a in attacks]
            noisy = [image_sets.control(MatchedNoise(), a, protocol) for a in attacks]
            sets = (image_sets.natural["test"], attacked, noisy)
            kinds = (MatchedNoise(), Transplant(), Reversed())
            controls = [image_sets.control(k, a, protocol) for a in attacks for k in kinds] if strict and config.headline else None
            for saliency in (self.variant.saliency, *([self.trunk.saliency] if self.trunk else [])):
                outputs.shifts.append(run.do(map_shift, *sets, saliency, split=strict, controls=controls))
            outputs.shifts += [run.do(map_shift, *sets, m) for m in others if strict]
        shown = [
            image_sets.with_evidence(SPD(), image_sets.attacked(a, "test", config.strict), "test", self.variant) for a in config.attacks
        ]
        outputs.gallery = run.do(gallery, image_sets.with_evidence(SPD(), image_sets.natural["test"], "test", self.variant), shown, others)


def _fusions(members: tuple[Any, ...]) -> dict[str, list[Any]]:
    """Everything; everything without what reads one thing, and without each of the map's detectors; those of the logits alone, and with
    what reads one other thing.
    """
    groups: dict[str, list[Any]] = {}
    for d in members:
        groups.setdefault(d.reads, []).append(d)
    left_out: dict[str, list[Any]] = {}
    for name, of in groups.items():
        left_out |= {name: of} | ({name_of(d): [d] for d in sorted(of, key=name_of)} if name == "the map" else {})
    found = {"all": list(members)} | {f"without {name}": [d for d in members if d not in of] for name, of in left_out.items()}
    if logits := groups.get("logits", []):
        with_others = {f"logits with {name}": [*logits, *of] for name, of in left_out.items() if name != "logits"}
        found |= {"logits alone": logits} | with_others
    return {called: kept for called, kept in found.items() if kept}


def further_detectors(given: Any) -> tuple[Any, ...]:
    """A recipe's further detectors: names of ``DETECTORS``, or ``module:name`` of one's own, with commas between; or the detectors.

    Raises:
        UsageError: for a name that leads nowhere.
    """
    if not isinstance(given, str):
        return tuple(given)
    names = [name for name in given.split(",") if name]
    for name in names:
        if ":" not in name:
            one_of("detector", name, [n for n in DETECTORS if n != "fused"])
    return tuple(named(name, "detector") if ":" in name else DETECTORS[name]() for name in names)


def _entered(run: Run, config: Config, images: Handle) -> tuple[Any, ...]:
    """The further detectors as settings; a user's own is tried on noise, which distinguishes it from another one of the same code.

    Raises:
        UsageError: for two detectors of one name, or one that fails.
    """
    found = [as_detector(d) for d in config.detectors]
    if not found:
        return ()
    rows = run.get(images)
    shape = shape_of(RowImages(rows), rows.facts["classes"])
    names = [name_of(d) for d in (*replace(config, detectors=()).members, ID(), JSD(), *found)]
    if doubled := [name_of(d) for d in found if names.count(name_of(d)) > 1]:
        raise UsageError(f"two detectors are called {doubled[0]}; give yours another name")
    return tuple(d.probed(shape) if isinstance(d, ExternalDetector) else d for d in found)


def _is(handle: Handle | None) -> Handle:
    assert handle is not None
    return handle
