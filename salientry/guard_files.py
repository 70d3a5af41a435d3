"""A guard on disk: what is written of it, and that it is read back for the classifier that it was fitted for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .detectors.external import ExternalDetector, FittedExternal, substituting
from .errors import DataDamaged, Error, StoreError, UsageError, WrongClassifier, brief
from .evidence import Evidence
from .keys import decode, encode
from .learned import device_of, facts_of, fingerprint, frozen, rebuild, recipe_of, with_facts
from .pixels import Resize
from .randomness import uniform
from .renamed import translated
from .sealed import read_sealed, sealed_arrays, write_sealed
from .store import JSON, one_of
from .types import Shape

SCHEMA, OLDER = 4, (2, 3)  # 3: a second network; 4: which may lie with the guard
LARGEST, MOST_CLASSES = 2**13, 2**20  # height or width, classes of a guard that a file may ask for
PROBES = 4
TOLERANCE = 1e-3  # largest difference of probe logits between machines, as a share of their size


@dataclass(frozen=True)
class Saved:
    """What a guard is made of, but for its classifier.

    Attributes:
        learnt: ``detector`` and, where there is one, ``saliency``.
        calibration: scores of calibration naturals.
        threshold: flagged means a score above it.
        level: the false-positive rate that it was calibrated for.
        shape: of the images.
        resize: how pictures of another size are brought to it, as :class:`~salientry.datasets.Folder` does; None: they are refused.
        second: the second network, which is recognised as the classifier is; it is written down where the fit trained it
            (:func:`keeps`); None: there is none.
    """

    learnt: Mapping[str, nn.Module]
    calibration: Tensor
    threshold: float
    level: float
    shape: Shape
    resize: Resize | None = None
    second: nn.Module | None = None


def write_guard(folder: Path, saved: Saved, classifier: nn.Module, classifier_at: str | None) -> None:
    """Write ``guard.json`` and the arrays that it names, both or none.

    Raises:
        UsageError: for a guard whose threshold or calibration scores say nothing, or whose maps cannot be made again.
        StoreError: when they cannot be written.
    """
    if why := _empty(saved) or _unwritten(saved.learnt["detector"]) or _unbuilt(saved.learnt.get("saliency")):
        raise UsageError(f"this guard cannot be saved: {why}")
    learnt = dict(saved.learnt) | ({"second": saved.second} if saved.second is not None and keeps(saved.second) else {})
    weights = {f"{name}.{k}": v for name, m in learnt.items() for k, v in m.state_dict().items()}
    weights |= {"calibration": saved.calibration}
    body = {
        "schema": SCHEMA,
        "threshold": saved.threshold,
        "level": saved.level,
        "shape": encode(saved.shape),
        "resize": saved.resize,
        "classifier": _who(classifier, saved.shape) | {"at": classifier_at},
        "second": None if saved.second is None else _who(saved.second, saved.shape),
        "probes": scores_on_probes(saved, classifier) if externals(saved.learnt["detector"]) else None,
        "learnt": {name: {"origin": recipe_of(m), "facts": facts_of(m)} for name, m in learnt.items()},
    }
    write_sealed(folder, "guard", body, {k: [v.detach().cpu().numpy()] for k, v in weights.items()})


def keeps(second: nn.Module) -> bool:
    """Whether a second network is the guard's own: the fit trained it, and it is built from settings of ours."""
    return "second" in facts_of(second) and "recipe" in vars(second)


def asks_another(folder: Path) -> bool:
    """Whether a saved guard asks a second network that does not lie with it."""
    body = description(folder)
    with _sound(folder):
        return body.get("second") is not None and "second" not in body["learnt"]


def kept_second(folder: Path) -> nn.Module | None:
    """The second network that lies with a guard; None: none does.

    Raises:
        UsageError: when there is no guard in the folder.
        DataDamaged: when its files are not what was saved.
    """
    body = description(folder)
    with _sound(folder):
        if body.get("second") is None or "second" not in body["learnt"]:
            return None
        arrays = _arrays(folder, body)
        return _loaded("second", body["learnt"]["second"], arrays, folder)


def _arrays(folder: Path, body: JSON) -> dict[str, Tensor]:
    return {k: torch.from_numpy(np.array(v)) for k, v in sealed_arrays(folder, body).items()}


def _who(network: nn.Module, shape: Shape) -> dict[str, JSON]:
    """What a network is recognised by."""
    return {"weights": fingerprint(network), "probes": probe(network, shape).tolist()}


def externals(detector: nn.Module) -> list[FittedExternal]:
    """The users' own detectors in it: itself, or those that it is a fusion of."""
    return [m for m in detector.modules() if isinstance(m, FittedExternal)]


