"""APGD: the paper's checkpoints and losses by hand, and its algorithm one image at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import APGD, APGDL2
from salientry.attacks._apgd import checkpoints, dlr, dlr_targeted
from salientry.errors import UsageError

from .. import examples
from .counting import passes

SHAPE = examples.SHAPES["colour"]
N = 12
NEVER = 1e-4  # a budget in which no image gives way


def test_checkpoints_are_the_paper_s() -> None:
    """p_0 = 0, p_1 = .22, p_j+1 = p_j + max(p_j - p_j-1 - .03, .06): .22 .41 .57 .7 .8 .87 .93 .99."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [3, 5, 6, 7, 8, 9, 10, 10]


def test_losses_by_hand() -> None:
    z, y, goal = torch.tensor([[4.0, 1.0, 3.0, 0.0], [1.0, 5.0, 2.0, 4.0]]), torch.tensor([0, 0]), torch.tensor([1, 3])
    # sorted: 4 3 1 0 and 5 4 2 1
    assert dlr(z, y, goal).tolist() == pytest.approx([-(4 - 3) / (4 - 1), -(1 - 5) / (5 - 2)])
    assert dlr_targeted(z, y, goal).tolist() == pytest.approx([-(4 - 1) / (4 - 0.5), -(1 - 4) / (5 - 1.5)])
    assert dlr_targeted(z[:, :3], y, goal.clamp(max=2)).tolist() == pytest.approx([-(4 - 1) / (4 - 1), -(1 - 2) / (5 - 1)])
    assert dlr(z[:, :2], y, goal).tolist() == pytest.approx([-3, 4])


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_dlr_does_not_depend_on_scale_and_shift(scale: float) -> None:
    z = torch.randn(9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, goal = z.argmax(1), z.argmin(1)
    for loss in (dlr, dlr_targeted):
        assert torch.allclose(loss(scale * z + 5, y, goal), loss(z, y, goal), rtol=1e-9)


def one_image(net: nn.Module, x: Tensor, y: int, size: float, steps: int, norm: str) -> Tensor:
    """Algorithm 1 with the cross-entropy, from ``x``; the best point."""

    def look(v: Tensor) -> tuple[float, Tensor]:
        at = v.clone().requires_grad_()
        loss = nn.functional.cross_entropy(net(at), torch.tensor([y]))
        return loss.item(), torch.autograd.grad(loss, at)[0]

    def project(v: Tensor) -> Tensor:
        moved = v - x
        moved = moved.clamp(-size, size) if norm == "linf" else moved * min(1.0, size / max(float(moved.norm()), 1e-12))
        return (x + moved).clamp(0, 1)

    eta, halved, checks = 2 * size, False, checkpoints(steps)
    points, (f, g) = [x], look(x)
    losses, best, f_best, f_mark, mark = [f], x, f, f, 0
    for k in range(steps):
        step = g.sign() if norm == "linf" else g / g.norm()
        z = project(points[-1] + eta * step)
        if k:
            z = project(points[-1] + 0.75 * (z - points[-1]) + 0.25 * (points[-1] - points[-2]))
        points.append(z)
        f, g = look(z)
        losses.append(f)
        if f > f_best:
            best, f_best = z, f
        if k + 1 in checks and k + 1 < steps:
            rises = sum(b > a for a, b in zip(losses[mark:], losses[mark + 1 :], strict=False))
            turn = rises < 0.75 * (k + 1 - mark) or (not halved and f_best <= f_mark)
            if turn:
                eta, points[-1] = eta / 2, best
                f, g = look(best)
                losses[-1] = f
            halved, f_mark, mark = turn, f_best, k + 1
    return best


@pytest.mark.parametrize(("kind", "norm"), [(APGD, "linf"), (APGDL2, "l2")])
def test_equals_the_algorithm_of_the_paper_image_by_image(kind: Any, norm: str) -> None:
    net, x = examples.conv(SHAPE, smooth=True, dtype=torch.float64), examples.images(SHAPE, N, dtype=torch.float64)
    y = examples.predicted(net, x)
    size = 0.003 if norm == "linf" else 0.02
    found = kind(size, steps=40, start=False)(net, x, y, seeds=examples.seeds(N))
    still = examples.predicted(net, found) == y
    assert int(still.sum()) >= 8
    for i in still.nonzero()[:, 0].tolist():
        expected = one_image(net, x[i : i + 1], int(y[i]), size, 40, norm)
        assert float((found[i] - expected[0]).abs().max()) <= 1e-12


@pytest.mark.parametrize("loss", ["ce", "dlr", "targeted"])
def test_on_an_affine_net_it_reaches_the_best_point_of_the_ball(loss: Any) -> None:
    """Of two classes: x + eps sign(w), and x + radius w / |w|."""
    shape = examples.Shape(1, 6, 6, 2)
    net = examples.affine(shape)
    x = 0.4 + 0.2 * torch.rand(N, 1, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = examples.predicted(net, x)
    w = (net[1].weight[1 - y] - net[1].weight[y]).detach().view_as(x)
    gap = (net(x).gather(1, y[:, None]) - net(x).gather(1, 1 - y[:, None]))[:, 0].detach()
    for i in range(6):
        one = (slice(i, i + 1),)
        linf, l2 = float(gap[i] / w[i].abs().sum()), float(gap[i] / w[i].norm())
        if max(linf, l2 * float(w[i].abs().max() / w[i].norm())) > 0.3:
            continue
        s = examples.seeds(1)
        found = APGD(0.99 * linf, loss=loss)(net, x[one], y[one], seeds=s)
        assert float((found - (x[one] + 0.99 * linf * w[one].sign())).abs().max()) <= 1e-9
        found = APGDL2(0.99 * l2, loss=loss)(net, x[one], y[one], seeds=s)
        assert float((found - (x[one] + 0.99 * l2 * w[one] / w[one].norm())).abs().max()) <= 1e-6
        assert bool(examples.predicted(net, APGDL2(1.01 * l2, loss=loss)(net, x[one], y[one], seeds=s)) != y[one])


def test_the_l2_ball_is_kept() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 40)
    y = examples.predicted(net, x)
    moved = APGDL2(0.3, steps=20)(net, x, y, seeds=examples.seeds(40)) - x
    assert 0.2 < float(moved.flatten(1).norm(dim=1).max()) <= 0.3 * (1 + 1e-5)


@pytest.mark.parametrize("kind", [APGD, APGDL2])
def test_costs_what_its_docstring_says(kind: Any) -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 5)
    y, s = examples.predicted(net, x), examples.seeds(5)
    for settings, starts in (({}, 1), ({"restarts": 2}, 3), ({"loss": "targeted", "candidates": 2}, 2), ({"loss": "targeted"}, 4)):
        with passes(net) as found:
            kind(NEVER, steps=6, **settings)(net, x, y, seeds=s)
        assert found == {"forward": 5 + 5 * starts * 7, "backward": 5 * starts * 6}
    with passes(net) as found:
        kind(NEVER)(net, x, (y + 1) % SHAPE.classes, seeds=s)
    assert found == {"forward": 5, "backward": 0}


