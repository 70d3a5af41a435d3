"""Fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ._gradient import check_settings, loss_gradient, titled
from ._validation import validated


@dataclass(frozen=True)
class FGSM:
    """One step of size eps along the sign of the loss gradient (Goodfellow, Shlens, Szegedy 2015), clipped to [0, 1].

    As in cleverhans 3.0.1, with the log-odds against the label as loss, which has the sign of the cross-entropy's gradient and
    does not underflow where logits are steep. Default: the paper's setting for MNIST and CIFAR-10 (its Figure 4); ASSIRA has .025.

    Cost: 1 forward and 1 backward pass an image.

    Attributes:
        eps: Linf budget in [0, 1] units.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    eps: float = 0.2

    norm: ClassVar[str] = "linf"
    strength: ClassVar[str] = "weak"
    must_fool: ClassVar[bool] = False  # one step does not always

    REVISION = 2

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 0, 1))

    @property
    def title(self) -> str:
        """As it stands in a table: ``FGSM``, at another budget than the paper's ``FGSM 8/255``."""
        return titled("FGSM", self.eps, type(self).eps)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` are not used: the attack draws nothing."""
        return (x + self.eps * loss_gradient(classifier, x, y).sign()).clamp(0, 1)
