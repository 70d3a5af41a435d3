"""Everything that a judgement computes: images, scores, times, attacks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
from ..experiment.expected import expected
from ..experiment.fit_progress import FitProgress, no_main
from ..experiment.given import identity, pass_seconds, probed, second_network, warn_caller
from ..experiment.guard_settings import default_attacks
from ..experiment.image_sets import ImageSets
from ..experiment.intake import Pixels
from ..experiment.parts import Parts
from ..experiment.run import Run
from ..experiment.steps import classify
from ..guard import Guard
from ..inputs import as_labels
from ..keys import digest
from ..layers import choose_layers
from ..learned import device_of, fingerprint, frozen
from ..machine import processor
from ..modules import private
from ..preflight import Preflight, preflight
from ..runner.pool import worth
from ..runner.step import Handle
from ..store import JSON
from ..types import ROLES
from .adaptive import Attacker
from .ahead import ONCE, SIZES, TIMED, attacking, in_words, parts_ahead, timing
from .baselines import PUBLISHED
from .bench import Bench, Contestant, judging_attacks, judging_shares
from .table import ScoreTable

NO_WAY = 'baselines= names others, or "none"'
TEN = f'not beside it: {len(PUBLISHED)} published detectors, which --baselines published (judge(..., baselines="published")) adds'
KEPT_IN = "attacked_by_who_knows"  # folder of the store


@dataclass
class Judging:
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
    def of(cls, classifier: nn.Module, second: nn.Module | None, pixels: NDArray[np.uint8], given: Any, run: Run) -> Judging:
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
        parts.check_time(self.forward, minutes)
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

    def compute(self, bar: FitProgress, workers: int | None, own: set[str], adaptive: int, minutes: float) -> None:
        """Everything that is missing. What concerns a baseline alone never sinks the whole.

        Args:
            bar: hears of it, and of how long all will take.
            workers: processes; None: one a core where that is worth it.
            own: names of the detectors that are to be judged.
            adaptive: images that are attacked by somebody who knows the detector.
            minutes: that one core has.
        """
        assert self.bench is not None
        bench, parts = self.bench, self.bench.parts
        trained = any(c.trained for c in self.contestants)
        seconds = self._expected()
        count = worth(workers, self.run.device, seconds)
        bar.expect(seconds, count)
        bar.beside(ahead := self._ahead(own, adaptive, minutes))
        bar.say(in_words(sum(seconds.values()), ahead))

        def made(wanted: list[Handle]) -> None:
            with no_main():
                self.run.compute(wanted, bar.on_step, workers=count, seconds=seconds)

        if trained:
            made(parts.adversarials)
            try:
                parts.check_attacks()
            except AttackTooWeak as e:
                if any(c.trained and c.name in own for c in self.contestants):
                    raise
                self._without([c for c in self.contestants if c.trained], e)
                bar.expect(self._expected(), count)
                bar.beside(self._ahead(own, adaptive, minutes))
        made([*bench.images(), *(bench.scored(c) for c in self.contestants if c.name in own)])
        beside = [c for c in self.contestants if c.name not in own]
        with contextlib.suppress(UsageError):  # whose, is found out one by one
            made([bench.scored(c) for c in beside])
        for c in beside:
            try:
                made([bench.scored(c)])
            except UsageError as e:
                self._without([c], e)

    def _expected(self) -> dict[str, float]:
        """Seconds of all steps that are missing."""
        assert self.bench is not None
        bench, pixels = self.bench, int(np.prod(self.pixels.shape[1:]))
        wanted = [*(bench.parts.adversarials if any(c.trained for c in self.contestants) else ()), *bench.images()]
        todo = self.run.missing([*wanted, *map(bench.scored, self.contestants)])
        return expected(todo, bench.parts.roles, pixels, self.forward)

    def _ahead(self, own: set[str], adaptive: int, minutes: float) -> dict[str, float]:
        """Seconds of what comes after the steps."""
        assert self.bench is not None
        known = {c.name: c.settings for c in self.contestants}
        mine = [n for n in known if n in own]
        return parts_ahead(known, mine, len(self.bench.attacked()), self.forward, adaptive, minutes, self.pixels.shape[1])

    @cached_property
    def forward(self) -> float:
        """Seconds of one image through the classifier."""
        return pass_seconds(self.net, Pixels(self.pixels))

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

    def beside(self, c: Contestant, attacker: Attacker | None, level: float, bar: FitProgress) -> JSON:
        """What scores do not say: what an attacker who knows the detector gets past it, and what it costs."""
        fitted = self.run.get(c.fitted)
        saliency = None if c.saliency is None else self.run.get(c.saliency)
        scores = self.table().where(detector=c.name, set="natural", split="calibration")["score"]
        target = Defended(self.net, saliency, fitted, threshold := pac_threshold(scores, level), second=self.second)
        with frozen(*target.modules):
            bar.part(timing(c.name))(0, 1)
            cost = _cost(target, self.images("test")[0])
            bar.over(timing(c.name))
            seconds = cost["64"]["with_detector"] / cost["64"]["of"] / 1e3
            key = digest(c.fitted.fingerprint, c.saliency and c.saliency.fingerprint, self._second_key, repr(threshold))
            found = None if attacker is None else attacker.against(target, c.name, seconds, key)
            bar.over(*map(attacking, (c.name, *ONCE)))
            return {"cost": cost, "adaptive": found}

    @property
    def _second_key(self) -> str:
        """What distinguishes the second network; "" where there is none."""
        second = None if self.bench is None else self.bench.parts.image_sets.second
        return "" if second is None else second.fingerprint

    def attacker(self, level: float, count: int, minutes: float, bar: FitProgress) -> Attacker | None:
        """Who attacks ``count`` images; none where that is 0."""
        assert self.bench is not None
        how: dict[str, Any] = {"level": level, "count": count, "minutes": minutes, "seed": self.run.seed, "part": bar.part}
        how |= {"folder": self.run.store.root / KEPT_IN, "classifier_key": self.bench.parts.image_sets.classifier.fingerprint}
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
        for size in SIZES:
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


__all__ = ["Judging"]
