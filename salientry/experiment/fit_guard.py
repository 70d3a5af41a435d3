"""One guard for one classifier: the whole path in one call."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..attacks import BIM, CW_REDUCED, FGSM, JSMA, MIM, DeepFool
from ..calibration import smallest_sample
from ..datasets import Arrays
from ..datasets.folder import Resize
from ..detectors import DETECTORS, FULL_RESOLUTION, ExternalDetector, SmallCNN, as_detector
from ..errors import UsageError, theirs
from ..guard import Guard
from ..inputs import as_labels, plainly
from ..keys import digest, name_of
from ..learned import device_of, fingerprint, with_facts
from ..modules import private
from ..preflight import Preflight, preflight
from ..randomness import uniform
from ..saliency import Eq2, Fill, SimpleClassifier, UNet
from ..store import one_of
from ..types import ROLES, Roles, Shape
from .choice import candidates
from .engines import cores
from .fit_progress import FitProgress, ProgressCallback, no_main
from .handles import Handle
from .image_sets import ImageSets
from .intake import Pixels, taken
from .parts import Parts, expected, warn_caller
from .run import Run
from .scoring import natural_set, scores_of
from .steps import classify

SHARES = (0.45, 0.25, 0.1)  # of the images: fit, detect, select; the rest calibrates
WORTH = 30.0  # expected seconds from which worker processes gain more than it costs to start them


def default_saliency(side: int, count: int) -> UNet:
    """A small U-Net for ``count`` images whose shorter side has ``side`` pixels: 2 scales up to 31, 3 above, some 500 steps."""
    epochs = min(max(8, -(-16_000 // count)), 60)
    encoder = SimpleClassifier(base=8, scales=2 if side < 32 else 3, epochs=epochs, batch=32)
    return UNet(encoder, Eq2(area=3), Fill("black"), epochs=epochs, batch=32, lr=3e-3, schedule="one_cycle", selector_lr=1e-2)


def default_attacks(channels: int) -> tuple[Any, ...]:
    """The six attacks of the paper with budgets for natural images (8/255; grey images .1), and those that take long at settings
    that are quicker than the paper's and still fool.
    """
    eps = 8 / 255 if channels > 1 else 0.1
    budgets = FGSM(eps), BIM(eps, eps / 4), MIM(eps, eps / 4)
    return *budgets, CW_REDUCED, DeepFool(), JSMA(theta=0.1)


def fit_guard(
    classifier: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    detector: Any = None,
    attacks: Sequence[Any] | None = None,
    saliency: Any = None,
    level: float = 0.05,
    store: Path | str | None = None,
    seed: int = 0,
    on_failed_maps: str = "drop",
    resize: Resize | None = None,
    workers: int | None = None,
    progress: ProgressCallback | bool | None = None,
) -> Guard:
    """Fit a guard for your own classifier.

    Without further words the map's two detectors, the image's, every baseline and the fusion of all of them are trained on all
    attacks together, and what has the best rate on its worst attack is kept, each attack left out of training in turn. Only
    then are the calibration images read. What cannot be built from these images (maps, features, an attack that hardly fools) is
    left out with a warning. ``guard.summary()`` says how good the guard is, what it is made of and what was left out.

    Args:
        classifier: an ``nn.Module``, images (N, C, H, W) in [0, 1] to logits; wrap it in ``External`` if its input
            convention is another. It is asked first: see :mod:`salientry.preflight`.
        images: natural images that the classifier was **not** trained on, or the detector learns where the classifier is overfit;
            stored as 8 bits. A tensor (N, C, H, W), floats in [0, 1] or uint8; a ``Dataset``, a ``DataLoader`` or another iterable of
            (images, labels); a ``Folder`` or its path. Only a few are in memory at a time. Roles are assigned here.
        labels: (N,) whole numbers, or one-hot (N, K); None when they come with the images.
        detector: its settings, a name of ``DETECTORS`` or your own (``detectors.ExternalDetector``); of several the best; default: many.
        attacks: what it is trained against; default :func:`default_attacks`.
        saliency: settings of the saliency model; default a small U-Net. Not trained when the detector needs no map, or when fewer
            than nine of ten classes have 12 images to learn it from.
        level: largest false-positive rate, which the threshold guarantees with 95 % confidence.
        store: folder of intermediate results, so that an interrupted call resumes; default a temporary one.
        seed: of everything that is drawn.
        on_failed_maps: when the maps fail their sanity check, ``"drop"`` goes on without them, ``"mark"`` with them, ``"stop"`` raises.
        resize: how ``salientry check`` is to bring pictures of another size to these images' size: ``"squash"`` or ``"crop"``, as in
            :class:`~salientry.datasets.Folder`; None: it refuses them.
        workers: processes that compute side by side; None: one a core when it is expected to take more than half a minute on the
            processor. The guard is the same to the last bit.
        progress: a function of (share done, seconds left); True or False: a bar on stderr or none; None: one if that is a terminal.

    Returns:
        A guard, on the device of the classifier.

    Raises:
        UsageError: for images, labels or a classifier that cannot be used, or too few images for ``level``.
        AttackTooWeak: when no attack fools the classifier.
        MapCheckFailed: when the saliency model's maps are none, and nothing does without them or ``on_failed_maps`` is ``"stop"``.

    Example:
        >>> from salientry import fit_guard
        >>> guard = fit_guard(my_model, images, labels)              # doctest: +SKIP
        >>> guard(new_images).flagged                                # doctest: +SKIP
        tensor([False, False,  True])
    """
    wanted = _checked(classifier, detector, attacks, saliency, level, on_failed_maps, resize, workers)
    with tempfile.TemporaryDirectory() as scratch, FitProgress(progress) as bar, _alike(classifier):
        pixels, given = taken(images, labels, Path(scratch))
        roles = _roles(len(pixels), level)
        seen = preflight(classifier, Pixels(pixels), given)
        known = as_labels(given, len(pixels), seen.classes).cpu().numpy()
        bar.say(seen.summary())
        if seen.advice:
            warn_caller(f"{seen.summary()}. {seen.advice}")
        attacks = list(default_attacks(pixels.shape[1]) if attacks is None else attacks)
        saliency = saliency or default_saliency(min(pixels.shape[2:]), roles.train)
        run = Run(store or scratch, seed=seed, device=str(device_of(classifier)))
        data = run.dataset(Arrays(pixels, known, roles, None if int(known.max()) + 1 == seen.classes else seen.classes))
        net = private(classifier)  # everything below runs it: the one that was given is its owner's
        f = run.given(net, digest(fingerprint(net), _answers(net, Pixels(pixels))), "yours")
        image_sets = ImageSets(run, f, {role: run.do(classify, data[role], f) for role in ROLES if role != "test"})
        parts = Parts(image_sets, [_probed(d, pixels, seen.classes) for d in wanted], attacks, level)
        parts.check_features(net, pixels.shape[1:])
        parts.check_classes(run.get(data["train"]).column("label"), seen.classes)
        parts.draw(data["train"], saliency, on_failed_maps)
        chosen, calibrated, scored = _computed(parts, _Engine(parts, bar, workers, _seconds(net, Pixels(pixels)), pixels), on_failed_maps)
        return _assembled(parts, classifier, seen, pixels, chosen, calibrated, scored, resize)


def _computed(parts: Parts, engine: _Engine, on_failed_maps: str) -> tuple[Handle, Handle, Handle]:
    """Compute everything, and leave out on the way what turns out to be none."""
    if on_failed_maps == "stop" and parts.saliency_model is not None:
        engine.compute([parts.saliency_model])  # a map that fails its check is reported before the attacks take their time
        parts.check_maps(on_failed_maps)
    engine.compute([*([parts.saliency_model] if parts.saliency_model else []), *parts.adversarials])
    parts.check_maps(on_failed_maps)
    parts.check_attacks()
    chosen, calibrated, scored = parts.built()
    engine.compute([calibrated, scored])
    return chosen, calibrated, scored


@torch.no_grad()
def _answers(net: nn.Module, images: Pixels) -> str:
    """Sha256 of the logits on some of the images and on noise: what distinguishes networks whose difference is no weight (a number in
    an attribute, code, a frozen script). To the last bit: where a machine rounds otherwise, the work is done again, never taken
    from another network's.
    """
    where = device_of(net)
    noise = uniform(torch.arange(4, device=where), images.source.shape[1:])
    some = images[torch.arange(0, len(images), -(-len(images) // 64))].to(where)
    logits = [net(x).to("cpu", torch.float32).contiguous() for x in (noise, some)]
    return hashlib.sha256(b"".join(z.numpy().tobytes() for z in logits)).hexdigest()


@contextlib.contextmanager
def _alike(classifier: nn.Module) -> Iterator[None]:
    """The same modes of torch whatever is on around, and what the network raises is its error."""
    with _float32(), plainly(grad=True), theirs("the classifier fails", classifier):
        yield


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    """New weights are float32 inside. All threads share this setting of torch, so it is touched only where it is another."""
    before = torch.get_default_dtype()
    try:
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
        yield
    finally:
        if before != torch.float32:
            torch.set_default_dtype(before)


class _Engine:
    """Computes, and reports its progress: in worker processes where that is worth it."""

    def __init__(self, parts: Parts, bar: FitProgress, workers: int | None, forward: float, pixels: NDArray[np.uint8]) -> None:
        self.parts, self.bar, self.forward, self.pixels = parts, bar, forward, pixels
        seconds = self.expected()
        if workers is None:
            able = parts.run.device == "cpu" and multiprocessing.parent_process() is None
            workers = cores() if able and sum(seconds.values()) > WORTH else 1
        self.workers = workers
        bar.expect(seconds, workers)

    def expected(self) -> dict[str, float]:
        """Seconds of everything that is missing, by key."""
        todo = self.parts.run.missing([*self.parts.adversarials, *self.parts.built()])
        return expected(todo, len(self.pixels), int(np.prod(self.pixels.shape[1:])), self.forward)

    def compute(self, wanted: list[Handle]) -> None:
        """Compute what of these is missing."""
        seconds = self.expected()
        self.bar.expect(seconds, self.workers)
        with no_main() if self.workers > 1 else contextlib.nullcontext():
            self.parts.run.compute(wanted, self.bar.on_step, workers=self.workers, seconds=seconds)


def _seconds(net: nn.Module, images: Pixels) -> float:
    """Of one image through the classifier."""
    x = images[torch.arange(min(8, len(images)))].to(device_of(net))
    times = []
    with plainly(grad=False):
        for _ in range(3):  # the first one is slow
            began = time.perf_counter()
            net(x)
            times.append(time.perf_counter() - began)
    return min(times) / len(x)


def _assembled(
    parts: Parts,
    classifier: nn.Module,
    seen: Preflight,
    pixels: NDArray[np.uint8],
    chosen: Handle,
    calibrated: Handle,
    scored: Handle,
    resize: Resize | None,
) -> Guard:
    """The guard, with what is known of it as facts of its detector."""
    run, saliency_model = parts.run, parts.saliency_model
    choice = run.record(chosen)["value"] if chosen.step is not None and chosen.step.chooses else None
    frozen, fitted = run.get(calibrated), run.get(chosen)
    threshold = frozen.value[str(parts.level)]
    fit = parts.fit_facts(run.get(scored), threshold, choice) | {
        "classifier": seen.summary(),
        "detector": choice["chosen"] if choice else name_of(parts.wanted[0]),
        "candidates": f"{len(parts.wanted)} and their fusion" if choice else "one",
    }
    fitted = with_facts(fitted, fit=fit, **({"choice": choice} if choice else {}))
    shape = Shape(pixels.shape[1], pixels.shape[2], pixels.shape[3], seen.classes)
    net = None if saliency_model is None else run.get(saliency_model)
    return Guard(classifier, net, fitted, threshold, parts.level, scores_of(frozen, natural_set("calibration")), shape, resize)


def _checked(
    classifier: nn.Module,
    detector: Any,
    attacks: Any,
    saliency: Any,
    level: float,
    on_failed_maps: str,
    resize: str | None,
    workers: int | None,
) -> tuple[Any, ...]:
    """The detectors that are wanted, when everything that was asked for can be meant."""
    if not isinstance(classifier, nn.Module):
        raise UsageError(f"classifier must be an nn.Module; found {type(classifier).__name__}")
    every = detector if isinstance(detector, list | tuple) and detector else (detector,)
    wanted = candidates(SmallCNN(), FULL_RESOLUTION) if detector is None else tuple(_named(d) for d in every)
    if len({name_of(d) for d in wanted}) < len(wanted):
        raise UsageError(f"each detector needs a name of its own; found {', '.join(map(name_of, wanted))}")
    if attacks is not None and (not isinstance(attacks, Sequence) or isinstance(attacks, str) or not attacks):
        raise UsageError(f"attacks must be a sequence of settings, like (DeepFool(),); found {attacks!r}")
    _check_settings(attack=attacks or (), saliency=() if saliency is None else (saliency,))
    one_of("on_failed_maps", on_failed_maps, ("drop", "stop", "mark"))
    one_of("way to resize", resize or "squash", ("squash", "crop"))
    if not 0 < level < 1:
        raise UsageError(f"a false-positive rate lies strictly between 0 and 1; found {level!r}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more; found {workers}")
    return wanted


def _named(detector: Any) -> Any:
    """Settings, also by their name."""
    if not isinstance(detector, str):
        return as_detector(detector)
    one_of("detector", detector, [n for n in DETECTORS if n != "fused"])
    return DETECTORS[detector]()


def _probed(detector: Any, pixels: NDArray[np.uint8], classes: int) -> Any:
    """A user's own detector tried on noise, which distinguishes it from another one of the same code."""
    shape = Shape(pixels.shape[1], pixels.shape[2], pixels.shape[3], classes)
    return detector.probed(shape) if isinstance(detector, ExternalDetector) else detector


def _check_settings(**given: Iterable[Any]) -> None:
    for name, specs in given.items():
        for spec in specs:
            if not is_dataclass(spec) or isinstance(spec, type):
                raise UsageError(f"{name} must be settings, made like DeepFool() or SPD(); found {spec!r}")


def _roles(count: int, level: float) -> Roles:
    train, detector_train, validation = (int(share * count) for share in SHARES)
    calibration = count - train - detector_train - validation
    need = smallest_sample(level)
    if calibration < need:
        raise UsageError(
            f"{count} images leave {calibration} to calibrate with; a false-positive rate of {level:.3g} needs {need}, so at least "
            f"{int(np.ceil(need / (1 - sum(SHARES))))} images"
        )
    return Roles(train, detector_train, validation, calibration, 0)
