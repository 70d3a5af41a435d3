"""What an attacker who knows classifier and detector gets past both, by attacks that are shown to work."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..adaptive import Defended, Look
from ..calibration import pac_threshold
from ..detectors import ExternalDetector
from ..experiment.attack_guard import GuardAttacked, outcome, perturbed
from ..inference import exact_share
from ..protocol import eight_bits
from ..store import JSON

CHECKED = 32  # images that the gradient is tried on
STEP, LONG_STEP = 0.5 / 255, 4 / 255  # each way, of every value; along a surrogate's slope, which stands for a score that may have steps
SLOPED, UPHILL = 0.5, 0.75  # shares of images that have a slope, and whose score rises along it, from which it is used
PROVEN = 0.9  # of what the attack does to the classifier alone it must do to the weak detector
MOST_SEEN = 250
BUDGETS, GREY_BUDGETS = (2 / 255, 8 / 255), (0.1, 0.3)


def gradient_check(target: Defended, x: Tensor) -> JSON:
    """Whether the slope of the score says where the score rises: central differences along its signs, over half a grey level, over four
    where the slope is a surrogate's.

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
    way = (LONG_STEP if _surrogate(target) else STEP) * slope.sign()
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


def weak(classifier: nn.Module, calibration: Tensor, level: float) -> Defended:
    """A classifier with the weak detector in front of it, calibrated as all others are."""
    detector = ExternalDetector(Contrast(), name="contrast").fit(None, torch.empty(0), seed=0).eval()
    with torch.no_grad():
        scores = detector.thing(calibration).cpu().numpy()
    return Defended(classifier, detector=detector, threshold=pac_threshold(np.asarray(scores), level))


class Attacker:
    """Somebody who knows classifier and detector. All detectors are attacked on the same images; what is done to the classifier alone, and
    to the weak detector, is done once.

    Args:
        classifier: images to logits.
        calibration: naturals that the weak detector's threshold is set on.
        images: naturals; the first ``count`` that the classifier has right are attacked.
        labels: (N,) their classes.
        level: the false-positive rate of all thresholds.
        count: how many are attacked.
        steps: of each attack.
        seed: of what is drawn.
        part: gives the callback for the progress of something, by its name.
    """

    def __init__(
        self,
        classifier: nn.Module,
        calibration: Tensor,
        images: Tensor,
        labels: Tensor,
        *,
        level: float,
        count: int,
        steps: int = 60,
        seed: int = 0,
        part: Callable[[str], Callable[[int, int], None]],
    ) -> None:
        self.bare, self.weak, self.part = Defended(classifier), weak(classifier, calibration, level), part
        self.budgets = GREY_BUDGETS if images.shape[1] == 1 else BUDGETS
        self.how: dict[str, Any] = {"steps": steps, "restarts": 1, "seed": seed}
        answers = torch.cat([self.bare.seen(some)[0].argmax(1) for some in torch.split(images, MOST_SEEN)])
        at = (answers == labels).nonzero()[:count, 0]
        self.x, self.y = images[at], labels[at]

    @cached_property
    def alone(self) -> list[Tensor]:
        """What fools the classifier alone."""
        return perturbed(self.bare, self.x, self.y, self.budgets, **self.how, progress=self.part("attacking the classifier alone"))

    @cached_property
    def known(self) -> GuardAttacked:
        """What gets past the weak detector."""
        found = perturbed(self.weak, self.x, self.y, self.budgets, **self.how, progress=self.part("attacking a weak detector"))
        return outcome(self.x, self.y, self.budgets, self.alone, found, seen_by(self.weak), self.how["steps"])

    def against(self, target: Defended, name: str) -> JSON:
        """Attack a detector; nothing is concluded from attacks that fail on the weak one.

        Where the slope of the score, or of the surrogate that stands for it, says where the score rises,
        :class:`~salientry.adaptive.Joint` and :class:`~salientry.adaptive.Minimal` follow it.

        Args:
            target: classifier and detector.
            name: of the detector.

        Returns:
            ``how``: ``gradient``, ``surrogate`` or ``none``; ``gradient``: :func:`gradient_check`; ``attacked``: counts as
            :class:`~salientry.experiment.attack_guard.GuardAttacked` has them; ``weak``: those of the weak detector; ``evaluated``:
            whether the attacks are proven; ``why`` not.
        """
        if not len(self.x):
            return _not_evaluated("the classifier has no image right")
        surrogate = _surrogate(target)
        if not (check := gradient_check(target, self.x))["useful"]:
            return _not_evaluated(
                f"the {'surrogate' if surrogate else 'score'} has no slope that says where the score rises", gradient=check
            )
        found = perturbed(target, self.x, self.y, self.budgets, **self.how, progress=self.part(f"attacking {name}"))
        counts = outcome(self.x, self.y, self.budgets, self.alone, found, seen_by(target), self.how["steps"])
        most = self.known.budgets[-1]
        proven = most["fooled"] > 0 and most["passed"] >= PROVEN * most["fooled"]
        why = (
            ""
            if proven
            else f"the attacks get past a weak detector on only {most['passed']} of the {most['fooled']} images that they fool with"
        )
        return {
            "how": "surrogate" if surrogate else "gradient",
            "gradient": check,
            "attacked": counts.json() | {"shares": [exact_share(b["passed"], counts.images) for b in counts.budgets]},
            "weak": self.known.json(),
            "evaluated": proven,
            "why": why,
        }


def _surrogate(target: Defended) -> bool:
    """Whether another slope stands for the detector's own."""
    return getattr(getattr(target.detector, "settings", None), "surrogate", None) is not None


def _not_evaluated(why: str, **more: Any) -> JSON:
    return {"how": "none", "gradient": None, "attacked": None, "weak": None, "evaluated": False, "why": why} | more


def seen_by(target: Defended) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """8-bit images to answers and flags."""

    def seen(v: Tensor) -> tuple[Tensor, Tensor]:
        pieces = [target.seen(some) for some in torch.split(eight_bits(v), MOST_SEEN)]
        logits, scores = (torch.cat(p) for p in zip(*pieces, strict=True))
        return logits.argmax(1), ~(scores <= target.threshold)

    return seen


__all__ = ["Attacker", "gradient_check", "seen_by", "weak"]
