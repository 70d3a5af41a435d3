"""PGD in the Linf and in the L2 ball: budgets, starts, targets, and what they are without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from salientry.attacks import BIM, PGD, PGDL2
from salientry.attacks._gradient import targets
from salientry.errors import UsageError

from .. import examples
from .counting import passes

SHAPE = examples.SHAPES["colour"]
N = 40


def pieces(n: int = N, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    net, x = examples.conv(SHAPE, dtype=dtype), examples.images(SHAPE, n, dtype=dtype)
    return net, x, examples.predicted(net, x), examples.seeds(n)


def inner(n: int) -> Tensor:
    """Images that no budget of .2 takes out of [0, 1]."""
    return 0.3 + 0.4 * examples.images(SHAPE, n, dtype=torch.float64)


def size(delta: Tensor, norm: str) -> Tensor:
    return delta.flatten(1).abs().amax(1) if norm == "linf" else delta.flatten(1).norm(dim=1)


@pytest.mark.parametrize("eps", [8 / 255, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_start_and_with_steps_of_a_quarter_it_is_bim(eps: float, dtype: torch.dtype) -> None:
    net, x, y, s = pieces(dtype=dtype)
    assert torch.equal(PGD(eps, start=False)(net, x, y, seeds=s), BIM(eps, eps / 4, 10)(net, x, y, seeds=s))
    assert torch.equal(PGD(eps, 0.01, 6, start=False)(net, x, y, seeds=s), BIM(eps, 0.01, 6)(net, x, y, seeds=s))


class Nothing(nn.Module):
    """A classifier whose answer does not move: an attack stays where it starts."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.flatten(1)[:, :3] - 9  # -9: no probabilities


def test_it_starts_anywhere_in_the_ball_and_each_image_elsewhere() -> None:
    x, y, s = inner(N).float(), torch.zeros(N, dtype=torch.int64), examples.seeds(N)
    begun = (PGD(0.1)(Nothing(), x, y, seeds=s) - x).flatten(1) / 0.1
    assert kstest((begun.flatten() + 1) / 2, "uniform").statistic < 0.02
    assert np.abs(np.corrcoef(begun) - np.eye(N)).max() < 6 / begun.shape[1] ** 0.5
    assert torch.equal(PGD(0.1, start=False)(Nothing(), x, y, seeds=s), x)
    clipped = PGD(0.3)(Nothing(), examples.images(SHAPE, N), y, seeds=s)
    assert float(clipped.min()) == 0 and float(clipped.max()) == 1


@pytest.mark.parametrize("attack", [PGD(0.3), PGD(0.3, lowest=0.1), PGDL2(3.0)])
def test_the_classifier_is_asked_about_images_in_the_ball_only(attack: Any) -> None:
    """The start too, and before the first step."""
    x, y, s = examples.images(SHAPE, N), torch.zeros(N, dtype=torch.int64), examples.seeds(N)
    asked: list[Tensor] = []

    class Watched(Nothing):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(x.detach().clone())
            return super().forward(x)

    attack(Watched(), x, y, seeds=s)
    assert len(asked) == 10
    for seen in asked:
        assert float(seen.min()) >= 0 and float(seen.max()) <= 1
        assert float(size(seen - x, attack.norm).max()) <= (attack.eps or attack.radius) + 1e-6


@pytest.mark.parametrize(
    ("attack", "most"),
    [(PGD(0.1), 0.1), (PGD(0.1, 0.3, 3), 0.1), (PGDL2(0.8), 0.8), (PGDL2(0.8, 2.0, 3), 0.8), (PGDL2(50.0, 1.0), 50.0)],
)
def test_the_ball_is_held_and_reached(attack: Any, most: float) -> None:
    net, x, y, s = pieces()
    found = size(attack(net, x, y, seeds=s) - x, attack.norm)
    assert float(found.max()) <= most + 1e-9
    if most < 50:
        assert float(found.min()) >= 0.5 * most


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budgets_are_drawn_from_lowest_to_highest(norm: str) -> None:
    """On an affine net away from the box's borders a whole budget is used, so its size can be read off."""
    n, shape = 400, examples.Shape(3, 10, 14, 2)
    net, x = examples.affine(shape), inner(400)
    y, s = examples.predicted(net, x), examples.seeds(n)
    attack: Any = PGD(0.12, lowest=0.04) if norm == "linf" else PGDL2(0.12, lowest=0.04)
    found = size(attack(net, x, y, seeds=s) - x, norm)
    assert kstest((found - 0.04) / 0.08, "uniform").statistic < 0.08  # 1.36 / sqrt(400) = .068 at 5 %
    one = size(type(attack)(0.12, lowest=0.12)(net, x, y, seeds=s) - x, norm)
    np.testing.assert_allclose(one, 0.12, rtol=1e-6)


