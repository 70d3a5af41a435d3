"""Square Attack in the Linf ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ._ball import Ball
from ._gradient import check_settings, noted, titled
from ._square import searched
from ._validation import validated


@dataclass(frozen=True)
class Square:
    """Random search that keeps a square of colour at the edge of the Linf ball where it lowers the margin (Andriushchenko, Croce,
    Flammarion, Hein 2020, algorithms 1 and 2).

    It reads logits and no gradient. It starts at vertical stripes; the share of the pixels that a square covers is halved nine times as the
    questions are used up. Departure: where a square would change nothing its signs are turned round, not drawn again. An image that has
    left its label leaves the batch.

    Cost: at most ``queries`` forward passes and no backward pass.

    Attributes:
        eps: Linf budget in [0, 1] units.
        queries: how often the classifier is asked, at most, about an image.
        share: of the pixels that the first squares cover.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    eps: float = 8 / 255
    queries: int = 5000
    share: float = 0.8

    norm: ClassVar[str] = "linf"
    must_fool: ClassVar[bool] = False  # without a gradient not every image gives way

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 0, 1), queries=(self.queries, 2, 10_000_000), share=(self.share, 1e-6, 1))

    @property
    def title(self) -> str:
        """As it stands in a table: ``Square``, at another budget than the default ``Square 4/255``, other settings in brackets."""
        name = titled("Square", self.eps, type(self).eps)
        return noted(name, f"{self.queries} queries" if self.queries != type(self).queries else "")

    @property
    def passes(self) -> float:
        """What an image takes that is not fooled: forward passes, a third of the cost."""
        return self.queries / 3

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw stripes, places and colours."""
        return searched(classifier, x, y, seeds, Ball("linf", self.eps), self.queries, self.share)[0]
