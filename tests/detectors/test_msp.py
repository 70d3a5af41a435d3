"""The largest probability, in closed form."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import logit, softmax

from salientry.detectors import MSP
from salientry.evidence import Evidence


def view(z: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = (
        MSP().view(Evidence(None, None, torch.zeros(len(z), 1, 1, 1), logits=z)).numpy()
    )
    return found


def test_it_is_the_log_odds_of_the_largest_probability() -> None:
    z = 3 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    largest = softmax(z.numpy(), 1).max(1)
    np.testing.assert_allclose(view(z)[:, 0], -logit(largest), rtol=1e-9)
    assert (view(z)[:, 0].argsort() == (-largest).argsort()).all(), "images stand in the order of the paper's number"


def test_images_are_told_apart_where_the_probability_is_1_in_floats() -> None:
    z = torch.tensor([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    assert bool((z.softmax(1).amax(1) == 1).all())
    np.testing.assert_allclose(view(z)[:, 0], np.log(2) - np.array([40, 60]), rtol=1e-6)


def test_adding_a_number_to_all_logits_changes_nothing() -> None:
    z = torch.randn(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    np.testing.assert_allclose(view(z), view(z + 11), atol=1e-12)
