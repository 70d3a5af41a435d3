"""A logistic head: a slope a column and an offset. It gives a baseline its own 0, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from ..evidence_set import Fittable
from ..types import Pairs
from ._fitted import Fitted, assembled

LEAST = 1e-3  # slope of a monotone head
L2 = 1e-3  # weight of the squared slopes


class Logistic(nn.Module):
    """Standardised columns (N, D) to scores (N,).

    Args:
        columns: D.
        monotone: slopes above 0 only: the sign of a baseline is stated by its author and never turned round by a fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, columns: int, monotone: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))
        self.slope, self.offset, self.monotone = nn.Parameter(torch.ones(columns)), nn.Parameter(torch.zeros(())), monotone

    @property
    def weights(self) -> Tensor:
        """(D,) of the standardised columns."""
        return self.slope.clamp_min(LEAST) if self.monotone else self.slope

    def each(self, view: Tensor) -> Tensor:
        """(N, D) what each column adds to the score."""
        return (view - self.mean) / self.std * self.weights

    def forward(self, view: Tensor) -> Tensor:
        """Scores (N,)."""
        return ((view - self.mean) / self.std) @ self.weights + self.offset


def columns_of(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """All views (N, D) and their labels, naturals first."""
    natural, adversarial = (torch.cat(v) for v in zip(*pairs.batches(500, None), strict=True))
    return torch.cat([natural, adversarial]), torch.cat([natural.new_zeros(len(natural)), natural.new_ones(len(adversarial))])


def standardise(module: Any, x: Tensor) -> None:
    """Set the buffers ``mean`` and ``std`` of a head from training views."""
    module.mean.copy_(x.mean(0))
    module.std.copy_(x.std(0).clamp_min(1e-6))


def build(settings: Any, view: tuple[int, ...], *parts: nn.Module, monotone: bool = True) -> Fitted:
    """An unfitted detector with a logistic head."""
    return assembled(settings, Logistic(view[0], monotone), view, parts)


def fit(settings: Any, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int, bounded: bool = False) -> Fitted:
    """Slopes and offset by logistic regression: L-BFGS, in float64 on the processor.

    Args:
        settings: of the detector.
        evidence: naturals and their adversarial twins.
        labels: which are which.
        parts: fitted detectors that it depends on.
        seed: not used: nothing is drawn.
        bounded: slopes are searched for within their bound (L-BFGS-B, Byrd et al. 1995), the optimum of a convex problem. Else they
            are clamped in the loss, where a slope below the bound has no gradient and never comes back: as baselines' keys ask.
    """
    pairs = evidence.pairs(labels, settings, *parts)
    fitted: Fitted = settings.build(pairs.shape, *parts)
    x, y = columns_of(pairs)
    head, device = fitted.head.double().cpu(), x.device
    x, y = x.double().cpu(), y.double().cpu()
    standardise(head, x)
    solver = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        head.zero_grad()
        loss = F.binary_cross_entropy_with_logits(head(x), y) + L2 * head.slope.square().sum()  # type: ignore[operator]
        loss.backward()
        return loss

    with torch.enable_grad():
        if bounded:
            _within_bounds(head, closure)
        else:
            solver.step(closure)  # type: ignore[no-untyped-call]
    head.float().to(device)  # the head alone: the parts are someone else's
    return fitted.eval()


def _within_bounds(head: Any, loss: Callable[[], Tensor]) -> None:
    """Set slope and offset to the least loss with slopes of at least ``LEAST``."""

    def at(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, np.ndarray[Any, np.dtype[np.float64]]]:
        head.slope.data, head.offset.data = torch.from_numpy(values[:-1].copy()), torch.tensor(values[-1])
        value = float(loss().detach())
        return value, torch.cat([head.slope.grad, head.offset.grad[None]]).numpy()

    start = torch.cat([head.slope.detach(), head.offset.detach()[None]]).numpy()
    bounds = [(LEAST, None)] * (len(start) - 1) + [(None, None)]
    at(minimize(at, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 1000}).x)