def test_the_budget_tells_nothing_of_the_start_nor_of_the_target() -> None:
    n = 3000
    x, y, s = torch.full((n, 1, 2, 2), 0.5), torch.zeros(n, dtype=torch.int64), examples.seeds(n)
    begun = (PGD(0.2, lowest=0.1)(Nothing(), x, y, seeds=s) - x).flatten(1)
    budget = begun.abs().amax(1)  # follows the budget
    goal = targets("random", torch.zeros(n, 3), y, s)
    for sign in begun.sign().T:
        assert abs(np.corrcoef(sign, budget)[0, 1]) < 0.08
        assert abs(np.corrcoef(sign, goal)[0, 1]) < 0.08
    assert abs(np.corrcoef(goal, budget)[0, 1]) < 0.08


@pytest.mark.parametrize("kind", [PGD, PGDL2])
@pytest.mark.parametrize("target", ["random", "least_likely", "runner_up"])
def test_a_target_is_reached_more_often_than_without(kind: Any, target: Any) -> None:
    net, x, y, s = pieces(100)
    largest = 0.1 if kind is PGD else 1.5
    goal = targets(target, net(x).detach(), y, s)
    outs = [kind(largest, **how)(net, x, y, seeds=s) for how in ({"target": target}, {})]
    aimed, any_other = (float((examples.predicted(net, out) == goal).double().mean()) for out in outs)
    assert aimed > 0.6 and aimed > any_other + 0.05


def test_one_step_of_l2_is_along_the_gradient() -> None:
    """In closed form on an affine net: a step of the step's length along w_other - w_own, for two classes."""
    net, x = examples.affine(examples.Shape(3, 10, 14, 2)), inner(N)
    y, s = examples.predicted(net, x), examples.seeds(N)
    w = net[1].weight.detach()
    away = (w[1 - y] - w[y]).view_as(x)
    expected = x + 0.2 * away / away.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(PGDL2(0.5, 0.2, 1)(net, x, y, seeds=s), expected)
    torch.testing.assert_close(PGDL2(0.5, 0.2, 1, target="runner_up")(net, x, y, seeds=s), expected)


@pytest.mark.parametrize("kind", [PGD, PGDL2])
def test_costs_what_its_docstring_says(kind: Any) -> None:
    net, x, y, s = pieces(7)
    for settings, more in (({}, 0), ({"target": "random"}, 7)):
        with passes(net) as found:
            kind(steps=4, **settings)(net, x, y, seeds=s)
        assert found == {"forward": 7 * 4 + more, "backward": 7 * 4}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PGD(eps=1.1), "eps must lie in"),
        (lambda: PGD(steps=0), "steps must lie in"),
        (lambda: PGD(step_size=-0.1), "step_size must lie in"),
        (lambda: PGD(step_size="half"), "step_size must lie in .*; found 'half'"),
        (lambda: PGD(0.1, lowest=0.2), r"lowest must lie in \[0, 0.1\]; found 0.2"),
        (lambda: PGD(target="any"), "unknown target 'any'; there are: random, least_likely, runner_up"),
        (lambda: PGDL2(radius=-1), "radius must lie in"),
        (lambda: PGDL2(0.5, lowest=0.6), "lowest must lie in"),
        (lambda: PGDL2(target="any"), "unknown target"),
    ],
)
def test_refuses_settings_that_cannot_be(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


def test_titles_tell_settings_apart() -> None:
    assert (PGD().title, PGD(4 / 255).title, PGDL2().title, PGDL2(1.0).title) == ("PGD", "PGD 4/255", "PGD L2", "PGD L2 1")
    assert PGD(4 / 255, steps=40, target="random", lowest=0.01).title == "PGD 4/255 (40 steps, towards a random class, random budgets)"
    assert PGD(4 / 255, steps=1, start=False).title == "single step 4/255"
    assert PGDL2(target="runner_up").title == "PGD L2 (towards the runner-up)"
