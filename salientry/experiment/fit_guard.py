"""One guard for one classifier: the whole path in one call."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..attacks import BIM, CW_REDUCED, FGSM, JSMA, MIM, DeepFool
from ..calibration import smallest_sample
from ..contracts import Roles, Shape, device_of, fingerprint, uniform, with_facts
from ..datasets import Arrays
from ..detectors import FULL_RESOLUTION, SPD, SmallCNN
from ..errors import AttackTooWeak, UsageError
from ..evidence import FROM_SALIENCY, choose_layers, has_features
from ..guard import Guard
from ..inputs import as_images, as_labels, plainly
from ..keys import digest, label
from ..modules import private
from ..preflight import preflight
from ..protocol import STRICT
from ..saliency import Eq2, Fill, SimpleClassifier, UNet
from ..store import one_of
from .choice import candidates, choose, on_select, select_names
from .fusion import fit_fusion
from .run import Run
from .sanity import Gate, gate, sanity
from .steps import FEWEST_PAIRS, calibrate, fit_saliency, look
from .subjects import Shown, Subjects
from .trial import Training, trained

SHARES = (0.45, 0.25, 0.1)  # of the images: fit, detect, select; the rest calibrates


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
    images: Tensor,
    labels: Tensor,
    *,
    detector: Any = None,
    attacks: Sequence[Any] | None = None,
    saliency: Any = None,
    level: float = 0.05,
    store: Path | str | None = None,
    seed: int = 0,
    gate_action: str = "stop",
) -> Guard:
    """Fit a guard for your own classifier.

    Without further words the map's two detectors, the image's, every floor and the fusion of all of them are trained on all
    attacks together, and what has the best rate on its worst attack is kept, each attack left out of training in turn. Only
    then are the calibration images read. ``guard.detector`` says why it was kept: ``contracts.facts_of(guard.detector)["choice"]``.

    Args:
        classifier: an ``nn.Module``, images (N, C, H, W) in [0, 1] to logits; wrap it in ``External`` if its input
            convention is another.
        images: (N, C, H, W) float in [0, 1], stored as 8 bits; natural images that the classifier was **not** trained on,
            or the detector learns where the classifier is overfit.
        labels: (N,) int64.
        detector: settings of the one to fit; default: the best of many.
        attacks: what it is trained against; default :func:`default_attacks`. An attack that hardly fools is left out, with a
            warning.
        saliency: settings of the saliency model; default a small U-Net. Not trained when the detector needs no map.
        level: false-positive rate that the threshold promises, with 95 % confidence.
        store: folder of intermediate results, so that an interrupted call resumes; default a temporary one.
        seed: of everything that is drawn.
        gate_action: ``"stop"`` raises when the maps fail their sanity gate, ``"mark"`` goes on.

    Returns:
        A guard, on the device of the classifier.

    Raises:
        UsageError: for images or labels outside the conventions, or too few of them for ``level``.
        AttackTooWeak: when no attack fools the classifier.
        GateFailed: when the saliency model's maps are none.

    Example:
        >>> from salientry import fit_guard
        >>> guard = fit_guard(my_model, images, labels)              # doctest: +SKIP
        >>> guard(new_images).flagged                                # doctest: +SKIP
        tensor([False, False,  True])
    """
    if not isinstance(classifier, nn.Module):
        raise UsageError(f"classifier must be an nn.Module; found {type(classifier).__name__}")
    images = as_images(images)
    roles = _roles(len(images), level)
    if attacks is not None and (not isinstance(attacks, Sequence) or isinstance(attacks, str) or not attacks):
        raise UsageError(f"attacks must be a sequence of settings, like (DeepFool(),); found {attacks!r}")
    attacks = tuple(default_attacks(images.shape[1]) if attacks is None else attacks)
    saliency = saliency or default_saliency(min(images.shape[2:]), roles.fit)
    where = device_of(classifier)
    _check_settings(detector=[] if detector is None else [detector], attack=attacks, saliency=[saliency])
    one_of("gate action", gate_action, ("stop", "mark"))
    seen = preflight(classifier, images, labels)
    labels, classes = as_labels(labels, len(images), seen.classes), seen.classes
    if seen.advice:
        warnings.warn(f"{seen.told()}. {seen.advice}", stacklevel=2)
    net = private(classifier)  # everything below runs it: the one that was given is its owner's
    wanted = _readers(detector, net, images)
    maps = any(c.needs & FROM_SALIENCY for c in wanted)
    if maps and int(labels.max()) + 1 < classes:
        raise UsageError(f"the classifier knows {classes} classes, but the highest label is {int(labels.max())}: the others get no maps")
    with tempfile.TemporaryDirectory() as scratch, _float32(), plainly(grad=True):
        run = Run(store or scratch, seed=seed, device=str(where))
        raw = (images.cpu() * 255).round().to(torch.uint8).numpy()
        data = run.dataset(Arrays(np.ascontiguousarray(raw), labels.cpu().numpy(), roles))
        f = run.given(net, digest(fingerprint(net), _answers(net, images)), "yours")
        subjects = Subjects(run, f, {role: run.do(look, data[role], f) for role in ("detect", "select", "calibrate")})
        s = None
        if maps:
            drawer = run.do(fit_saliency, data["fit"], f, saliency)
            s = run.do(gate, run.do(sanity, subjects.natural["select"], f, drawer), drawer, Gate(action=gate_action))
            run.get(s)  # a map that is none is told before the attacks take their time
        return _fitted(run, subjects, wanted, _strong(run, subjects, attacks), Shown(s), level, classifier)


def _fitted(
    run: Run, subjects: Subjects, wanted: Sequence[Any], attacks: tuple[Any, ...], how: Shown, level: float, classifier: nn.Module
) -> Guard:
    """Train every candidate, choose where there are several, calibrate."""
    rules, natural = replace(STRICT, levels=(level,)), subjects.natural
    called = "combined" if len(attacks) > 1 else ""
    fits = {c: trained(subjects, c, rules, Training(attacks, called), how) for c in wanted}
    chosen, reader = next(iter(fits.values())), wanted[0]
    if len(wanted) > 1:
        scored = [on_select(subjects, t, c, attacks, rules, how) for c, t in fits.items()]
        twins = [subjects.attacked(a, "select", rules) for a in attacks]
        fused = run.do(fit_fusion, scored, list(fits.values()), select_names([label(a) for a in attacks]), twins, rules)
        chosen, reader = choose(subjects, fits, fused, attacks, rules, how, level).detector, SPD()
    calibrated = run.get(run.do(calibrate, [subjects.shown(reader, natural["calibrate"], "calibrate", how)], chosen, rules))
    rows, fitted = run.get(natural["detect"]), run.get(chosen)
    if len(wanted) > 1:
        fitted = with_facts(fitted, choice=run.record(chosen)["value"])
    _, c, h, w = rows.column("image", np.arange(1)).shape
    shape = Shape(c, h, w, rows.column("logits", np.arange(1)).shape[1])
    net = None if how.saliency is None else run.get(how.saliency)
    return Guard(classifier, net, fitted, calibrated.value[str(level)], level, calibrated.arrays["score000"], shape)


@torch.no_grad()
def _answers(net: nn.Module, images: Tensor) -> str:
    """Sha256 of the logits on some of the images and on noise: what tells networks apart whose difference is no weight (a number in
    an attribute, code, a frozen script). To the last bit: where a machine rounds otherwise, the work is done again, never taken
    from another network's.
    """
    where = device_of(net)
    noise = uniform(torch.arange(4, device=where), tuple(images.shape[1:]))
    some = images[:: -(-len(images) // 64)].to(where)
    logits = [net(x).to("cpu", torch.float32).contiguous() for x in (noise, some)]
    return hashlib.sha256(b"".join(z.numpy().tobytes() for z in logits)).hexdigest()


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


def _readers(detector: Any, net: nn.Module, images: Tensor) -> list[Any]:
    """The detector that is wanted, or every candidate that can read this network; layers that no feature is made of are named."""
    left_out = choose_layers(net, tuple(images.shape[1:]))
    wanted = [detector] if detector is not None else [c for c in candidates(SmallCNN(), FULL_RESOLUTION) if _readable(c, net)]
    if left_out and any("features" in c.needs for c in wanted):
        warnings.warn(left_out, stacklevel=3)
    return wanted


def _readable(detector: Any, classifier: nn.Module) -> bool:
    """Whether the classifier has what the detector reads."""
    return "features" not in detector.needs or has_features(classifier)


def _strong(run: Run, subjects: Subjects, attacks: tuple[Any, ...]) -> tuple[Any, ...]:
    """The attacks that fool enough images to learn from.

    Raises:
        AttackTooWeak: when there is none.
    """
    found: list[Any] = []
    weak: list[str] = []
    for a in attacks:
        counts = {role: int(run.get(subjects.attacked(a, role, STRICT)).column("counts").sum()) for role in ("detect", "select")}
        enough = counts["detect"] >= FEWEST_PAIRS and counts["select"] >= FEWEST_PAIRS // 2
        if enough:
            found.append(a)
        else:
            weak.append(f"{label(a)} ({counts['detect']} of {len(run.get(subjects.natural['detect']))} images)")
    if not found:
        raise AttackTooWeak(f"no attack fools the classifier often enough to learn from: {', '.join(weak)}; give stronger `attacks`")
    if weak:
        warnings.warn(f"left out, for they hardly fool this classifier: {', '.join(weak)}", stacklevel=3)
    return tuple(found)


def _check_settings(**given: Sequence[Any]) -> None:
    for name, specs in given.items():
        for spec in specs:
            if not is_dataclass(spec) or isinstance(spec, type):
                raise UsageError(f"{name} must be settings, made like DeepFool() or SPD(); found {spec!r}")


def _roles(count: int, level: float) -> Roles:
    if not 0 < level < 1:
        raise UsageError(f"a false-positive rate lies strictly between 0 and 1; found {level!r}")
    fit, detect, select = (int(share * count) for share in SHARES)
    calibrate = count - fit - detect - select
    need = smallest_sample(level)
    if calibrate < need:
        raise UsageError(
            f"{count} images leave {calibrate} to calibrate with; a false-positive rate of {level:.3g} needs {need}, so at least "
            f"{int(np.ceil(need / (1 - sum(SHARES))))} images"
        )
    return Roles(fit, detect, select, calibrate, 0)
