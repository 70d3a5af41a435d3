"""A fitted detector: the view of its settings, its own parts, a head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..evidence import scoring_needs
from ..learned import with_recipe


class Fitted(nn.Module):
    """``detector(evidence) -> scores (N,)``, higher = more adversarial, an unbounded logit.

    Attributes:
        head: view to scores; 0 is its own decision.
        parts: fitted modules that the view depends on; usually none.
    """

    def __init__(self, settings: Any, head: nn.Module, *parts: nn.Module) -> None:
        super().__init__()
        self.settings, self.head, self.parts = settings, head, nn.ModuleList(parts)

    @property
    def needs(self) -> frozenset[str]:
        """Parts of the evidence that scoring reads."""
        found: frozenset[str] = scoring_needs(self.settings.needs)
        for part in self.parts:
            found |= getattr(part, "needs", frozenset())
        return found

    @property
    def may_need(self) -> frozenset[str]:
        """Parts that scoring reads of some images if not of all: those that must be known where they are stored."""
        return self.needs.union(*(may_need(p) for p in self.parts))

    def view(self, evidence: Any) -> Tensor:
        """What the head sees of the evidence."""
        seen: Tensor = self.settings.view(evidence, *self.parts)
        return seen

    def forward(self, evidence: Any) -> Tensor:
        """Scores (N,) of an :class:`~salientry.evidence.Evidence`."""
        scores: Tensor = self.head(self.view(evidence))
        return scores


def may_need(detector: nn.Module) -> frozenset[str]:
    """Parts of the evidence that a fitted detector may read; ``needs`` are those that it reads of every image."""
    every: frozenset[str] = getattr(detector, "needs", frozenset())
    return every | getattr(detector, "may_need", frozenset())


def assembled(settings: Any, head: nn.Module, view: tuple[int, ...], parts: tuple[nn.Module, ...]) -> Fitted:
    """A detector of these parts that remembers how to build itself again."""
    return with_recipe(Fitted(settings, head, *parts), settings, list(view), *parts)
