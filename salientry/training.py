"""The one optimisation loop: classifiers, encoders, saliency nets and detector heads are all trained by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .contracts import ticking

Schedule = Literal["one_cycle", "constant", "step"]
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
) -> list[float]:
    """Adam on the parameters of ``module`` that require a gradient.

    Args:
        module: put into train mode as a whole, and into eval mode at the end; a loss that wants a frozen part in eval
            mode says so itself.
        batches: epoch number to that epoch's batches.
        loss: a batch to a scalar.
        epochs: passes.
        steps: batches in a pass, for the schedule.
        lr: learning rate; the peak, for ``one_cycle`` (Smith 2018).
        schedule: ``step`` divides by ten at 50 % and at 90 % of all steps.
        weight_decay: Adam's L2 term.

    Returns:
        The mean loss of each epoch: the learning curve.

    Raises:
        ValueError: when there is nothing to train on.
    """
    if steps < 1 or epochs < 1:
        raise ValueError(f"nothing to train on: {epochs} epochs of {steps} batches")
    total = epochs * steps
    weights = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(weights, lr, weight_decay=weight_decay, fused=True)
    scheduler = _scheduler(optimiser, schedule, lr, total)

    def everything() -> Iterator[tuple[int, B]]:
        for epoch in range(epochs):
            for batch in batches(epoch):
                yield epoch, batch

    module.train()
    sums, counts = torch.zeros(epochs, device=weights[0].device), torch.zeros(epochs)
    with torch.enable_grad():
        for epoch, batch in ticking(everything(), total):
            optimiser.zero_grad(set_to_none=True)
            value = loss(batch)
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            scheduler.step()
            sums[epoch] += value.detach()
            counts[epoch] += 1
    module.eval()
    curve: list[float] = (sums.cpu() / counts).tolist()
    return curve


def _scheduler(optimiser: torch.optim.Optimizer, schedule: Schedule, lr: float, total: int) -> Any:
    if schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(total, 2))
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
