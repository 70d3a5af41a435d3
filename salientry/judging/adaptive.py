"""What an attacker who knows classifier and detector gets past both, by attacks that are shown to work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..adaptive import Defended, Look
from ..calibration import pac_threshold
from ..detectors import ExternalDetector
from ..experiment.attack_guard import BUDGETS, attack_defended
from ..inference import exact_share
from ..protocol import eight_bits
from ..store import JSON

CHECKED = 32  # images that the gradient is tried on
STEP = 0.5 / 255  # each way, of every value
SLOPED, UPHILL = 0.5, 0.75  # shares of images that have a slope, and whose score rises along it, from which it is used
PROVEN = 0.9  # of what the attack does to the classifier alone it must do to the weak detector
MOST_SEEN = 250


def gradient_check(target: Defended, x: Tensor) -> JSON:
    """Whether the slope of the score says where the score rises: central differences over half a grey level along its signs.

    Args:
        target: classifier and detector.
        x: (N, C, H, W), of which the first :data:`CHECKED` are looked at.

    Returns:
        ``sloped``: share of images whose slope is not 0 everywhere; ``uphill``: share of those along whose slope the score rises;
        ``ratio``: median of the score's change over the change that the slope promises; ``useful``.
    """
    some = x[:CHECKED]
    slope = Look(target, some, "image").detector_slope().detach()
    there = slope.flatten(1).abs().amax(1) > 0
    found: JSON = {"of": len(some), "sloped": float(there.float().mean()), "uphill": None, "ratio": None, "useful": False}
    if not bool(there.any()):
        return found
    way = STEP * slope.sign()
    up, down = (target.seen((some + w).clamp(0, 1))[1] for w in (way, -way))
    moved = ((some + way).clamp(0, 1) - (some - way).clamp(0, 1)).mul(slope).flatten(1).sum(1)
    rises = (up - down)[there]
    found["uphill"] = float((rises > 0).float().mean())
    found["ratio"] = float((rises / moved[there].clamp_min(1e-12)).median())
    found["useful"] = found["sloped"] >= SLOPED and found["uphill"] >= UPHILL
    return found


class Contrast(nn.Module):
    """A detector that is known to be weak: the images' standard deviation, which hardly tells an attacked image from its natural."""

    def forward(self, images: Tensor) -> Tensor:
        """(N,)."""
        return images.flatten(1).std(1)


class RoundedContrast(Contrast):
    """The same without a slope."""

    def forward(self, images: Tensor) -> Tensor:
        """(N,)."""
        return super().forward(images.detach())


def weak(classifier: nn.Module, calibration: Tensor, level: float, sloped: bool) -> Defended:
    """A classifier with the weak detector in front of it, calibrated as all others are."""
    detector = ExternalDetector(Contrast() if sloped else RoundedContrast(), name="contrast").fit(None, torch.empty(0), seed=0).eval()
    with torch.no_grad():
        scores = detector.thing(calibration).cpu().numpy()
    return Defended(classifier, detector=detector, threshold=pac_threshold(np.asarray(scores), level))


def adaptive_verdict(
    target: Defended,
    calibration: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    level: float,
    count: int,
    budgets: Sequence[float] = BUDGETS,
    steps: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> JSON:
    """Attack a detector as somebody would who knows it; nothing is concluded from attacks that fail on a weak detector.

    Where the slope of the score, or of the surrogate that stands for it, says where the score rises, :class:`~salientry.adaptive.Joint`
    and :class:`~salientry.adaptive.Minimal` follow it.

    Args:
        target: classifier and detector, with the threshold of ``level``.
        calibration: naturals that the weak detector's threshold is set on.
        images: naturals to attack: the first ``count`` that the classifier has right and the detector does not flag.
        labels: (N,) their classes.
        level: the false-positive rate of the threshold.
        count: how many are attacked.
        budgets: Linf, in [0, 1] units.
        steps: of each attack.
        seed: of what is drawn.
        progress: is told (done, total) attacks of batches.

    Returns:
        ``how``: ``gradient``, ``surrogate`` or ``none``; ``gradient``: :func:`gradient_check`; ``attacked``: counts as
        :class:`~salientry.experiment.attack_guard.GuardAttacked` has them; ``weak``: those of the weak detector; ``evaluated``: whether
        the attacks are proven; ``why`` not.
    """
    bare = Defended(target.classifier)
    x, y = attackable(target, images, labels, count)
    if not len(x):
        return _not_evaluated("the classifier has no image right that the detector does not flag")
    check = gradient_check(target, x)
    surrogate = getattr(getattr(target.detector, "settings", None), "surrogate", None) is not None
    if not check["useful"]:
        why = "the score has no slope that says where it rises, and no surrogate was given: decision-based attacks are not part of this yet"
        return _not_evaluated(why, gradient=check)
    given: dict[str, Any] = {"budgets": budgets, "steps": steps, "seed": seed, "progress": progress}
    found = attack_defended(bare, target, x, y, seen_by(target), **given)
    easy = weak(target.classifier, calibration, level, sloped=True)
    xs, ys = attackable(easy, images, labels, count)
    known = attack_defended(Defended(target.classifier), easy, xs, ys, seen_by(easy), **(given | {"budgets": [max(budgets)]}))
    most = known.budgets[-1]
    proven = most["passed"] >= PROVEN * most["fooled"] and most["fooled"] > 0
    why = "" if proven else f"the attacks get past the weak detector on {most['passed']} of the {most['fooled']} images that they fool with"
    return {
        "how": "surrogate" if surrogate else "gradient",
        "gradient": check,
        "attacked": found.json() | {"shares": [exact_share(b["passed"], found.images) for b in found.budgets]},
        "weak": known.json(),
        "evaluated": proven,
        "why": why,
    }


def _not_evaluated(why: str, **more: Any) -> JSON:
    return {"how": "none", "gradient": None, "attacked": None, "weak": None, "evaluated": False, "why": why} | more


def seen_by(target: Defended) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """8-bit images to answers and flags."""

    def seen(v: Tensor) -> tuple[Tensor, Tensor]:
        pieces = [target.seen(some) for some in torch.split(eight_bits(v), MOST_SEEN)]
        logits, scores = (torch.cat(p) for p in zip(*pieces, strict=True))
        return logits.argmax(1), ~(scores <= target.threshold)

    return seen


def attackable(target: Defended, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first images that the classifier has right and the detector does not flag, and their classes."""
    answers, flags = seen_by(target)(images)
    at = ((answers == labels.to(answers.device)) & ~flags).nonzero()[:count, 0].to(images.device)
    return images[at], labels.to(images.device)[at]


__all__ = ["adaptive_verdict", "attackable", "gradient_check", "seen_by", "weak"]
