"""The one optimisation loop: classifiers, encoders, saliency nets and detector heads are all trained by it."""

from __future__ import annotations

import contextvars
import hashlib
import itertools
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .errors import DataDamaged
from .progress import ticking
from .rows import Array
from .shared_disk import beside, take_place
from .store import kept

Schedule = Literal["one_cycle", "constant", "step", "triangle"]
Optimiser = Literal["adam", "adamw", "sgd", "rmsprop"]
B = TypeVar("B")


def train(
    module: nn.Module,
    batches: Callable[[int], Iterable[B]],
    loss: Callable[[B], Tensor],
    *,
    epochs: int,
    steps: int,
    lr: float,
    schedule: Schedule | int = "one_cycle",
    weight_decay: float = 0.0,
    optimiser: Optimiser = "adam",
    eps: float = 1e-8,
    generators: Sequence[torch.Generator] | None = None,
) -> list[float]:
    """Adam (or SGD, or RMSprop) on the parameters of ``module`` that require a gradient.

    Args:
        module: put into train mode as a whole, and into eval mode at the end; a loss that wants a frozen part in eval
            mode says so itself.
        batches: epoch number to that epoch's batches.
        loss: a batch to a scalar.
        epochs: passes.
        steps: batches in a pass, for the schedule.
        lr: learning rate; the peak, for ``one_cycle`` (Smith 2018).
        schedule: ``step`` divides by ten at 50 % and at 90 % of all steps; ``triangle`` rises to ``lr`` over the first quarter of
            the steps and falls to 0; a number divides by ten every so many epochs.
        weight_decay: L2 term; SGD spares vectors (batch norm, offsets); of ``adamw`` the decay beside the step (Loshchilov, Hutter 2019).
        optimiser: ``sgd`` has Nesterov's momentum of .9; ``rmsprop`` forgets .9 a step.
        eps: what Adam and RMSprop add to the root of the second moment.
        generators: whatever ``loss`` draws from beside torch's own generators; given (perhaps empty), training is interrupted without
            loss of more than an epoch where somebody keeps :data:`CHECKPOINTS`: it goes on to the same weights, bit for bit.

    Returns:
        The mean loss of each epoch: the learning curve.

    Raises:
        ValueError: when there is nothing to train on, or a rate is to fall every 0 epochs.
    """
    if isinstance(schedule, int) and schedule < 1:
        raise ValueError(f"a rate falls every so many epochs, at least 1; found {schedule}")
    if steps < 1 or epochs < 1:
        raise ValueError(f"nothing to train on: {epochs} epochs of {steps} batches")
    total = epochs * steps
    weights = [p for p in module.parameters() if p.requires_grad]
    stepper = _stepper(optimiser, weights, lr, weight_decay, eps)
    scheduler = _scheduler(stepper, schedule, lr, total, steps)
    sums, counts = torch.zeros(epochs, device=weights[0].device), torch.zeros(epochs)
    kept = CHECKPOINTS.get() if generators is not None else None
    state = _State(module, stepper, scheduler, sums, counts, generators or ())
    file = kept.next() if kept else None
    first = state.restored(file) if file else 0

    def everything() -> Iterator[tuple[int, B]]:
        for epoch in range(first, epochs):
            for batch in batches(epoch):
                yield epoch, batch
            if kept and file and kept.is_time(epoch + 1 == epochs):
                state.write(file, epoch + 1)

    module.train()
    with torch.enable_grad():
        for epoch, batch in ticking(everything(), total, first * steps):
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


def _stepper(optimiser: Optimiser, weights: list[nn.Parameter], lr: float, weight_decay: float, eps: float) -> torch.optim.Optimizer:
    if optimiser == "adam":
        return torch.optim.Adam(weights, lr, eps=eps, weight_decay=weight_decay, fused=True)
    if optimiser == "adamw":
        return torch.optim.AdamW(weights, lr, eps=eps, weight_decay=weight_decay, fused=True)
    if optimiser == "rmsprop":
        return torch.optim.RMSprop(weights, lr, alpha=0.9, eps=eps, weight_decay=weight_decay)
    matrices, vectors = ([p for p in weights if (p.dim() > 1) is wide] for wide in (True, False))
    groups = [{"params": ps, "weight_decay": decay} for ps, decay in ((matrices, weight_decay), (vectors, 0.0)) if ps]
    return torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True)


def _scheduler(optimiser: torch.optim.Optimizer, schedule: Schedule | int, lr: float, total: int, steps: int) -> Any:
    if isinstance(schedule, int):
        return torch.optim.lr_scheduler.StepLR(optimiser, schedule * steps, gamma=0.1)
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


# --- going on where it was ---------------------------------------------------------------------------------------


@dataclass
class Checkpoints:
    """Where the state of trainings is kept while they last: one file each, in the order in which they begin.

    Attributes:
        folder: theirs; made when something is written. Whoever gives it removes it.
        seconds: an epoch's end is written down when so many have passed since the last.
    """

    folder: Path
    seconds: float = 60.0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _last: float = field(default_factory=time.monotonic)

    def next(self) -> Path:
        """The file of the training that begins."""
        return self.folder / f"training-{next(self._numbers)}.pt"

    def piece(self, name: str, make: Callable[[], Array]) -> Array:
        """A piece of what is made, which has its name alone; see :func:`~salientry.store.kept`."""
        return kept(self.folder / f"piece-{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors", make)

    def is_time(self, last: bool) -> bool:
        """Whether to write: after ``seconds``, and at the end of a training that was written before."""
        if time.monotonic() - self._last < self.seconds and not (last and self.folder.exists()):
            return False
        self._last = time.monotonic()
        return True


CHECKPOINTS: contextvars.ContextVar[Checkpoints | None] = contextvars.ContextVar("checkpoints", default=None)


@dataclass
class _State:
    """Everything that a training's next epoch depends on."""

    module: nn.Module
    stepper: torch.optim.Optimizer
    scheduler: Any
    sums: Tensor
    counts: Tensor
    generators: Sequence[torch.Generator]

    def write(self, file: Path, epochs: int) -> None:
        """After so many epochs; the file is there whole or as it was."""
        states: dict[str, Any] = {k: getattr(self, k).state_dict() for k in ("module", "stepper", "scheduler")}
        draws = [torch.get_rng_state(), *(g.get_state() for g in self.generators)]
        devices = torch.cuda.get_rng_state_all() if self.sums.is_cuda else []
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = beside(file)
        torch.save(states | {"sums": self.sums, "counts": self.counts, "draws": draws, "devices": devices, "epochs": epochs}, fresh)
        take_place(fresh, file)

    def restored(self, file: Path) -> int:
        """Epochs that are done; 0 where there is no file.

        Raises:
            DataDamaged: for a file that does not fit, which is removed.
        """
        try:
            found = torch.load(file, map_location=self.sums.device, weights_only=True)
            for k in ("module", "stepper", "scheduler"):
                getattr(self, k).load_state_dict(found[k])
            self.sums.copy_(found["sums"])
            self.counts.copy_(found["counts"])
            for generator, state in zip((torch.default_generator, *self.generators), found["draws"], strict=True):
                generator.set_state(state.cpu())
            if self.sums.is_cuda:
                torch.cuda.set_rng_state_all([s.cpu() for s in found["devices"]])
            return int(found["epochs"])
        except FileNotFoundError:
            return 0
        except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as e:
            file.unlink(missing_ok=True)
            raise DataDamaged(
                f"{file} is no state of this training ({type(e).__name__}: {e}); it was removed, the same call begins anew"
            ) from None
