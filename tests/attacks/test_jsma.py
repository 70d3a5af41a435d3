from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from salientry.attacks import JSMA, JSMA_STRICT
from salientry.attacks._gradient import targets
from salientry.attacks.jsma import pairs_by_product, pairs_by_sum
from salientry.errors import UsageError
from salientry.types import Shape

from .. import examples
from .counting import passes

Floats = NDArray[np.float64]


def all_pairs(t: Floats, o: Floats, free: NDArray[np.bool_]) -> dict[tuple[int, int], float]:
    """The score of every pair that qualifies."""
    found = {}
    for p, q in combinations(np.flatnonzero(free), 2):
        if t[p] + t[q] > 0 and o[p] + o[q] < 0:
            found[int(p), int(q)] = float(-(t[p] + t[q]) * (o[p] + o[q]))
    return found


def one_image(net: nn.Module, x: Floats, target: int, a: JSMA) -> tuple[Floats, int]:
    """JSMA over all pairs, one image at a time; and how many pairs it took."""
    adv, free = x.ravel().copy(), x.ravel() < 1
    limit = a.steps if a.reuse else min(a.steps, int(np.floor(free.size * a.gamma / 2)))
    for taken in range(limit):
        here = torch.from_numpy(adv.reshape(x.shape))[None].requires_grad_()
        z = net(here)[0]
        if int(z.argmax()) == target:
            return adv.reshape(x.shape), taken
        values = torch.softmax(z, 0) if a.score == "prob" else z
        rows = [torch.autograd.grad(v, here, retain_graph=True)[0].numpy().ravel() for v in values]
        t, o = rows[target], sum(r for k, r in enumerate(rows) if k != target)
        found = all_pairs(t, o, free)
        if not found:
            return adv.reshape(x.shape), taken
        best = list(max(found, key=lambda pair: found[pair]))
        adv[best] = np.minimum(adv[best] + a.theta, 1)
        if a.reuse:
            free = adv < 1
        else:
            free[best] = False
    return adv.reshape(x.shape), limit


SETTINGS = [
    JSMA(theta=0.3),
    JSMA(theta=0.3, score="logit"),
    JSMA_STRICT,
    JSMA(theta=1.0, reuse=False, score="logit"),
    JSMA(theta=0.2, reuse=False, gamma=0.1),
    JSMA(theta=0.1, steps=3, score="logit", target="least_likely"),
    JSMA(theta=0.3, target="runner_up"),
]


