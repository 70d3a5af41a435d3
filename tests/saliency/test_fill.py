from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from salientry.errors import UsageError
from salientry.saliency import Fill

from .. import examples


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ones(x: Tensor) -> Tensor:
    return torch.ones_like(x[:, :1])


def replacement(fill: Fill, x: Tensor, seed: int = 0) -> Tensor:
    """A, on [-1, 1]: what an all-zero map leaves."""
    return 2 * fill(x, 0 * ones(x), draws(seed)) - 1


def textbook_blur(x: Tensor, kernel: float = 55 / 224, sigma: float = 11 / 224) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """By scipy, axis by axis, reflected at the border pixel."""
    out = x.double().numpy()
    for axis in (2, 3):
        side = out.shape[axis]
        out = gaussian_filter1d(out, sigma * side, axis=axis, mode="mirror", radius=max(int(kernel * side) // 2, 1))
    return out


@pytest.mark.parametrize("kind", ["paper", "black"])
def test_an_all_one_map_keeps_the_image(kind: str) -> None:
    x = examples.images(examples.SHAPES["colour"], 10)
    assert torch.allclose(Fill(kind=kind, noise=0)(x, ones(x), draws()), x, atol=1e-6)  # type: ignore[arg-type]


def test_an_all_zero_map_leaves_black() -> None:
    x = examples.images(examples.SHAPES["colour"], 10)
    assert torch.equal(Fill(kind="black")(x, 0 * ones(x), draws()), torch.zeros_like(x))


@pytest.mark.parametrize("kind", ["paper", "black"])
def test_mixes_as_equation_2(kind: str) -> None:
    """M (x + n) + (1 - M) A, on [-1, 1], with the same draws throughout."""
    fill = Fill(kind=kind)  # type: ignore[arg-type]
    x = examples.images(examples.SHAPES["odd"], 10)
    m = torch.rand(10, 1, 11, 13, generator=draws(1))
    kept, left = fill(x, ones(x), draws(2)), fill(x, 0 * ones(x), draws(2))
    assert torch.allclose(fill(x, m, draws(2)), m * kept + (1 - m) * left, atol=1e-6)


def test_noise_is_on_every_pixel_with_the_ancestors_spread() -> None:
    x = torch.full((50, 2, 20, 20), 0.5)
    n = 2 * (Fill()(x, ones(x), draws()) - x)
    assert abs(float(n.std()) / 0.03 - 1) < 0.03
    assert abs(float(n.mean())) < 4 * 0.03 / n.numel() ** 0.5
    assert bool((n != 0).all())


def test_paper_fill_is_blur_for_half_of_the_images_and_colour_for_the_other() -> None:
    n = 800
    x = torch.full((n, 3, 12, 12), 0.9)  # 0.8 on [-1, 1], out of the colours' reach
    a = replacement(Fill(noise=0), x)
    blurred = (a - 0.8).abs().flatten(1).amax(1) < 1e-5  # blur preserves constants
    coloured = a[~blurred]
    assert abs(float(blurred.float().mean()) - 0.5) < 4 * 0.5 / n**0.5
    means, spread = coloured.mean((2, 3)), coloured.std((2, 3))
    assert float(means.abs().max()) < 0.33 + 5 * 0.11 / 12
    assert abs(float(means.std()) / (0.33 / 3**0.5) - 1) < 0.1  # uniform in [-.33, .33]
    assert abs(float(means.mean())) < 4 * 0.2 / means.numel() ** 0.5
    assert abs(float(spread.mean()) / 0.11 - 1) < 0.02
    assert abs(float(torch.corrcoef(means.T)[0, 1])) < 0.2  # a colour of its own for each channel


def test_colour_and_its_noise_follow_the_settings() -> None:
    x = torch.full((200, 1, 8, 8), 0.95)
    a = replacement(Fill(noise=0, colour=0.1, colour_noise=0.0), x)
    coloured = a[(a - 0.9).abs().flatten(1).amax(1) > 1e-3]
    assert len(coloured) > 60
    assert float(coloured.flatten(1).std(1).max()) < 1e-6
    assert 0.09 < float(coloured.abs().max()) <= 0.1


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (11, 13), (5, 40)])
def test_blur_is_the_textbooks(size: tuple[int, int]) -> None:
    x = torch.rand(30, 2, *size, generator=draws(3), dtype=torch.float64)
    a = replacement(Fill(noise=0), x)
    expected = textbook_blur(2 * x - 1)
    gap = np.abs(a.numpy() - expected).reshape(30, -1).max(1)
    assert 5 <= (gap < 1e-9).sum() <= 25  # the others are coloured
    assert gap[gap >= 1e-9].min() > 1e-2


def test_blur_keeps_the_mean_of_what_is_far_from_the_border() -> None:
    x = torch.full((20, 1, 32, 32), 0.5, dtype=torch.float64)
    x[:, :, 12:20, 12:20] = torch.rand(20, 1, 8, 8, generator=draws(4), dtype=torch.float64)
    a = replacement(Fill(noise=0, colour=0.0, colour_noise=0.0), x)
    blurred = a.flatten(1).std(1) > 0
    assert 3 <= int(blurred.sum()) <= 17
    assert torch.allclose(a[blurred].mean((1, 2, 3)), (2 * x - 1)[blurred].mean((1, 2, 3)), atol=1e-12)
    assert bool((a[blurred].flatten(1).std(1) < (2 * x - 1)[blurred].flatten(1).std(1)).all())


def test_blur_is_of_the_noisy_image_and_of_each_image_alone() -> None:
    x = examples.images(examples.SHAPES["grey"], 20, dtype=torch.float64)
    fill = Fill(noise=0.5, colour=0.0, colour_noise=0.0)
    noisy, a = 2 * fill(x, ones(x), draws(5)) - 1, replacement(fill, x, 5)
    blurred = a.flatten(1).std(1) > 0
    assert np.abs(a[blurred].numpy() - textbook_blur(noisy[blurred])).max() < 1e-6


def test_each_call_draws_afresh_and_the_generator_decides() -> None:
    x, g = examples.images(examples.SHAPES["grey"], 6), draws(1)
    first, second = Fill()(x, 0.5 * ones(x), g), Fill()(x, 0.5 * ones(x), g)
    assert not torch.equal(first, second)
    assert torch.equal(Fill()(x, 0.5 * ones(x), draws(1)), first)


def test_only_the_map_learns_from_what_is_filled_in() -> None:
    """The gradient in the map is x + n - A; A is no function of anything."""
    x = examples.images(examples.SHAPES["grey"], 8)
    m = (0.3 * ones(x)).requires_grad_()
    (found,) = torch.autograd.grad(Fill()(x, m, draws(6)).sum(), m)
    expected = (Fill()(x, ones(x), draws(6)) - Fill()(x, 0 * ones(x), draws(6))).sum(1, keepdim=True)
    assert torch.allclose(found, expected, atol=1e-5)


def test_refuses_an_unknown_kind() -> None:
    with pytest.raises(UsageError, match="'paper' or 'black'; found 'pink'"):
        Fill(kind="pink")  # type: ignore[arg-type]
