"""Projected gradient descent in the L2 ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ..store import one_of
from ._gradient import TARGETS, TOWARDS, Target, budgets, check_settings, loss_gradient, noted, targets
from ._validation import validated

TINY = 1e-12  # a shorter gradient is no direction


@dataclass(frozen=True)
class PGDL2:
    """Steps of one length along the gradient, each projected onto the L2 ball and clipped to [0, 1] (Madry et al. 2018, appendix).

    Departures: the loss is the log-odds against the label, or with a ``target`` minus those against the target, as in ``PGD``; it starts
    at the image, not at a random point of the ball. The last iterate is the result.

    It has no Linf budget, so the strict protocol stores it as it does minimal-norm attacks: along its own perturbation it takes the
    smallest 8-bit image that fools, which may be shorter than ``radius``, or longer.

    Cost: ``steps`` forward and ``steps`` backward passes an image; with a ``target`` one forward pass more.

    Attributes:
        radius: L2 norm of the perturbation at most, over all values of an image, in [0, 1] units.
        step_size: L2 length of one step; None: a quarter of the image's radius.
        steps: how many.
        target: the class that images are driven to, as in ``PGD``; empty: any other than the label.
        lowest: each image has a radius of its own, uniform in [lowest, radius] from its seed; None: ``radius``.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    radius: float = 0.5
    step_size: float | None = None
    steps: int = 10
    target: Target | Literal[""] = ""
    lowest: float | None = None

    eps = None  # no Linf budget
    norm: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        check_settings(radius=(self.radius, 0, 10_000), steps=(self.steps, 1, 100_000))
        if self.step_size is not None:
            check_settings(step_size=(self.step_size, 0, 10_000))
        if self.lowest is not None:
            check_settings(lowest=(self.lowest, 0, self.radius))
        if self.target != "":
            one_of("target", self.target, TARGETS)

    @property
    def title(self) -> str:
        """As it stands in a table: ``PGD L2``, of another radius than the default ``PGD L2 1``, other settings in brackets."""
        return noted(
            "PGD L2" if self.radius == type(self).radius else f"PGD L2 {self.radius:.3g}",
            f"{self.steps} steps" if self.steps != type(self).steps else "",
            f"towards {TOWARDS[self.target]}" if self.target else "",
            "random budgets" if self.lowest is not None else "",
        )

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw the radius and a random target."""
        goal = targets(self.target, classifier(x), y, seeds) if self.target else y
        radius = budgets(seeds, self.lowest, self.radius, x)
        step = (radius / 4 if self.step_size is None else self.step_size) * (-1 if self.target else 1)
        here = x
        for _ in range(self.steps):
            gradient = loss_gradient(classifier, here, goal)
            moved = here + step * gradient / _length(gradient) - x
            here = (x + moved * (radius / _length(moved)).clamp(max=1)).clamp(0, 1)
        return here


def _length(v: Tensor) -> Tensor:
    """(N, 1, 1, 1) L2 norms of (N, C, H, W), at least ``TINY``."""
    norms: Tensor = v.flatten(1).norm(dim=1)
    return norms.clamp_min(TINY).view(-1, 1, 1, 1)