def _unwritten(detector: nn.Module) -> str:
    """What of a user's own detector cannot be written down, if anything."""
    found = [
        f"the detector {m.settings.name} cannot be written down: {vars(m)['unwritten']}"
        for m in externals(detector)
        if "unwritten" in vars(m)
    ]
    return found[0] if found else ""


def _unbuilt(saliency: nn.Module | None) -> str:
    """Why maps cannot be made again, if so: a classifier of one's own is a part of them, and no file says how to build it."""
    if saliency is None or "recipe" in vars(saliency):
        return ""
    return "its maps are made of a classifier that is not built from settings of ours; take a saliency model that is learnt, as UNet"


@torch.no_grad()
def scores_on_probes(saved: Saved, classifier: nn.Module) -> list[float]:
    """(PROBES,) scores of fixed noise images: what a user's own detector is recognised by."""
    detector, where, shape = saved.learnt["detector"], device_of(classifier), saved.shape
    images = uniform(torch.arange(PROBES, device=where), (shape.channels, shape.height, shape.width))
    with frozen(classifier, detector, saved.second):
        seen = Evidence(classifier, saved.learnt.get("saliency"), images, detector.needs, saved.second)  # type: ignore[arg-type]
        scores: Tensor = detector(seen)
    return [float(s) for s in scores]


def _empty(saved: Saved) -> str:
    """Which of its numbers say nothing, if any."""
    scores = saved.calibration
    if not math.isfinite(saved.threshold):
        return f"its threshold is {saved.threshold}"
    if not 0 < saved.level < 1:
        return f"its level is {saved.level}; a rate between 0 and 1 expected"
    if scores.dim() != 1 or not len(scores):
        return f"its calibration scores have shape {tuple(scores.shape)}; (N,) expected, N at least 1"
    return f"{int(scores.isnan().sum())} of its {len(scores)} calibration scores are nan" if bool(scores.isnan().any()) else ""


def read_guard(folder: Path, classifier: nn.Module, given: ExternalDetector | None = None, second: nn.Module | None = None) -> Saved:
    """What was saved in a folder, for the classifier that it was fitted for.

    Args:
        folder: that it was saved in.
        classifier: that it was fitted for.
        given: a user's own detector, in place of what is found by its name.
        second: the second network that it was fitted with, where it does not lie with the guard.

    Raises:
        UsageError: when there is no guard in the folder, or it asks a second network that neither lies with it nor is given.
        WrongClassifier: when it was fitted for another one: the message has weight hash and probe logits of both.
        DataDamaged: when its files are not what was saved.
    """
    body = description(folder)
    with _sound(folder):
        shape: Shape = decode(body["shape"])
        if not isinstance(shape, Shape):
            raise ValueError(f"shape {shape!r}")
        known, probes = _known(body["classifier"])
        asked = None if body.get("second") is None else _known(body["second"])
        kept = "second" in body["learnt"]
        if asked is None and kept:
            raise ValueError("a second network that nothing asks")
        sizes = (shape.channels, shape.height, shape.width, shape.classes)
        if any(type(n) is not int or n < 1 for n in sizes) or probes.dim() != 2 or not probes.numel():
            raise ValueError(f"shape {shape}, probe logits of shape {tuple(probes.shape)}")
        if max(shape.height, shape.width) > LARGEST or max(shape.classes, shape.channels) > MOST_CLASSES:
            raise ValueError(f"shape {shape} is larger than {LARGEST} x {LARGEST} pixels or {MOST_CLASSES} classes")
        threshold, level, resize = float(body["threshold"]), float(body["level"]), body["resize"]
        if resize is not None:
            one_of("way to resize", resize, ("squash", "crop"))
    _recognise(classifier, shape, known, probes, folder)
    if asked is not None and second is None and not kept:
        raise UsageError(f"the guard in {folder} asks a second network, and none was given: Guard.load(folder, classifier, second=net)")
    if asked is not None and second is not None:
        _recognise(second, shape, *asked, folder, "with another second network")
    arrays = _arrays(folder, body)
    with _sound(folder), substituting(given):
        learnt = {name: _loaded(name, note, arrays, folder) for name, note in body["learnt"].items()}
    if "calibration" not in arrays or "detector" not in learnt:
        raise DataDamaged(f"{folder}: guard.json and its arrays do not fit together")
    own = learnt.pop("second", None)
    if asked is not None and own is not None:
        _recognise(own, shape, *asked, folder, "with another second network than lies with it")
        second = own.to(device_of(classifier))
    saved = Saved(learnt, arrays["calibration"], threshold, level, shape, resize, second if asked is not None else None)
    if externals(learnt["detector"]):
        _recognise_detector(saved, classifier, body.get("probes"), folder)
    if why := _empty(saved):
        raise DataDamaged(f"the guard in {folder} cannot be used: {why}")
    return saved


