"""The one optimisation loop: classifiers, encoders, saliency nets and detector heads are all trained by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .progress import ticking

Schedule = Literal["one_cycle", "constant", "step", "triangle"]
Optimiser = Literal["adam", "sgd"]
B = TypeVar("B")


def train(
    module: nn.Module,
    batches: Callable[[int], Iterable[B]],
    loss: Callable[[B], Tensor],
    *,
    epochs: int,
    steps: int,
    lr: float,
    schedule: Schedule = "one_cycle",
    weight_decay: float = 0.0,
    optimiser: Optimiser = "adam",
) -> list[float]:
    """Adam (or SGD) on the parameters of ``module`` that require a gradient.

    Args:
        module: put into train mode as a whole, and into eval mode at the end; a loss that wants a frozen part in eval
            mode says so itself.
        batches: epoch number to that epoch's batches.
        loss: a batch to a scalar.
        epochs: passes.
        steps: batches in a pass, for the schedule.
        lr: learning rate; the peak, for ``one_cycle`` (Smith 2018).
        schedule: ``step`` divides by ten at 50 % and at 90 % of all steps; ``triangle`` rises to ``lr`` over the first quarter of
            the steps and falls to 0.
        weight_decay: L2 term; SGD spares vectors (batch norm, offsets).
        optimiser: ``sgd`` has Nesterov's momentum of .9.

    Returns:
        The mean loss of each epoch: the learning curve.

    Raises:
        ValueError: when there is nothing to train on.
    """
    if steps < 1 or epochs < 1:
        raise ValueError(f"nothing to train on: {epochs} epochs of {steps} batches")
    total = epochs * steps
    weights = [p for p in module.parameters() if p.requires_grad]
    stepper = _stepper(optimiser, weights, lr, weight_decay)
    scheduler = _scheduler(stepper, schedule, lr, total)

    def everything() -> Iterator[tuple[int, B]]:
        for epoch in range(epochs):
            for batch in batches(epoch):
                yield epoch, batch

    module.train()
    sums, counts = torch.zeros(epochs, device=weights[0].device), torch.zeros(epochs)
    with torch.enable_grad():
        for epoch, batch in ticking(everything(), total):
            stepper.zero_grad(set_to_none=True)
            value = loss(batch)
            value.backward()  # type: ignore[no-untyped-call]
            stepper.step()
            scheduler.step()
            sums[epoch] += value.detach()
            counts[epoch] += 1
    module.eval()
    curve: list[float] = (sums.cpu() / counts).tolist()
    return curve


def _stepper(optimiser: Optimiser, weights: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if optimiser == "adam":
        return torch.optim.Adam(weights, lr, weight_decay=weight_decay, fused=True)
    matrices, vectors = ([p for p in weights if (p.dim() > 1) is wide] for wide in (True, False))
    groups = [{"params": ps, "weight_decay": decay} for ps, decay in ((matrices, weight_decay), (vectors, 0.0)) if ps]
    return torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True)


def _scheduler(optimiser: torch.optim.Optimizer, schedule: Schedule, lr: float, total: int) -> Any:
    if schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(total, 2))
    if schedule == "triangle":
        rise = max(total // 4, 1)
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min((i + 1) / rise, max(total - i, 0) / max(total - rise, 1)))
    milestones = [total // 2, (9 * total) // 10] if schedule == "step" else []
    return torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)


def shuffled(n: int, size: int, seed: int) -> Callable[[int], list[Tensor]]:
    """Epoch number to shuffled index batches of ``size``; the short last one is dropped (batch norm needs equals)."""
    size = min(size, n)

    def epoch(number: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        order = torch.randperm(n, generator=generator)
        return list(torch.split(order[: n - n % size], size)) if n else []

    return epoch
