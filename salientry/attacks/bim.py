"""Basic iterative method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ._gradient import check_settings, iterate, titled
from ._validation import validated


@dataclass(frozen=True)
class BIM:
    """FGSM in small steps (Kurakin, Goodfellow, Bengio 2017, equation 2), each projected onto [0, 1] and the Linf ball.

    As in cleverhans 3.0.1, without a random start, and with the log-odds against the label as loss, which has the sign of the
    cross-entropy's gradient and does not underflow where logits are steep. Default: the paper's setting for MNIST and CIFAR-10
    (its Figure 4); ASSIRA has .025 in steps of .0025.

    Cost: ``steps`` forward and ``steps`` backward passes an image.

    Attributes:
        eps: Linf budget in [0, 1] units.
        step_size: of one step, in [0, 1] units.
        steps: how many.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    eps: float = 0.15
    step_size: float = 0.015
    steps: int = 10

    norm: ClassVar[str] = "linf"
    strength: ClassVar[str] = "weak"

    REVISION = 2

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 0, 1), step_size=(self.step_size, 0, 1), steps=(self.steps, 1, 100_000))

    @property
    def title(self) -> str:
        """As it stands in a table: ``BIM``, at another budget than the paper's ``BIM 8/255``."""
        return titled("BIM", self.eps, type(self).eps)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        return iterate(classifier, x, y, eps=self.eps, step_size=self.step_size, steps=self.steps, direction=lambda gradient: gradient)
