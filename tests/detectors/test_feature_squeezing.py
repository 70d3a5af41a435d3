"""Squeezers against SciPy and by hand; the joint distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from torch import nn

from salientry.detectors import FeatureSqueezing
from salientry.detectors.feature_squeezing import CIFAR10, IMAGENET, MNIST, fewer_levels, median, non_local_means
from salientry.errors import UsageError
from salientry.evidence import Evidence

from .. import examples

SHAPE = examples.SHAPES["colour"]


def test_levels_by_hand() -> None:
    x = torch.tensor([0.0, 0.4, 0.6, 1.0, 17 / 62, 1 / 31])
    assert fewer_levels(x, 1).tolist() == [0, 0, 1, 1, 0, 0]
    assert torch.allclose(fewer_levels(x, 5) * 31, torch.tensor([0.0, 12, 19, 31, 8, 1]), atol=1e-5)
    eight = examples.images(SHAPE, 3)
    assert torch.allclose(fewer_levels(eight, 8), eight, atol=1e-6), "an 8-bit image has these levels already"


@pytest.mark.parametrize("side", [2, 3])
def test_the_median_is_that_of_scipy_which_the_authors_call(side: int) -> None:
    x = examples.images(SHAPE, 4)
    np.testing.assert_array_equal(median(x, side).numpy(), median_filter(x.numpy(), (1, 1, side, side), mode="reflect"))


def test_non_local_means_by_the_definition() -> None:
    x = examples.images(SHAPE, 2, dtype=torch.float64)
    found = non_local_means(x, 5, 3, 0.4)[1].numpy()
    image, c = x[1].numpy(), x.shape[1]

    def patch(i: int, j: int) -> Any:  # of the image whose border is repeated, once for the window and once for the patch
        return np.stack([wide[:, 2 + a, 2 + b] for a in (i - 1, i, i + 1) for b in (j - 1, j, j + 1)])

    wide = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="edge")
    for i, j in ((3, 4), (5, 7), (6, 9)):  # where no patch leaves the image
        weights, total = 0.0, np.zeros(c)
        for a in range(-2, 3):
            for b in range(-2, 3):
                weight = np.exp(-np.square(patch(i, j) - patch(i + a, j + b)).mean() / 0.4**2)
                weights, total = weights + weight, total + weight * image[:, i + a, j + b]
        np.testing.assert_allclose(found[:, i, j], total / weights, rtol=1e-9)


def test_non_local_means_keep_a_flat_image_and_smooth_a_noisy_one() -> None:
    flat = torch.full((1, 3, 12, 12), 0.5)
    assert torch.allclose(non_local_means(flat, 7, 3, 0.01), flat)
    noisy = flat + 0.02 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    assert float(non_local_means(noisy, 7, 3, 0.05).std()) < float(noisy.std()) / 3


class Mean(nn.Module):
    """Logits (mean, 1 - mean) of an image, ten times."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        m = x.flatten(1).mean(1)
        return 10 * torch.stack([m, 1 - m], 1)


def test_the_score_is_the_largest_distance_by_hand() -> None:
    x = torch.full((1, 1, 4, 4), 0.4)
    x[0, 0, 1, 1] = 1.0  # one pixel: the median takes it away, one bit takes all others away
    before, levels, smooth = (x.mean().item(), 1 / 16, 0.4)

    def p(mean: float) -> float:
        return float(1 / (1 + np.exp(10 * (1 - 2 * mean))))

    for settings, means in (
        (FeatureSqueezing(1, 0), [levels]),
        (FeatureSqueezing(0, 2), [smooth]),
        (FeatureSqueezing(1, 2), [levels, smooth]),
    ):
        expected = max(2 * abs(p(before) - p(m)) for m in means)
        assert settings.view(Evidence(Mean(), None, x)).item() == pytest.approx(expected, rel=1e-4)


def test_the_slope_passes_through_the_levels() -> None:
    x = examples.images(SHAPE, 2).requires_grad_()
    (slope,) = torch.autograd.grad(fewer_levels(x, 3).sum(), x)
    assert bool((slope == 1).all())


def test_the_authors_settings() -> None:
    """Their note on how to reproduce the paper: bit_depth_1 and median_filter_2_2; bit_depth_5, median_filter_2_2 and
    non_local_means_color_13_3_2 or 11_3_4.
    """
    assert (MNIST.bits, MNIST.median, MNIST.means) == (1, 2, ())
    assert (CIFAR10.bits, CIFAR10.median, CIFAR10.means) == (5, 2, (13, 3, 2))
    assert (IMAGENET.bits, IMAGENET.median, IMAGENET.means) == (5, 2, (11, 3, 4))
    assert len(list(CIFAR10.squeezed(examples.images(SHAPE, 2)))) == 3


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"bits": 9}, "bits must lie"),
        ({"median": 1}, "0, 2 or 3"),
        ({"means": (4, 3, 2)}, "odd"),
        ({"bits": 0, "median": 0}, "at least one"),
    ],
)
def test_settings_out_of_range(given: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        FeatureSqueezing(**given)
