from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from salientry.errors import DataDamaged
from salientry.progress import PROGRESS
from salientry.training import CHECKPOINTS, Checkpoints, Optimiser, Schedule, shuffled, train

SCHEDULES = get_args(Schedule)


def problem() -> tuple[Tensor, Tensor]:
    """Twelve equations with four unknowns; no exact solution."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, generator=g, dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64) + torch.randn(12, generator=g, dtype=torch.float64)


class Weights(nn.Module):
    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(start.clone())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_least_squares_are_learned_to_their_optimum(schedule: Schedule, weight_decay: float) -> None:
    x, y = problem()
    optimum = torch.linalg.solve(2 / 12 * x.T @ x + weight_decay * torch.eye(4, dtype=torch.float64), 2 / 12 * x.T @ y)
    module = Weights(torch.zeros(4, dtype=torch.float64))
    curve = train(
        module,
        lambda epoch: [(x, y)],
        lambda batch: (batch[0] @ module.w - batch[1]).square().mean(),
        epochs=500,
        steps=1,
        lr=0.1,
        schedule=schedule,
        weight_decay=weight_decay,
    )
    torch.testing.assert_close(module.w.detach(), optimum, atol=1e-3, rtol=0)
    assert curve[0] == pytest.approx(float(y.square().mean()), rel=1e-6), "measured before the first step"
    assert curve[-1] == pytest.approx(float((x @ optimum - y).square().mean()), abs=1e-4)


def cosine(start: float, middle: float, end: float, step: int, total: int) -> float:
    """From start to middle over 30 % of the steps, then to end."""
    up = 0.3 * total - 1
    a, b, at = (start, middle, step / up) if step <= up else (middle, end, (step - up) / (total - 1 - up))
    return b + (a - b) * (1 + math.cos(math.pi * at)) / 2


def one_cycle(total: int) -> list[float]:
    """The rate goes from 1/25 to 1 and to 1/250,000 of its peak while Adam's first moment forgets more, then less (Smith 2018)."""
    steps, moment = [], 0.0
    for i in range(total):
        beta = cosine(0.95, 0.85, 0.95, i, total)
        moment = beta * moment + (1 - beta)
        steps.append(cosine(1 / 25, 1.0, 1 / 250_000, i, total) * moment / (1 - beta ** (i + 1)))
    return steps


