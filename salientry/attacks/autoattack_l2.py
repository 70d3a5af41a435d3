"""AutoAttack in the L2 ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ._ball import Ball
from ._ensemble import Version, check, in_turn, reduced, titled
from ._gradient import check_settings
from ._validation import validated


@dataclass(frozen=True)
class AutoAttackL2:
    """AutoAttack's standard set in an L2 ball (Croce, Hein 2020); otherwise as ``AutoAttack``.

    It has no Linf budget: see ``APGDL2``.

    Cost: as ``AutoAttack``.

    Attributes:
        radius: L2 norm of the perturbation at most, over all values of an image, in [0, 1] units.
        version: ``"standard"``, or ``"apgd"``: the first two parts alone.
        steps: of APGD and FAB-T.
        queries: of Square.
        candidates: target classes.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    radius: float = 0.5
    version: Version = "standard"
    steps: int = 100
    queries: int = 5000
    candidates: int = 9

    eps = None  # no Linf budget
    norm: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        check_settings(radius=(self.radius, 0, 10_000))
        check(self)

    @property
    def reduced(self) -> bool:
        """Whether it is less than the published standard set."""
        return reduced(self)

    @property
    def title(self) -> str:
        """As it stands in a table: ``AutoAttack L2``, of another radius ``AutoAttack L2 1``; in brackets where it is less."""
        name = "AutoAttack L2" if self.radius == type(self).radius else f"AutoAttack L2 {self.radius:.3g}"
        return titled(name, self.version, self.reduced)

    @property
    def passes(self) -> float:
        """What most images take, which the first part fools."""
        return float(2 * self.steps)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw starts, places and signs."""
        ball = Ball("l2", self.radius)
        return in_turn(classifier, x, y, seeds, ball, self.version, self.steps, self.queries, self.candidates)
