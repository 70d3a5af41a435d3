"""MarginDescent against the closed form of an affine net, and where it stops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from salientry.attacks import DeepFool, MarginDescent
from salientry.errors import UsageError

from .. import examples
from .counting import passes

N = 40


def margin(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    z = net(x).detach()
    return z.gather(1, y[:, None])[:, 0] - z.masked_fill(nn.functional.one_hot(y, z.shape[1]).bool(), float("-inf")).amax(1)


def affine(n: int = N, black: int = 0) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """An affine net of two classes; images near its boundary, far from black and white but for ``black`` rows; their answers; seeds."""
    net = examples.affine(examples.Shape(1, 8, 8, 2))
    x = 0.4 + 0.2 * torch.rand(20 * n, 1, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x[:, :, :black] = 0
    net[1].bias.data[0] -= float((net(x)[:, 0] - net(x)[:, 1]).detach().median())
    y = examples.predicted(net, x)
    near = (margin(net, x, y) > 0.05) & (margin(net, x, y) < 1)
    x, y = x[near][:n], y[near][:n]
    assert len(x) == n
    return net, x, y, examples.seeds(n)


@pytest.mark.parametrize(("confidence", "overshoot"), [(0.0, 0.05), (0.3, 0.05), (0.3, 0.5)])
def test_two_classes_of_an_affine_net_take_one_step_of_the_known_length(confidence: float, overshoot: float) -> None:
    net, x, y, s = affine()
    w, m = net[1].weight.detach(), margin(net, x, y)
    with passes(net) as cost:
        out = MarginDescent(confidence=confidence, overshoot=overshoot)(net, x, y, seeds=s)
    assert cost == {"forward": 2 * N, "backward": N}
    assert float(out.min()) > 0 and float(out.max()) < 1
    torch.testing.assert_close(margin(net, out, y), -confidence - overshoot * (m + confidence), rtol=1e-6, atol=1e-6)
    along = (w[y] - w[1 - y]).view_as(x)
    length = (1 + overshoot) * (m + confidence) / along.flatten(1).square().sum(1)
    torch.testing.assert_close(out, x - length.view(-1, 1, 1, 1) * along, rtol=0, atol=1e-9)


def test_it_stops_at_the_confidence_that_was_asked_for_and_not_before() -> None:
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, smooth=True, dtype=torch.float64), examples.images(shape, N, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(N)
    reached = []
    for confidence in (0.0, 0.2, 0.5):
        m = margin(net, MarginDescent(confidence=confidence)(net, x, y, seeds=s), y)
        assert float(m.max()) <= -confidence
        reached.append(float(m.mean()))
        assert float(m.mean()) > -confidence - 0.2
    assert reached == sorted(reached, reverse=True)


def test_each_image_has_a_confidence_of_its_own() -> None:
    net, x, y, s = affine(400)
    m = margin(net, MarginDescent(confidence=0.1, highest=0.5, overshoot=0.0)(net, x, y, seeds=s), y)
    assert kstest((-m - 0.1) / 0.4, "uniform").statistic < 0.08  # 1.36 / sqrt(400) = .068 at 5 %


def test_it_is_hardly_longer_than_deepfool() -> None:
    """Which looks at all classes in each step."""
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, smooth=True, dtype=torch.float64), examples.images(shape, N, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(N)
    mine, theirs = (a(net, x, y, seeds=s) for a in (MarginDescent(overshoot=0.02), DeepFool()))
    assert bool((examples.predicted(net, mine) != y).all()) and bool((examples.predicted(net, theirs) != y).all())
    share = (mine - x).flatten(1).norm(dim=1) / (theirs - x).flatten(1).norm(dim=1)
    assert float(share.mean()) < 1.25


def test_a_black_background_costs_no_steps() -> None:
    """Half of the values cannot move against the gradient; the step is as long as the others need, so one is enough."""
    net, x, y, s = affine(black=4)
    out = MarginDescent(steps=1)(net, x, y, seeds=s)
    moved = (out != x).double()[:, :, :4].mean()
    assert 0.2 < float(moved) < 0.8
    torch.testing.assert_close(margin(net, out, y), -0.05 * margin(net, x, y), rtol=1e-6, atol=1e-6)
    w = net[1].weight.detach()
    assert bool(((out - x).flatten(1) * (w[1 - y] - w[y]) >= 0).all())


def test_images_that_are_there_already_stay() -> None:
    net, x, y, s = affine()
    assert torch.equal(MarginDescent()(net, x, 1 - y, seeds=s), x)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"steps": 0}, "steps must lie in"),
        ({"confidence": -1.0}, "confidence must lie in"),
        ({"confidence": 1.0, "highest": 0.5}, r"highest must lie in \[1, "),
        ({"overshoot": -0.1}, "overshoot must lie in"),
    ],
)
def test_refuses_settings_that_cannot_be(bad: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        MarginDescent(**bad)


def test_titles() -> None:
    titles = [MarginDescent(**k).title for k in ({}, {"confidence": 2.0}, {"highest": 5.0})]
    assert titles == ["margin descent", "margin descent (confidence 2)", "margin descent (confidence 0 to 5)"]