def _known(who: JSON) -> tuple[str, Tensor]:
    """Weight hash and probe logits of a network that was written down."""
    return str(who["weights"]), torch.tensor(who["probes"], dtype=torch.float32)


def description(folder: Path | str) -> JSON:
    """The JSON of a saved guard.

    Raises:
        UsageError: when the folder holds none, or one of another schema.
        DataDamaged: when it is not what was saved, or a field is missing.
    """
    try:
        body = read_sealed(Path(folder), "guard", SCHEMA, "fit the guard again, or save it again with this version", OLDER)
    except StoreError:
        raise UsageError(f"no guard in {folder}: there is no guard.json") from None
    if missing := {"threshold", "level", "shape", "resize", "classifier", "learnt"} - set(body):
        raise DataDamaged(f"{folder}/guard.json says nothing of: {', '.join(sorted(missing))}")
    if not isinstance(body["classifier"], dict) or not isinstance(body["classifier"].get("at", 0), str | None):
        raise DataDamaged(f"{folder}/guard.json does not say which classifier it is for")
    return body


def choices(folder: Path, given: ExternalDetector | None = None) -> dict[str, Any]:
    """What was chosen when a guard was fitted, as arguments of ``fit_guard``: the detector's settings, level, promise, way to
    resize, effort.

    Args:
        folder: of the guard.
        given: a user's own detector, in place of what is found by its name.

    Raises:
        UsageError: when there is no guard in the folder.
        DataDamaged: when its file is not what was saved.
    """
    body = description(folder)
    with _sound(folder), substituting(given):
        note = body["learnt"]["detector"]
        detector = decode(note["origin"]["build"]) if given is None else given
        fit = note["facts"].get("fit") or {}
        words = {"promise": str(fit.get("promise", "all")), "effort": str(fit.get("effort", "usual"))}
        return {"detector": detector, "level": float(body["level"]), "resize": body["resize"], **words}


@contextlib.contextmanager
def _sound(folder: Path) -> Iterator[None]:
    """Turn whatever a damaged description makes others raise into one clear line."""
    try:
        yield
    except Error:
        raise
    except Exception as e:
        raise DataDamaged(f"{folder}/guard.json is damaged: {brief(e)}") from e


@torch.no_grad()
def probe(classifier: nn.Module, shape: Shape) -> Tensor:
    """Logits (PROBES, K) of fixed noise images, the same on every machine: what a classifier is recognised by."""
    where = device_of(classifier)
    images = uniform(torch.arange(PROBES, device=where), (shape.channels, shape.height, shape.width))
    with frozen(classifier):
        logits: Tensor = classifier(images)
    return logits.detach().cpu()


def _recognise(
    classifier: nn.Module, shape: Shape, known: str, expected: Tensor, folder: Path, what: str = "for another classifier"
) -> None:
    """Raise unless this is the network that the guard was fitted for: its weight hash and its probe logits."""
    weights = fingerprint(classifier)
    try:
        found = probe(classifier, shape)
    except RuntimeError as e:
        raise WrongClassifier(f"the guard in {folder} is for images {shape}; this classifier cannot read them: {brief(e)}") from None
    gap = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if weights == known and gap <= TOLERANCE * max(float(expected.abs().max()), 1.0):
        return
    raise WrongClassifier(
        f"the guard in {folder} was fitted {what}: weights {known[:12]} expected, {weights[:12]} found; "
        f"probe logits differ by up to {gap:.4g} (first probe: {_few(expected)} expected, {_few(found)} found)"
    )


def _recognise_detector(saved: Saved, classifier: nn.Module, expected: JSON, folder: Path) -> None:
    """Raise unless a user's own detector scores the probes as it did when the guard was saved."""
    found, names = scores_on_probes(saved, classifier), [m.settings.name for m in externals(saved.learnt["detector"])]
    gaps = [abs(a - b) for a, b in zip(found, expected or [], strict=False)]
    if len(gaps) != PROBES or not max(gaps) <= TOLERANCE * max(1.0, *map(abs, found)):
        raise UsageError(
            f"the guard in {folder} was fitted with another detector {', '.join(names)}: its scores of {PROBES} probes were "
            f"{[round(v, 4) for v in expected or []]}, and are {[round(v, 4) for v in found]}"
        )


def _few(z: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3f}" for v in z[0][:3].tolist()) + (", ...]" if z.shape[1] > 3 else "]")


def _loaded(name: str, note: JSON, arrays: dict[str, Tensor], folder: Path) -> nn.Module:
    module = rebuild(note["origin"])
    try:
        module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")})
    except RuntimeError as e:
        raise DataDamaged(f"{folder}: the weights of the {name} do not fit its settings: {str(e).splitlines()[-1].strip()[:300]}") from None
    return with_facts(module, **translated(note["facts"]))
