"""Gradient maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ..errors import UsageError
from . import _gradients


@dataclass(frozen=True)
class Gradient:
    """The magnitude of the gradient of one class's logit in the image (Simonyan, Vedaldi, Zisserman 2014).


    Attributes:
        of: ``"logit"``, or ``"prob"``: of the class's probability, which underflows to 0 where the classifier is sure.

    Raises:
        UsageError: for anything else.
    """

    of: Literal["logit", "prob"] = "logit"

    def __post_init__(self) -> None:
        if self.of not in ("logit", "prob"):
            raise UsageError(f"of must be 'logit' or 'prob'; found {self.of!r}")

    build, fit = _gradients.build, _gradients.fit

    def draw(self, classifier: nn.Module, x: Tensor, k: Tensor, alive: bool) -> Tensor:
        """The raw map (N, C, H, W)."""
        return _gradients.gradient(classifier, x, k, alive, self.of)
