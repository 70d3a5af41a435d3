"""A cheap detector looks at every image, a dear one at those that it finds suspicious."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from ..evidence_set import Fittable
from ..learned import with_recipe
from . import _committee
from ._fitted import Fitted
from .consistency import LIGHT, Consistency
from .learned_fusion import LearnedFusion
from .top_logits import TopLogits

FLOOR = -100.0  # scores of images that go on are above it, those of the others below


@dataclass(frozen=True)
class Cascade:
    """Two detectors, one score: ``second`` is asked only about the images that ``first`` finds most suspicious (Viola, Jones 2001, a
    cascade of two stages).

    Where the first one's score s is at or above a cut, the score is the second one's, at least -100; elsewhere it is -100 + s - cut, below
    all of these and in the first one's order. At the cut it jumps; on either side it has the slope of the detector that decides there.

    The cut is the score of the naturals of ``fit`` above which ``share`` of them lie. The first detector has learned from these, so
    that of fresh naturals somewhat more go on.

    Departures: the second detector is fitted on all images, not on those alone that go on.

    Attributes:
        first: settings of a detector.
        second: likewise.
        share: of the naturals that go on, in (0, 1).

    Raises:
        UsageError: for a share outside of it; for what is no detector, or one that is fitted to others.
    """

    first: Any = LearnedFusion((TopLogits(), Consistency(LIGHT)))
    second: Any = LearnedFusion()
    share: float = 0.2
    group = "fusion"
    title = "cascade"
    reads, seeded, candidate = "scores", True, False

    def __post_init__(self) -> None:
        number = isinstance(self.share, int | float) and not isinstance(self.share, bool)
        if not number or not 0 < self.share < 1:
            raise UsageError(f"share of the naturals that go on lies between 0 and 1; found {self.share!r}")
        for name in ("first", "second"):
            found = getattr(self, name)
            if isinstance(found, type) or not hasattr(found, "fit") or not getattr(found, "needs", None):
                raise UsageError(f"{name} is settings of a detector that is fitted by itself; found {found!r}")

    @property
    def needs(self) -> frozenset[str]:
        """What either needs: in ``fit``, and of images whose evidence is stored."""
        return frozenset(self.first.needs | self.second.needs | _committee.BESIDE)

    @property
    def description(self) -> str:
        """What the two look at."""
        return f"{self.first.description}, then {self.second.description} where that is suspicious"

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 2) scores of the two, for every image."""
        return torch.stack([part(evidence) for part in parts], 1)

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Cascaded:
        """Of these two fitted detectors, with the cut at 0, the first one's own decision.

        Args:
            view: (2,).
            parts: the first and the second.

        Raises:
            UsageError: for another number of detectors or scores.
        """
        if len(parts) != 2 or tuple(view) != (2,):
            raise UsageError(f"a cascade is built of two fitted detectors and their two scores; found {len(parts)} and {tuple(view)}")
        return with_recipe(Cascaded(self, CascadeHead(), *parts), self, list(view), *parts)

    def fit(self, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Cascaded:
        """Fit both detectors, or take the two that are given, and set the cut: on all naturals where the evidence has them, else on those
        of the pairs.

        Args:
            evidence: naturals and their adversarial twins.
            labels: (N,) which are which.
            parts: none, or the first and the second, fitted.
            seed: of both fits.
        """
        both = parts or tuple(d.fit(evidence, labels, seed=seed) for d in (self.first, self.second))
        others = getattr(evidence, "naturals", None)
        with torch.no_grad():
            if others is not None and len(others):
                seen = torch.cat([both[0](e) for e in others.pieces()])
            else:
                seen = torch.cat([natural for natural, _ in evidence.pairs(labels, self, *both).batches(500, None)])[:, 0]
        found = self.build((2,), *both).to(seen.device)
        found.head.cut.copy_(seen.topk(math.ceil(self.share * len(seen))).values[-1])  # type: ignore[operator]
        return found


class CascadeHead(nn.Module):
    """Scores of the first and the second detector (N, 2) to one score (N,); the second's are read only where images go on."""

    cut: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cut", torch.zeros(()))

    def on(self, first: Tensor) -> Tensor:
        """(N,) bool: which images go on, by the first one's scores; what is no number does."""
        return ~(first < self.cut)

    def each(self, view: Tensor) -> Tensor:
        """(N, 2) the score in the column of the detector that decides, beside it 0."""
        first, second = view.unbind(1)
        on, nothing = self.on(first), torch.zeros_like(first)
        return torch.stack([torch.where(on, nothing, FLOOR + (first - self.cut)), torch.where(on, second.clamp_min(FLOOR), nothing)], 1)

    def forward(self, view: Tensor) -> Tensor:
        """Scores (N,)."""
        return self.each(view).sum(1)


class Cascaded(Fitted):
    """A fitted cascade: it asks the second detector only about images that go on."""

    @property
    def needs(self) -> frozenset[str]:
        """What the first detector reads: of every image."""
        found: frozenset[str] = self.parts[0].needs  # type: ignore[assignment]
        return found

    def view(self, evidence: Evidence) -> Tensor:
        """(N, 2) scores of the two; the second's is 0 where an image does not go on. What it needs of the others, and is not known yet,
        is made for them alone.
        """
        first, second = self.parts
        seen: Tensor = first(evidence)
        at = self.head.on(seen).nonzero().squeeze(1)  # type: ignore[operator]
        later = torch.zeros_like(seen)
        if len(at):
            later = later.index_put((at,), second(evidence.take(at, second.needs)).to(seen.dtype))  # type: ignore[arg-type]
        return torch.stack([seen, later], 1)
