"""Auto-PGD: gradient ascent whose step size follows how it goes, for both norms and all losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from ._ball import Ball
from ._gradient import labelled, log_odds_against

Loss = Literal["ce", "dlr", "targeted"]
LOSSES = ("ce", "dlr", "targeted")
MOMENTUM, RISES = 0.75, 0.75  # alpha and rho of the paper
AGAIN = 7_368_787  # between the random numbers of two starts
Value = Callable[[Tensor, Tensor, Tensor], Tensor]


def checkpoints(steps: int) -> list[int]:
    """The steps after which the step size is looked at: ceil(p_j steps) with p_1 = .22, p_j+1 = p_j + max(p_j - p_j-1 - .03, .06)."""
    found, before, now = list[int](), 0.0, 0.22
    while now <= 1 + 1e-12:
        found.append(math.ceil(round(now * steps, 9)))
        before, now = now, now + max(now - before - 0.03, 0.06)
    return found


def ce(z: Tensor, y: Tensor, goal: Tensor) -> Tensor:
    """(N,) log-odds that the answer is not ``y``: it orders images as the cross-entropy does, and its gradient does not underflow."""
    return log_odds_against(z, y)


def dlr(z: Tensor, y: Tensor, goal: Tensor) -> Tensor:
    """(N,) difference of logits ratio (the paper's equation 6): -(z_y - largest other) / (largest - third largest)."""
    other = z.masked_fill(labelled(z, y), float("-inf")).amax(1)
    return (other - z.gather(1, y[:, None])[:, 0]) / spread(z, 3)


def dlr_targeted(z: Tensor, y: Tensor, goal: Tensor) -> Tensor:
    """(N,) its targeted form (equation 7): -(z_y - z_goal) / (largest - mean of third and fourth largest)."""
    return (z.gather(1, goal[:, None]) - z.gather(1, y[:, None]))[:, 0] / spread(z, 4)


def spread(z: Tensor, most: int) -> Tensor:
    """(N,) the largest logit minus the mean of the third to the ``most``-th largest of those there are; 1 where there is no third."""
    top = z.topk(min(most, z.shape[1]), 1).values
    if top.shape[1] < 3:
        return torch.ones_like(top[:, 0])
    return (top[:, 0] - top[:, 2:].mean(1)).clamp_min(1e-12)


VALUES: dict[Loss, Value] = {"ce": ce, "dlr": dlr, "targeted": dlr_targeted}


def searched(
    classifier: nn.Module,
    x: Tensor,
    y: Tensor,
    seeds: Tensor,
    ball: Ball,
    loss: Loss,
    steps: int,
    restarts: int = 0,
    candidates: int = 9,
    start: bool = True,
) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) images and (N,) whether each left its label; an image that did is not looked at again.

    Args:
        classifier: images to logits.
        x: naturals.
        y: labels to leave.
        seeds: (N,) draw the starts.
        ball: where images may lie.
        loss: what is ascended; ``targeted``: once for each of the ``candidates`` likeliest other classes.
        steps: of one ascent.
        restarts: ascents from other starts after the first.
        candidates: target classes, at most K - 1.
        start: whether it starts at a random point of the ball.
    """
    out, z = x.clone(), classifier(x)
    fooled = z.argmax(1) != y
    others = z.masked_fill(labelled(z, y), float("-inf")).argsort(dim=1, descending=True, stable=True)
    rounds = min(candidates, z.shape[1] - 1) if loss == "targeted" else 1
    for k in range((restarts + 1) * rounds):
        left = (~fooled).nonzero()[:, 0]
        if not len(left):
            break
        begin = ball.random(x[left], seeds[left] + k * AGAIN) if start else x[left]
        goal = others[left, k % rounds]
        out[left], fooled[left] = ascended(classifier, x[left], y[left], goal, begin, ball, VALUES[loss], steps)
    return out, fooled


def ascended(
    classifier: nn.Module, x: Tensor, y: Tensor, goal: Tensor, here: Tensor, ball: Ball, value_of: Value, steps: int
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 from ``here``: of each image the first iterate that leaves the label ``y``, else the one of largest loss; and whether it
    left. At most ``steps`` + 1 forward and ``steps`` backward passes.
    """
    out, fooled, active = here.clone(), torch.zeros_like(y, dtype=torch.bool), torch.arange(len(x), device=x.device)
    checks, last, best_gradient = set(checkpoints(steps)), 0, torch.zeros_like(x)
    size, best, previous = x.new_full((len(x), 1, 1, 1), 2 * ball.radius), here, here
    value = best_value = at_check = x.new_full((len(x),), float("-inf"))
    rises, halved = torch.zeros_like(y), torch.zeros_like(fooled)
    for k in range(steps + 1):
        before, (z, value, graph) = value, looked(classifier, here, y, goal, value_of, k < steps)
        left = z.argmax(1) != y
        if len(gone := left.nonzero()[:, 0]):
            out[active[gone]], fooled[active[gone]] = here[gone], True
            if len(gone) == len(left):
                return out, fooled
        gradient = torch.autograd.grad(*graph)[0] if graph else best_gradient
        if len(gone):
            stay = (~left).nonzero()[:, 0]
            kept = (a[stay] for a in (active, x, y, goal, here, previous, best, best_gradient, gradient, size))
            active, x, y, goal, here, previous, best, best_gradient, gradient, size = kept
            value, before, best_value, at_check, rises, halved = (a[stay] for a in (value, before, best_value, at_check, rises, halved))
        better = value > best_value
        best, best_gradient = where(better, here, best), where(better, gradient, best_gradient)
        best_value, rises = torch.where(better, value, best_value), rises + (value > before)
        if k == 0:
            at_check, rises = best_value, torch.zeros_like(rises)
        elif k in checks and k < steps:
            turn = (rises < RISES * (k - last)) | (~halved & (best_value <= at_check))
            size, halved = where(turn, size / 2, size), turn
            here, gradient, value = where(turn, best, here), where(turn, best_gradient, gradient), torch.where(turn, best_value, value)
            at_check, rises, last = best_value, torch.zeros_like(rises), k
        if k < steps:
            moved = ball.projected(x, here + size * ball.steepest(gradient))
            if k:
                moved = ball.projected(x, here + MOMENTUM * (moved - here) + (1 - MOMENTUM) * (here - previous))
            here, previous = moved, here
    out[active] = best
    return out, fooled


def looked(
    classifier: nn.Module, here: Tensor, y: Tensor, goal: Tensor, value_of: Value, sloped: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Logits (N, K) and losses (N,) of the images, and if ``sloped`` what the gradient of their sum is to be taken of and in."""
    if not sloped:
        z = classifier(here)
        return z, value_of(z, y, goal), None
    at = here.detach().requires_grad_()
    with torch.enable_grad():
        z = classifier(at)
        value = value_of(z, y, goal)
        total = value.sum()
    return z.detach(), value.detach(), (total, at)


def where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """(N, C, H, W) of two batches, row by row."""
    return torch.where(rows.view(-1, 1, 1, 1), yes, no)
