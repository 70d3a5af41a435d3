"""Every entry of CONTROLS, and what each of them promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, kurtosis, skew
from torch import Tensor

from salientry.attacks import FGSM
from salientry.controls import MatchedNoise, Null, Reversed, RoundTrip, Shuffled, Transplant
from salientry.errors import UsageError
from salientry.randomness import CONTROL_STREAM, image_seeds, uniform

from .. import examples

SIDE, N = 28, 40
EVERY = pytest.mark.parametrize("name", sorted(examples.controls()))


def grid(x: Tensor) -> Tensor:
    return (x * 255).round() / 255


def grey(seed: int = 0) -> Tensor:
    """Mid-grey 8-bit images, where no perturbation of interest meets the borders of the box."""
    return grid(0.45 + 0.1 * torch.rand(N, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)))


def black(seed: int = 0) -> Tensor:
    """Black 8-bit images with a bright patch on an eighth of their area, as a digit is."""
    x = torch.zeros(N, 1, SIDE, SIDE)
    x[:, :, 10:20, 10:20] = grid(torch.rand(N, 1, 10, 10, generator=torch.Generator().manual_seed(seed)))
    return x


def signs(x: Tensor, eps: float, seed: int = 5) -> Tensor:
    """A sign attack's adversarial."""
    flip = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    return (x + eps * torch.where(flip, -1.0, 1.0)).clamp(0, 1)


def faint(x: Tensor, eps: float, seed: int = 5) -> Tensor:
    """A minimal-norm attack's adversarial: Gaussian, of another size for each image, not on the 8-bit grid."""
    g = torch.Generator().manual_seed(seed)
    return (x + eps * torch.randn(x.shape, generator=g) * (0.5 + torch.rand(len(x), 1, 1, 1, generator=g))).clamp(0, 1)


