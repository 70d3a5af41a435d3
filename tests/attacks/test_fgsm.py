from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from salientry.attacks import FGSM
from salientry.errors import UsageError
from salientry.types import Shape

from .. import examples
from .counting import passes


@pytest.mark.parametrize("eps", [0.0, 8 / 255, 0.2, 1.0])
def test_equals_the_formula_on_a_softmax_linear_model(eps: float) -> None:
    shape = Shape(3, 5, 4, 6)
    net, x = examples.affine(shape), examples.images(shape, 30, dtype=torch.float64)
    y = torch.arange(30) % 6  # any label, not only the predicted one
    w, b = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    flat = x.flatten(1).numpy()
    z = flat @ w.T + b
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    gradient = (p - np.eye(6)[y.numpy()]) @ w  # of -log softmax_y
    expected = np.clip(flat + eps * np.sign(gradient), 0, 1)
    found = FGSM(eps=eps)(net, x, y, seeds=examples.seeds(30)).flatten(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_raises_the_loss_that_it_climbs() -> None:
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, smooth=True), examples.images(shape, 20)
    y = examples.predicted(net, x)
    out = FGSM(eps=1 / 255)(net, x, y, seeds=examples.seeds(20))
    losses = [nn.functional.cross_entropy(net(v), y, reduction="none") for v in (x, out)]
    assert bool((losses[1] > losses[0]).all())


def test_weights_of_an_image_do_not_depend_on_the_batch() -> None:
    """The loss is summed: a mean would shrink gradients until they vanish in float32."""
    shape = examples.SHAPES["grey"]
    net = examples.affine(shape, dtype=torch.float32)
    net[1].weight.data *= 1e-43
    x = examples.images(shape, 200)
    y = torch.zeros(200, dtype=torch.int64)
    alone = FGSM()(net, x[:1], y[:1], seeds=examples.seeds(1))
    assert torch.equal(FGSM()(net, x, y, seeds=examples.seeds(200))[:1], alone)


def test_no_gradient_no_step() -> None:
    shape = examples.SHAPES["grey"]
    net, x = examples.affine(shape, dtype=torch.float32), examples.images(shape, 4)
    net[1].weight.data[:, ::2] = 0  # no class looks at every other pixel
    out = FGSM()(net, x, torch.zeros(4, dtype=torch.int64), seeds=examples.seeds(4))
    assert torch.equal(out.flatten(1)[:, ::2], x.flatten(1)[:, ::2])
    assert bool((out.flatten(1)[:, 1::2] != x.flatten(1)[:, 1::2]).any())


@pytest.mark.parametrize("count", [7, 20])
def test_one_forward_and_one_backward_pass(count: int) -> None:
    shape = examples.SHAPES["grey"]
    net = examples.conv(shape)
    with passes(net) as found:
        FGSM()(net, examples.images(shape, count), torch.zeros(count, dtype=torch.int64), seeds=examples.seeds(count))
    assert found == {"forward": count, "backward": count}


@pytest.mark.parametrize("eps", [-0.1, 1.1, float("nan")])
def test_refuses_an_eps_that_cannot_be(eps: float) -> None:
    with pytest.raises(UsageError, match=r"eps must lie in \[0, 1\]"):
        FGSM(eps=eps)
