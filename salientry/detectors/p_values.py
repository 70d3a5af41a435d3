"""Detectors together, without an attacked image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from . import _logistic
from ._asking import views
from ._fitted import Fitted, assembled
from ._reference import Numbers, numbers
from .energy import Energy
from .feature_squeezing import FeatureSqueezing
from .high_frequency import HighFrequency
from .msp import MSP

WAYS = ("fisher", "minimum")
LEVEL = 0.05  # share of naturals above 0


@dataclass(frozen=True)
class PValues:
    """P-values of several numbers against those of naturals, aggregated (Raghuram, Chandrasekaran, Jha, Banerjee 2021, ICML):
    by Fisher's method (1932), -2 sum_j ln p_j, or by the smallest one (Tippett 1931), -2 ln min_j p_j. No attacked image is seen.

    The p-value of a number is the share of naturals, itself among them, for which it is at least as large; it is made continuous by
    straight lines through ln p, and beyond the largest natural goes on as an exponential tail does, of the same mean excess as the
    naturals' largest tenth.

    Departures: the members are numbers of other detectors, where the paper takes one statistic a layer. The numbers are not independent, so
    that Fisher's sum has no chi-squared distribution: the score is 0 where 5 % of the naturals lie above it.

    Differentiable in the image where its members are. Cost: that of its members. It is fitted on naturals alone.

    Attributes:
        members: settings of detectors of which every number rises with suspicion (the logistic baselines with slopes above 0), and that
            are not fitted on training naturals.
        way: ``"fisher"`` or ``"minimum"``.

    Raises:
        UsageError: for other members, or none, or another way.
    """

    members: tuple[Any, ...] = (MSP(), Energy(), HighFrequency(), FeatureSqueezing())
    way: str = "fisher"
    group = "baseline"
    words = "p-values"
    description = "how unusual several numbers are together"
    reads, seeded, candidate = "numbers", False, False

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        if not self.members or self.way not in WAYS:
            raise UsageError(f"members are settings of detectors, way is fisher or minimum; found {self.members!r} and {self.way!r}")
        for m in self.members:
            if getattr(getattr(m, "build", None), "__func__", None) is not _logistic.build or "training" in m.needs or not m.view:
                raise UsageError(f"members are detectors whose numbers rise with suspicion, like MSP(); found {m!r}")

    @property
    def needs(self) -> frozenset[str]:
        """What its members need."""
        return frozenset().union(*(m.needs for m in self.members))

    def statistics(self, evidence: Evidence) -> Tensor:
        """(N, D) numbers of all members."""
        return torch.cat([m.view(evidence) for m in self.members], 1)

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 1) the aggregate."""
        (known,) = parts
        assert isinstance(known, Numbers)
        surprise = torch.stack(
            [surprises(c, k) for c, k in zip(self.statistics(evidence).unbind(1), known.values.unbind(1), strict=True)], 1
        )
        return 2 * (surprise.sum(1, keepdim=True) if self.way == "fisher" else surprise.amax(1, keepdim=True))

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector."""
        return assembled(self, Above(), view, parts)

    def fit(self, evidence: Any, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
        """Sorted numbers of the naturals, and the aggregate that 5 % of them exceed; the seed is not used."""
        if not parts:
            with torch.no_grad():
                found = torch.cat([self.statistics(e) for e in evidence.pieces()])
            parts = (numbers(found[(labels == 0).to(found.device)].sort(0).values),)
        pairs = views(self, evidence, labels, *parts)
        fitted = self.build(pairs.shape, *parts)
        natural = torch.cat([n for n, _ in pairs.batches(500, None)])
        fitted.head.least.copy_(natural[:, 0].quantile(1 - LEVEL))  # type: ignore[operator]
        return fitted.to(natural.device)


class Above(nn.Module):
    """How far a number (N, 1) lies above a fixed one, (N,)."""

    least: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("least", torch.zeros(()))

    def forward(self, view: Tensor) -> Tensor:
        """Scores (N,)."""
        scores: Tensor = view[:, 0] - self.least
        return scores


def surprises(values: Tensor, known: Tensor) -> Tensor:
    """(N,) minus the logarithm of the p-value of each value among sorted naturals' (n,)."""
    n = len(known)
    distinct: tuple[Tensor, Tensor] = torch.unique_consecutive(known, return_counts=True)
    places, counts = distinct
    at_least = n + 1 - (counts.cumsum(0) - counts)  # how many are at least as large as each place, the value itself among them
    heights = torch.log(torch.tensor(float(n + 1), dtype=known.dtype, device=known.device)) - at_least.to(known.dtype).log()
    right = torch.searchsorted(places, values.detach().contiguous()).clamp(1, max(len(places) - 1, 1)).clamp_max(len(places) - 1)
    left = (right - 1).clamp_min(0)
    share = ((values - places[left]) / (places[right] - places[left]).clamp_min(1e-12)).clamp(0, 1)
    inside = heights[left] + share * (heights[right] - heights[left])
    largest = known[-max(1, n // 10) :]
    beyond: Tensor = (values - known[-1]).clamp_min(0) / (largest - largest[0]).mean().clamp_min(1e-6)
    return inside + beyond
