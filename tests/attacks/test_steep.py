"""Steep logits: the gradient of a cross-entropy is 0 in floats there, and an attack that climbs it leaves images as they are."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.adaptive import Alarm, Alternating, Defended, Simultaneous, SingleStep
from salientry.attacks import BIM, FGSM, JSMA, JSMA_STRICT, MIM
from salientry.attacks._gradient import labelled, log_odds_against, log_odds_slope
from salientry.types import Shape

from .. import examples

SHAPE = Shape(1, 8, 8, 5)
N = 300


class Times(nn.Module):
    """A network with its logits times a number."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.net(x)  # type: ignore[no-any-return]


@cache
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A small net that tells noisy patterns apart, and images it has not seen."""
    g = torch.Generator().manual_seed(0)
    patterns = torch.rand(5, 1, 8, 8, generator=g)
    y = torch.arange(1500) % 5
    x = (0.35 * patterns[y] + 0.3 + 0.25 * torch.randn(1500, 1, 8, 8, generator=g)).clamp(0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[N:]), y[N:]).backward()
        optimiser.step()
    return net.eval().requires_grad_(False), x[:N], y[:N]


def success(attack: Any, scale: float) -> tuple[float, float]:
    """Share of all images that leave the net's answer, and share that the attack left as they are."""
    net, x, _ = trained()
    y = examples.predicted(net, x)
    out = attack(Times(net, scale), x, y, seeds=examples.seeds(N))
    return float((examples.predicted(net, out) != y).double().mean()), float((out == x).flatten(1).all(1).double().mean())


KINDS = [FGSM(0.05), BIM(0.05, 0.01, 8), MIM(0.05, 0.01, 8), JSMA(0.2), JSMA(0.2, score="logit"), JSMA_STRICT]
KINDS += [examples.attacks()[name] for name in sorted(set(examples.attacks()) - {"fgsm", "bim", "mim", "jsma"})]


@pytest.mark.parametrize("attack", KINDS, ids=lambda a: f"{type(a).__name__}-{getattr(a, 'score', '')}-{getattr(a, 'reuse', '')}")
def test_the_scale_of_the_logits_hardly_matters(attack: Any) -> None:
    plain, still = success(attack, 1.0)
    assert plain > 0.2 and still < 0.05
    for scale in (100.0, 1e4):
        found, still = success(attack, scale)
        assert found > plain - 0.06 and still < 0.05, scale


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_linear_net_is_climbed_along_its_log_odds(scale: float) -> None:
    """In closed form: the other classes' weights, each with its share of their probability, minus the label's."""
    shape = Shape(3, 5, 4, 6)
    net, x = examples.affine(shape), examples.images(shape, 40, dtype=torch.float64)
    w, y = net[1].weight.detach().clone() * scale, torch.arange(40) % 6
    net[1].weight.data, net[1].bias.data = w, net[1].bias.detach() * scale
    z = net(x).detach().masked_fill(nn.functional.one_hot(y, 6).bool(), float("-inf"))
    slope = (z.softmax(1) @ w - w[y]).view_as(x)
    for kind in (FGSM(0.1), BIM(0.1, 0.1, 1), MIM(0.1, 0.1, 1)):
        found = kind(net.float(), x.float(), y, seeds=examples.seeds(40)).double()
        expected = (x + 0.1 * slope.sign()).clamp(0, 1)
        assert float(((found - expected).abs() < 1e-6).double().mean()) > 0.998, kind  # a sum of nearly 0 rounds to either side
        net.double()


def test_the_loss_is_the_logit_of_the_cross_entropy() -> None:
    g = torch.Generator().manual_seed(0)
    z, y = 3 * torch.randn(50, 7, generator=g, dtype=torch.float64), torch.arange(50) % 7
    np.testing.assert_allclose(
        torch.nn.functional.softplus(log_odds_against(z, y)), torch.nn.functional.cross_entropy(z, y, reduction="none"), rtol=1e-12
    )
    two = log_odds_against(z[:, :2], y % 2)
    assert torch.allclose(two, torch.where(y % 2 == 0, z[:, 1] - z[:, 0], z[:, 0] - z[:, 1]))
    steep = (1e30 * z).float().requires_grad_()
    assert bool(torch.isfinite(torch.autograd.grad(log_odds_against(steep, y).sum(), steep)[0]).all())


STEPS = [Alternating(0.05, 4), Alternating(0.05, 4, gradient="image", project=True), SingleStep(0.05), Simultaneous(0.1, 4, project=True)]


@pytest.mark.parametrize("attack", STEPS, ids=lambda a: f"{type(a).__name__}-{a.gradient}")
def test_nor_does_it_for_the_paper_s_attacks_on_detectors(attack: Any) -> None:
    net, x, _ = trained()
    y = examples.predicted(net, x)

    def found(scale: float) -> float:
        out = attack(Defended(Times(net, scale)), x, y, seeds=examples.seeds(N))
        return float((examples.predicted(net, out) != y).double().mean())

    plain = found(1.0)
    assert plain > 0.2
    assert all(found(scale) > plain - 0.06 for scale in (100.0, 1e4))


def test_the_way_back_of_an_alarm_is_steep_where_the_answer_is_another() -> None:
    """It descends a cross-entropy only where p_y is at most a half, and its slope does not vanish there."""

    class Bright(nn.Module):
        needs = frozenset[str]()

        def forward(self, seen: Any) -> Tensor:
            return seen.image.flatten(1).mean(1)  # type: ignore[no-any-return]

    net, x, _ = trained()
    y = examples.predicted(net, x)
    for scale in (1.0, 1e6):
        target = Defended(Times(net, scale), None, Bright(), threshold=x.flatten(1).mean(1) + 0.03)
        out = Alarm(0.05, 30)(target, x, y, seeds=examples.seeds(N))
        assert float((examples.predicted(net, out) == y).double().mean()) > 0.99
        assert float((out.flatten(1).mean(1) > x.flatten(1).mean(1) + 0.03).double().mean()) > 0.9


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_slope_of_the_log_odds_is_that_of_autograd_however_steep(classes: int) -> None:
    """To the last bit it is exp(z - logsumexp), which old results were made with."""
    z = torch.randn(40, classes, generator=torch.Generator().manual_seed(classes)) * torch.logspace(-3, 4, 40)[:, None]
    y = torch.arange(40) % classes
    own = labelled(z, y)
    other = z.masked_fill(own, float("-inf"))
    found = log_odds_slope(z, own)
    assert torch.equal(found, (other - other.logsumexp(1, keepdim=True)).exp().masked_fill(own, -1))
    at = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_odds_against(at, y).sum(), at)
    assert torch.allclose(found, slope, atol=1e-3)
