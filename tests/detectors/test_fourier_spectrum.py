"""Spectra of images whose frequencies are known, and against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from salientry.detectors import FourierSpectrum
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet
from salientry.keys import name_of
from salientry.metrics import auroc

from .. import examples

SHAPE = examples.SHAPES["colour"]  # 3 x 10 x 14


def view(x: torch.Tensor, kind: str = "magnitude", side: int = 32) -> torch.Tensor:
    return FourierSpectrum(kind, side).view(Evidence(None, None, x))


def wave(down: int, right: int, phase: float = 0.0) -> torch.Tensor:
    """(1, 1, 16, 16) a single frequency of amplitude 1/4 about 1/2."""
    i, j = torch.meshgrid(torch.arange(16).double(), torch.arange(16).double(), indexing="ij")
    return (0.5 + 0.25 * torch.cos(2 * math.pi * (down * i + right * j) / 16 + phase))[None, None]


@pytest.mark.parametrize(("down", "right"), [(0, 3), (5, 0), (3, 6), (14, 2)])
def test_one_frequency_is_one_peak(down: int, right: int) -> None:
    found = view(wave(down, right)).view(16, 9)
    expected = torch.zeros(16, 9, dtype=torch.float64)
    expected[0, 0] = 0.5 * 256
    expected[down, right] = 0.25 * 256 / 2  # the other half stands at the conjugate frequency
    if right == 0:
        expected[-down, 0] = 0.25 * 256 / 2
    assert torch.allclose(found, expected, atol=1e-8)


def test_a_shift_turns_phases_and_keeps_magnitudes() -> None:
    x = examples.images(SHAPE, 3, dtype=torch.float64)
    assert torch.allclose(view(x), view(x.roll((3, 5), (2, 3))), atol=1e-8)
    assert float(view(wave(3, 6, 0.7), "phase").view(16, 9)[3, 6]) == pytest.approx(0.7)


def test_it_holds_what_numpys_whole_spectrum_holds() -> None:
    x = examples.images(SHAPE, 2, dtype=torch.float64)
    whole = np.fft.fft2(x.numpy())
    magnitude, phase = (view(x, kind).view(2, 3, 10, 8).numpy() for kind in ("magnitude", "phase"))
    np.testing.assert_allclose(magnitude * np.exp(1j * phase), whole[..., :8], atol=1e-8)
    np.testing.assert_allclose(
        np.abs(whole[..., 9:]), np.abs(np.roll(whole[..., ::-1, :], 1, 2)[..., 5:0:-1]), atol=1e-8
    )  # what is left out
    assert torch.equal(view(x, "both"), torch.cat([view(x, "magnitude"), view(x, "phase")], 1))


def test_the_energy_is_that_of_the_image() -> None:
    x = examples.images(SHAPE, 2, dtype=torch.float64)
    half = view(x).view(2, 3, 10, 8).square()
    twice = half * torch.tensor([1.0, 2, 2, 2, 2, 2, 2, 1])  # the first and the last column have no conjugate of their own
    assert torch.allclose(twice.sum((2, 3)) / 140, x.square().sum((2, 3)))  # Parseval


def test_a_large_image_has_a_small_spectrum_of_the_means_of_neighbours() -> None:
    x = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    found, whole = view(x, side=16).view(2, 16, 9), torch.fft.rfft2(x).abs()[:, 0]
    for row in range(16):
        assert torch.allclose(found[:, row, 0], whole[:, 4 * row : 4 * row + 4, :4].mean((1, 2)), rtol=1e-4)
    assert view(torch.rand(1, 3, 224, 300)).shape == (1, 3 * 32 * 17)


def test_a_black_image_has_a_slope() -> None:
    x = torch.zeros(1, 1, 6, 6, requires_grad=True)
    for kind in ("magnitude", "phase", "both"):
        (slope,) = torch.autograd.grad(view(x, kind).sum(), x)
        assert bool(torch.isfinite(slope).all())


def test_the_spectrum_of_layers_is_that_of_their_maps_layer_by_layer_and_has_a_slope() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2), nn.Flatten(), nn.LazyLinear(5))
    x = examples.images(SHAPE, 2).requires_grad_()
    net(x.detach())
    spec = FourierSpectrum(layers=("1", "2"))
    found = spec.view(Evidence(net, None, x))
    maps = net[:2](x), net[:3](x)
    assert torch.allclose(found, torch.cat([torch.fft.rfft2(m).abs().flatten(1) for m in maps], 1), atol=1e-4)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert bool(slope.any())
    assert (spec.needs, FourierSpectrum().needs) == ({"classifier"}, frozenset())
    assert [name_of(s) for s in (FourierSpectrum(), spec)] == ["FourierSpectrum", "LayerSpectrum"]
    assert not [m for m in net.modules() if m._forward_hooks], "nothing is left on the classifier"


def test_it_is_fitted_on_maps_of_classifiers_that_are_asked() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    natural = examples.images(SHAPE, 40)
    x = torch.cat([natural, (natural + 0.3 * (torch.rand(natural.shape) - 0.5)).clamp(0, 1)])
    net(x)
    given = EvidenceSet({"image": x}, torch.zeros(80, dtype=torch.int64), classifier=net)
    fitted = FourierSpectrum(layers=("0",)).fit(given, given.labels, seed=0)
    with torch.no_grad():
        scores = fitted(Evidence(net, None, x))
    assert auroc(scores[:40].numpy(), scores[40:].numpy()) > 0.95


def test_layers_that_are_not_there_or_give_no_maps_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5))
    x = examples.images(SHAPE, 2)
    net(x)
    for layer, words in (("nine", "the classifier has no layer 'nine'"), ("2", r"layer '2' gives shape \(2, 5\)")):
        with pytest.raises(UsageError, match=words):
            FourierSpectrum(layers=(layer,)).view(Evidence(net, None, x))
    with pytest.raises(UsageError, match="needs a classifier"):
        FourierSpectrum(layers=("0",)).view(Evidence(None, None, x))


def test_other_kinds_are_refused() -> None:
    for given in ({"kind": "power"}, {"side": 1}):
        with pytest.raises(UsageError, match="kind is one of magnitude, phase, both"):
            FourierSpectrum(**given)  # type: ignore[arg-type]
