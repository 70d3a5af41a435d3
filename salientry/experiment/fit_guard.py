"""One guard for one classifier: the whole path in one call."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..attacks import as_attack
from ..datasets import Arrays
from ..detectors import may_need
from ..errors import UsageError
from ..evidence import FROM_SALIENCY, SECOND, Evidence
from ..guard import Guard
from ..inputs import as_labels
from ..keys import label, name_of
from ..layers import choose_layers, has_features
from ..learned import device_of, with_facts
from ..modules import private
from ..pixels import Resize
from ..preflight import Preflight, preflight
from ..rates import lasting
from ..runner.pool import worth
from ..runner.step import Handle
from ..store import one_of
from ..types import ROLES, Roles, Shape
from .agreement import Second
from .expected import expected
from .fit_progress import FitProgress, ProgressCallback, no_main
from .given import (
    alike,
    check_settings,
    groups_of,
    identity,
    named_detector,
    pass_seconds,
    probed,
    second_network,
    warn_caller,
)
from .guard_facts import fit_facts
from .guard_settings import (
    EFFORTS,
    SHARES,
    Effort,
    default_attacks,
    default_candidates,
    default_lenders,
    default_saliency,
    shares,
    unseen_attacks,
)
from .image_sets import ImageSets
from .intake import Pixels, as_source, taken
from .parts import Parts
from .run import Run
from .scoring import natural_set, scores_of
from .second_network import SecondData, SecondNetwork, trained, training_set
from .steps import classify
from .transferred import default_elsewhere

PROMISES = ("all", "correct")


def fit_guard(
    classifier: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    detector: Any = None,
    second: nn.Module | SecondNetwork | None = None,
    attacks: Sequence[Any] | None = None,
    saliency: Any = None,
    level: float = 0.05,
    promise: str = "all",
    groups: Any = None,
    effort: Effort = "usual",
    minutes: float = 30.0,
    store: Path | str | None = None,
    seed: int = 0,
    on_failed_maps: str = "drop",
    resize: Resize | None = None,
    workers: int | None = None,
    progress: ProgressCallback | bool | None = None,
) -> Guard:
    """Fit a guard for your own classifier.

    Without further words it compares the classifier's answers to the image and to the image changed a little: fusions of such numbers are
    trained on attacks of random sizes, norms and confidences, and on harmless changes that are not to be flagged (noise, JPEG, blur ...);
    kept is what finds most on images left out, of attacks left out of training in turn and of others, without flagging harmless changes.
    Only then are calibration images read. How good it is, is measured on images without a part in this; ``print(guard)`` says it. What
    cannot be built from these images is left out with a warning.

    Args:
        classifier: images (N, C, H, W) in [0, 1] to logits; ``External`` brings others to that. See :mod:`salientry.preflight`.
        images: natural images that the classifier was **not** trained on, or the detector learns where the classifier is overfit;
            stored as 8 bits. A tensor (N, C, H, W), floats in [0, 1] or uint8; a ``Dataset``, a ``DataLoader`` or another iterable of
            (images, labels); a ``Folder`` or its path. Only a few are in memory at a time. Roles are assigned here.
        labels: (N,) whole numbers, or one-hot (N, K); None when they come with the images.
        detector: settings, a name of ``DETECTORS`` or your own; of several the best is kept. Default:
            :func:`~salientry.experiment.guard_settings.default_candidates`.
        second: another classifier of the same classes and images, whose answer is compared: best one of another kind, trained on the
            classifier's own training data, not on ``images``: what it learnt it agrees on. ``SecondNetwork(training_images)`` trains one.
        attacks: what it is trained against (others': ``as_attack``); default :func:`~salientry.experiment.guard_settings.default_attacks`.
        saliency: settings of the saliency model; default a small U-Net. Trained for a detector of maps, if 9 of 10 classes have 12 images.
        level: largest false-positive rate, which the threshold guarantees with 95 % confidence.
        promise: of which naturals: ``"all"``, or ``"correct"``, those that the classifier is right on, which mostly lowers the threshold:
            whether an image is one of them cannot be seen in front of the classifier. The report has both rates.
        groups: (N,) which images belong together (a scene, a patient): they stay together wherever images are divided.
        effort: ``"quick"`` tries the cheapest detector alone, ``"thorough"`` also masks of the map and ten published detectors.
        minutes: that one core has. An attack that would take a fifth of them is left out; of those that are learnt from the shortest stays.
        store: folder of intermediate results, so that an interrupted call resumes; default a temporary one.
        seed: of all draws.
        on_failed_maps: when the maps fail their sanity check, ``"drop"`` goes on without them, ``"mark"`` with them, ``"stop"`` raises.
        resize: how ``salientry check`` brings pictures of another size to this one: ``"squash"``, ``"crop"``; None: it refuses them.
        workers: processes side by side; None: one a core when more than half a minute is expected. The guard is the same.
        progress: a function of (share done, seconds left); True or False: a bar on stderr or none; None: one if that is a terminal.

    Returns:
        A guard, on the device of the classifier.

    Raises:
        UsageError: for images, labels or a classifier that cannot be used, or too few images for ``level``.
        AttackTooWeak: when no attack fools the classifier.
        CheckFailed: when the maps are none, and nothing does without them or ``on_failed_maps`` is ``"stop"``.

    Examples:
        >>> guard = salientry.fit_guard(my_model, images, labels)    # doctest: +SKIP
    """
    words = {"promise": promise, "effort": effort, "maps": on_failed_maps, "resize": resize}
    attacks = _checked(classifier, second, attacks, saliency, level=level, workers=workers, minutes=minutes, **words)
    with tempfile.TemporaryDirectory() as scratch, FitProgress(progress) as bar, alike(classifier):
        task = _Task.of(classifier, second, images, labels, resize, Path(scratch))
        wanted, run = task.wanted(detector, effort), Run(store or scratch, seed=seed, device=str(device_of(classifier)))
        roles = task.roles(wanted, level)
        bar.say(task.seen.summary())  # after what was asked for is known to be possible
        data = task.data(run, roles, groups)
        parts = task.parts(run, data, roles, wanted, attacks, level, effort, correct=promise == "correct")
        if roles.train:
            parts.check_classes(run.get(data["train"]).column("label"), task.seen.classes)
            parts.draw(data["train"], saliency or default_saliency(min(task.shape[1:]), roles.train), on_failed_maps)
        parts.check_time(forward := pass_seconds(task.net, task.images), minutes)
        engine = _Engine(parts, bar, workers, forward, task.pixels)
        return _assembled(task, parts, *_computed(parts, engine, on_failed_maps), resize)


@dataclass(frozen=True)
class _Task:
    """A classifier and images that it was asked about.

    Attributes:
        classifier: that was given.
        second: the second network, likewise, or what one is trained on.
        net: what is run in the classifier's place.
        pixels: uint8 (N, C, H, W).
        labels: (N,).
        seen: what the classifier answered first.
        layers: which of its layers are left out, in words.
    """

    classifier: nn.Module
    second: nn.Module | SecondData | None
    net: nn.Module
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    seen: Preflight
    layers: str

    @classmethod
    def of(cls, classifier: nn.Module, second: Any, images: Any, labels: Any, resize: Resize | None, scratch: Path) -> _Task:
        """Read the images, ask the classifier about some, and warn of what came of it."""
        pixels, given = taken(source := as_source(images), labels, scratch)
        seen = preflight(classifier, Pixels(pixels), given)
        if seen.advice:
            warn_caller(f"{seen.summary()}. {seen.advice}")
        net, known = private(classifier), as_labels(given, len(pixels), seen.classes).cpu().numpy()
        if isinstance(second, SecondNetwork):
            second = training_set(second, pixels, source, seen.classes, resize, scratch / "second")
        return cls(classifier, second, net, pixels, known, seen, choose_layers(net, pixels.shape[1:]))

    @property
    def images(self) -> Pixels:
        """As tensors."""
        return Pixels(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.pixels.shape[1:])

    def wanted(self, detector: Any, effort: Effort) -> list[Any]:
        """What was asked for, or what is tried where nothing was."""
        if detector is None:
            learnt = SHARES.detector_train * len(self.pixels) // 100
            return list(default_candidates(learnt, effort, self.second is not None, _columns(self.net, self.images)))
        found = [named_detector(d) for d in (detector if isinstance(detector, list | tuple) and detector else (detector,))]
        if len({name_of(d) for d in found}) < len(found):
            raise UsageError(f"each detector needs a name of its own; found {', '.join(map(name_of, found))}")
        if self.second is None and any(SECOND in d.needs for d in found):
            raise UsageError("a detector asks a second network, and none was given: fit_guard(..., second=net)")
        return [probed(d, self.pixels, self.seen.classes) for d in found]

    def data(self, run: Run, roles: Roles, groups: Any) -> Handle:
        """The images with their roles."""
        classes = None if int(self.labels.max()) + 1 == self.seen.classes else self.seen.classes
        return run.dataset(Arrays(self.pixels, self.labels, roles, classes, groups=groups_of(groups, len(self.pixels))))

    def roles(self, wanted: list[Any], level: float) -> Roles:
        """How many images learn, calibrate, and say how good it is."""
        return shares(len(self.pixels), level, any(d.needs & (FROM_SALIENCY | {"training"}) for d in wanted))

    def parts(
        self, run: Run, data: Handle, roles: Roles, wanted: list[Any], attacks: Any, level: float, effort: Effort, correct: bool
    ) -> Parts:
        """What there is to build a guard from."""
        f = run.given(self.net, identity(self.net, self.images), "yours")
        natural = {role: run.do(classify, data[role], f) for role in ROLES if getattr(roles, role)}
        second = self.asked(run, f, wanted)
        image_sets = ImageSets(run, f, natural, second=None if second is None else second.handle)
        unseen = [] if attacks is not None or effort == "quick" else list(unseen_attacks(self.shape, self.seen.classes))
        learnt = list(default_attacks(self.shape) if attacks is None else attacks)
        own = attacks is None and effort != "quick"
        elsewhere = list(default_elsewhere(self.shape, self.seen.classes, roles.detector_train)) if own else []
        lenders = default_lenders(self.shape) if own else ()
        parts = Parts(image_sets, wanted, learnt, level, self.shape[0], roles, unseen, elsewhere, lenders, correct, effort, second=second)
        parts.check_features(self.net, self.layers)
        return parts

    def asked(self, run: Run, classifier: Handle, wanted: list[Any]) -> Second | None:
        """The second network: the one that was given, or one to be trained."""
        if not isinstance(self.second, SecondData):
            handle = second_network(run, self.second, self.seen.classes, self.images)
            return None if handle is None else Second(handle, self.second)
        if any(SECOND in d.needs for d in wanted):
            return trained(run, self.second, classifier, pass_seconds(self.net, self.images))
        warn_caller(f"no second network is trained: {', '.join(map(name_of, wanted))} asks none")
        return None


@torch.no_grad()
def _columns(net: nn.Module, images: Pixels) -> int:
    """How many numbers the layers' statistics are."""
    if not has_features(net):
        return 0
    seen = Evidence(net, None, images[torch.arange(1)].to(device_of(net)), frozenset({"activations"}))
    return sum(3 * layer.mean.shape[1] for layer in seen.activations.values())


def _computed(parts: Parts, engine: _Engine, on_failed_maps: str) -> tuple[Handle, Handle, Handle]:
    """Compute everything, and leave out on the way what turns out to be none."""
    if on_failed_maps == "stop" and parts.saliency_model is not None:
        engine.compute([parts.saliency_model])  # a map that fails its check is reported before the attacks take their time
        parts.check_maps(on_failed_maps)
    engine.compute([*([parts.saliency_model] if parts.saliency_model else []), *parts.opinions, *parts.adversarials])
    parts.check_maps(on_failed_maps)
    parts.check_attacks()
    parts.check_second()
    chosen, calibrated, scored = parts.built()
    engine.compute([calibrated, scored])
    return chosen, calibrated, scored


class _Engine:
    """Computes, and reports its progress: in worker processes where that is worth it."""

    def __init__(self, parts: Parts, bar: FitProgress, workers: int | None, forward: float, pixels: NDArray[np.uint8]) -> None:
        self.parts, self.bar, self.forward, self.pixels = parts, bar, forward, pixels
        seconds = self.expected()
        self.workers = worth(workers, parts.run.device, seconds)
        beside = f", {self.workers} processes side by side" if self.workers > 1 else ""
        bar.say(f"about {lasting(sum(seconds.values()))} of one core{beside}")
        if parts.second is not None and parts.second.facts is not None:
            bar.say(f"of it about {lasting(sum(parts.second.seconds.values()))} for {parts.second.words}")
        bar.expect(seconds, self.workers)

    def expected(self) -> dict[str, float]:
        """Seconds of everything that is missing, by key."""
        todo = self.parts.run.missing([*self.parts.opinions, *self.parts.adversarials, *self.parts.built()])
        seconds = expected(todo, self.parts.roles, int(np.prod(self.pixels.shape[1:])), self.forward)
        known = {} if self.parts.second is None else self.parts.second.seconds
        return {key: known.get(key, each) for key, each in seconds.items()}

    def compute(self, wanted: list[Handle]) -> None:
        """Compute what of these is missing."""
        seconds = self.expected()
        self.bar.expect(seconds, self.workers)
        with no_main() if self.workers > 1 else contextlib.nullcontext():
            self.parts.run.compute(wanted, self.bar.on_step, workers=self.workers, seconds=seconds)


def _assembled(task: _Task, parts: Parts, chosen: Handle, calibrated: Handle, scored: Handle, resize: Resize | None) -> Guard:
    """The guard, with what is known of it as facts of its detector."""
    run, saliency_model = parts.run, parts.saliency_model
    choice = run.record(chosen)["value"] if chosen.step is not None and chosen.step.chooses else None
    frozen, fitted = run.get(calibrated), run.get(chosen)
    threshold = frozen.value[str(parts.level)]
    fit = fit_facts(parts, run.get(scored), threshold) | {
        "classifier": task.seen.summary(),
        "detector": getattr(fitted.settings, "description", name_of(parts.wanted[0])),
        "promise": "correct" if parts.correct else "all",
        "effort": parts.effort,
        "candidates": choice["candidates"] if choice else [],
    }
    fit |= {} if parts.asked is None else {"second": parts.asked | {"asked": SECOND in may_need(fitted)}}
    fitted = with_facts(fitted, fit=fit, of=[label(a) for a in parts.attacks])
    shape = Shape(task.shape[0], task.shape[1], task.shape[2], task.seen.classes)
    net = None if saliency_model is None else run.get(saliency_model)
    scores = scores_of(frozen, natural_set("calibration"))
    asked = parts.second.network(run) if parts.second is not None and SECOND in may_need(fitted) else None
    return Guard(task.classifier, net, fitted, threshold, parts.level, scores, shape, resize, second=asked)


def _checked(classifier: nn.Module, second: Any, attacks: Any, saliency: Any, **words: Any) -> list[Any] | None:
    """The attacks, those of other libraries as ours; raises for what cannot be meant."""
    if not isinstance(classifier, nn.Module):
        raise UsageError(f"classifier must be an nn.Module; found {type(classifier).__name__}")
    if second is not None and not isinstance(second, nn.Module | SecondNetwork):
        raise UsageError(f"second must be an nn.Module, or a SecondNetwork to be trained; found {type(second).__name__}")
    if attacks is not None and (not isinstance(attacks, Sequence) or isinstance(attacks, str) or not attacks):
        raise UsageError(f"attacks must be a sequence of settings, like (DeepFool(),); found {attacks!r}")
    check_settings(saliency=() if saliency is None else (saliency,))
    one_of("on_failed_maps", words["maps"], ("drop", "stop", "mark"))
    one_of("way to resize", words["resize"] or "squash", ("squash", "crop"))
    one_of("promise", words["promise"], PROMISES)
    one_of("effort", words["effort"], EFFORTS)
    if not 0 < words["level"] < 1:
        raise UsageError(f"a false-positive rate lies strictly between 0 and 1; found {words['level']!r}")
    if not words["minutes"] > 0:
        raise UsageError(f"minutes must be more than 0; found {words['minutes']!r}")
    if words["workers"] is not None and words["workers"] < 1:
        raise UsageError(f"workers must be 1 or more; found {words['workers']}")
    return None if attacks is None else [as_attack(a) for a in attacks]
