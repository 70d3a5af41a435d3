"""A fair verdict on detectors of adversarial images: whose they are makes no difference."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..adaptive import Defended
from ..calibration import pac_threshold
from ..datasets import Arrays
from ..detectors import ExternalDetector, may_need
from ..errors import AttackTooWeak, UsageError
from ..evidence import FROM_SALIENCY, SECOND, Evidence
from ..experiment.fit_progress import FitProgress, ProgressCallback, no_main
from ..experiment.given import alike, identity, named_detector, pass_seconds, probed, second_network
from ..experiment.guard_settings import default_attacks
from ..experiment.image_sets import ImageSets
from ..experiment.intake import Pixels, taken
from ..experiment.parts import Parts, expected, warn_caller
from ..experiment.run import Run
from ..experiment.steps import classify
from ..guard import Guard
from ..inputs import as_labels
from ..keys import digest, name_of
from ..layers import choose_layers
from ..learned import device_of, fingerprint, frozen
from ..machine import processor
from ..modules import private
from ..preflight import Preflight, preflight
from ..runner.pool import worth
from ..runner.step import Handle
from ..store import JSON
from ..types import ROLES
from .adapters import FromART, is_of_art
from .adaptive import Attacker
from .baselines import PUBLISHED, baselines_called
from .bench import Bench, Contestant, called, judging_attacks, judging_shares
from .result import Judgement
from .table import ScoreTable, read_scores
from .verdict import LEVELS, NO_CHANGES, NO_CONTROLS, OF_SCORES, verdicts

NO_WAY = 'baselines= names others, or "none"'
TEN = f'not beside it: {len(PUBLISHED)} published detectors, which --baselines published (judge(..., baselines="published")) adds'
TIMED = 7  # repeats of each timing; the shortest is the one that nothing else disturbed


def judge(
    detector: Any,
    *,
    classifier: nn.Module,
    images: Any,
    labels: Any = None,
    second: nn.Module | None = None,
    baselines: dict[str, Any] | str | bool = "quick",
    attacks: dict[str, Any] | Sequence[Any] | None = None,
    levels: Sequence[float] = LEVELS,
    adaptive: int = 64,
    minutes: float = 60.0,
    store: Path | str | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: ProgressCallback | bool | None = None,
) -> Judgement:
    """Judge detectors of adversarial images in front of a classifier.

    Each detector gets the same images: naturals that a threshold is calibrated on, other naturals, the same attacked in a dozen ways,
    stored as 8-bit images and saved as JPEG and WebP too, changed harmlessly, and with perturbations that are no attack. Only images
    that the classifier had right, and that fool it as they are stored, count as attacked. Then each is attacked by somebody who knows it.
    Detectors that learn, the baselines among them, are trained on images and attacks that are kept apart from those.

    Args:
        detector: your own: a callable or ``nn.Module``, images (N, C, H, W) float32 in [0, 1] to scores (N,), higher = more adversarial;
            an object with ``fit(evidence, labels)`` and ``score(evidence)``
            (:class:`~salientry.detectors.ExternalDetector` has options, such as a ``surrogate`` with a gradient); settings or a name of
            ``DETECTORS``; a fitted :class:`~salientry.Guard` of this classifier; a fitted detector of ART. Several as
            ``{"mine": f, "yours": g}``.
        classifier: images to logits.
        images: natural images that neither the classifier nor a detector was trained on: a tensor, a loader, a folder ... as in
            :func:`~salientry.fit_guard`; 197 at least, some thousands for narrow intervals. A fifth stands for images that the classifier
            was trained on, where a detector learns what each class looks like.
        labels: (N,); None when they come with the images.
        second: another classifier of the same classes, for detectors that ask one.
        baselines: judged beside yours: ``"quick"``, cheap ones; ``"published"``, ten of the literature too; ``"none"``; or a dictionary
            (:mod:`salientry.judging.baselines`). One that cannot be fitted to these images is left out and named.
        attacks: what they are judged by, by name, ours or objects of foolbox, torchattacks and ART
            (:func:`~salientry.attacks.as_attack`); default :func:`~salientry.judging.bench.judging_attacks`.
        levels: false-positive rates; the threshold for the first is used where one is needed.
        adaptive: images that are attacked by somebody who knows the detector; 0: none.
        minutes: that one core has. An attack that would take a fifth of them is left out and named, whoever makes it.
        store: folder of intermediate results, so that an interrupted call resumes and another detector is judged on the same attacked
            images; default a temporary one.
        seed: of all draws.
        workers: processes side by side; None: one a core when more than half a minute is expected. The scores are the same.
        progress: a function of (share done, seconds left); True or False: a bar on stderr or none; None: one if that is a terminal.

    Returns:
        A :class:`Judgement`: ``print`` it, ``save`` it as a page, Markdown, JSON and a table of scores.

    Raises:
        UsageError: for what cannot be used, too few images, or two detectors of one name.
        AttackTooWeak: when a detector is to be trained and no attack fools the classifier.

    Examples:
        >>> result = salientry.judge(my_detector, classifier=model, images=x, labels=y)    # doctest: +SKIP
        >>> result.save("report/")                                                         # doctest: +SKIP
    """
    _check(classifier, levels, workers)
    given = _named(detector)
    beside = baselines_called(baselines)
    if twice := set(beside) & set(given):
        raise UsageError(f"a detector is called as a baseline is: {sorted(twice)[0]}; give it another name")
    tried = None if attacks is None else called(attacks)
    with tempfile.TemporaryDirectory() as scratch, FitProgress(progress, "judge") as bar, alike(classifier):
        run = Run(store or scratch, seed=seed, device=str(device_of(classifier)))
        evaluation = _Evaluation.of(classifier, second, *taken(images, labels, Path(scratch)), run)
        bar.say(evaluation.seen.summary())
        evaluation.prepare(given | beside, tried, levels[0], minutes)
        evaluation.compute(bar, workers, set(given))
        found = verdicts(evaluation.table(), levels)
        attacker = evaluation.attacker(levels[0], adaptive, minutes, bar)
        for c in evaluation.contestants:
            found[c.name] |= evaluation.beside(c, attacker if c.name in given else None, levels[0])
        return Judgement(found, evaluation.facts(list(given)), evaluation.table())


def judge_scores(scores: Path | str | ScoreTable, levels: Sequence[float] = LEVELS) -> Judgement:
    """The verdict on scores that were made elsewhere; what cannot be decided from scores is said.

    Args:
        scores: a file, .parquet, .csv or .npz, or a table; its columns stand in :mod:`salientry.judging.table`.
        levels: false-positive rates.

    Raises:
        DataMissing: where there is no such file.
        DataDamaged: where it cannot be read.
        UsageError: for a table that lacks something.
    """
    table = scores if isinstance(scores, ScoreTable) else read_scores(scores)
    found = verdicts(table, levels)
    for name in found:
        missing = [text for key, text in (("harmless", NO_CHANGES), ("controls", NO_CONTROLS)) if not found[name][key]]
        found[name]["notes"] += [*OF_SCORES, *missing]
    facts = {"classifier": None, "own": list(found), "salientry": __version__, "from_scores": True}
    return Judgement(found, facts, table)


def _check(classifier: Any, levels: Sequence[float], workers: int | None) -> None:
    if not isinstance(classifier, nn.Module):
        raise UsageError(f"classifier must be an nn.Module; found {type(classifier).__name__}")
    if not levels or not all(0 < level < 1 for level in levels):
        raise UsageError(f"levels are false-positive rates strictly between 0 and 1; found {levels!r}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more; found {workers}")


def _named(detector: Any) -> dict[str, Any]:
    """Detectors by name."""
    if isinstance(detector, dict):
        if not detector:
            raise UsageError("no detector was given")
        return {str(n): _as_settings(d) for n, d in detector.items()}
    found = _as_settings(detector)
    return {"guard" if isinstance(found, Guard) else name_of(found): found}


def _as_settings(detector: Any) -> Any:
    """A guard, or settings of a detector."""
    if isinstance(detector, Guard):
        return detector
    return named_detector(FromART(detector) if is_of_art(detector) else detector)


@dataclass
class _Evaluation:
    """A classifier, images, and who is judged.

    Attributes:
        net: what is run in the classifier's place.
        second: another network, or None.
        pixels: uint8 (N, C, H, W).
        labels: (N,).
        run: where everything is written down.
        seen: what the classifier answered first.
    """

    net: nn.Module
    second: nn.Module | None
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    run: Run
    seen: Preflight
    left_out: str

    bench: Bench | None = None
    contestants: Sequence[Contestant] = ()
    _table: ScoreTable | None = None

    @classmethod
    def of(cls, classifier: nn.Module, second: nn.Module | None, pixels: NDArray[np.uint8], given: Any, run: Run) -> _Evaluation:
        """Ask the classifier about some images."""
        seen = preflight(classifier, Pixels(pixels), given)
        if seen.advice:
            warn_caller(f"{seen.summary()}. {seen.advice}")
        net = private(classifier)
        known = as_labels(given, len(pixels), seen.classes).cpu().numpy()
        return cls(net, second, pixels, known, run, seen, choose_layers(net, pixels.shape[1:]))

    def prepare(self, given: dict[str, Any], tried: dict[str, Any] | None, level: float, minutes: float) -> None:
        """Write everything down."""
        shape = tuple(self.pixels.shape[1:])
        guards = {n: d for n, d in given.items() if isinstance(d, Guard)}
        settings = {n: probed(d, self.pixels, self.seen.classes) for n, d in given.items() if n not in guards}
        for name, guard in guards.items():
            if fingerprint(guard.classifier) != fingerprint(self.net):
                raise UsageError(f"{name} is a guard of another classifier than the one that was given")
            self.second = self.second or guard.second
        if (asking := [n for n, d in settings.items() if SECOND in d.needs]) and self.second is None:
            raise UsageError(f"{asking[0]} asks a second network, and none was given: judge(..., second=net)")
        if drawing := [n for n, d in settings.items() if d.needs & FROM_SALIENCY]:
            raise UsageError(f"{drawing[0]} reads maps of a saliency model: fit_guard(..., detector=...) first, and judge the guard")
        images, run = Pixels(self.pixels), self.run
        roles = judging_shares(len(self.pixels), level)
        classes = None if int(self.labels.max()) + 1 == self.seen.classes else self.seen.classes
        data = run.dataset(Arrays(self.pixels, self.labels, roles, classes))
        f = run.given(self.net, identity(self.net, images), "classifier")
        natural = {r: run.do(classify, data[r], f) for r in ROLES if getattr(roles, r)}
        sets = ImageSets(run, f, natural, second=second_network(run, self.second, self.seen.classes, images))
        tried = judging_attacks(shape, self.seen.classes) if tried is None else tried
        parts = Parts(sets, list(settings.values()), list(default_attacks(shape)), level, shape[0], roles, list(tried.values()))
        parts.check_features(self.net, self.left_out)
        parts.check_time(pass_seconds(self.net, images), minutes)
        self.bench = Bench(parts, {n: a for n, a in tried.items() if a in parts.unseen})
        if not self.bench.tried:
            raise UsageError(f"no attack is left in {minutes:g} minutes: judge(..., minutes=) gives more")
        kept = {n: d for n, d in settings.items() if d in parts.wanted}
        found = [self._contestant(n, d) for n, d in kept.items()] + [self._guard(n, g) for n, g in guards.items()]
        self.contestants = sorted(found, key=lambda c: list(given).index(c.name))

    def _contestant(self, name: str, settings: Any) -> Contestant:
        assert self.bench is not None
        if isinstance(settings, ExternalDetector) and not settings.fits:
            handle = self.run.given(settings.fit(None, torch.empty(0), seed=0), digest("judged", settings.fingerprint), name)
            return Contestant(name, settings, handle, None, trained=False)
        return Contestant(name, settings, self.bench.parts.fitted(settings), None, trained=True)

    def _guard(self, name: str, guard: Guard) -> Contestant:
        drawn = None if guard.saliency is None else self.run.given(private(guard.saliency), fingerprint(guard.saliency), "maps")
        fitted = private(guard.detector)
        return Contestant(name, _Reading(may_need(fitted)), self.run.given(fitted, fingerprint(fitted), name), drawn, trained=False)

    def compute(self, bar: FitProgress, workers: int | None, own: set[str]) -> None:
        """Everything that is missing. What concerns a baseline alone never sinks the whole.

        Args:
            bar: hears of it.
            workers: processes; None: one a core where that is worth it.
            own: names of the detectors that are to be judged.
        """
        assert self.bench is not None
        bench, parts, forward = self.bench, self.bench.parts, pass_seconds(self.net, Pixels(self.pixels))

        def made(wanted: list[Handle]) -> None:
            seconds = expected(self.run.missing(wanted), parts.roles, int(np.prod(self.pixels.shape[1:])), forward)
            bar.expect(seconds, count := worth(workers, self.run.device, seconds))
            with no_main():
                self.run.compute(wanted, bar.on_step, workers=count, seconds=seconds)

        if any(c.trained for c in self.contestants):
            made(parts.adversarials)
            try:
                parts.check_attacks()
            except AttackTooWeak as e:
                if any(c.trained and c.name in own for c in self.contestants):
                    raise
                self._without([c for c in self.contestants if c.trained], e)
        made([*bench.images(), *(bench.scored(c) for c in self.contestants if c.name in own)])
        beside = [c for c in self.contestants if c.name not in own]
        with contextlib.suppress(UsageError):  # whose, is found out one by one
            made([bench.scored(c) for c in beside])
        for c in beside:
            try:
                made([bench.scored(c)])
            except UsageError as e:
                self._without([c], e)

    def _without(self, some: Sequence[Contestant], why: Exception) -> None:
        """Go on without baselines."""
        assert self.bench is not None
        names = [c.name for c in some]
        self.contestants = [c for c in self.contestants if c.name not in names]
        self.bench.parts.leave_out(f"the baselines {', '.join(names)}" if len(names) > 1 else f"the baseline {names[0]}", str(why), NO_WAY)

    def table(self) -> ScoreTable:
        """All scores."""
        assert self.bench is not None
        if self._table is None:
            first, *others = [self.bench.table(c, self.run.get(self.bench.scored(c))) for c in self.contestants]
            self._table = first.joined(*others)
        return self._table

    def images(self, role: str) -> tuple[Tensor, Tensor]:
        """Naturals of a role and their labels."""
        assert self.bench is not None
        rows = self.run.get(self.bench.parts.image_sets.natural[role])
        x, y = (torch.from_numpy(np.asarray(rows.column(n))) for n in ("image", "label"))
        where = device_of(self.net)
        return x.to(where).float() / 255, y.to(where)

    def beside(self, c: Contestant, attacker: Attacker | None, level: float) -> JSON:
        """What scores do not say: what an attacker who knows the detector gets past it, and what it costs."""
        fitted = self.run.get(c.fitted)
        saliency = None if c.saliency is None else self.run.get(c.saliency)
        scores = self.table().where(detector=c.name, set="natural", split="calibration")["score"]
        target = Defended(self.net, saliency, fitted, pac_threshold(scores, level), second=self.second)
        with frozen(*target.modules):
            cost = _cost(target, self.images("test")[0])
            seconds = cost["64"]["with_detector"] / cost["64"]["of"] / 1e3
            return {"cost": cost, "adaptive": None if attacker is None else attacker.against(target, c.name, seconds)}

    def attacker(self, level: float, count: int, minutes: float, bar: FitProgress) -> Attacker | None:
        """Who attacks ``count`` images; none where that is 0."""
        how: dict[str, Any] = {"level": level, "count": count, "minutes": minutes, "seed": self.run.seed, "part": bar.part}
        return Attacker(self.net, self.images("calibration")[0], *self.images("test"), **how) if count else None

    def facts(self, own: list[str]) -> JSON:
        """Of the whole."""
        assert self.bench is not None
        parts = self.bench.parts
        return {
            "classifier": self.seen.summary(),
            "own": own,
            "images": {"train": parts.roles.detector_train, "calibration": parts.roles.calibration, "test": parts.roles.test},
            "attacks": {n: repr(a) for n, a in self.bench.tried.items()},
            "trained_on": [repr(a) for a in parts.attacks],
            "left_out": parts.left_out,
            "beside": "" if set(PUBLISHED) & {c.name for c in self.contestants} or len(self.contestants) == len(own) else TEN,
            "seed": self.run.seed,
            "salientry": __version__,
            "torch": torch.__version__,
            "processor": processor(),
            "from_scores": False,
        }


@dataclass(frozen=True)
class _Reading:
    """What a fitted detector reads."""

    needs: frozenset[str]


def _cost(target: Defended, x: Tensor) -> JSON:
    """Least milliseconds of classifier and detector, and of the classifier alone, for one image and for 64."""
    found: JSON = {}
    with torch.no_grad():
        for size in (1, 64):
            some = x[:size]
            bare, whole = [], []
            for _ in range(TIMED):  # in turn
                began = time.perf_counter()
                target.classifier(some).sum().item()
                between = time.perf_counter()
                seen = Evidence(target.classifier, target.saliency, some, target.needs | {"logits"}, target.second)
                (seen.logits.sum() + target.detector(seen).sum()).item()
                whole.append(time.perf_counter() - between)
                bare.append(between - began)
            ms = [1e3 * min(times) for times in (whole, bare)]
            found[str(size)] = {"with_detector": ms[0], "classifier": ms[1], "times": ms[0] / ms[1], "of": len(some)}
    return found


__all__ = ["judge", "judge_scores"]
