"""Projected gradient descent in the Linf ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..randomness import uniform
from ..store import one_of
from ._gradient import START, TARGETS, TOWARDS, Target, budgets, check_settings, iterate, noted, targets, titled
from ._validation import validated


@dataclass(frozen=True)
class PGD:
    """Steps along the sign of the gradient from a random point of the Linf ball, each projected onto [0, 1] and the ball (Madry et al.
    2018, section 2.1).

    Departures: the loss is the log-odds against the label, which has the sign of the cross-entropy's gradient and does not underflow
    where logits are steep; with a ``target`` the log-odds against the target are descended. One start, no restarts; the last
    iterate is the result. Without a start, PGD is BIM.

    Cost: ``steps`` forward and ``steps`` backward passes an image; with a ``target`` one forward pass more.

    Attributes:
        eps: Linf budget in [0, 1] units.
        step_size: of one step, in [0, 1] units; None: a quarter of the image's budget.
        steps: how many.
        target: the class that images are driven to: ``"random"`` from the image's own seed, ``"least_likely"`` or ``"runner_up"``;
            empty: any other than the label.
        start: whether to start at a random point of the ball, uniform, from the image's own seed; otherwise at the image.
        lowest: each image has a budget of its own, uniform in [lowest, eps] from its seed, so that who learns from many images learns no
            one size; None: ``eps``.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    eps: float = 8 / 255
    step_size: float | None = None
    steps: int = 10
    target: Target | Literal[""] = ""
    start: bool = True
    lowest: float | None = None

    norm: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        check_settings(eps=(self.eps, 0, 1), steps=(self.steps, 1, 100_000))
        if self.step_size is not None:
            check_settings(step_size=(self.step_size, 0, 1))
        if self.lowest is not None:
            check_settings(lowest=(self.lowest, 0, self.eps))
        if self.target != "":
            one_of("target", self.target, TARGETS)

    @property
    def title(self) -> str:
        """As it stands in a table: ``PGD``, at another budget than the default ``PGD 4/255``, other settings in brackets."""
        name = titled("single step" if self.steps == 1 else "PGD", self.eps, type(self).eps)
        return noted(
            name,
            f"{self.steps} steps" if self.steps not in (1, type(self).steps) else "",
            f"towards {TOWARDS[self.target]}" if self.target else "",
            "random budgets" if self.lowest is not None else "",
        )

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the start, the budget and a random target."""
        goal = targets(self.target, classifier(x), y, seeds) if self.target else y
        eps = budgets(seeds, self.lowest, self.eps, x)
        return iterate(
            classifier,
            x,
            goal,
            eps=eps,
            step_size=eps / 4 if self.step_size is None else self.step_size,
            steps=self.steps,
            direction=lambda gradient: -gradient if self.target else gradient,
            start=x + eps * (2 * uniform(seeds + START, tuple(x.shape[1:])).to(x.dtype) - 1) if self.start else None,
        )