def test_who_is_fooled_leaves_and_restarts_and_targets_fool_more() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 120)
    y, s = examples.predicted(net, x), examples.seeds(120)

    def rate(a: Any) -> float:
        return float((examples.predicted(net, a(net, x, y, seeds=s)) != y).float().mean())

    assert rate(APGD(0.01, steps=5)) <= rate(APGD(0.01, steps=5, restarts=3))
    assert rate(APGD(0.01, steps=5, loss="dlr")) <= rate(APGD(0.01, steps=5, loss="targeted")) < 1
    with passes(net) as found:
        APGD(0.2)(net, x, y, seeds=s)
    assert found["forward"] < 120 * 12


@pytest.mark.parametrize("bad", [{"steps": 0}, {"restarts": -1}, {"candidates": 0}])
@pytest.mark.parametrize("kind", [APGD, APGDL2])
def test_refuses_settings_that_cannot_be(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        kind(**bad)
    with pytest.raises(UsageError, match="loss"):
        kind(loss="cross_entropy")


def test_titles() -> None:
    assert [a.title for a in (APGD(), APGD(4 / 255), APGD(loss="dlr", steps=20))] == ["APGD", "APGD 4/255", "APGD (DLR, 20 steps)"]
    assert [a.title for a in (APGDL2(), APGDL2(1, loss="targeted"))] == ["APGD L2", "APGD L2 1 (targeted DLR)"]
