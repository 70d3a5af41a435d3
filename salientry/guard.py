"""The guard: classifier + saliency + detector + threshold. Images in, verdicts out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .contracts import Shape, check_images, device_of, facts_of, fingerprint, frozen, origin, rebuilt, uniform, with_facts
from .errors import DataDamaged, Error, StoreError, UsageError, WrongClassifier
from .evidence import Evidence
from .keys import decode, encode
from .store import JSON, read_arrays, read_json, write_arrays, write_json, writing

SCHEMA = 1
PROBES = 4
TOLERANCE = 1e-3  # largest difference of probe logits between machines, as a share of their size


@dataclass(frozen=True)
class Verdict:
    """What a guard says about a batch of images.

    Attributes:
        flagged: (N,) bool: True = do not trust this prediction; so is a score that is no number.
        score: (N,) higher = more adversarial; flagged means above the guard's threshold.
        p_value: (N,) share of calibration naturals at least as suspicious; small = suspicious.
        predicted: (N,) int64, the classifier's answer.
        map: (N, 1, H, W) in [0, 1], where the classifier looks for that answer; None without a saliency model.
        spoke: (N, D) how much each of the guard's ``voices`` adds to the score, above what it adds on average over the images
            that weights were fitted on.

    Example:
        >>> import torch
        >>> from salientry import Verdict
        >>> Verdict(torch.tensor([True]), torch.tensor([3.1]), torch.tensor([0.01]), torch.tensor([7]), None, torch.ones(1, 1))[0].flagged
        tensor(True)
    """

    flagged: Tensor
    score: Tensor
    p_value: Tensor
    predicted: Tensor
    map: Tensor | None
    spoke: Tensor

    def __len__(self) -> int:
        return len(self.flagged)

    def __getitem__(self, at: int | slice | Tensor) -> Verdict:
        """The verdicts of some of the images."""
        chosen: dict[str, Any] = {f.name: None if (v := getattr(self, f.name)) is None else v[at] for f in fields(self)}
        return Verdict(**chosen)


class Guard(nn.Module):
    """A fitted detector in front of one classifier, with a threshold whose false-positive rate is promised.

    Args:
        classifier: images to logits; it is used, never stored.
        saliency: its saliency model, or None if the detector needs none.
        detector: fitted: evidence to scores.
        threshold: flagged means ``score > threshold``.
        level: the false-positive rate that the threshold was calibrated for.
        calibration: scores of calibration naturals, for p-values.
        shape: of the images.

    Example:
        >>> from salientry import Guard
        >>> guard = Guard.load("smoke-report/guard")                 # doctest: +SKIP
        >>> guard(images).flagged                                    # doctest: +SKIP
        tensor([False,  True])
    """

    calibration: Tensor

    def __init__(
        self,
        classifier: nn.Module,
        saliency: nn.Module | None,
        detector: nn.Module,
        threshold: float,
        level: float,
        calibration: Any,
        shape: Shape,
    ) -> None:
        super().__init__()
        self.classifier, self.saliency, self.detector = classifier, saliency, detector
        self.threshold, self.level, self.shape = threshold, level, shape
        scores = calibration if isinstance(calibration, Tensor) else np.array(calibration)
        self.register_buffer("calibration", torch.as_tensor(scores, dtype=torch.float32).sort().values)
        self.training = False  # its own parts judge in eval mode; the classifier stays as its owner left it
        for part in self._learnt().values():
            part.eval()

    @torch.no_grad()
    def forward(self, images: Tensor, batch: int = 250) -> Verdict:
        """Judge images (N, C, H, W) float in [0, 1], ``batch`` at a time.

        Raises:
            UsageError: for anything else, with what was found and what was expected.
        """
        check_images(images, (self.shape.channels, self.shape.height, self.shape.width))
        images = images.to(self.calibration.device, torch.float32)
        with frozen(self.classifier, *self._stirred()):
            judged = [self._judge(x) for x in torch.split(images, batch)] if len(images) else [self._judge(images)]
        parts: dict[str, Any] = {f.name: [getattr(v, f.name) for v in judged] for f in fields(Verdict)}
        joined: dict[str, Any] = {k: None if p[0] is None else torch.cat(p) for k, p in parts.items()}
        return Verdict(**joined)

    def _judge(self, x: Tensor) -> Verdict:
        needs: frozenset[str] = self.detector.needs  # type: ignore[assignment]
        seen = Evidence(self.classifier, self.saliency, x, needs)
        score, spoke = self._scored(seen)
        n = len(self.calibration)
        at_least = n - torch.searchsorted(self.calibration, score.contiguous())
        flagged = ~(score <= self.threshold)  # nan is above, too
        drawn = None if self.saliency is None else seen.map
        return Verdict(flagged, score, (1 + at_least) / (1 + n), seen.predicted, drawn, spoke)

    def _stirred(self) -> list[nn.Module]:
        """Those of its own parts that someone has put in training mode; to still the others again took longer than a small classifier."""
        return [part for part in self._learnt().values() if any(m.training for m in part.modules())]

    @property
    def voices(self) -> tuple[str, ...]:
        """What the detector goes by, in words: of a fusion what each of its parts does."""
        heard = list(self.detector.parts) or [self.detector]  # type: ignore[arg-type]
        return tuple(getattr(d.settings, "says", type(d.settings).__name__) for d in heard)

    def _scored(self, seen: Evidence) -> tuple[Tensor, Tensor]:
        """Scores (N,) and what each voice adds to them (N, D); each part of a fusion looks once."""
        if not self.detector.parts:
            score: Tensor = self.detector(seen)
            return score, score[:, None]
        head: Any = self.detector.head
        view: Tensor = self.detector.view(seen)  # type: ignore[operator]
        return head(view), head.each(view)

    # --- on disk ---

    def save(self, folder: Path | str, classifier_at: str | None = None) -> None:
        """Write ``guard.json`` and ``guard.safetensors``; of the classifier only who it is: weight hash and probe logits.

        Args:
            folder: made if it is not there.
            classifier_at: where a copy of the classifier lies, relative to ``folder``, for the command line.

        Raises:
            StoreError: when it cannot be written.
        """
        folder, learnt = Path(folder), self._learnt()
        weights = {f"{name}.{k}": v for name, m in learnt.items() for k, v in m.state_dict().items()} | {"calibration": self.calibration}
        body = {
            "schema": SCHEMA,
            "threshold": self.threshold,
            "level": self.level,
            "shape": encode(self.shape),
            "classifier": {
                "weights": fingerprint(self.classifier),
                "probes": probe(self.classifier, self.shape).tolist(),
                "at": classifier_at,
            },
            "learnt": {name: {"origin": origin(m), "facts": facts_of(m)} for name, m in learnt.items()},
        }
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / "guard.safetensors", {k: [v.detach().cpu().numpy()] for k, v in weights.items()})
        write_json(folder / "guard.json", body)

    def _learnt(self) -> dict[str, nn.Module]:
        return {"detector": self.detector} | ({"saliency": self.saliency} if self.saliency is not None else {})

    @classmethod
    def load(cls, folder: Path | str, classifier: nn.Module) -> Guard:
        """Read a guard and put it in front of ``classifier``.

        Raises:
            UsageError: when there is no guard in the folder.
            WrongClassifier: when it was fitted for another one: weight hash and probe logits of both are shown.
            DataDamaged: when its files do not fit together.
        """
        folder = Path(folder)
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
        guard = cls(classifier, learnt.get("saliency"), learnt["detector"], threshold, level, arrays["calibration"], shape)
        return guard.to(device_of(classifier))


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
