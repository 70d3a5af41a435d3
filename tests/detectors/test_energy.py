"""The free energy, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from salientry.detectors import Energy
from salientry.errors import UsageError
from salientry.evidence import Evidence


def energies(z: torch.Tensor, temperature: float = 1.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    look = Evidence(None, None, torch.zeros(len(z), 1, 1, 1), logits=z)
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = Energy(temperature).view(look).numpy()[:, 0]
    return found


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_the_papers_equation(temperature: float) -> None:
    z = 5 * torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(energies(z, temperature), -temperature * logsumexp(z.numpy() / temperature, axis=1), rtol=1e-12)


def test_equal_logits_and_a_shift_by_hand() -> None:
    z = torch.full((1, 8), 3.0, dtype=torch.float64)
    assert energies(z)[0] == pytest.approx(-3 - math.log(8))
    assert energies(z, 2.0)[0] == pytest.approx(-3 - 2 * math.log(8))
    assert energies(z + 5)[0] == pytest.approx(energies(z)[0] - 5), "unlike the largest probability it sees how large the logits are"


def test_cold_it_is_minus_the_largest_logit() -> None:
    z = torch.randn(30, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    np.testing.assert_allclose(energies(z, 1e-3), -z.amax(1).numpy(), atol=2e-3)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_above_0(temperature: float) -> None:
    with pytest.raises(UsageError, match="temperature is a number above 0"):
        Energy(temperature)
