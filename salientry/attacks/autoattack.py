"""AutoAttack in the Linf ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from . import _gradient as shared
from ._ball import Ball
from ._ensemble import Version, check, in_turn, reduced, titled
from ._gradient import check_settings
from ._validation import validated


@dataclass(frozen=True)
class AutoAttack:
    """AutoAttack's standard set (Croce, Hein 2020): APGD-CE, targeted APGD-DLR, FAB-T and Square, each on what is still right.

    The set, its order and its settings are the published standard ones: 100 steps, one start, 9 target classes, 5,000 queries. What each
    part does otherwise than published stands with ``APGD``, ``FAB`` and ``Square``; FAB stops here as soon as an image is inside the ball.
    The result where no part fools is the image itself.

    Cost: for an image that no part fools, with 10 classes, some 7,800 forward and 1,900 backward passes; for most others a handful.

    Attributes:
        eps: Linf budget in [0, 1] units.
        version: ``"standard"``, or ``"apgd"``: the first two parts alone, a hundredth of the cost where images withstand.
        steps: of APGD and FAB-T.
        queries: of Square.
        candidates: target classes.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    eps: float = 8 / 255
    version: Version = "standard"
    steps: int = 100
    queries: int = 5000
    candidates: int = 9

    norm: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 0, 1))
        check(self)

    @property
    def reduced(self) -> bool:
        """Whether it is less than the published standard set."""
        return reduced(self)

    @property
    def title(self) -> str:
        """As it stands in a table: ``AutoAttack``, at another budget ``AutoAttack 4/255``; in brackets where it is not the standard set."""
        return titled(shared.titled("AutoAttack", self.eps, type(self).eps), self.version, self.reduced)

    @property
    def passes(self) -> float:
        """What most images take, which the first part fools."""
        return float(2 * self.steps)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw starts, places and colours."""
        ball = Ball("linf", self.eps)
        return in_turn(classifier, x, y, seeds, ball, self.version, self.steps, self.queries, self.candidates)
