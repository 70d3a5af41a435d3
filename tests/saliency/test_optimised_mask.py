"""The mask that is searched for in each image, against a closed form, torch's own Adam, and finite differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.learned import facts_of, fingerprint, seeded
from salientry.saliency import OptimisedMask
from salientry.saliency._fill import _blur
from salientry.types import Shape

from .. import examples

SHAPE = Shape(3, 8, 10, 4)


def maps(settings: OptimisedMask, classifier: nn.Module, x: Tensor, k: Tensor | None = None) -> Tensor:
    k = torch.zeros(len(x), dtype=torch.int64) if k is None else k
    found: Tensor = settings.build(SHAPE, classifier)(x, k)["map"]
    return found


def some(n: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return examples.images(SHAPE, n, dtype=dtype), (torch.arange(n) * 3 + 1) % SHAPE.classes


class Patch(nn.Module):
    """Class 0 by the mean of one patch: p_0 = sigmoid(slope * mean - offset); nothing else is read."""

    def __init__(self, where: tuple[slice, slice], slope: float = 10.0, offset: float = 5.0) -> None:
        super().__init__()
        self.where, self.slope, self.offset = where, slope, offset

    def forward(self, x: Tensor) -> Tensor:
        z = self.slope * x[:, :, *self.where].mean((1, 2, 3)) - self.offset
        return torch.stack([z, torch.zeros_like(z)], 1)


def test_a_mask_without_smoothness_is_the_optimum_in_closed_form() -> None:
    """Four by four white pixels of 8 x 8 are read. At its optimum slope * p (1 - p) is the price of the patch, area * 16 / 64."""
    x, where = torch.ones(2, 1, 8, 8, dtype=torch.float64), (slice(2, 6), slice(1, 5))
    settings = OptimisedMask(steps=800, lr=0.01, area=2.0, smooth=0, cell=1, noise=0, removed="black")
    found = maps(settings, Patch(where, offset=8.0), x)
    price = 2.0 * 16 / 64 / 10
    p = (1 - (1 - 4 * price) ** 0.5) / 2
    kept = (8 + np.log(p / (1 - p))) / 10
    assert 0.1 < kept < 0.9
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[where] = True
    torch.testing.assert_close(found[:, 0, inside], torch.full((2, 16), 1 - kept, dtype=torch.float64), rtol=0, atol=2e-3)
    assert not found[:, 0, ~inside].any(), "what nobody reads stays"


@pytest.mark.parametrize("removed", ["blur", "black"])
def test_the_default_mask_finds_the_patch_that_decides(removed: Any) -> None:
    """A bright square on faint noise of 32 x 32 is all that is read; the mask has 8 x 8 cells."""
    where = (slice(16, 20), slice(8, 12))
    x = 0.1 * torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    x[:, :, *where] = 1.0
    read = Patch((slice(14, 22), slice(6, 14)), slope=40.0, offset=6.0)
    found = maps(OptimisedMask(steps=150, cell=4, removed=removed, sigma=0.15), read, x)
    near = torch.zeros(32, 32, dtype=torch.bool)
    near[10:26, 2:18] = True
    inside, outside = found[:, 0, *where].mean(), found[:, 0, ~near]
    assert float(inside) > 0.5 > 0.1 > float(outside.mean())
    gone = torch.zeros_like(x) if removed == "black" else _blur(x, 0.9, 0.15)
    p = read((1 - found) * x + found * gone).softmax(1)[:, 0]
    assert float(read(x).softmax(1)[:, 0].min()) > 0.9 and float(p.max()) < 0.5


def the_port(settings: OptimisedMask, classifier: nn.Module, x: Tensor, k: int) -> Tensor:
    """One image as jacobgil/pytorch-explain-black-box has it, with torch's Adam and bilinear upsampling."""
    h, w = x.shape[2:]
    blurred = _blur(x, 6 * settings.sigma, settings.sigma)
    mask = torch.ones(1, 1, -(-h // int(settings.cell)), -(-w // int(settings.cell)), dtype=x.dtype, requires_grad=True)
    adam = torch.optim.Adam([mask], lr=settings.lr)
    up = nn.UpsamplingBilinear2d(size=(h, w))
    draws = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.steps):
        kept = up(mask).expand_as(x)
        noise = torch.randn((1, *x.shape[1:]), generator=draws).to(x.dtype)
        p = F.softmax(classifier(x * kept + blurred * (1 - kept) + settings.noise * noise), 1)[0, k]
        down = ((mask[0, 0, :-1] - mask[0, 0, 1:]).abs() ** settings.power).mean() * (mask.shape[2] / 28) ** settings.power
        across = ((mask[0, 0, :, :-1] - mask[0, 0, :, 1:]).abs() ** settings.power).mean() * (mask.shape[3] / 28) ** settings.power
        value = settings.area * (1 - mask).abs().mean() + settings.smooth * (down + across) + p
        adam.zero_grad()
        value.backward()
        adam.step()
        mask.data.clamp_(0, 1)
    return 1 - up(mask.detach())


def test_it_is_the_ports_computation_with_torchs_adam() -> None:
    net, (x, k) = examples.conv(SHAPE, dtype=torch.float64).requires_grad_(False), some()
    settings = OptimisedMask(steps=40, cell=2, sigma=0.2, smooth=20.0)
    found = maps(settings, net, x, k)
    expected = torch.cat([the_port(settings, net, x[i : i + 1], int(k[i])) for i in range(len(x))])
    assert float(found.std()) > 0.05
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_papers_sums_are_these_means_with_other_weights() -> None:
    """1e-4 sum |1 - m| + 1e-2 sum |dm|^3 on 28 x 28 cells."""
    mask = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = OptimisedMask(area=28 * 28 * 1e-4, smooth=27 * 28 * 1e-2).penalty(mask)
    m = mask.numpy()[:, 0]
    rough = (np.abs(m[:, 1:] - m[:, :-1]) ** 3).sum((1, 2)) + (np.abs(m[:, :, 1:] - m[:, :, :-1]) ** 3).sum((1, 2))
    np.testing.assert_allclose(found.numpy(), 1e-4 * np.abs(1 - m).sum((1, 2)) + 1e-2 * rough, rtol=1e-12)


def test_a_ramp_costs_the_same_on_every_number_of_cells() -> None:
    settings = OptimisedMask(area=0)
    costs = [float(settings.penalty(torch.linspace(0, 1, n + 1)[1:].view(1, 1, 1, n).expand(1, 1, 5, n).double())) for n in (4, 14, 28)]
    assert costs == pytest.approx([0.2 * (1 / 28) ** 3] * 3, rel=1e-6)


def test_what_nobody_reads_is_moved_by_smoothness_alone_and_little() -> None:
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    x[:, :, :8, :8] = 1.0
    found = maps(OptimisedMask(steps=100, cell=4, removed="black"), Patch((slice(0, 8), slice(0, 8))), x)
    assert float(found[..., :8, :8].mean()) > 0.4 and float(found[..., 20:, 20:].max()) < 0.05


def test_a_map_does_not_depend_on_its_neighbours_nor_on_their_number() -> None:
    net, (x, k) = examples.conv(SHAPE).requires_grad_(False), some(dtype=torch.float32)
    settings = OptimisedMask(steps=60, cell=2, noise=0.1)
    found = maps(settings, net, x, k)
    alone = torch.cat([maps(settings, net, x[i : i + 1], k[i : i + 1]) for i in range(len(x))])
    assert float((found - alone).abs().max()) < 1e-3
    assert torch.equal(found, maps(settings, net, x, k)), "the same noise again"
    assert float((found - maps(replace(settings, seed=1), net, x, k)).abs().max()) > 1e-3
    state = torch.get_rng_state()
    maps(settings, net, x, k)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("removed", ["blur", "black"])
def test_gradients_through_all_steps_match_finite_differences(removed: Any) -> None:
    net, (x, k) = examples.conv(SHAPE, smooth=True, dtype=torch.float64).requires_grad_(False), some(3)
    settings = OptimisedMask(steps=12, lr=0.05, cell=4, sigma=0.2, removed=removed, area=0.2)
    weights = torch.randn(3, 1, 8, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    here = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((maps(settings, net, here, k) * weights).sum(), here)
    assert bool(torch.isfinite(slope).all()) and float(slope.abs().max()) > 1e-4
    for seed in range(3):
        d, h = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), 1e-7
        moved = float(((maps(settings, net, x + h * d, k) - maps(settings, net, x - h * d, k)) * weights).sum()) / (2 * h)
        assert moved == pytest.approx(float((slope * d).sum()), rel=1e-4, abs=1e-6)


def test_a_classifier_that_does_not_look_gives_maps_of_zeros() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(240, 4))
    net[1].weight.data.zero_()
    x, k = some(dtype=torch.float32)
    assert not maps(OptimisedMask(steps=20), net.requires_grad_(False), x, k).any()


