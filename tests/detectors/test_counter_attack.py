"""Steps to another answer: of classifiers whose boundary is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from salientry.attacks import BIM
from salientry.detectors import CounterAttack
from salientry.errors import UsageError
from salientry.evidence import Evidence

from .. import examples

SHAPE = examples.SHAPES["colour"]


class Halves(nn.Module):
    """Two classes of one value: logits (a + b v, 0) of the mean v of an image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        m = x.flatten(1).mean(1)
        return torch.stack([20 * (m - 0.5), torch.zeros_like(m)], 1)


@pytest.mark.parametrize("mean", [0.503, 0.52, 0.55, 0.45, 0.4999])
def test_steps_to_a_boundary_that_is_known(mean: float) -> None:
    """Every value moves by a step at a time: |mean - 0.5| / step of them, the last one in part."""
    x = torch.full((1, 1, 3, 3), mean)
    steps = -CounterAttack(20, 0.01).view(Evidence(Halves(), None, x))
    assert float(steps) == pytest.approx(abs(mean - 0.5) / 0.01, abs=1e-2)


def test_its_slope_is_that_of_the_distance() -> None:
    x = torch.full((1, 1, 3, 3), 0.534, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(-CounterAttack(20, 0.01).view(Evidence(Halves(), None, x)).sum(), x)
    assert torch.allclose(slope, torch.full_like(slope, 100 / 9), rtol=1e-6)


def test_an_image_that_keeps_its_answer_has_all_steps_and_no_slope() -> None:
    x = torch.cat([torch.full((1, 1, 3, 3), v) for v in (0.9, 0.51)]).requires_grad_()
    found = CounterAttack(5, 0.01).view(Evidence(Halves(), None, x))
    assert found[:, 0].tolist() == pytest.approx([-5, -1], abs=1e-3)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert bool((slope[0] == 0).all()) and bool((slope[1] != 0).all())


def test_the_steps_are_those_that_bim_needs() -> None:
    """Our own attack, with as large a budget as the steps reach and one step more each time: the first that fools."""
    net, x = examples.conv(SHAPE, smooth=True), examples.images(SHAPE, 12)
    y, step = net(x).argmax(1), 0.02
    found = -CounterAttack(15, step).view(Evidence(net, None, x))[:, 0]
    for n in range(1, 8):
        moved = BIM(eps=1.0, step_size=step, steps=n)(net, x, y, seeds=examples.seeds(12))
        assert torch.equal(net(moved).argmax(1) != y, found.ceil() <= n)


def test_neither_classifier_nor_image_is_changed() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 3)
    before = x.clone()
    CounterAttack(3).view(Evidence(net, None, x))
    assert torch.equal(x, before) and all(p.grad is None for p in net.parameters()) and not x.requires_grad


def test_without_a_classifier_and_out_of_range_it_says_so() -> None:
    with pytest.raises(UsageError, match="needs a classifier"):
        CounterAttack().view(Evidence(None, None, torch.zeros(1, 1, 2, 2)))
    with pytest.raises(UsageError, match="steps must lie"):
        CounterAttack(steps=0)