def rms(delta: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.sqrt((delta.double().numpy() ** 2).reshape(len(delta), -1).mean(1))


SEEDS = examples.seeds(N)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gives_a_batch_of_images_and_touches_nothing(name: str, dtype: torch.dtype) -> None:
    x = black().to(dtype)
    adv = signs(black(), 0.2).to(dtype)
    before = x.clone(), adv.clone(), SEEDS.clone()
    out = examples.controls()[name](x, adv, seeds=SEEDS)
    assert out.shape == x.shape and out.dtype == dtype
    assert float(out.min()) >= 0 and float(out.max()) <= 1
    assert torch.equal(x, before[0]) and torch.equal(adv, before[1]) and torch.equal(SEEDS, before[2])
    assert out.data_ptr() not in (x.data_ptr(), adv.data_ptr())


@EVERY
def test_each_image_depends_on_itself_alone(name: str) -> None:
    control, x, adv = examples.controls()[name], black(), faint(black(), 0.05)
    whole = control(x, adv, seeds=SEEDS)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert torch.equal(control(x[order], adv[order], seeds=SEEDS[order]), whole[order])
    pieces = [control(x[at], adv[at], seeds=SEEDS[at]) for at in torch.arange(N).split(7)]
    assert torch.equal(torch.cat(pieces), whole)
    assert control(x[:0], adv[:0], seeds=SEEDS[:0]).shape == (0, 1, SIDE, SIDE)


def test_null_is_an_equal_copy() -> None:
    x = faint(grey(), 0.1)
    out = Null()(x, signs(x, 0.2), seeds=SEEDS)
    assert torch.equal(out, x)
    out += 1
    assert float(x.max()) <= 1


@pytest.mark.parametrize("base", [grey, black])
@pytest.mark.parametrize(
    ("attack", "eps"),
    [
        (signs, 0.2),
        (signs, 8 / 255),
        (signs, 1.5 / 255),
        (signs, 0.3 / 255),
        (faint, 0.1),
        (faint, 2 / 255),
        (faint, 0.45 / 255),
    ],  # the last: C&W on CIFAR-10
)
@pytest.mark.parametrize("kind", ["sign", "gaussian"])
def test_noise_is_as_large_as_the_attack_after_clipping_and_rounding(base: object, attack: object, eps: float, kind: Any) -> None:
    assert callable(base) and callable(attack)
    x = base()
    adv = attack(x, eps)
    out = MatchedNoise(kind=kind)(x, adv, seeds=SEEDS)
    assert torch.equal(grid(out), out)  # what is stored is what was measured
    share = rms(out - x) / rms(adv - x)
    assert abs(np.median(share) - 1) < 0.05
    assert abs(share.mean() - 1) < 0.05
    assert share.min() > 0.8 and share.max() < 1.25  # image by image, not on average


def test_noise_of_a_sign_attack_in_the_grey_has_its_linf() -> None:
    x = grey()
    out = MatchedNoise()(x, signs(x, 8 / 255), seeds=SEEDS)
    levels = ((out - x) * 255).round().abs()
    assert set(levels.unique().tolist()) <= {7.0, 8.0, 9.0}
    assert float((levels == 8).float().mean()) > 0.95


def test_noise_of_an_unchanged_image_is_none() -> None:
    x = black()
    adv = signs(x, 0.2)
    adv[::2] = x[::2]
    out = MatchedNoise()(x, adv, seeds=SEEDS)
    assert torch.equal(out[::2], x[::2])
    assert bool((out[1::2] != x[1::2]).flatten(1).any(1).all())


def test_signs_are_fair_and_their_own_for_each_image() -> None:
    x = grey()
    out = MatchedNoise()(x, signs(x, 0.1), seeds=SEEDS)
    up = (out > x).double().flatten(1)
    assert bool((out != x).all())
    n = up.numel()
    assert abs(float(up.mean()) - 0.5) < 4 * 0.5 / n**0.5
    assert float((up.mean(1) - 0.5).abs().max()) < 5 * 0.5 / up.shape[1] ** 0.5
    assert float((up.mean(0) - 0.5).abs().max()) < 5 * 0.5 / N**0.5  # no pixel has a favourite sign
    correlation = np.corrcoef(up.numpy()) - np.eye(N)
    assert np.abs(correlation).max() < 6 / up.shape[1] ** 0.5
    neighbours = np.corrcoef(up[:, :-1].flatten().numpy(), up[:, 1:].flatten().numpy())[0, 1]
    assert abs(neighbours) < 4 / n**0.5


def test_direction_is_drawn_from_the_image_not_from_the_attack() -> None:
    x = grey()
    adversarials = [
        signs(x, 4 / 255, 1),
        signs(x, 0.2, 2),
        faint(x, 0.05, 3),
        FGSM(0.1)(examples.conv(examples.Shape(1, SIDE, SIDE, 3)), x, SEEDS % 3, seeds=SEEDS),
    ]
    moves = [(MatchedNoise()(x, adv, seeds=SEEDS) - x).sign() for adv in adversarials]
    for a in moves:
        for b in moves:
            assert float((a * b).min()) >= 0  # never opposite: only how far is the attack's
    other = (MatchedNoise()(x, adversarials[1], seeds=SEEDS + 1) - x).sign()
    assert abs(float((other * moves[1]).mean())) < 0.05


def test_gaussian_noise_is_gaussian() -> None:
    """On mid-grey, where nothing is clipped, at 25 levels, where rounding hardly shows."""
    x = grey()
    out = MatchedNoise(kind="gaussian")(x, faint(x, 0.1), seeds=SEEDS)
    move = (out - x).double().flatten(1).numpy()
    z = move / move.std(1, keepdims=True)
    n = z.size
    assert abs(z.mean()) < 4 / n**0.5 and np.abs(z.mean(1)).max() < 5 / z.shape[1] ** 0.5
    assert abs(skew(z, None)) < 5 * (6 / n) ** 0.5 and abs(kurtosis(z, None)) < 5 * (24 / n) ** 0.5
    assert kstest(z.ravel(), "norm").statistic < 0.02
    within = [(np.abs(z) < sigma).mean() for sigma in (1, 2, 3)]
    np.testing.assert_allclose(within, [0.6827, 0.9545, 0.9973], atol=0.01)
    assert np.abs(np.corrcoef(z) - np.eye(N)).max() < 6 / z.shape[1] ** 0.5
    assert abs(np.corrcoef(z[:, :-1].ravel(), z[:, 1:].ravel())[0, 1]) < 4 / n**0.5


def test_gaussian_noise_of_an_unchanged_image_is_none_and_no_other_kind_is_known() -> None:
    x = black()
    assert torch.equal(MatchedNoise(kind="gaussian")(x, x, seeds=SEEDS), x)
    with pytest.raises(UsageError, match="'sign' or 'gaussian'; found 'salt'"):
        MatchedNoise(kind="salt")  # type: ignore[arg-type]


# --- the attack's own values at other places, another image's, and none at all ------------------------------------


def colour(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mid-grey colour images and perturbations of whole levels, sparse, in float64, so that sums are exact; nothing is clipped."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(100, 150, (N, 3, 9, 11), generator=g).double()
    delta = torch.randint(-90, 91, x.shape, generator=g) * (torch.rand(N, 1, 9, 11, generator=g) < 0.3)
    return x / 255, (x + delta) / 255


def pixels(x: Tensor, adv: Tensor) -> list[list[list[int]]]:
    """Of each image: the perturbation of each pixel, all channels together, in whole levels."""
    levels: list[list[list[int]]] = ((adv - x) * 255).round().to(torch.int64).flatten(2).transpose(1, 2).tolist()
    return levels


def test_shuffled_moves_whole_pixels_of_the_perturbation_and_loses_none() -> None:
    x, adv = colour()
    out = Shuffled()(x, adv, seeds=SEEDS)
    before, after = pixels(x, adv), pixels(x, out)
    assert [sorted(image) for image in before] == [sorted(image) for image in after]
    assert all(a != b for a, b in zip(before, after, strict=True))
    np.testing.assert_allclose(rms(out - x), rms(adv - x), rtol=1e-9)
    torch.testing.assert_close((out * 255).round() / 255, out, rtol=0, atol=1e-12)  # still on the grid


def test_shuffled_has_an_order_of_its_own_for_each_image_and_prefers_no_place() -> None:
    x = torch.full((400, 1, 5, 5), 0.5)
    adv = x.clone()
    adv[:, 0, 2, 3] += 0.25
    out = Shuffled()(x, adv, seeds=examples.seeds(400))
    places = (out - x).flatten(1).argmax(1)
    assert torch.equal(((out - x) > 0.2).flatten(1).sum(1), torch.ones(400, dtype=torch.int64))
    assert int(places.bincount(minlength=25).min()) > 3 and int(places.bincount(minlength=25).max()) < 36  # 16 each
    again = Shuffled()(x, adv, seeds=examples.seeds(400) + 1)
    assert int(((again - x).flatten(1).argmax(1) == places).sum()) < 40
    same = Shuffled()(x, x + 0.1 * (adv - x), seeds=examples.seeds(400))  # the order is the image's, not the attack's
    assert torch.equal((same - x).flatten(1).argmax(1), places)


def test_shuffled_clips_what_leaves_the_box() -> None:
    x = black()
    out = Shuffled()(x, signs(x, 0.4), seeds=SEEDS)
    assert float(out.min()) == 0 and float(out.max()) == 1
    assert (rms(out - x) <= rms(signs(x, 0.4) - x) + 1e-6).all()


def test_transplant_lays_another_images_perturbation_on_and_clips() -> None:
    x = grid(torch.rand(N, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    borrowed = (signs(grey(1), 0.3) - grey(1)).roll(1, 0)
    out = Transplant()(x, x + borrowed, seeds=SEEDS)
    assert float((x + borrowed).min()) < 0 and float((x + borrowed).max()) > 1
    assert torch.equal(out, (x + borrowed).clamp(0, 1))
    inside = ((x + borrowed) > 0) & ((x + borrowed) < 1)
    torch.testing.assert_close((out - x)[inside], borrowed[inside], rtol=0, atol=1e-6)
    assert Transplant.borrows and not any(getattr(c, "borrows", False) for n, c in examples.controls().items() if n != "transplant")


def test_round_trip_moves_by_a_millionth_and_8_bits_undo_it() -> None:
    levels = (torch.arange(256) / 255).view(1, 1, 16, 16)
    for x in (levels, black(), grey(), levels.double()):
        out = RoundTrip()(x, x, seeds=SEEDS[: len(x)])
        assert float((out - x).abs().max()) < 2e-6
        assert torch.equal(grid(out), grid(x)) and float(out.min()) >= 0 and float(out.max()) <= 1
    exact = RoundTrip()(levels.double(), levels.double(), seeds=SEEDS[:1])
    torch.testing.assert_close(exact - levels, 1e-6 * (0.5 - levels.double()), rtol=0, atol=1e-9)
    assert float((RoundTrip()(levels, levels, seeds=SEEDS[:1]) != levels).float().mean()) > 0.5  # it leaves a trace
    assert RoundTrip.in_float and not any(getattr(c, "in_float", False) for n, c in examples.controls().items() if n != "round_trip")


def test_round_trip_looks_at_the_natural_alone() -> None:
    x = grey()
    assert torch.equal(RoundTrip()(x, signs(x, 0.2), seeds=SEEDS), RoundTrip()(x, x, seeds=SEEDS + 1))


def test_draws_are_splitmix64() -> None:
    """Against plain integers, so that the same seeds give the same bytes on every device and in every version."""
    mask = (1 << 64) - 1

    def splitmix(seed: int, counter: int) -> float:
        z = (seed + counter * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 40) / 2**24

    given = torch.tensor([0, 1, -1, 1234567, 2**63 - 1, -(2**63)])
    expected = [[splitmix(s, i + 1) for i in range(6)] for s in given.tolist()]
    assert uniform(given, (2, 3)).flatten(1).tolist() == expected


def test_seeds_come_from_run_image_and_stream() -> None:
    ids = np.array(["0123456789abcdef", "fedcba9876543210"])
    base = image_seeds(ids, 0, CONTROL_STREAM)
    assert torch.equal(image_seeds(ids[::-1], 0, CONTROL_STREAM), base.flip(0))
    others = [image_seeds(ids, 1, CONTROL_STREAM), image_seeds(ids, 0, CONTROL_STREAM + 1)]
    assert len({int(v) for s in [base, *others] for v in s}) == 6


def test_reversed_turns_the_perturbation_round_and_clips() -> None:
    x = torch.tensor([0.5, 0.1, 0.9, 0.0]).view(1, 1, 2, 2)
    x_adv = torch.tensor([0.6, 0.3, 0.7, 0.2]).view(1, 1, 2, 2)
    found = Reversed()(x, x_adv, seeds=examples.seeds(1))
    torch.testing.assert_close(found, torch.tensor([0.4, 0.0, 1.0, 0.0]).view(1, 1, 2, 2))
    shape = examples.SHAPES["colour"]
    levels = Reversed()(examples.images(shape, 6), examples.images(shape, 6, seed=1), seeds=examples.seeds(6)) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