@pytest.mark.parametrize("a", SETTINGS, ids=str)
def test_equals_a_search_of_all_pairs_and_costs_what_its_docstring_says(a: JSMA) -> None:
    shape = Shape(2, 6, 5, 4)
    net, x = examples.conv(shape, smooth=True, dtype=torch.float64), examples.images(shape, 8, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(8)
    goal = targets(a.target, net(x).detach(), y, s)
    with passes(net) as together:
        found = a(net, x, y, seeds=s)
    expected = [one_image(net, i, int(k), a) for i, k in zip(x.numpy(), goal, strict=True)]
    np.testing.assert_allclose(found.numpy(), np.stack([e for e, _ in expected]), rtol=0, atol=1e-12)
    limit = a.steps if a.reuse else min(a.steps, int(60 * a.gamma / 2))
    each = 2 if a.score == "logit" else 1
    reached = (examples.predicted(net, found) == goal).tolist()
    assert all(r or n == limit for r, (_, n) in zip(reached, expected, strict=True))
    forward = sum(n + (n < limit) for _, n in expected)
    assert together["forward"] == forward
    assert each * sum(n for _, n in expected) <= together["backward"] <= each * forward
    for i in range(2):
        with passes(net) as alone:
            a(net, x[i : i + 1], y[i : i + 1], seeds=s[i : i + 1])
        assert alone == {"forward": expected[i][1] + (expected[i][1] < limit), "backward": each * expected[i][1]}


def draws(kind: str, n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(d)
    t, o = torch.randn(n, d, generator=g, dtype=torch.float64), torch.randn(n, d, generator=g, dtype=torch.float64)
    free = torch.rand(n, d, generator=g) < 0.8
    if kind == "ties":
        t, o = t.mul(1.5).round(), o.mul(1.5).round()
    elif kind == "opposed":  # what helps the target helps the others as much: the most difficult case, nearly all remain
        t = o + 0.01 * t
    elif kind == "aligned":
        o = -t + 0.1 * o
    elif kind == "few":
        free = torch.rand(n, d, generator=g) < 2.5 / d
    elif kind == "mostly_bad":
        t, o = t - 1.5, o + 1.5
    return t, o, free


@pytest.mark.parametrize("d", [2, 3, 7, 40])
@pytest.mark.parametrize("kind", ["plain", "ties", "opposed", "aligned", "few", "mostly_bad"])
def test_pairs_are_those_of_a_search_of_all(kind: str, d: int) -> None:
    t, o, free = draws(kind, 60, d)
    for other, (pair, found) in ((o, pairs_by_product(t, o, free)), (-t, pairs_by_sum(t, free))):
        for i in range(len(t)):
            scores = all_pairs(t[i].numpy(), other[i].numpy(), free[i].numpy())
            assert bool(found[i]) == bool(scores)
            if scores:
                p, q = sorted(pair[i].tolist())
                assert scores[p, q] == pytest.approx(max(scores.values()), rel=1e-12)


def test_both_members_can_come_from_the_second_layer_or_one_from_each() -> None:
    """Points that a search of the first layer alone, or of the largest t alone, would miss."""
    t = torch.tensor([[3.0, 2.9, 0.1, 0.0, -1.0]])
    o = torch.tensor([[-3.0, -2.9, -0.1, -0.05, 5.0]])
    every = torch.ones(1, 5, dtype=torch.bool)
    assert sorted(pairs_by_product(t, o, every)[0][0].tolist()) == [0, 1]  # 1 lies in the second layer
    t, o = torch.tensor([[5.0, -1.0, 1.0]]), torch.tensor([[1.0, -5.0, 0.9]])
    assert sorted(pairs_by_product(t, o, every[:, :3])[0][0].tolist()) == [0, 1]  # neither qualifies with itself


def test_no_pair_no_step() -> None:
    bad = torch.full((3, 6), -1.0), torch.full((3, 6), 1.0), torch.ones(3, 6, dtype=torch.bool)
    assert not bool(pairs_by_product(*bad)[1].any()) and not bool(pairs_by_sum(bad[0], bad[2])[1].any())
    assert not bool(pairs_by_product(-bad[0], -bad[1], ~bad[2])[1].any())
    shape = examples.SHAPES["grey"]
    flat, x = examples.affine(shape), examples.images(shape, 4, dtype=torch.float64)
    flat[1].weight.data.zero_()
    for a in SETTINGS:
        assert torch.equal(a(flat, x, examples.predicted(flat, x), seeds=examples.seeds(4)), x)


def test_no_underflow_where_the_target_is_hopeless() -> None:
    """Its probability is 0 in float32, and so would be every gradient of it."""
    shape = examples.SHAPES["grey"]
    net, x = examples.affine(shape, dtype=torch.float32), examples.images(shape, 6)
    net[1].weight.data *= 100
    y = examples.predicted(net, x)
    goal = targets("least_likely", net(x).detach(), y, examples.seeds(6))
    assert float(net(x).detach().softmax(1).gather(1, goal[:, None]).max()) == 0
    out = JSMA(theta=1.0, target="least_likely")(net, x, y, seeds=examples.seeds(6))
    assert bool((out != x).flatten(1).any(1).all())


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that was made while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out


@pytest.mark.parametrize("score", ["prob", "logit"])
def test_memory_is_a_few_batches_at_the_size_of_assira(score: Any) -> None:
    """A table of all pairs would have 37,632 times the elements of the batch."""
    shape = Shape(3, 112, 112, 2)
    net = nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(768, 2)).eval()
    net[2].weight.data, net[2].bias.data = torch.randn(2, 768, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    x = examples.images(shape, 3)
    with Largest() as seen:
        out = JSMA(steps=2, score=score)(net, x, examples.predicted(net, x), seeds=examples.seeds(3))
    assert 0 < int((out != x).sum()) <= 12
    assert x.numel() <= seen.elements <= 5 * x.numel()


def test_memory_is_bounded_even_when_no_feature_can_be_left_out() -> None:
    d = 1000
    a = torch.linspace(-1, 2, d, dtype=torch.float64).expand(2, d)
    t, o, free = a.clone(), a - 1.2, torch.ones(2, d, dtype=torch.bool)  # every feature is in the first layer
    with Largest() as seen:
        pair, found = pairs_by_product(t, o, free)
    assert seen.elements <= 5 * t.numel()
    total = t[:, :, None] + t[:, None]
    score = (total * (2.4 - total)).masked_fill(torch.eye(d, dtype=torch.bool), float("-inf"))
    chosen = score[torch.arange(2), pair[:, 0], pair[:, 1]]
    assert bool(found.all()) and torch.allclose(chosen, score.flatten(1).amax(1), rtol=1e-12, atol=0)


def test_only_brightens_and_stops_at_the_target() -> None:
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, dtype=torch.float64), examples.images(shape, 20, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(20)
    out = JSMA(theta=0.25)(net, x, y, seeds=s)
    goal = targets("random", net(x).detach(), y, s)
    assert bool((out >= x).all()) and bool((examples.predicted(net, out) == goal).all())
    assert float((JSMA_STRICT(net, x, y, seeds=s) - x).abs().amax()) > 0.9


def test_without_reuse_each_feature_moves_once_and_at_most_gamma_of_them() -> None:
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, dtype=torch.float64), examples.images(shape, 10, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(10)
    moved = JSMA(theta=0.01, reuse=False, gamma=0.05)(net, x, y, seeds=s) - x
    assert float(moved.max()) <= 0.01 + 1e-12
    share = (moved > 0).flatten(1).double().mean(1)
    assert float(share.max()) <= 0.05 and float(share.max()) > 0.045
    assert torch.equal(JSMA(reuse=False, gamma=0.0)(net, x, y, seeds=s), x)


@pytest.mark.parametrize("rule", ["random", "least_likely", "runner_up"])
def test_the_target_is_never_the_label_to_leave(rule: Any) -> None:
    z, y = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)), torch.arange(4000) % 5
    goal = targets(rule, z, y, examples.seeds(4000))
    assert goal.dtype == torch.int64 and bool((goal != y).all()) and bool((goal >= 0).all()) and bool((goal < 5).all())
    order = z.argsort(1)
    if rule == "random":
        table = torch.bincount(y * 5 + goal, minlength=25).view(5, 5)
        assert int(table[~torch.eye(5, dtype=torch.bool)].min()) > 150  # 200 each
        assert torch.equal(targets(rule, -z, y, examples.seeds(4000)), goal)
    elif rule == "least_likely":
        assert torch.equal(goal, torch.where(order[:, 0] == y, order[:, 1], order[:, 0]))
    else:
        assert torch.equal(goal, torch.where(order[:, -1] == y, order[:, -2], order[:, -1]))
    assert bool((targets(rule, z[:, :2], y % 2, examples.seeds(4000)) == 1 - y % 2).all())


@pytest.mark.parametrize("bad", [{"theta": 0.0}, {"theta": 1.5}, {"gamma": 1.1}, {"steps": -1}])
def test_refuses_settings_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        JSMA(**bad)


@pytest.mark.parametrize("bad", [{"score": "probability"}, {"target": "mine"}])
def test_refuses_unknown_names(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"unknown {next(iter(bad))}"):
        JSMA(**bad)
