"""Square Attack in the L2 ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ._ball import Ball
from ._gradient import check_settings, noted
from ._square import searched
from ._validation import validated


@dataclass(frozen=True)
class SquareL2:
    """Random search that moves what one square has of the perturbation to another where that lowers the margin (Andriushchenko, Croce,
    Flammarion, Hein 2020, algorithms 1 and 3).

    It reads logits and no gradient. It starts at five by five tiles, each with a bump in the middle. An image that has left its label
    leaves the batch. It has no Linf budget: see ``APGDL2``.

    Cost: at most ``queries`` forward passes and no backward pass.

    Attributes:
        radius: L2 norm of the perturbation at most, over all values of an image, in [0, 1] units.
        queries: how often the classifier is asked, at most, about an image.
        share: of the pixels that the first squares cover.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    radius: float = 0.5
    queries: int = 5000
    share: float = 0.8

    eps = None  # no Linf budget
    norm: ClassVar[str] = "l2"
    must_fool: ClassVar[bool] = False  # without a gradient not every image gives way

    def __post_init__(self) -> None:
        check_settings(radius=(self.radius, 0, 10_000), queries=(self.queries, 2, 10_000_000), share=(self.share, 1e-6, 1))

    @property
    def title(self) -> str:
        """As it stands in a table: ``Square L2``, of another radius than the default ``Square L2 1``, other settings in brackets."""
        name = "Square L2" if self.radius == type(self).radius else f"Square L2 {self.radius:.3g}"
        return noted(name, f"{self.queries} queries" if self.queries != type(self).queries else "")

    @property
    def passes(self) -> float:
        """What an image takes that is not fooled: forward passes, a third of the cost."""
        return self.queries / 3

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw signs and places."""
        return searched(classifier, x, y, seeds, Ball("l2", self.radius), self.queries, self.share)[0]