def test_nothing_is_learnt_but_the_classifier_is_a_copy() -> None:
    with seeded(0):
        net = examples.conv(SHAPE)
    x, k = some(dtype=torch.float32)
    module = OptimisedMask(steps=3).fit(x, k, net, SHAPE, seed=0)
    assert module.classifier is not net and fingerprint(module.classifier) == fingerprint(net) and not facts_of(module)
    before = module(x, k)["map"]
    net[0].weight.data.zero_()
    assert torch.equal(module(x, k)["map"], before)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 0}, "steps must be at least 1; found 0"),
        ({"area": -0.1}, "area must be at least 0; found -0.1"),
        ({"smooth": float("nan")}, "smooth must be at least 0; found nan"),
        ({"power": 1.0}, "power must be at least 2; found 1.0"),
        ({"cell": 0.5}, "cell must be at least 1; found 0.5"),
        ({"noise": -1.0}, "noise must be at least 0; found -1.0"),
        ({"lr": 0.0}, "lr must be above 0; found 0.0"),
        ({"sigma": 0.0}, "sigma must be above 0; found 0.0"),
        ({"removed": "grey"}, "removed must be 'blur' or 'black'; found 'grey'"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        OptimisedMask(**change)


def test_a_classifier_is_needed_and_its_gradient() -> None:
    with pytest.raises(UsageError, match="OptimisedMask maps are made of a classifier's answers; found 0 classifiers"):
        OptimisedMask().build(SHAPE)

    class Closed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :4]

    x, k = some()
    with pytest.raises(UsageError, match="its forward pass gives none"):
        maps(OptimisedMask(), Closed(), x, k)
