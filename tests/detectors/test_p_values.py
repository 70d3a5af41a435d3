"""P-values of several numbers: ranks, Fisher's distribution, and no attacked image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from salientry.detectors import MSP, Energy, HighFrequency, Mahalanobis, Margin, PValues, SortedLogits, _logistic
from salientry.detectors._reference import numbers
from salientry.detectors.p_values import surprises
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet


@dataclass(frozen=True)
class Pixel:
    """One pixel of the image: independent numbers."""

    at: int
    needs = frozenset[str]()
    build = _logistic.build

    def view(self, evidence: Any, *parts: Any) -> torch.Tensor:
        found: torch.Tensor = evidence.image.flatten(1)[:, self.at : self.at + 1]
        return found


def look(n: int, seed: int) -> Evidence:
    x = torch.rand(n, 1, 1, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Evidence(None, None, x)


def pixels(way: str = "fisher") -> PValues:
    return PValues(tuple(Pixel(i) for i in range(4)), way)


def given(n: int, seed: int = 0) -> EvidenceSet:
    return EvidenceSet({"image": torch.cat([look(n, seed).image, 5 + look(n, seed + 1).image])}, torch.zeros(2 * n, dtype=torch.int64))


def test_at_the_naturals_own_places_the_p_value_is_the_share_at_least_as_large() -> None:
    known = torch.tensor([1.0, 2, 2, 4, 7], dtype=torch.float64)
    found = torch.exp(-surprises(torch.tensor([1.0, 2, 4, 7], dtype=torch.float64), known)) * 6
    assert torch.allclose(found, torch.tensor([6.0, 5, 3, 2], dtype=torch.float64))
    assert surprises(torch.tensor([-9.0], dtype=torch.float64), known).item() == 0


def test_it_rises_steadily_and_goes_on_beyond_the_largest_natural() -> None:
    known = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64).sort().values
    found = surprises(torch.linspace(-1, 3, 400, dtype=torch.float64), known)
    assert bool((found.diff() >= 0).all()) and bool((found[-100:].diff() > 0).all())
    excess = (known[-20:] - known[-20]).mean()
    assert float(surprises(known[-1:] + 3 * excess, known)) == pytest.approx(float(surprises(known[-1:], known)) + 3)


def test_of_exponential_naturals_the_tail_is_theirs() -> None:
    known = torch.from_numpy(np.random.default_rng(0).exponential(2.0, 5000)).sort().values
    assert float(surprises(torch.tensor([30.0], dtype=torch.float64), known)) == pytest.approx(15, rel=0.25)  # P(X > 30) = exp(-15)


def test_independent_naturals_have_fishers_distribution() -> None:
    part = numbers(look(4000, 0).image.flatten(1).sort(0).values)
    fisher, least = (pixels(way).view(look(4000, 1), part)[:, 0].numpy() for way in ("fisher", "minimum"))
    assert kstest(fisher, chi2(8).cdf).pvalue > 1e-3
    assert kstest(1 - (1 - np.exp(-least / 2)) ** 4, "uniform").pvalue > 1e-3  # the smallest of four


def test_five_percent_of_naturals_lie_above_0_whatever_the_attacked_images_are() -> None:
    data = given(1000)
    fitted = pixels().fit(data, data.labels, seed=0)
    assert float((fitted(look(1000, 0)) > 0).double().mean()) == pytest.approx(0.05, abs=0.002)
    assert float((fitted(look(4000, 7)) > 0).double().mean()) == pytest.approx(0.05, abs=0.02)
    twins = torch.cat([data.image[:1000], torch.zeros_like(data.image[:1000])])
    other = EvidenceSet({"image": twins}, data.classes)
    assert torch.equal(pixels().fit(other, other.labels, seed=1)(look(50, 9)), fitted(look(50, 9)))


def test_no_unit_of_a_member_matters() -> None:
    part, seen = look(500, 0).image.flatten(1).sort(0).values, look(30, 1)
    stretched = Evidence(None, None, seen.image * 700 - 3)
    for way in ("fisher", "minimum"):
        assert torch.allclose(pixels(way).view(seen, numbers(part)), pixels(way).view(stretched, numbers(part * 700 - 3)), atol=1e-8)


@pytest.mark.parametrize("members", [(), (SortedLogits(),), (MSP(), Mahalanobis()), ("msp",)])
def test_members_are_numbers_that_rise(members: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match="members are"):
        PValues(members)


def test_it_needs_what_its_members_need() -> None:
    assert PValues((MSP(), Energy(), Margin(), HighFrequency())).needs == {"logits"}
    assert PValues().needs == {"logits", "classifier"}
    with pytest.raises(UsageError, match="way is fisher or minimum"):
        PValues(way="mean")
