"""Can an attack find adversarial images that exist by construction?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..attacks._gradient import check_settings
from ..inputs import as_images, as_seeds, dtype_of, plainly
from ..learned import frozen
from ..randomness import uniform
from ._defended import Defended
from ._descent import Bounds

PASS = 0.95  # share of the known adversarials that an attack must find


class Readout(nn.Module):
    """A linear two-class answer on the classifier's last features, another one for each image: class 1 where the known adversarial is.

    Args:
        classifier: whose features.
        weight: (N, F).
        offset: (N,): the answer is class 1 where weight . features > offset.
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, classifier: nn.Module, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("weight", weight)
        self.register_buffer("offset", offset)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 2) logits."""
        side = (features(self.classifier, image) * self.weight).sum(1) - self.offset
        return torch.stack([torch.zeros_like(side), side], 1)

    def take(self, rows: Tensor) -> Readout:
        """For some of the images."""
        return Readout(self.classifier, self.weight[rows], self.offset[rows])


def features(classifier: nn.Module, image: Tensor) -> Tensor:
    """(N, F) what the classifier's last linear layer is given; its logits, where it has none."""
    last = [m for m in classifier.modules() if isinstance(m, nn.Linear)][-1:]
    seen: list[Tensor] = []
    hooks = [m.register_forward_pre_hook(lambda m, given: seen.append(given[0])) for m in last]
    try:
        logits: Tensor = classifier(image)
    finally:
        for h in hooks:
            h.remove()
    return seen[-1] if seen else logits


@dataclass(frozen=True)
class BinaryProblem:
    """A two-class problem with an adversarial that is known to exist, for each image.

    Attributes:
        target: to attack, from label 0, about the naturals.
        valid: (N,) bool: those in which the known adversarial is separated from all inner points.
        image: (N, C, H, W) the known adversarials: class 1, not detected, in the ball.
        by_chance: (N,) share of fresh corners that succeed too; near 0, or the test asks for nothing.
    """

    target: Defended
    valid: Tensor
    image: Tensor
    by_chance: Tensor


@dataclass(frozen=True)
class Binarization:
    """The binarization test (Zimmermann, Brendel, Tramer, Carlini 2022): for each natural image a new two-class problem is made on the
    classifier's own features, in which the image and points near it are class 0 and one random corner of the ball is class 1. An attack
    that is worth anything finds class 1; one that is blind does not.

    Departure, so that the detector's half is asked too: of ``corners`` random corners the known adversarial is the one with the lowest
    score, and that score is the image's own threshold. So every other corner, and mostly the natural image itself, is detected: the
    attack must change the answer *and* bring the score down. A detector without slope, or with a wrong one, is not evaded by chance.

    Departure: the separating direction is the whitened difference between the known adversarial's features and the inner points' mean (a
    ridge regression), in place of a linear solver; the boundary lies ``closeness`` of the way from the nearest inner point to the known
    adversarial.

    Attributes:
        eps: Linf radius, in [0, 1] units.
        inner: points in the inner ball, class 0.
        corners: candidates for the known adversarial.
        share: radius of the inner ball over eps.
        closeness: where the boundary is.

    Raises:
        UsageError: for settings out of range or images outside the conventions.
    """

    eps: float = 8 / 255
    inner: int = 128
    corners: int = 64
    share: float = 0.5
    closeness: float = 0.999

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 1 / 255, 1), inner=(self.inner, 1, 10_000), corners=(self.corners, 2, 5_000))
        check_settings(share=(self.share, 0, 0.999), closeness=(self.closeness, 0, 0.99999))

    def problem(self, target: Defended, x: Tensor, *, seeds: Tensor) -> BinaryProblem:
        """A problem for each natural image (N, C, H, W); everything is drawn from the image's own seed."""
        x, seeds = as_images(x, dtype=dtype_of(target.classifier)), as_seeds(seeds, len(x))
        ball, n = Bounds(self.eps), len(x)
        with plainly(grad=False), frozen(*target.modules):
            corners = [ball.stored(x + self.eps * _signs(x, seeds, k), x) for k in range(2 * self.corners)]
            scores = torch.stack([target.seen(c)[1] for c in corners[: self.corners]], 1)
            at = scores.argmin(1)
            known = torch.stack(corners[: self.corners], 1)[torch.arange(n), at]
            there = features(target.classifier, known)
            near = [x, *(ball.stored(x + self.share * self.eps * (2 * _draws(x, seeds, 10_000 + k) - 1), x) for k in range(self.inner))]
            inside = torch.stack([features(target.classifier, i) for i in near], 1)
            weight = _apart(there, inside)
            most, own = (inside * weight[:, None]).sum(2).amax(1), (there * weight).sum(1)
            offset = most + self.closeness * (own - most)
            threshold = scores.amin(1) + 1e-4 * (scores.amax(1) - scores.amin(1))
            made = replace(target, task=Readout(target.classifier, weight, offset), threshold=threshold)
            chance = torch.stack([_succeeds(made, c) for c in corners[self.corners :]], 1).float().mean(1)
            asks = scores.amax(1) > scores.amin(1)  # else the detector says one thing of all corners, and its half asks nothing
            return BinaryProblem(made, (own > most) & asks & _succeeds(made, known), known, chance)

    def found(self, attack: Callable[..., Tensor], target: Defended, x: Tensor, *, seeds: Tensor) -> tuple[Tensor, BinaryProblem]:
        """(N,) bool: in which problems the attack found an image in the ball that is class 1 and not detected; and the problems."""
        x = as_images(x, dtype=dtype_of(target.classifier))
        p = self.problem(target, x, seeds=seeds)
        out = attack(p.target, x, torch.zeros(len(x), dtype=torch.int64, device=x.device), seeds=seeds)
        near = (out - x).abs().flatten(1).amax(1) <= int(255 * self.eps + 1e-6) / 255 + 1e-6
        with plainly(grad=False), frozen(*p.target.modules):
            return near & _succeeds(p.target, out), p


def _succeeds(target: Any, x: Tensor) -> Tensor:
    succeeded: Tensor = target.succeeds(*target.seen(x), torch.zeros(len(x), dtype=torch.int64, device=x.device))
    return succeeded


def _draws(x: Tensor, seeds: Tensor, stream: int) -> Tensor:
    return uniform(seeds + 1_000_003 * (stream + 1), tuple(x.shape[1:])).to(x.dtype)


def _signs(x: Tensor, seeds: Tensor, stream: int) -> Tensor:
    return torch.where(_draws(x, seeds, stream) < 0.5, -1.0, 1.0).to(x.dtype)


def _apart(there: Tensor, inside: Tensor) -> Tensor:
    """(N, F) directions that set ``there`` (N, F) apart from ``inside`` (N, M, F)."""
    centre = inside.mean(1, keepdim=True)
    spread = (inside - centre).double()
    small = torch.linalg.svdvals(spread)[:, 0].square() * 1e-4 + 1e-12
    gap = (there - centre[:, 0]).double()
    gram = spread @ spread.transpose(1, 2) + small[:, None, None] * torch.eye(spread.shape[1], dtype=torch.float64, device=there.device)
    kept = torch.linalg.solve(gram, (spread @ gap[:, :, None]))
    rest = gap - (spread.transpose(1, 2) @ kept)[:, :, 0]  # what is left of the gap without the directions that inner points spread in
    size: Tensor = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
    found: Tensor = (rest / size.clamp_min(1e-12)).to(there.dtype)
    return found
