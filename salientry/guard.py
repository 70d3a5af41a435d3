"""The guard: classifier + saliency + detector + threshold. Images in, verdicts out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .contracts import Shape, device_of, frozen
from .evidence import Evidence
from .guard_files import Saved, read_guard, write_guard
from .inputs import as_images


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
        images = as_images(images, (self.shape.channels, self.shape.height, self.shape.width)).to(self.calibration.device)
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
        parts = Saved(self._learnt(), self.calibration, self.threshold, self.level, self.shape)
        write_guard(Path(folder), parts, self.classifier, classifier_at)

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
        saved = read_guard(Path(folder), classifier)
        saliency, detector = saved.learnt.get("saliency"), saved.learnt["detector"]
        guard = cls(classifier, saliency, detector, saved.threshold, saved.level, saved.calibration, saved.shape)
        return guard.to(device_of(classifier))
