"""Each kind of harmless change against closed forms and other libraries."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from scipy.stats import kstest
from torch import Tensor

from salientry.errors import UsageError
from salientry.harmless import JPEG, Blur, Brightness, Contrast, Gamma, Noise, OneOf, Resized, Rotation, Shift, Zoom

from .. import examples

SEEDS = examples.seeds(6)


def images(c: int = 3, h: int = 11, w: int = 14, n: int = 6) -> Tensor:
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(0))


def smooth() -> Tensor:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    return torch.stack([rows, columns, (rows + columns) / 2])[None].repeat(6, 1, 1, 1)


@pytest.mark.parametrize(
    "change", [Noise(0.0), Resized(1.0), Blur(1.0), Brightness(1.0), Contrast(1.0), Gamma(1.0), Shift(0, 0), Rotation(0), Zoom(1.0)]
)
@pytest.mark.parametrize("shape", [(3, 11, 14), (1, 28, 28), (3, 1, 5), (1, 1, 1)])
def test_settings_that_change_nothing_leave_the_image(change: Any, shape: tuple[int, int, int]) -> None:
    x = images(*shape)
    torch.testing.assert_close(change(x, seeds=SEEDS), x, rtol=0, atol=1e-6)


# --- noise -------------------------------------------------------------------------------------------------------


def test_noise_has_the_stated_size() -> None:
    x = torch.full((6, 3, 40, 40), 0.5, dtype=torch.float64)
    n = x.numel()
    sign = (Noise(8 / 255)(x, seeds=SEEDS) - x) * 255 / 8
    torch.testing.assert_close(sign.abs(), torch.ones_like(sign))
    assert abs(float(sign.mean())) < 4 / n**0.5
    flat = (Noise(8 / 255, "uniform")(x, seeds=SEEDS) - x) * 255 / 8
    assert kstest((flat.flatten() + 1) / 2, "uniform").statistic < 0.02
    normal = (Noise(3 / 255, "gaussian")(x, seeds=SEEDS) - x) * 255 / 3
    assert kstest(normal.flatten(), "norm").statistic < 0.02 and abs(float(normal.std()) - 1) < 0.03


@pytest.mark.parametrize("kind", ["sign", "gaussian", "uniform"])
def test_each_image_has_noise_of_its_own_unless_the_pattern_is_fixed(kind: Any) -> None:
    x = torch.full((6, 3, 40, 40), 0.5)
    own = (Noise(0.1, kind)(x, seeds=SEEDS) - x).flatten(1).numpy()
    assert np.abs(np.corrcoef(own) - np.eye(6)).max() < 0.1
    fixed = Noise(0.1, kind, fixed=True)(x, seeds=SEEDS) - x
    assert torch.equal(fixed, fixed[:1].expand_as(fixed)) and float(fixed.std()) > 0.05
    assert torch.equal(Noise(0.1, kind, fixed=True)(x, seeds=SEEDS + 9) - x, fixed)


# --- JPEG --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels: int) -> None:
    x = images(channels)
    out = JPEG(60)(x, seeds=SEEDS)
    torch.testing.assert_close(out * 255, (out * 255).round(), rtol=0, atol=1e-4)
    for i in range(len(x)):
        picture = (x[i] * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=60)
        expected = torch.from_numpy(np.array(Image.open(file))).view(11, 14, channels).permute(2, 0, 1) / 255
        torch.testing.assert_close(out[i], expected, rtol=0, atol=1e-6)


def test_jpeg_of_higher_quality_is_nearer_and_smooth_images_hardly_move() -> None:
    x = images(3, 32, 32)
    away = [float((JPEG(q)(x, seeds=SEEDS) - x).abs().mean()) for q in (10, 50, 75, 90)]
    assert away == sorted(away, reverse=True)
    assert float((JPEG(90)(smooth(), seeds=SEEDS) - smooth()).abs().max()) < 6 / 255


def test_jpeg_refuses_other_channels() -> None:
    with pytest.raises(UsageError, match="1 or 3 channels; found 2"):
        JPEG()(images(2), seeds=SEEDS)


# --- blur, resizing, values --------------------------------------------------------------------------------------


def test_blur_is_its_kernel_and_the_box_mean() -> None:
    x = images().double()
    kernel = torch.tensor([[1, 2, 1], [2, 12, 2], [1, 2, 1]], dtype=torch.float64) / 24
    wide = F.pad(x, (1, 1, 1, 1), mode="reflect")
    expected = F.conv2d(wide, kernel.expand(3, 1, 3, 3), groups=3)
    torch.testing.assert_close(Blur()(x, seeds=SEEDS), expected)
    torch.testing.assert_close(Blur(1 / 9, 1.0)(x, seeds=SEEDS), F.avg_pool2d(wide, 3, stride=1))
    row = images(1, 1, 5).double()
    torch.testing.assert_close(Blur(1 / 9, 1.0)(row, seeds=SEEDS), F.avg_pool2d(F.pad(row, (1, 1, 0, 0), mode="reflect"), (1, 3), stride=1))


def test_resized_is_pillows_to_its_rounding() -> None:
    """Pillow rounds after the rows and after the columns, there and back."""
    x = (images(1, 20, 30) * 255).round() / 255
    out = Resized(0.5)(x, seeds=SEEDS)
    for i in range(len(x)):
        picture = Image.fromarray((x[i, 0] * 255).round().to(torch.uint8).numpy())
        back = picture.resize((15, 10), Image.Resampling.BILINEAR).resize((30, 20), Image.Resampling.BILINEAR)
        torch.testing.assert_close(out[i, 0], torch.from_numpy(np.array(back)) / 255, rtol=0, atol=2.5 / 255)


def test_resized_to_a_single_pixel_is_flat_and_a_flat_image_stays() -> None:
    out = Resized(0.05)(images(), seeds=SEEDS)
    torch.testing.assert_close(out, out[:, :, :1, :1].expand_as(out))
    torch.testing.assert_close(Resized(0.7)(torch.full((6, 3, 11, 14), 0.3), seeds=SEEDS), torch.full((6, 3, 11, 14), 0.3))


def test_brightness_contrast_and_gamma_are_their_formulas() -> None:
    x = images().double()
    torch.testing.assert_close(Brightness(0.8)(x, seeds=SEEDS), 0.8 * x)
    assert torch.equal(Brightness(1.5)(x, seeds=SEEDS), (1.5 * x).clamp(max=1))
    less = Contrast(0.8)(x, seeds=SEEDS)
    torch.testing.assert_close(less.mean((1, 2, 3)), x.mean((1, 2, 3)))
    torch.testing.assert_close(less.flatten(1).std(1), 0.8 * x.flatten(1).std(1))
    torch.testing.assert_close(Gamma(1.15)(x, seeds=SEEDS), x**1.15)


def test_gamma_keeps_black_and_its_gradient_is_finite_there() -> None:
    x = torch.tensor([0.0, 1e-6, 0.25, 1.0]).view(1, 1, 2, 2).requires_grad_()
    out = Gamma(0.5)(x, seeds=SEEDS[:1])
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 1e-3, 0.5, 1.0]))
    (slope,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(slope.flatten(), torch.tensor([0.0, 500.0, 1.0, 0.5]))


# --- where pixels are --------------------------------------------------------------------------------------------


def test_a_shift_by_whole_pixels_is_slicing() -> None:
    x = images()
    out = Shift(2, 3)(x, seeds=SEEDS)
    assert torch.equal(out[:, :, 2:, 3:], x[:, :, :-2, :-3])
    assert torch.equal(out[:, :, 0, 3:], x[:, :, 0, :-3]) and torch.equal(out[:, :, 2:, 1], x[:, :, :-2, 0])
    back = Shift(-2, -1)(x, seeds=SEEDS)
    assert torch.equal(back[:, :, :-2, :-1], x[:, :, 2:, 1:]) and torch.equal(back[:, :, -1, :-1], x[:, :, -1, 1:])
    assert torch.equal(Shift(50, 0)(x, seeds=SEEDS), x[:, :, :1].expand_as(x))


def test_a_shift_by_half_a_pixel_is_the_mean_of_two() -> None:
    x = images().double()
    out = Shift(0.5, 0)(x, seeds=SEEDS)
    torch.testing.assert_close(out[:, :, 1:], (x[:, :, 1:] + x[:, :, :-1]) / 2)
    torch.testing.assert_close(out[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(Shift(0, -0.5)(x, seeds=SEEDS)[..., :-1], (x[..., 1:] + x[..., :-1]) / 2)
    torch.testing.assert_close(Shift(0, 0.25)(x, seeds=SEEDS)[..., 1:], 0.75 * x[..., 1:] + 0.25 * x[..., :-1])


@pytest.mark.parametrize("degrees", [6, -6, 37, 170])
def test_rotation_is_scipys(degrees: float) -> None:
    x = images(1, 13, 10).double()
    out = Rotation(degrees)(x, seeds=SEEDS)
    expected = ndimage.rotate(x[:, 0].numpy(), degrees, axes=(1, 2), reshape=False, order=1, mode="reflect")
    torch.testing.assert_close(out[:, 0], torch.from_numpy(expected))


def test_a_quarter_turn_moves_whole_pixels() -> None:
    x = images(3, 12, 12)
    torch.testing.assert_close(Rotation(90)(x, seeds=SEEDS), torch.rot90(x, 1, (2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(Rotation(180)(x, seeds=SEEDS), torch.rot90(x, 2, (2, 3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [1.12, 0.9, 0.3])
def test_zoom_is_scipys(factor: float) -> None:
    x = images(1, 13, 10).double()
    out = Zoom(factor)(x, seeds=SEEDS)
    middle = np.array([6.0, 4.5])
    for i in range(len(x)):
        expected = ndimage.affine_transform(x[i, 0].numpy(), np.eye(2) / factor, offset=middle - middle / factor, order=1, mode="reflect")
        torch.testing.assert_close(out[i, 0], torch.from_numpy(expected))


def test_zoom_crops_or_shrinks() -> None:
    x = torch.zeros(6, 1, 21, 21)
    x[:, :, 7:14, 7:14] = 1  # a square of 7 px
    areas = [float(Zoom(f)(x, seeds=SEEDS).sum((1, 2, 3)).mean()) for f in (0.8, 1.0, 1.5)]
    np.testing.assert_allclose(areas, [0.8**2 * 49, 49, 1.5**2 * 49], rtol=0.05)  # read between pixels: the edges are not exact


# --- one of several ----------------------------------------------------------------------------------------------


def test_one_of_gives_each_image_the_change_that_was_drawn_to_the_bit() -> None:
    x, seeds = images(3, 11, 14, 60), examples.seeds(60)
    changes = (Noise(8 / 255), Rotation(6), Gamma())
    for turn in (0, 1, 5):
        mixed = OneOf(changes, turn)
        which, out = mixed.drawn(seeds), mixed(x, seeds=seeds)
        assert set(which.tolist()) == {0, 1, 2}
        for i, change in enumerate(changes):
            assert torch.equal(out[which == i], change(x[which == i], seeds=seeds[which == i]))


def test_one_of_draws_evenly_and_each_turn_gives_another() -> None:
    seeds = examples.seeds(3000)
    turns = torch.stack([OneOf((Noise(), Gamma(), Blur()), turn).drawn(seeds) for turn in range(4)])
    counts = turns[0].bincount(minlength=3)
    assert int(counts.min()) > 900 and int(counts.max()) < 1100  # deviation 26
    assert torch.equal(turns[:3].sort(0).values, torch.arange(3)[:, None].expand(3, 3000))
    assert torch.equal(turns[3], turns[0])


def test_one_ofs_draw_tells_nothing_of_the_noise_that_it_draws() -> None:
    x, seeds = torch.full((2000, 1, 2, 2), 0.5), examples.seeds(2000)
    mixed = OneOf((Noise(0.1), Noise(0.2)))
    up = (mixed(x, seeds=seeds) > x).double()[:, 0, 0, 0]
    assert abs(np.corrcoef(up, mixed.drawn(seeds).double())[0, 1]) < 0.1


def test_one_of_is_differentiable_where_all_are() -> None:
    assert OneOf((Gamma(), Blur())).differentiable and not OneOf((Gamma(), JPEG())).differentiable
    assert OneOf((Gamma(), JPEG(50))).title == "one of these: a gamma of 1.15; JPEG of quality 50"


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Noise(-0.1), r"size must be a number in \[0, 1\]; found -0.1"),
        (lambda: Noise(kind="salt"), "'sign', 'gaussian', 'uniform'; found 'salt'"),
        (lambda: Noise(fixed=1), "fixed must be True or False; found 1"),
        (lambda: JPEG(100), r"quality must be a whole number in \[1, 95\]; found 100"),
        (lambda: JPEG(75.5), "quality must be a whole number"),
        (lambda: Resized(0.0), "scale must be a number"),
        (lambda: Resized(1.1), "scale must be a number"),
        (lambda: Blur(centre=1.2), "centre must be a number"),
        (lambda: Blur(corner=-1), "corner must be a number"),
        (lambda: Brightness(-1), "factor must be a number"),
        (lambda: Contrast("much"), "factor must be a number in .*; found 'much'"),
        (lambda: Gamma(0), "exponent must be a number"),
        (lambda: Gamma(float("nan")), "exponent must be a number in .*; found nan"),
        (lambda: Shift(down=float("inf")), "down must be a number"),
        (lambda: Shift(right=True), "right must be a number"),
        (lambda: Rotation(200), "degrees must be a number"),
        (lambda: Zoom(0), "factor must be a number"),
        (lambda: OneOf(()), "at least one harmless change; found ()"),
        (lambda: OneOf([Blur()]), "a tuple of at least one"),
        (lambda: OneOf((Blur,)), "has a title; found <class"),
        (lambda: OneOf(("blur",)), "has a title; found 'blur'"),
        (lambda: OneOf((Blur(),), turn=-1), "turn must be a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


@pytest.mark.parametrize(
    ("change", "title"),
    [
        (Noise(), "sign noise of 8/255"),
        (Noise(0.01, "gaussian", fixed=True), "a fixed pattern of Gaussian noise of 0.01"),
        (Shift(2, -0.5), "a shift by 2 px down and 0.5 px left"),
        (Shift(0, 0), "a shift by 0 px"),
        (Rotation(-6), "a rotation by 6 degrees clockwise"),
        (Blur(1 / 9, 1), "a blur of 3x3 px that keeps 0.11 of each value"),
    ],
)
def test_titles(change: Any, title: str) -> None:
    assert change.title == title