RATES: dict[str, list[float]] = {"constant": [1.0] * 40, "step": [1.0] * 20 + [0.1] * 16 + [0.01] * 4, "one_cycle": one_cycle(40)}
RATES["triangle"] = [min((i + 1) / 10, (40 - i) / 30) for i in range(40)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_follows_its_schedule(schedule: Schedule) -> None:
    module, path = Weights(torch.zeros((), dtype=torch.float64)), []

    def loss(batch: int) -> Tensor:
        path.append(module.w.item())
        return module.w * 1000  # Adam's step on a constant gradient is the rate itself

    train(module, lambda epoch: range(5), loss, epochs=8, steps=5, lr=0.5, schedule=schedule)
    steps = [a - b for a, b in zip(path, [*path[1:], module.w.item()], strict=True)]
    assert steps == pytest.approx([0.5 * rate for rate in RATES[schedule]], rel=1e-6, abs=1e-9)


def test_a_number_divides_the_rate_by_ten_every_so_many_epochs() -> None:
    module, path = Weights(torch.zeros((), dtype=torch.float64)), []

    def loss(batch: int) -> Tensor:
        path.append(module.w.item())
        return module.w * 1000

    train(module, lambda epoch: range(3), loss, epochs=7, steps=3, lr=0.5, schedule=3)
    steps = [a - b for a, b in zip(path, [*path[1:], module.w.item()], strict=True)]
    assert steps == pytest.approx([0.5] * 9 + [0.05] * 9 + [0.005] * 3, rel=1e-6)
    with pytest.raises(ValueError, match="every so many epochs, at least 1; found 0"):
        train(module, lambda epoch: range(3), loss, epochs=7, steps=3, lr=0.5, schedule=0)


def test_the_curve_is_the_mean_loss_of_each_epoch() -> None:
    module, seen = Weights(torch.tensor(1.0)), []

    def loss(batch: float) -> Tensor:
        value = (module.w - batch).square()
        seen.append(value.item())
        return value

    curve = train(module, lambda epoch: [0.0, 1.0, float(epoch)], loss, epochs=4, steps=3, lr=0.1)
    assert curve == pytest.approx([sum(seen[3 * i : 3 * i + 3]) / 3 for i in range(4)], rel=1e-6)
    assert len(seen) == 12


def test_each_epoch_gets_its_batches_in_order() -> None:
    module, seen = Weights(torch.tensor(1.0)), []

    def loss(batch: tuple[int, int]) -> Tensor:
        seen.append(batch)
        return module.w

    train(module, lambda epoch: ((epoch, i) for i in range(2)), loss, epochs=3, steps=2, lr=0.1)
    assert seen == [(e, i) for e in range(3) for i in range(2)]


def test_only_what_requires_a_gradient_is_moved() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes: list[bool] = []

    def loss(x: Tensor) -> Tensor:
        modes.append(net.training)
        return net(x).square().mean()

    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        train(net, lambda epoch: [x], loss, epochs=3, steps=1, lr=0.1, weight_decay=0.1)
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert not {"0.weight", "0.bias"} & moved
    assert {"2.weight", "2.bias", "1.running_mean", "1.num_batches_tracked"} <= moved
    assert modes == [True] * 3 and not net.training


@pytest.mark.parametrize(("epochs", "steps"), [(0, 3), (3, 0), (1, -1)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_nothing_to_train_on_is_refused(epochs: int, steps: int, schedule: Schedule) -> None:
    with pytest.raises(ValueError, match=f"nothing to train on: {epochs} epochs of {steps} batches"):
        train(Weights(torch.tensor(1.0)), lambda e: [0], lambda b: b, epochs=epochs, steps=steps, lr=0.1, schedule=schedule)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_step_is_enough(schedule: Schedule) -> None:
    module = Weights(torch.tensor(1.0))
    curve = train(module, lambda epoch: [0], lambda b: module.w.square(), epochs=1, steps=1, lr=0.1, schedule=schedule)
    assert curve == [1.0] and 0 < module.w.item() < 1


def test_a_step_that_is_not_a_number_shows_in_the_curve() -> None:
    module = Weights(torch.tensor(1.0))
    curve = train(module, lambda epoch: [0], lambda b: module.w * math.nan, epochs=2, steps=1, lr=0.1)
    assert all(map(math.isnan, curve))


def test_progress_is_reported() -> None:
    calls: list[tuple[int, int]] = []
    module = Weights(torch.tensor(1.0))
    token = PROGRESS.set(lambda done, total: calls.append((done, total)))
    try:
        train(module, lambda epoch: range(3), lambda b: module.w, epochs=2, steps=3, lr=0.1)
    finally:
        PROGRESS.reset(token)
    assert calls == [(i, 6) for i in range(6)]


# --- batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (7, 7), (5, 50), (1, 1), (100, 32)])
def test_batches_part_the_images_without_the_short_last_one(n: int, size: int) -> None:
    for number in range(3):
        batches = shuffled(n, size, seed=1)(number)
        assert [len(b) for b in batches] == [min(size, n)] * (n // min(size, n))
        seen = torch.cat(batches)
        assert len(seen.unique()) == len(seen) and int(seen.min()) >= 0 and int(seen.max()) < n


def test_no_images_are_no_batches() -> None:
    assert shuffled(0, 10, seed=0)(0) == []


def rows(epoch: Callable[[int], list[Tensor]], number: int) -> list[int]:
    return torch.cat(epoch(number)).tolist()


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    first = shuffled(60, 10, seed=3)
    expected = [rows(first, e) for e in range(3)]
    torch.manual_seed(1)
    again = shuffled(60, 10, seed=3)
    assert [rows(again, e) for e in (2, 1, 0)] == expected[::-1], "in whatever order they are asked for"
    different = [*expected, *(rows(shuffled(60, 10, seed=s), e) for s in (0, 1, 2, 4) for e in range(3))]
    assert len({tuple(d) for d in different}) == 15
    assert rows(shuffled(60, 20, seed=3), 0) == expected[0], "the size of a batch does not reorder them"


def test_every_image_is_left_out_alike() -> None:
    def seen() -> Iterator[Tensor]:
        epoch = shuffled(10, 4, seed=0)
        for number in range(2000):
            yield torch.cat(epoch(number))

    count = torch.cat(list(seen())).bincount(minlength=10)
    assert (count.double() / 2000 - 0.8).abs().max() < 4 * math.sqrt(0.8 * 0.2 / 2000)


def test_sgd_is_nesterovs_and_spares_vectors() -> None:
    """Two steps by hand: matrices shrink, vectors do not."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1))

    module = Two()
    train(
        module,
        lambda epoch: [0, 0],
        lambda batch: module.matrix.sum() + module.vector.sum(),
        epochs=1,
        steps=2,
        lr=0.1,
        schedule="constant",
        weight_decay=0.5,
        optimiser="sgd",
    )

    def by_hand(decay: float) -> float:
        w, v = 1.0, 0.0
        for _ in range(2):
            g = 1.0 + decay * w
            v = 0.9 * v + g
            w -= 0.1 * (g + 0.9 * v)
        return w

    assert module.matrix.item() == pytest.approx(by_hand(0.5), abs=1e-6)
    assert module.vector.item() == pytest.approx(by_hand(0.0), abs=1e-6)


class Stopped(Exception):
    """The process is killed."""


def halves(folder: Path, stop: int | None, optimiser: Optimiser, schedule: Schedule) -> tuple[list[float], dict[str, Tensor], list[int]]:
    """Two trainings, one after the other, with drop-out and a generator of one's own; the second is stopped in the middle of an epoch."""
    torch.manual_seed(0)
    module, draws, seen = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)), torch.Generator().manual_seed(1), list[int]()
    x, y = problem()
    curves: list[float] = []
    token = CHECKPOINTS.set(Checkpoints(folder, seconds=0.0))
    try:
        for part in range(2):

            def loss(at: Tensor, part: int = part) -> Tensor:
                seen.append(part)
                if stop is not None and seen.count(1) > stop:
                    raise Stopped
                noise = torch.rand(len(at), 4, generator=draws)
                return (module(x[at].float() + noise)[:, 0] - y[at].float()).square().mean()

            order = shuffled(12, 4, part)
            how = {"epochs": 5, "steps": 3, "lr": 0.01, "optimiser": optimiser, "schedule": schedule}
            curves += train(module, order, loss, generators=(draws,), **how)  # type: ignore[arg-type]
    finally:
        CHECKPOINTS.reset(token)
    return curves, module.state_dict(), seen


@pytest.mark.parametrize(("optimiser", "schedule"), [("adam", "one_cycle"), ("sgd", "step"), ("rmsprop", "constant")])
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path, optimiser: Optimiser, schedule: Schedule) -> None:
    whole = halves(tmp_path / "whole", None, optimiser, schedule)
    with pytest.raises(Stopped):
        halves(tmp_path / "stopped", 7, optimiser, schedule)
    resumed = halves(tmp_path / "stopped", None, optimiser, schedule)
    assert resumed[0] == whole[0], "the learning curves of both trainings"
    assert all(torch.equal(v, whole[1][k]) for k, v in resumed[1].items())
    assert resumed[2] == [1] * 9, "of 15 steps of the first nothing was done again, of the second the two whole epochs were not"


def test_a_checkpoint_of_another_training_is_an_error_that_names_the_file_and_goes_away(tmp_path: Path) -> None:
    halves(tmp_path, None, "adam", "constant")
    (tmp_path / "training-1.pt").write_bytes((tmp_path / "training-1.pt").read_bytes()[:400])
    with pytest.raises(DataDamaged, match=r"training-1\.pt is no state of this training"):
        halves(tmp_path, None, "adam", "constant")
    assert len(halves(tmp_path, None, "adam", "constant")[0]) == 10


def test_nothing_is_written_where_nobody_keeps_checkpoints_or_training_is_short(tmp_path: Path) -> None:
    module = nn.Linear(1, 1)
    token = CHECKPOINTS.set(Checkpoints(tmp_path / "none"))
    try:
        train(module, lambda e: [torch.ones(1, 1)], lambda x: module(x).sum(), epochs=3, steps=1, lr=0.1, generators=())
    finally:
        CHECKPOINTS.reset(token)
    assert not (tmp_path / "none").exists()
