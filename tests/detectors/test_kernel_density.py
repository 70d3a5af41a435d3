"""Kernel densities: against scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from salientry.detectors import KernelDensity
from salientry.detectors._reference import numbers, reference_of
from salientry.detectors.kernel_density import likeliest, log_density
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet

CLASSES, WIDTHS = 3, (4, 6)


def layers(n: int, seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {f"activations/layer{i}": torch.randn(n, 3, w, generator=g) for i, w in enumerate(WIDTHS)}


def training(n: int = 90) -> EvidenceSet:
    return EvidenceSet({"image": torch.zeros(n, 1, 2, 2), **layers(n, 1)}, torch.arange(n) % CLASSES)


def look(n: int = 10) -> Evidence:
    return Evidence(None, None, torch.zeros(n, 1, 2, 2), predicted=torch.arange(n) % CLASSES, **layers(n, 2))


@pytest.mark.parametrize("bandwidth", [0.26, 1.2])
def test_it_is_the_estimate_of_the_predicted_class_in_every_layer(bandwidth: float) -> None:
    known, seen = training(), look()
    reference = reference_of("KernelDensity", known, (), 90)
    found = KernelDensity(bandwidth).view(seen, reference, numbers(torch.full((2,), bandwidth))).numpy()
    for i, w in enumerate(WIDTHS):
        for row in range(10):
            mine = known.activations[f"layer{i}"].mean[known.classes == row % CLASSES].double().numpy()
            here = seen.activations[f"layer{i}"].mean[row].double().numpy()
            density = np.mean([multivariate_normal.pdf(here, m, bandwidth**2 * np.eye(w)) for m in mine])
            assert found[row, i] == pytest.approx(-np.log(density), rel=1e-3)


def test_it_equals_scikit_learns() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    known, seen = training().activations["layer1"].mean, look().activations["layer1"].mean
    theirs = neighbors.KernelDensity(kernel="gaussian", bandwidth=0.7).fit(known.numpy()).score_samples(seen.numpy())
    ours = log_density(torch.cdist(seen, known), torch.ones(10, 90, dtype=torch.bool), torch.tensor(0.7), 6)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4)


def test_one_natural_is_one_gaussian() -> None:
    d = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    found = log_density(d, torch.ones(2, 1, dtype=torch.bool), torch.tensor(2.0, dtype=torch.float64), 3)
    peak = -3 * (np.log(2) + 0.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(found.numpy(), [peak, peak - 0.5], rtol=1e-12)


def test_the_bandwidth_is_the_likeliest_of_those_tried() -> None:
    """Against Gaussians whose best bandwidth is known: n^(-1 / (D + 4)) of their deviation, roughly (Silverman 1986)."""
    known = 3 * torch.randn(600, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = float(likeliest(known, torch.zeros(600, dtype=torch.int64)))
    assert found == pytest.approx(3 * 600 ** (-1 / 6), rel=0.4)
    assert float(likeliest(10 * known, torch.zeros(600, dtype=torch.int64))) == pytest.approx(10 * found, rel=1e-9)


def test_a_class_that_no_natural_has_is_compared_with_all() -> None:
    reference = reference_of("KernelDensity", training(), ("layer0",), 90)
    spec, widths = KernelDensity(layers=("layer0",)), numbers(torch.ones(1))
    found = spec.view(look().put(predicted=torch.full((10,), 7)), reference, widths)
    each = torch.stack([spec.view(look().put(predicted=torch.full((10,), k)), reference, widths) for k in range(CLASSES)])
    assert torch.allclose(found, -((-each).logsumexp(0) - np.log(CLASSES)), rtol=1e-4), (
        "three classes of one size: the mean of their densities"
    )


def test_fit_makes_a_reference_and_settings_out_of_range_are_refused() -> None:
    given = EvidenceSet.of(look(30), look(30).put(predicted=(torch.arange(30) + 1) % CLASSES), training=training())
    fitted = KernelDensity(reference=50).fit(given, given.labels, seed=0)
    assert len(fitted.parts[0].classes) == 50 and fitted.needs == {"activations", "activations/layer0", "activations/layer1", "predicted"}
    with pytest.raises(UsageError, match="naturals that the classifier was trained on"):
        KernelDensity().fit(EvidenceSet.of(look(30), look(30)), given.labels, seed=0)
    for wrong in ({"bandwidth": -1.0}, {"reference": 1}):
        with pytest.raises(UsageError, match="bandwidth is 0 or above"):
            KernelDensity(**wrong)  # type: ignore[arg-type]
