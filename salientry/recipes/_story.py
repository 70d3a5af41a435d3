"""The paper's whole story but for the white box, on one data set: what the recipes have in common.

Order: nets, images, the defences under both protocols, controls on what they read, fusion and choice, how far maps move.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..attacks import JSMA, CarliniWagner
from ..controls import MatchedNoise, Null, Reversed, RoundTrip, Shuffled, Transplant
from ..detectors import (
    SMD,
    SPD,
    BlackShare,
    Exists,
    HighFrequency,
    IDPlus,
    Margin,
    Margin2,
    Opinion,
    PooledActivations,
    SortedLogits,
)
from ..errors import UsageError
from ..experiment.choice import LOGISTIC, TRAINED, choose, on_select, select_names
from ..experiment.findings import Findings, GuardParts
from ..experiment.fusion import calibrate_fusion, choose_recipe, fit_fusion, score_fusion
from ..experiment.handles import Handle, lend
from ..experiment.run import Run
from ..experiment.sanity import gallery, gate, sanity
from ..experiment.shift import map_shift
from ..experiment.steps import calibrate, fit_encoder, fit_saliency, look, take_trunk, train_classifier
from ..experiment.strength import strong_enough
from ..experiment.subjects import Shown, Subjects
from ..experiment.trial import Judged, Training, judge, trained
from ..experiment.variants import gradient_sizes
from ..keys import label
from ..protocol import PUBLISHED, Rules
from ..protocol import REPLICA as UNPAIRED
from ..saliency import Fill, Gradient, GradientInput, GuidedBackprop
from ..types import ROLES
from . import _further as further
from ._plan import Plan

LEAST = 0.9  # share of images that a strong attack must fool
SPARSE = (CarliniWagner, JSMA)  # whose own values at shuffled pixels are another control than noise
HEADLINE_FUSIONS = ("all", "without the map", "without the image", "logits alone", "logits with the map")
GROUPS: dict[str, tuple[type, ...]] = {  # what is taken out of the fusion to see what it added
    "the map": (SMD, SPD),
    "SMD": (SMD,),
    "SPD": (SPD,),
    "the image": (IDPlus,),
    "logits": (Margin, Margin2, SortedLogits),
    "activations": (PooledActivations,),
    "the second net": (Exists, Opinion),
    "pixel statistics": (BlackShare, HighFrequency),
}


def tell(run: Run, plan: Plan) -> Findings:
    """Everything that the report prints.

    Raises:
        UsageError: for a number of repetitions or of images that cannot be.
    """
    story, found = begun(run, plan)
    story.tell(found)
    return found


def begun(run: Run, plan: Plan) -> tuple[Story, Findings]:
    """Nets, images and gates: what every part of the story stands on.

    Raises:
        UsageError: for a number of repetitions or of images that cannot be.
    """
    roles = plan.data.roles
    limits = [("seeds", plan.seeds, 100), ("detect", plan.detect, roles.detect or roles.fit), ("select", plan.select, roles.select)]
    limits += [("test", plan.test, roles.test)] if plan.test is not None else []
    for name, value, most in limits:
        if not 1 <= value <= most:
            raise UsageError(f"{name} must lie in [1, {most}]; found {value}")
    images = run.dataset(plan.data)
    f = run.do(train_classifier, images["fit"], plan.classifier)
    encoder = run.do(fit_encoder, images["fit"], plan.saliency.encoder)
    drawer = run.do(fit_saliency, images["fit"], f, plan.saliency, encoder)
    looked = {role: run.do(look, images[role], f) for role in ROLES if getattr(roles, role)}
    measured, drawers = run.do(sanity, looked["select"], f, drawer), [drawer]
    s = run.do(gate, measured, drawer, plan.bounds)
    fit = plan.detect if plan.ladder else min(roles.calibrate, roles.fit)
    natural = looked | {"fit": looked["fit"].first(fit)}
    heads = looked["detect"].first(plan.detect) if roles.detect else run.do(lend, looked["fit"].first(plan.detect), "detect")
    natural |= {"detect": heads, "select": looked["select"].first(plan.select)}
    natural |= {"test": looked["test"].first(plan.test)} if plan.test is not None else {}
    found = Findings(classifier=f, gates=[s], sanity=[measured, run.do(sanity, looked["select"], f, drawer, fill=Fill("paper"))])
    found.reduced, found.compact = [label(a) for a in plan.reduced], plan.compact
    found.class_names = getattr(plan.data, "class_names", ())
    health = None if plan.health is None else min(plan.health, fit, plan.detect, plan.select)
    story = Story(run, plan, Subjects(run, f, natural, health), Shown(s), encoder, looked["select"])
    if plan.trunk is not None:
        drawn = run.do(fit_saliency, images["fit"], f, plan.trunk, run.do(take_trunk, images["fit"], f, plan.trunk.encoder))
        found.sanity.append(run.do(sanity, looked["select"], f, drawn))
        story.trunk = Shown(run.do(gate, found.sanity[-1], drawn, plan.bounds))
        found.gates.append(_is(story.trunk.saliency))
        drawers.append(drawn)
    found.sanity += [run.do(sanity, looked["select"], f, d, within="class") for d in drawers]
    return story, found


@dataclass
class Story:
    """The parts of the story; each adds to the findings.

    Attributes:
        run: where it is written down.
        plan: settings.
        subjects: all images.
        how: the ordinary manner of showing them.
        encoder: of the saliency model.
        select: all select naturals; fewer are attacked.
        trunk: with maps drawn from the classifier's own trunk, where the plan wants them.
    """

    run: Run
    plan: Plan
    subjects: Subjects
    how: Shown
    encoder: Handle
    select: Handle
    trunk: Shown | None = None

    def tell(self, found: Findings) -> None:
        """All of it."""
        self.attack(found)
        self.detect(found)
        self.spoil(found)
        self.fuse(found)
        self.move(found)
        further.ladder(self.plan, self.subjects, self.how, found)
        further.sweep(self.plan, self.subjects, self.how, found)
        further.swap_parts(self.plan, self.subjects, {"": self.how} | ({"trunk": self.trunk} if self.trunk else {}), found)

    def attack(self, found: Findings) -> None:
        """The attacks must attack: told in float, before anything is judged on them."""
        plan = self.plan
        for a in plan.tested:
            strong = a in (*plan.attacks, *plan.headline) and a not in plan.weak
            found.strength.append(self.run.do(strong_enough, self.subjects.attacked(a, "test", PUBLISHED), LEAST if strong else 0.0))
            if a in (*plan.attacks, plan.printed):
                found.gradients.append(self.run.do(gradient_sizes, self.subjects.attacked(a, "test", PUBLISHED), self.subjects.classifier))
        found.gradients.append(self.run.do(gradient_sizes, self.subjects.natural["test"], self.subjects.classifier))

    def tests(self, rules: Rules, attacks: tuple[Any, ...], every: bool) -> list[Handle]:
        """Test images of all attacks, then controls as large as the ``attacks``; ``every`` control, or the mandatory ones."""
        plan, subjects = self.plan, self.subjects
        found = [subjects.attacked(a, "test", rules) for a in plan.tested]
        found += [subjects.control(Null(), attacks[0], rules)]
        found += [subjects.control(MatchedNoise(), a, rules) for a in attacks]
        if every:
            found += [subjects.control(RoundTrip(), attacks[0], rules)]
            for a in attacks:
                kinds = [MatchedNoise(kind="gaussian"), Transplant(), *([Shuffled()] if isinstance(a, SPARSE) else [])]
                found += [*(subjects.control(k, a, rules) for k in kinds), subjects.attacked(a, "test", PUBLISHED)]
        return list({h.fingerprint: h for h in found}.values())

    def trainings(self, rules: Rules) -> Iterator[Training]:
        """On each attack alone, and on all of them."""
        yield from (Training((a,)) for a in (self.plan.rows if rules.name == "strict" else self.plan.attacks))
        yield self.combined

    def is_headline(self, training: Training) -> bool:
        """Whether this row carries the questions about the map."""
        return training.called == "combined" or not self.plan.headline or training.attacks[0] in self.plan.headline

    @functools.cached_property
    def recipe(self) -> Handle | None:
        """The settings of ID+ that are best on *select*; None where there is nothing to choose."""
        plan, rows = self.plan, self.plan.headline
        if len(plan.recipes) < 2:
            return None
        tried = [IDPlus(r) for r in plan.recipes]
        scored = [
            on_select(self.subjects, trained(self.subjects, d, plan.strict, Training((a,)), self.how), d, rows, plan.strict, self.how)
            for d in tried
            for a in rows
        ]
        twins = [self.subjects.attacked(a, "select", plan.strict) for a in rows]
        return self.run.do(choose_recipe, tried, twins, scored, select_names([label(a) for a in rows]))

    def judged(self, detector: Any, rules: Rules, training: Training, seed: int, how: Shown | None = None) -> Judged:
        """A trial with the controls that its place in the story asks for."""
        tests = self.tests(rules, training.attacks, every=rules.name == "strict" and seed == 0)
        chosen = self.recipe if isinstance(detector, IDPlus) else None
        return judge(self.subjects, detector, rules, training, tests, how or self.how, seed=seed, chosen=chosen)

    def spoiled(self, detector: Any, training: Training, how: Shown) -> Judged:
        """A trial of a detector that is blinded: it is tested on its training attack alone."""
        strict = self.plan.strict
        tests = [self.subjects.attacked(a, "test", strict) for a in training.attacks]
        return judge(self.subjects, detector, strict, training, tests, how, briefly=True)

    def detect(self, found: Findings) -> None:
        """The grids: trained on each attack, and on all, tested on each."""
        plan = self.plan
        replicas = [type(d)(head=plan.replica) for d in plan.defences]
        for rules in (PUBLISHED, plan.strict):
            strict = rules is plan.strict
            for training in (*self.trainings(rules), *([] if strict or plan.printed is None else [Training((plan.printed,))])):
                fair = (IDPlus(plan.recipes[0]),) if strict and self.is_headline(training) else ()
                trials = [(d, rules, seed) for d in (*plan.defences, *fair, *TRAINED) for seed in range(plan.seeds)]
                trials += [(d, rules, 0) for d in LOGISTIC] + ([] if strict else [(d, UNPAIRED, 0) for d in replicas])
                for detector, manner, seed in trials:
                    found.scores += self.judged(detector, manner, training, seed).findings
                if strict and self.trunk and self.is_headline(training):
                    own = replace(training, form="trunk")
                    for d, seed in product(plan.defences[:2], range(plan.seeds)):
                        found.scores += self.judged(d, rules, own, seed, self.trunk).findings
        found.recipe = self.recipe

    def spoil(self, found: Findings) -> None:
        """Controls on what a detector reads: strict, seed 0, trained on the first headline, or on the first attack and on C&W."""
        plan, run = self.plan, self.run
        undrawn = run.do(fit_saliency, self.fit_rows, self.subjects.classifier, replace(plan.saliency, epochs=0), self.encoder)
        s = self.how.saliency
        maps = {f"{by} map": Shown(s, "map", by) for by in ("random", "constant", "another image's")}
        maps |= {
            "untrained decoder": Shown(undrawn),
            "natural's class": Shown(s, selector="natural"),
            "true class": Shown(s, selector="label"),
        }
        gradients = {"gradient zeroed": Shown(s, "gradient", "zero"), "another image's gradient": Shown(s, "gradient", "another image's")}
        usual = (plan.attacks[0], *(a for a in plan.attacks[1:] if isinstance(a, CarliniWagner)))
        for attack in plan.headline[:1] or usual:
            for form, how in (maps | gradients).items():
                detectors = plan.defences[:2] if form in maps else plan.defences[3:]
                for d in detectors:
                    found.scores += self.spoiled(d, Training((attack,), form=form), how).findings
            for d in plan.defences[:3]:
                shuffled = Training((attack,), form="labels shuffled", shuffled=True)
                found.scores += self.spoiled(d, shuffled, self.how).findings

    @property
    def fit_rows(self) -> Handle:
        """The rows that nets are trained on."""
        return self.run.dataset(self.plan.data)["fit"]

    def fuse(self, found: Findings) -> None:
        """The fusion of everything that was trained on all attacks, and without each of its parts in turn; and the choice of a guard.
        On a headline attack alone: with the map and without it.
        """
        plan = self.plan
        for training in (self.combined, *(Training((a,)) for a in plan.headline)):
            for seed in range(plan.seeds):
                trials = self.members(training, seed)
                kept, scores = self._fused(training, trials, seed)
                found.scores += scores
                if seed == 0 and training.called == "combined":
                    self.keep(found, {d: t.detector for d, t in trials.items()}, *kept)

    @property
    def combined(self) -> Training:
        """On all attacks at once."""
        return Training(self.plan.attacks, "combined")

    def members(self, training: Training, seed: int) -> dict[Any, Judged]:
        """The detectors that are fused, by their settings."""
        return {d: self.judged(d, self.plan.strict, training, 0 if d in LOGISTIC else seed) for d in self.plan.members}

    def whole(self, training: Training, seed: int) -> tuple[Handle, Handle]:
        """The fusion of everything, and what it was calibrated to."""
        return self._fused(training, self.members(training, seed), seed)[0]

    def _fused(self, training: Training, trials: dict[Any, Judged], seed: int) -> tuple[tuple[Handle, Handle], list[Handle]]:
        """All fusions of these trials: the whole one and what it was calibrated to, and everything that they found."""
        plan, run, subjects, attacks = self.plan, self.run, self.subjects, training.attacks
        twins = [subjects.attacked(a, "select", plan.strict) for a in attacks]
        selected = {d: on_select(subjects, t.detector, d, attacks, plan.strict, self.how) for d, t in trials.items()}
        sets = [subjects.natural["test"], *self.tests(plan.strict, attacks, seed == 0)]
        names, whole, scores = select_names([label(a) for a in attacks]), list[Handle](), list[Handle]()
        for called, kept in _fusions(tuple(trials)).items():
            if training.called != "combined" and called not in HEADLINE_FUSIONS:
                continue
            members, scored = [trials[d].detector for d in kept], [trials[d] for d in kept]
            fused = run.do(fit_fusion, [selected[d] for d in kept], members, names, twins, plan.strict, called, seed=seed)
            calibrated = run.do(calibrate_fusion, [t.calibrated for t in scored], fused, plan.strict)
            scores += [calibrated, run.do(score_fusion, sets, [t.scored for t in scored], fused, calibrated)]
            whole += [fused, calibrated] if called == "all" else []
        return (whole[0], whole[1]), scores

    def keep(self, found: Findings, candidates: dict[Any, Handle], fused: Handle, calibrated: Handle) -> None:
        """Choose the guard's detector on *select*, and only then calibrate it; without a choice it is the fusion."""
        plan, subjects, level = self.plan, self.subjects, self.plan.strict.levels[0]
        if not plan.choice:
            found.guard = GuardParts(subjects.classifier, _is(self.how.saliency), fused, calibrated, level)
            return
        choice = choose(subjects, candidates, fused, plan.attacks, plan.strict, self.how, level)
        drawn = subjects.shown(SPD(), subjects.natural["calibrate"], "calibrate", self.how)
        calibrated = self.run.do(calibrate, [drawn], choice.detector, plan.strict)
        found.choice = [*choice.rates, choice.detector]
        found.guard = GuardParts(subjects.classifier, _is(self.how.saliency), choice.detector, calibrated, level)

    def move(self, found: Findings) -> None:
        """How far maps move, learnt ones and gradients; and pictures."""
        plan, run, subjects = self.plan, self.run, self.subjects
        others = [
            run.do(fit_saliency, subjects.natural["select"], subjects.classifier, m)
            for m in (Gradient(), GradientInput(), GuidedBackprop(), Gradient(of="prob"))
        ]
        for rules in (PUBLISHED, plan.strict):
            strict = rules is plan.strict
            attacks = plan.rows if strict else plan.attacks
            attacked = [subjects.attacked(a, "test", rules) for a in attacks]
            noisy = [subjects.control(MatchedNoise(), a, rules) for a in attacks]
            sets = (subjects.natural["test"], attacked, noisy)
            kinds = (MatchedNoise(), Transplant(), Reversed())
            controls = [subjects.control(k, a, rules) for a in attacks for k in kinds] if strict and plan.headline else None
            for saliency in (self.how.saliency, *([self.trunk.saliency] if self.trunk else [])):
                found.shifts.append(run.do(map_shift, *sets, saliency, split=strict, controls=controls))
            found.shifts += [run.do(map_shift, *sets, m) for m in others if strict]
        shown = [subjects.shown(SPD(), subjects.attacked(a, "test", plan.strict), "test", self.how) for a in plan.attacks]
        found.gallery = run.do(gallery, subjects.shown(SPD(), subjects.natural["test"], "test", self.how), shown, others)


def _fusions(members: tuple[Any, ...]) -> dict[str, list[Any]]:
    """Everything; everything without each part; the logits' floors alone, and with each other part."""
    logits = [d for d in members if isinstance(d, GROUPS["logits"])]
    found = {"all": list(members)}
    found |= {f"without {name}": [d for d in members if not isinstance(d, kinds)] for name, kinds in GROUPS.items()}
    found |= {"logits alone": logits}
    others = {name: kinds for name, kinds in GROUPS.items() if name != "logits"}
    return found | {f"logits with {name}": [*logits, *(d for d in members if isinstance(d, kinds))] for name, kinds in others.items()}


def _is(handle: Handle | None) -> Handle:
    assert handle is not None
    return handle
