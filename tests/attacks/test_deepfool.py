from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from salientry.attacks import DeepFool
from salientry.errors import UsageError

from .. import examples
from .counting import passes

Floats = NDArray[np.float64]


def one_image(net: nn.Module, x: Floats, steps: int, overshoot: float, candidates: int) -> tuple[Floats, int]:
    """DeepFool as cleverhans 3.0.1 writes it, one image at a time, in numpy; and the number of steps that it took."""

    def logits_and_gradients(image: Floats) -> tuple[Floats, Floats]:
        here = torch.from_numpy(image)[None].requires_grad_()
        z = net(here)[0]
        rows = [torch.autograd.grad(z[k], here, retain_graph=True)[0][0].numpy() for k in range(len(z))]
        return z.detach().numpy(), np.stack(rows)

    adv, total, taken = x.copy(), np.zeros_like(x), 0
    original = current = int(logits_and_gradients(adv)[0].argmax())
    while current == original and taken < steps:
        z, gradients = logits_and_gradients(adv)
        order = np.argsort(-z)[:candidates]  # sorted afresh; the first is the current class
        smallest, w = np.inf, np.zeros_like(x)
        for k in order[1:]:
            w_k, f_k = gradients[k] - gradients[order[0]], z[k] - z[order[0]]
            distance = (abs(f_k) + 0.00001) / np.linalg.norm(w_k.ravel())
            if distance < smallest:
                smallest, w = distance, w_k
        total = total + smallest * w / np.linalg.norm(w.ravel())
        adv = np.clip(x + total, 0, 1)
        current, taken = int(logits_and_gradients(adv)[0].argmax()), taken + 1
    return np.clip(x + (1 + overshoot) * total, 0, 1), taken


@pytest.mark.parametrize(
    "settings",
    [{"steps": 50}, {"steps": 2}, {"steps": 50, "candidates": 2}, {"steps": 50, "candidates": 3, "overshoot": 0.5}, {"overshoot": 0.0}],
    ids=str,
)
@pytest.mark.parametrize("smooth", [True, False])
def test_equals_the_loop_of_cleverhans_pixel_for_pixel(settings: dict[str, Any], smooth: bool) -> None:
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, smooth=smooth, dtype=torch.float64), examples.images(shape, 12, dtype=torch.float64)
    a = DeepFool(**settings)
    found = a(net, x, examples.predicted(net, x), seeds=examples.seeds(12)).numpy()
    expected = [one_image(net, i, a.steps, a.overshoot, min(a.candidates, shape.classes)) for i in x.numpy()]
    assert len({s for _, s in expected}) > 1 or a.steps == 2  # images that need different numbers of steps share the batch
    np.testing.assert_allclose(found, np.stack([e for e, _ in expected]), rtol=0, atol=1e-10)


def test_no_steps_returns_the_input() -> None:
    shape = examples.SHAPES["grey"]
    net, x = examples.conv(shape), examples.images(shape, 5)
    assert torch.equal(DeepFool(steps=0)(net, x, examples.predicted(net, x), seeds=examples.seeds(5)), x)


def test_leaves_alone_what_has_left_its_label() -> None:
    shape = examples.SHAPES["grey"]
    net, x = examples.conv(shape), examples.images(shape, 6)
    y = examples.predicted(net, x)
    y[:3] = (y[:3] + 1) % shape.classes
    out = DeepFool()(net, x, y, seeds=examples.seeds(6))
    assert torch.equal(out[:3], x[:3])
    assert bool((out[3:] != x[3:]).flatten(1).any(1).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_returns_the_input(dtype: torch.dtype) -> None:
    shape = examples.SHAPES["grey"]
    net, x = examples.affine(shape, dtype=dtype), examples.images(shape, 4, dtype=dtype)
    net[1].weight.data.zero_()
    net[1].bias.data[:] = torch.tensor([1e4, 0, -1e4, 5.0])
    assert torch.equal(DeepFool()(net, x, examples.predicted(net, x), seeds=examples.seeds(4)), x)


@pytest.mark.parametrize("count", [5, 12])
@pytest.mark.parametrize(("steps", "candidates"), [(50, 10), (2, 10), (50, 2), (1, 3)])
def test_costs_what_its_docstring_says(steps: int, candidates: int, count: int) -> None:
    """A look at all that are left at each step, a second one at those that stay where another is done, and J S backward passes."""
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, dtype=torch.float64), examples.images(shape, count, dtype=torch.float64)
    y = examples.predicted(net, x)
    y[0] = (y[0] + 1) % shape.classes  # S = 0
    taken = [0] + [one_image(net, i, steps, 0.02, min(candidates, shape.classes))[1] for i in x.numpy()[1:]]
    with passes(net) as found:
        DeepFool(steps=steps, candidates=candidates)(net, x, y, seeds=examples.seeds(count))
    left = [[sum(s >= k for s in taken), sum(s > k for s in taken)] for k in range(steps)]
    assert found["forward"] == sum(looked + (stay if stay < looked else 0) for looked, stay in left)
    assert found["backward"] == sum(min(candidates, shape.classes) * s for s in taken)


@pytest.mark.parametrize("bad", [{"steps": -1}, {"overshoot": -0.1}, {"candidates": 1}])
def test_refuses_settings_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        DeepFool(**bad)
