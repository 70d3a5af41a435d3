"""What the gradient attacks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..randomness import uniform
from ..rates import grey_levels

Target = Literal["random", "least_likely", "runner_up"]
TARGETS = ("random", "least_likely", "runner_up")
TOWARDS = {"": "", "random": "a random class", "least_likely": "the least likely class", "runner_up": "the runner-up"}  # in titles
# What is added to an image's seed for a draw that no other draw of the attack may tell of.
BUDGET, START, PLACE, WHICH = (k << 40 for k in (1, 2, 3, 4))


def log_odds_against(z: Tensor, y: Tensor) -> Tensor:
    """(N,) the log-odds that the answer is not ``y``, from logits (N, K): log-sum-exp of the other logits minus z_y. A loss to ascend.

    The cross-entropy is log(1 + exp(this)): its gradient has the same direction times 1 - p_y, which is 0 in floats as soon as the
    logits are steep. This one never underflows.
    """
    return z.masked_fill(labelled(z, y), float("-inf")).logsumexp(1) - z.gather(1, y[:, None])[:, 0]


def loss_gradient(classifier: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N, C, H, W) gradient of each image's :func:`log_odds_against` its label ``y``: one forward and one backward pass."""
    return _loss_gradient(classifier, x, y, None)[0]


def _loss_gradient(classifier: nn.Module, x: Tensor, y: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """The gradient, and where the labels are, (N, K): for the next step."""
    here = x.detach().requires_grad_()
    with torch.enable_grad():
        z = classifier(here)
    own = labelled(z, y) if own is None else own
    (gradient,) = torch.autograd.grad(z, here, log_odds_slope(z.detach(), own))
    return gradient, own


def labelled(z: Tensor, y: Tensor) -> Tensor:
    """(N, K) bool: where the label ``y`` (N,) is among the logits."""
    return torch.zeros_like(z, dtype=torch.bool).scatter_(1, y[:, None], True)


def log_odds_slope(z: Tensor, own: Tensor) -> Tensor:
    """(N, K) gradient of :func:`log_odds_against` in the logits: the softmax of the others, and -1 at the label, which is at ``own``.

    The log-sum-exp is written out: of few logits it is a dozen small kernels, half of them for rows without a finite value.
    """
    other = z.masked_fill(own, float("-inf"))
    most = other.amax(1, keepdim=True)
    total = (other - most).exp_().sum(1, keepdim=True).log_().add_(most)
    return other.sub_(total).exp_().masked_fill_(own, -1)


def margin_slope(weight: Tensor, own: Tensor, others: Tensor, most: Tensor) -> Tensor:
    """(N, K) gradient in the logits of the largest other logit minus the label's, times the row's ``weight``: what autograd has, without a
    graph. Where several logits are the largest they share it, as there.

    Args:
        weight: (N,).
        own: (N, K) where the label is.
        others: (N, K) logits, -inf at the label.
        most: (N,) the largest of them.
    """
    largest = others == most[:, None]
    return torch.where(own, -weight[:, None], weight[:, None] * largest / largest.sum(1, keepdim=True))


def iterate(
    classifier: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float | Tensor,
    step_size: float | Tensor,
    steps: int,
    direction: Callable[[Tensor], Tensor],
    start: Tensor | None = None,
) -> Tensor:
    """(N, C, H, W) images after ``steps`` steps of size ``step_size`` along the sign of ``direction(gradient)``, each projected
    onto [0, 1] and the ball of Linf radius ``eps`` about ``x``; one forward and one backward pass a step. Radius and size are
    numbers, or tensors that fit the images. The first step is from ``start`` (None: ``x``), projected too.
    """
    low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
    here, own = x if start is None else torch.minimum(torch.maximum(start, low), high), None
    for _ in range(steps):
        gradient, own = _loss_gradient(classifier, here, y, own)
        step = direction(gradient).sign()
        here = torch.clamp(step.mul_(step_size).add_(here), low, high)
    return here


def targets(rule: Target, z: Tensor, y: Tensor, seeds: Tensor) -> Tensor:
    """(N,) the class that each image is driven to, never its label ``y``, from its logits ``z`` (N, K).

    ``random``: uniform over the other classes, from the image's own seed. ``least_likely`` and ``runner_up``: the other class
    with the smallest and with the largest logit.
    """
    if rule == "random":
        draw = (uniform(seeds, (1,))[:, 0].double() * (z.shape[1] - 1)).long()
        return draw + (draw >= y)
    own, away = labelled(z, y), float("inf")
    return z.masked_fill(own, away).argmin(1) if rule == "least_likely" else z.masked_fill(own, -away).argmax(1)


def budgets(seeds: Tensor, lowest: float | None, highest: float, like: Tensor) -> float | Tensor:
    """(N, 1, 1, 1) a number for each image, uniform in [lowest, highest] from its own seed; without ``lowest`` the ``highest`` itself."""
    if lowest is None:
        return highest
    return lowest + (highest - lowest) * uniform(seeds + BUDGET, (1, 1, 1)).to(like.dtype)


def check_settings(**bounds: tuple[Any, float, float]) -> None:
    """Raise for a setting that is a word, or outside its bounds; ``name=(value, lowest, highest)``.

    Raises:
        UsageError: says what was found and what was expected.
    """
    for name, (value, lo, hi) in bounds.items():
        if isinstance(value, str) or not lo <= value <= hi:
            raise UsageError(f"{name} must lie in [{lo:g}, {hi:g}]; found {value!r}")


def columns(z: Tensor, order: Tensor, here: Tensor) -> list[Tensor]:
    """For j = 0, 1, ...: the gradient in the image of each row's j-th logit in ``order`` (N, J); one backward pass each."""
    total = order.shape[1]
    picks = z.new_zeros((*order.shape, z.shape[1])).scatter_(2, order[..., None], 1)
    return [torch.autograd.grad(z, here, picks[:, j], retain_graph=j < total - 1)[0] for j in range(total)]


def titled(name: str, eps: float, default: float) -> str:
    """An attack's name, and its budget in 255ths where it is not the default."""
    if eps == default:
        return name
    return f"{name} {grey_levels(eps) or f'{eps:g}'}"


def noted(name: str, *notes: str) -> str:
    """An attack's name with what is particular to its settings in brackets; empty notes are left out."""
    said = ", ".join(note for note in notes if note)
    return f"{name} ({said})" if said else name
