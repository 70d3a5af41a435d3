"""BIM and MIM against the formulas, one image and one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from salientry.attacks import BIM, FGSM, MIM
from salientry.errors import UsageError

from .. import examples
from .counting import passes

Floats = NDArray[np.float64]


def one_image(net: nn.Module, x: Floats, y: int, eps: float, step_size: float, steps: int, decay: float | None) -> Floats:
    """BIM, and MIM where there is a decay, as cleverhans 3.0.1 writes them."""
    adv, momentum = x.copy(), np.zeros_like(x)
    for _ in range(steps):
        here = torch.from_numpy(adv)[None].requires_grad_()
        (g,) = torch.autograd.grad(-torch.log_softmax(net(here), 1)[0, y], here)
        gradient = g[0].numpy()
        if decay is not None:
            momentum = decay * momentum + gradient / max(1e-12, float(np.abs(gradient).mean()))
            adv = x + np.clip(adv + step_size * np.sign(momentum) - x, -eps, eps)
        else:
            adv = np.clip(adv + step_size * np.sign(gradient), 0, 1)
            adv = x + np.clip(adv - x, -eps, eps)
        adv = np.clip(adv, 0, 1)
    return adv


SETTINGS: list[dict[str, Any]] = [{}, {"eps": 0.1, "step_size": 0.04, "steps": 7}, {"eps": 1.0, "step_size": 0.3}, {"steps": 1}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", [BIM, MIM])
def test_equals_the_loop_pixel_for_pixel(kind: Any, settings: dict[str, Any]) -> None:
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, smooth=True, dtype=torch.float64), examples.images(shape, 10, dtype=torch.float64)
    y = torch.arange(10) % shape.classes
    a = kind(**settings)
    found = a(net, x, y, seeds=examples.seeds(10)).numpy()
    decay = getattr(a, "decay", None)
    expected = [one_image(net, i, int(k), a.eps, a.step_size, a.steps, decay) for i, k in zip(x.numpy(), y, strict=True)]
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-12)


def test_their_borders() -> None:
    """One step of size eps is FGSM; momentum without memory is BIM; with it, it is something else."""
    shape = examples.SHAPES["colour"]
    net, x = examples.conv(shape, dtype=torch.float64), examples.images(shape, 10, dtype=torch.float64)
    y, s = examples.predicted(net, x), examples.seeds(10)
    bim = BIM()(net, x, y, seeds=s)
    assert torch.allclose(BIM(eps=0.2, step_size=0.2, steps=1)(net, x, y, seeds=s), FGSM(eps=0.2)(net, x, y, seeds=s), rtol=0, atol=1e-15)
    assert torch.equal(MIM(decay=0.0)(net, x, y, seeds=s), bim)
    assert not torch.equal(MIM()(net, x, y, seeds=s), bim)


class Turns(nn.Module):
    """One feature, two classes; the gradient turns a little above .5. ``first``: its size before that."""

    def __init__(self, first: float) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = (x - 0.5).flatten(1).sum(1, keepdim=True)
        return torch.cat([-torch.where(v < 0.015, self.first * v, 0.3 - 10 * v), 0 * v], 1)


def test_momentum_keeps_a_direction_that_the_gradient_has_left() -> None:
    """BIM returns to where it came from, MIM with a long memory goes on."""
    x, y = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    settings: dict[str, Any] = {"eps": 0.3, "step_size": 0.02, "steps": 2}
    assert float(BIM(**settings)(Turns(10), x, y, seeds=examples.seeds(1))) == pytest.approx(0.5)
    assert float(MIM(**settings, decay=3.0)(Turns(10), x, y, seeds=examples.seeds(1))) == pytest.approx(0.54)


def test_the_floor_of_the_mean_gradient_is_that_of_cleverhans() -> None:
    """A gradient of 1e-14 is divided by 1e-12, so that it does not outvote a later one."""
    x, y = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    a = MIM(eps=0.3, step_size=0.02, steps=2, decay=3.0)
    assert float(a(Turns(1e-14), x, y, seeds=examples.seeds(1))) == pytest.approx(0.5)
    assert float(a(Turns(1e-11), x, y, seeds=examples.seeds(1))) == pytest.approx(0.54)


@pytest.mark.parametrize("kind", [BIM, MIM])
@pytest.mark.parametrize(("count", "steps"), [(1, 3), (7, 10)])
def test_costs_what_its_docstring_says(kind: Any, count: int, steps: int) -> None:
    shape = examples.SHAPES["grey"]
    net = examples.conv(shape)
    with passes(net) as found:
        kind(steps=steps)(net, examples.images(shape, count), torch.zeros(count, dtype=torch.int64), seeds=examples.seeds(count))
    assert found == {"forward": count * steps, "backward": count * steps}


@pytest.mark.parametrize("kind", [BIM, MIM])
@pytest.mark.parametrize("bad", [{"eps": 1.1}, {"step_size": -0.1}, {"steps": 0}])
def test_refuses_settings_that_cannot_be(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        kind(**bad)


def test_refuses_a_decay_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="decay must lie in"):
        MIM(decay=-1.0)
