"""Detectors that are weak by construction, and the answer to each: an attack that leaves one of them standing is worth nothing.

Each hides its slope in a way that published detectors have (Carlini et al. 2019; Tramer et al. 2020): an attacker who differentiates it as
it stands, the *blind* one, sees nothing or half, and it looks robust. The answer stands beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..store import one_of
from ._defended import Defended

WEAK = {
    "detached map": "the score's slope is cut at the map; answer: the same detector without the cut",
    "quantised input": "the image is cut to 8 levels first; answer: straight through, as if it were not",
    "stochastic": "noise is added to the image at every look; answer: the mean over 10 looks",
    "saturated": "the score is pressed into [-1, 1] until it is flat; answer: the score before it",
    "best of two": "the larger of two detectors' scores; blind: the first one alone; answer: their smooth maximum",
    "mask only": "it sees the map alone; blind: the map held constant; answer: the slope through the saliency model",
}
LEVELS, NOISE, LOOKS, FLAT, TRACE = 8, 0.05, 10, 1e3, 1e-6


class Weak(nn.Module):
    """A detector made of one that reads the map and one that reads the image alone.

    Args:
        name: of ``WEAK``.
        of_map: fitted, reads the map.
        of_image: fitted, reads nothing but the image.
        answered: as the answer differentiates it.
    """

    def __init__(self, name: str, of_map: Any, of_image: Any, answered: bool) -> None:
        super().__init__()
        one_of("weak detector", name, WEAK)
        self.name, self.of_map, self.of_image, self.answered = name, of_map, of_image, answered

    @property
    def needs(self) -> frozenset[str]:
        """Parts of the evidence that it reads."""
        found: frozenset[str] = self.of_map.needs if self.name in ("detached map", "mask only", "best of two") else self.of_image.needs
        return found

    def forward(self, evidence: Any) -> Tensor:
        """Scores (N,)."""
        if self.name == "detached map" and not self.answered:
            evidence = evidence.put(map=evidence.map.detach())
        if self.name in ("detached map", "mask only"):
            return self._of(self.of_map, evidence)
        if self.name == "best of two":
            both = torch.stack([self._of(d, evidence) for d in (self.of_map, self.of_image)], 1)
            return both.logsumexp(1) if self.answered else both.amax(1)
        image = evidence.image
        if self.name == "quantised input":
            cut = ((image * (LEVELS - 1)).round() / (LEVELS - 1)).detach()
            image = image + (cut - image).detach() if self.answered else cut
        if self.name == "stochastic":
            image = (image + NOISE * torch.randn_like(image)).clamp(0, 1)
        score = self._of(self.of_image, _Image(image))
        if self.name == "saturated" and not self.answered:
            return (FLAT * score).tanh() + TRACE * score.detach()  # the trace keeps the order, and has no slope
        return score

    def _of(self, detector: Any, evidence: Any) -> Tensor:
        scores: Tensor = detector(evidence)
        return scores


class _Image:
    """Evidence that is an image alone."""

    def __init__(self, image: Tensor) -> None:
        self.image = image


def weakened(name: str, classifier: nn.Module, saliency: nn.Module, of_map: Any, of_image: Any) -> tuple[Defended, Defended]:
    """A weak detector in front of a classifier, with the answer to it; and the same as a blind attacker sees it. Thresholds are 0.

    Raises:
        UsageError: for an unknown weakness.
    """
    weak, answer = (Weak(name, of_map, of_image, answered) for answered in (False, True))
    target = Defended(classifier, saliency, weak, surrogate=answer, draws=LOOKS if name == "stochastic" else 1)
    seen = of_map if name == "best of two" else Weak("detached map", of_map, of_image, False) if name == "mask only" else weak
    return target, replace(target, surrogate=seen, draws=1)
