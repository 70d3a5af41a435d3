"""A guard on disk: what is written of it, and that it is read back for the classifier that it was fitted for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .contracts import Shape, device_of, facts_of, fingerprint, frozen, origin, rebuilt, uniform, with_facts
from .errors import DataDamaged, Error, StoreError, UsageError, WrongClassifier
from .keys import decode, encode
from .store import JSON, read_arrays, read_json, write_arrays, write_json, writing

SCHEMA = 1
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
    """

    learnt: Mapping[str, nn.Module]
    calibration: Tensor
    threshold: float
    level: float
    shape: Shape


def write_guard(folder: Path, saved: Saved, classifier: nn.Module, classifier_at: str | None) -> None:
    """Write ``guard.json`` and ``guard.safetensors``.

    Raises:
        StoreError: when they cannot be written.
    """
    weights = {f"{name}.{k}": v for name, m in saved.learnt.items() for k, v in m.state_dict().items()}
    weights |= {"calibration": saved.calibration}
    body = {
        "schema": SCHEMA,
        "threshold": saved.threshold,
        "level": saved.level,
        "shape": encode(saved.shape),
        "classifier": {
            "weights": fingerprint(classifier),
            "probes": probe(classifier, saved.shape).tolist(),
            "at": classifier_at,
        },
        "learnt": {name: {"origin": origin(m), "facts": facts_of(m)} for name, m in saved.learnt.items()},
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / "guard.safetensors", {k: [v.detach().cpu().numpy()] for k, v in weights.items()})
    write_json(folder / "guard.json", body)


def read_guard(folder: Path, classifier: nn.Module) -> Saved:
    """What was saved in a folder, for the classifier that it was fitted for.

    Raises:
        UsageError: when there is no guard in the folder.
        WrongClassifier: when it was fitted for another one: weight hash and probe logits of both are shown.
        DataDamaged: when its files do not fit together.
    """
    body = description(folder)
    with _sound(folder):
        shape: Shape = decode(body["shape"])
        known, probes = str(body["classifier"]["weights"]), torch.tensor(body["classifier"]["probes"], dtype=torch.float32)
        sizes = (shape.channels, shape.height, shape.width, shape.classes)
        if any(type(n) is not int or n < 1 for n in sizes) or probes.dim() != 2 or not probes.numel():
            raise ValueError(f"shape {shape}, probe logits of shape {tuple(probes.shape)}")
        threshold, level = float(body["threshold"]), float(body["level"])
        if not math.isfinite(threshold):
            raise ValueError(f"threshold {threshold}")
    _recognise(classifier, shape, known, probes, folder)
    arrays = {k: torch.from_numpy(np.array(v)) for k, v in read_arrays(folder / "guard.safetensors").items()}
    with _sound(folder):
        learnt = {name: _loaded(name, note, arrays, folder) for name, note in body["learnt"].items()}
    if "calibration" not in arrays or "detector" not in learnt:
        raise DataDamaged(f"{folder}: guard.json and guard.safetensors do not fit together")
    return Saved(learnt, arrays["calibration"], threshold, level, shape)


def description(folder: Path | str) -> JSON:
    """The JSON of a saved guard.

    Raises:
        UsageError: when the folder holds none, or one of another schema.
        DataDamaged: when it is no JSON, or a field is missing.
    """
    try:
        body = read_json(Path(folder) / "guard.json")
    except StoreError:
        raise UsageError(f"no guard in {folder}: there is no guard.json") from None
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise UsageError(
            f"{folder}/guard.json has schema {body.get('schema') if isinstance(body, dict) else None!r}; this version reads {SCHEMA}"
        )
    if missing := {"threshold", "level", "shape", "classifier", "learnt"} - set(body):
        raise DataDamaged(f"{folder}/guard.json says nothing of: {', '.join(sorted(missing))}")
    if not isinstance(body["classifier"], dict) or not isinstance(body["classifier"].get("at", 0), str | None):
        raise DataDamaged(f"{folder}/guard.json does not say which classifier it is for")
    return body


@contextlib.contextmanager
def _sound(folder: Path) -> Iterator[None]:
    """Turn whatever a damaged description makes others raise into one clear line."""
    try:
        yield
    except Error:
        raise
    except Exception as e:
        raise DataDamaged(f"{folder}/guard.json is damaged: {type(e).__name__}: {next(iter(str(e).splitlines()), '')}") from e


@torch.no_grad()
def probe(classifier: nn.Module, shape: Shape) -> Tensor:
    """Logits (PROBES, K) of fixed noise images, the same on every machine: what a classifier is recognised by."""
    where = device_of(classifier)
    images = uniform(torch.arange(PROBES, device=where), (shape.channels, shape.height, shape.width))
    with frozen(classifier):
        logits: Tensor = classifier(images)
    return logits.detach().cpu()


def _recognise(classifier: nn.Module, shape: Shape, known: str, expected: Tensor, folder: Path) -> None:
    """Raise unless this is the classifier that the guard was fitted for: its weight hash and its probe logits."""
    weights = fingerprint(classifier)
    try:
        found = probe(classifier, shape)
    except RuntimeError as e:
        why = next(iter(str(e).splitlines()), "")
        raise WrongClassifier(f"the guard in {folder} is for images {shape}; this classifier cannot read them: {why}") from None
    gap = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if weights == known and gap <= TOLERANCE * max(float(expected.abs().max()), 1.0):
        return
    raise WrongClassifier(
        f"the guard in {folder} was fitted for another classifier: weights {known[:12]} expected, {weights[:12]} found; "
        f"probe logits differ by up to {gap:.4g} (first probe: {_few(expected)} expected, {_few(found)} found)"
    )


def _few(z: Tensor) -> str:
    return "[" + ", ".join(f"{v:.3f}" for v in z[0][:3].tolist()) + (", ...]" if z.shape[1] > 3 else "]")


def _loaded(name: str, note: JSON, arrays: dict[str, Tensor], folder: Path) -> nn.Module:
    module = rebuilt(note["origin"])
    try:
        module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")})
    except RuntimeError as e:
        raise DataDamaged(f"{folder}: the weights of the {name} do not fit its settings: {str(e).splitlines()[-1].strip()[:300]}") from None
    return with_facts(module, **note["facts"])
