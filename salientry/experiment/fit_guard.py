"""One guard for one classifier: the whole path in one call."""

from __future__ import annotations

import tempfile
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..attacks import DeepFool
from ..calibration import smallest_sample
from ..contracts import Roles, Shape, check_images, check_labels, device_of, fingerprint, frozen
from ..datasets import Arrays
from ..detectors import SPD
from ..errors import UsageError
from ..evidence import FROM_SALIENCY
from ..guard import Guard
from ..protocol import STRICT
from ..saliency import Eq2, Fill, SimpleClassifier, UNet
from ..store import one_of
from .run import Run
from .sanity import Gate, gate, sanity
from .steps import attack_images, calibrate, draw, fit_detector, fit_saliency, look, score, settle

SHARES = (0.45, 0.25, 0.1)  # of the images: fit, detect, select; the rest calibrates


def default_saliency(side: int, count: int) -> UNet:
    """A small U-Net for ``count`` images whose shorter side has ``side`` pixels: 2 scales up to 31, 3 above, some 500 steps."""
    epochs = min(max(8, -(-16_000 // count)), 60)
    encoder = SimpleClassifier(base=8, scales=2 if side < 32 else 3, epochs=epochs, batch=32)
    return UNet(encoder, Eq2(area=3), Fill("black"), epochs=epochs, batch=32, lr=3e-3, schedule="one_cycle", selector_lr=1e-2)


def fit_guard(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    detector: Any = None,
    attack: Any = None,
    saliency: Any = None,
    level: float = 0.05,
    store: Path | str | None = None,
    seed: int = 0,
    gate_action: str = "stop",
) -> Guard:
    """Fit a guard for your own classifier.

    Args:
        classifier: an ``nn.Module``, images (N, C, H, W) in [0, 1] to logits; wrap it in ``External`` if its input
            convention is another.
        images: (N, C, H, W) float in [0, 1], stored as 8 bits; natural images that the classifier was **not** trained on,
            or the detector learns where the classifier is overfit.
        labels: (N,) int64.
        detector: settings; default ``SPD()``.
        attack: what it is trained against; default ``DeepFool()``.
        saliency: settings of the saliency model; default a small U-Net. Not trained when the detector needs no map.
        level: false-positive rate that the threshold promises, with 95 % confidence.
        store: folder of intermediate results, so that an interrupted call resumes; default a temporary one.
        seed: of everything that is drawn.
        gate_action: ``"stop"`` raises when the maps fail their sanity gate, ``"mark"`` goes on.

    Returns:
        A guard, on the device of the classifier.

    Raises:
        UsageError: for images or labels outside the conventions, or too few of them for ``level``.
        GateFailed: when the saliency model's maps are none.

    Example:
        >>> from salientry import fit_guard
        >>> guard = fit_guard(my_model, images, labels)              # doctest: +SKIP
        >>> guard(new_images).flagged                                # doctest: +SKIP
        tensor([False, False,  True])
    """
    if not isinstance(classifier, nn.Module):
        raise UsageError(f"classifier must be an nn.Module; found {type(classifier).__name__}")
    check_images(images)
    roles = _roles(len(images), level)
    detector, attack = detector or SPD(), attack or DeepFool()
    saliency = saliency or default_saliency(min(images.shape[2:]), roles.fit)
    where = device_of(classifier)
    _check_settings(detector=detector, attack=attack, saliency=saliency)
    one_of("gate action", gate_action, ("stop", "mark"))
    classes = _classes(classifier, images[:8].to(where))
    check_labels(labels, len(images), classes)
    if detector.needs & FROM_SALIENCY and int(labels.max()) + 1 < classes:
        raise UsageError(f"the classifier knows {classes} classes, but the highest label is {int(labels.max())}: the others get no maps")
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(store or scratch, seed=seed, device=str(where))
        raw = (images.detach().cpu() * 255).round().to(torch.uint8).numpy()
        data = run.dataset(Arrays(np.ascontiguousarray(raw), labels.cpu().numpy(), roles))
        f = run.given(classifier, fingerprint(classifier), "yours")
        rules = replace(STRICT, levels=(level,))
        looked = {role: run.do(look, data[role], f) for role in ("detect", "select", "calibrate")}
        s = None
        if detector.needs & FROM_SALIENCY:
            drawer = run.do(fit_saliency, data["fit"], f, saliency)
            s = run.do(gate, run.do(sanity, looked["select"], f, drawer), drawer, Gate(action=gate_action))

        def seen(rows: Any) -> Any:
            return run.do(draw, rows, s) if s is not None else rows

        attacked = run.do(settle, run.do(attack_images, looked["detect"], f, attack), looked["detect"], f, rules)
        fitted = run.do(fit_detector, seen(looked["detect"]), seen(attacked), detector, rules)
        scored = run.do(score, [seen(looked["calibrate"])], fitted)
        thresholds = run.get(run.do(calibrate, scored, rules))
        _, c, h, w = images.shape
        shape = Shape(c, h, w, run.get(looked["detect"]).column("logits").shape[1])
        net = None if s is None else run.get(s)
        return Guard(classifier, net, run.get(fitted), thresholds[str(level)], level, run.get(scored).column("score000"), shape)


def _check_settings(**given: Any) -> None:
    for name, spec in given.items():
        if not is_dataclass(spec) or isinstance(spec, type):
            raise UsageError(f"{name} must be settings, made like DeepFool() or SPD(); found {spec!r}")


def _classes(classifier: nn.Module, images: Tensor) -> int:
    """How many classes the classifier knows."""
    try:
        with frozen(classifier), torch.no_grad():
            logits = classifier(images)
    except RuntimeError as e:
        raise UsageError(f"the classifier cannot read images {tuple(images.shape)}: {next(iter(str(e).splitlines()), '')}") from e
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"the classifier should give logits (N, K); it gave {found}: wrap it in External")
    return logits.shape[1]


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
