"""Jacobian-based saliency map attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..store import one_of
from ._gradient import TARGETS, Target, check_settings, targets
from ._validation import validated

NEVER = float("-inf")


@dataclass(frozen=True)
class JSMA:
    """Brightens, two features at a time, what speaks most for a target class (Papernot et al. 2016, algorithms 2 and 3).

    With t the target's gradient and o that of all other classes together, the pair p, q of features below 1 is raised by
    ``theta`` that has the largest -(t_p + t_q)(o_p + o_q), among those with t_p + t_q > 0 and o_p + o_q < 0; until the
    classifier answers the target. The pair is found exactly, without a table of all pairs.

    As in cleverhans 3.0.1 (probabilities; ``score="logit"``: its 2019 line), without the option to darken. Departures: a
    feature can be raised again until it is saturated, which is what the paper's norms fit (cleverhans' own rule is
    ``reuse=False``); an image for which no pair qualifies stops, where cleverhans raises its first feature twice.

    Default: the paper's epsilon for MNIST and CIFAR-10 (its Figure 4) as ``theta``; ASSIRA has .025. ``JSMA_STRICT`` is
    cleverhans' default: theta 1, each feature once.

    Cost: with S the pairs that an image needs, S + 1 forward passes (S when S is the limit) and S backward passes, S + 1 when
    neighbours go on; twice as many backward passes with ``score="logit"``. The limit is ``steps``, and without ``reuse``
    also gamma C H W / 2.

    Attributes:
        theta: what is added to a feature, in [0, 1] units.
        gamma: share of the features that may change; read only without ``reuse``.
        steps: pairs at most.
        reuse: whether a feature may be raised more than once.
        score: gradients of ``"prob"`` (in the form of log probabilities: the same pair, no underflow) or of ``"logit"``.
        target: ``"random"`` from the image's own seed, ``"least_likely"`` or ``"runner_up"``; never the label to leave.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    theta: float = 0.05
    gamma: float = 1.0
    steps: int = 2000
    reuse: bool = True
    score: Literal["prob", "logit"] = "prob"
    target: Target = "random"
    eps = None  # no budget
    title: ClassVar[str] = "JSMA"
    norm: ClassVar[str] = "l0"
    sparse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(theta=(self.theta, 1e-6, 1), gamma=(self.gamma, 0, 1), steps=(self.steps, 0, 10**6))
        one_of("score", self.score, ("prob", "logit"))
        one_of("target", self.target, TARGETS)

    @property
    def reduced(self) -> bool:
        """Whether it goes in larger steps than the paper's, or fewer."""
        return self.theta > JSMA.theta or self.steps < JSMA.steps

    @property
    def passes(self) -> float:
        """What an image takes: 200 pairs at .05."""
        return min(float(self.steps), 10 / self.theta)

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images driven from label ``y`` (N,) to their targets, which ``seeds`` draw."""
        out, active = x.clone(), torch.arange(len(x), device=x.device)
        here, goal, free = out.clone(), y, out.flatten(1) < 1
        limit = self.steps if self.reuse else min(self.steps, int(self.gamma * free.shape[1] / 2))
        for i in range(limit if len(x) else 0):
            here.requires_grad_()
            with torch.enable_grad():
                z = classifier(here)
            if i == 0:
                goal = targets(self.target, z.detach(), y, seeds)
            away = z.argmax(1) != goal
            if not bool(away.any()):
                break
            pair, found = self._pairs(z, goal, here, free)
            flat, stay = here.detach().flatten(1), away & found
            now = flat.gather(1, pair)
            flat = flat.scatter(1, pair, torch.where(stay[:, None], (now + self.theta).clamp_max(1), now))
            here = flat.view_as(here)
            free = flat < 1 if self.reuse else free.scatter(1, pair, False)
            if not bool(stay.all()):
                out[active], rows = here, stay.nonzero()[:, 0]
                active, here, goal, free = active[rows], here[rows], goal[rows], free[rows]
                if not len(active):
                    break
        out[active] = here.detach()
        return out

    def _pairs(self, z: Tensor, goal: Tensor, here: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """The best pair of features (n, 2) of each image, and whether one qualifies (n,)."""
        with torch.enable_grad():
            if self.score == "prob":
                wanted = F.log_softmax(z, 1).gather(1, goal[:, None]).sum()
            else:
                wanted = z.gather(1, goal[:, None]).sum()
                others = z.sum() - wanted
        if self.score == "prob":
            return pairs_by_sum(torch.autograd.grad(wanted, here)[0].flatten(1), free)
        t = torch.autograd.grad(wanted, here, retain_graph=True)[0].flatten(1)
        return pairs_by_product(t, torch.autograd.grad(others, here)[0].flatten(1), free)


def pairs_by_sum(t: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """The pair (n, 2) of ``free`` features with the largest t_p + t_q, and whether that is above 0 (n,); t is (n, D).

    Probabilities sum to 1, so o = -t exactly and the score is (t_p + t_q)^2: the two largest t win.
    """
    value, pair = t.masked_fill(~free, NEVER).topk(2, 1)
    return pair, value.sum(1) > 0


def pairs_by_product(t: Tensor, o: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """The pair (n, 2) of ``free`` features with the largest -(t_p + t_q)(o_p + o_q) and t_p + t_q > 0 > o_p + o_q, and whether
    there is one (n,); t and o are (n, D).

    Exact: with a = t and b = -o the score grows with both sums, so a feature to which two others are at least equal in a and
    in b can be replaced by one of them. What remains (few) is found by sorting by a: those whose b is above the second
    largest b before them. No tensor is larger than a few (n, D), however many remain.
    """
    n, d = t.shape
    a, order = t.masked_fill(~free, NEVER).sort(stable=True, dim=1, descending=True)
    b = (-o).masked_fill(~free, NEVER).gather(1, order)
    none = b.new_full((n, 1), NEVER)
    largest = torch.cat([none, b.cummax(1).values[:, :-1]], 1)  # of those before
    second = torch.cat([none, torch.minimum(b, largest).cummax(1).values[:, :-1]], 1)
    keep = b > second
    width = int(keep.sum(1).max())
    row, place = torch.nonzero(keep, as_tuple=True)
    slot = keep.cumsum(1)[row, place] - 1
    few_a, few_b = (none.expand(n, width).clone().index_put_((row, slot), values[row, place]) for values in (a, b))
    few = order.new_zeros(n, width).index_put_((row, slot), order[row, place])
    best, pair = none[:, 0], order.new_zeros(n, 2)
    chunk = max(1, 4 * d // max(width, 1))
    for first in range(0, width, chunk):
        rows = torch.arange(first, min(first + chunk, width), device=t.device)
        sum_a = few_a[:, rows, None] + few_a[:, None]
        sum_b = few_b[:, rows, None] + few_b[:, None]
        allowed = (sum_a > 0) & (sum_b > 0) & (rows[:, None] < torch.arange(width, device=t.device))
        value, at = sum_a.mul_(sum_b).masked_fill_(~allowed, NEVER).flatten(1).max(1)
        better = value > best
        best = torch.where(better, value, best)
        mine = torch.stack([rows[at // width], at % width], 1)
        pair = torch.where(better[:, None], few.gather(1, mine), pair)
    return pair, best > NEVER


JSMA_STRICT = JSMA(theta=1.0, reuse=False)
