"""Sensitivity to noise: of linear classifiers in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from salientry.detectors import PASA
from salientry.errors import UsageError
from salientry.evidence import Evidence

from .. import examples

SHAPE = examples.SHAPES["colour"]


def test_of_a_linear_classifier_both_are_known() -> None:
    """Logits W x + b: the distance is |W n|_1, the attribution w_y x, and its change |w_y n|_1, n the noise that is left after clipping."""
    net, x = examples.affine(SHAPE), examples.images(SHAPE, 5, dtype=torch.float64)
    spec = PASA(0.05, 3)
    found = spec.view(Evidence(net, None, x))
    moved = ((x + spec._noise(x)).clamp(0, 1) - x).flatten(1)
    linear = net[1]
    assert isinstance(linear, nn.Linear)
    prediction = (moved @ linear.weight.T).abs().sum(1)
    attribution = (moved * linear.weight[net(x).argmax(1)]).abs().sum(1)
    assert torch.allclose(found[:, :2], torch.stack([prediction, attribution], 1).log(), atol=1e-9)
    assert torch.allclose(found[:, 2:], found[:, :2].square())


def test_attributions_add_up_to_what_the_answer_gained() -> None:
    """The completeness of integrated gradients: their sum is the logit less that of a black image."""
    net, x = examples.conv(SHAPE, smooth=True, dtype=torch.float64), examples.images(SHAPE, 4, dtype=torch.float64)
    y = net(x).argmax(1)
    found = PASA(steps=200).attribution(Evidence(net, None, x), x, y).flatten(1).sum(1)
    expected = (net(x) - net(torch.zeros_like(x))).gather(1, y[:, None])[:, 0]
    assert torch.allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_the_noise_is_as_large_as_the_image_is_wide_and_always_the_same() -> None:
    x = examples.images(SHAPE, 6)
    x[0] *= 0.5
    noise = PASA(0.1)._noise(x)
    width = x.flatten(1).amax(1) - x.flatten(1).amin(1)
    assert torch.allclose(noise.flatten(1).std(1) / width, torch.full((6,), 0.1), rtol=0.1)
    assert float(noise.mean().abs()) < 0.02
    assert torch.equal(noise, PASA(0.1)._noise(x)) and torch.equal(noise[2:3], PASA(0.1)._noise(x[2:3]))


def test_nothing_is_left_in_the_graph_of_an_image_that_asks_for_no_gradient() -> None:
    net, x = examples.conv(SHAPE, smooth=True), examples.images(SHAPE, 2)
    found = PASA(steps=2).view(Evidence(net, None, x))
    assert not found.requires_grad and not x.requires_grad and all(p.grad is None for p in net.parameters())


def test_without_a_classifier_and_out_of_range_it_says_so() -> None:
    x = torch.rand(1, 1, 2, 2)
    with pytest.raises(UsageError, match="needs a classifier"):
        PASA().view(Evidence(None, None, x, logits=torch.rand(1, 3)))
    for given in ({"spread": 0.0}, {"steps": 0}):
        with pytest.raises(UsageError, match="must lie"):
            PASA(**given)  # type: ignore[arg-type]
