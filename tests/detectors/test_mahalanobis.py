"""Class-conditional Gaussians: against numpy in closed form, and what they must not depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import Mahalanobis
from salientry.detectors.mahalanobis import gaussians_of
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.evidence_set import EvidenceSet
from salientry.types import Shape

from .. import examples

CLASSES, WIDTHS = 3, (4, 6)


def known(n: int, seed: int, shift: float = 0.0) -> tuple[dict[str, Tensor], Tensor]:
    """Correlated activations of two layers about their classes' means, ``shift`` away from them."""
    g = torch.Generator().manual_seed(seed)
    y, parts = torch.randint(0, CLASSES, (n,), generator=g), {}
    for i, w in enumerate(WIDTHS):
        fixed = torch.Generator().manual_seed(100 + i)
        means, mix = 3 * torch.randn(CLASSES, w, generator=fixed), torch.randn(w, w, generator=fixed)
        mean = means[y] + torch.randn(n, w, generator=g) @ mix + shift * torch.randn(n, w, generator=g)
        parts[f"activations/layer{i}"] = torch.stack([mean, mean.abs(), mean + 1], 1)
    return parts, y


def evidence(n: int, seed: int, shift: float = 0.0) -> Evidence:
    return Evidence(None, None, torch.zeros(n, 1, 2, 2), **known(n, seed, shift)[0])


def training(n: int = 400) -> EvidenceSet:
    parts, y = known(n, 1)
    return EvidenceSet({"image": torch.zeros(n, 1, 2, 2), **parts}, y)


def numpys(train: np.ndarray[Any, Any], y: np.ndarray[Any, Any], test: np.ndarray[Any, Any], shrinkage: float) -> Any:
    """Squared distances to the nearest class, by the textbook."""
    means = np.stack([train[y == k].mean(0) for k in range(CLASSES)])
    rest = train - means[y]
    covariance = rest.T @ rest / len(train)
    covariance = (1 - shrinkage) * covariance + shrinkage * covariance.trace() / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance)
    return np.stack([np.einsum("ni,ij,nj->n", test - m, inverse, test - m) for m in means], 1).min(1)


@pytest.mark.parametrize("shrinkage", [0.0, 0.01, 1.0])
def test_distances_are_those_of_the_closed_form(shrinkage: float) -> None:
    parts, y = known(400, 1)
    seen = evidence(50, 2)
    found = gaussians_of(training(), (), shrinkage)(seen).numpy()
    assert found.shape == (50, 2)
    for i in range(2):
        ours = [p[f"activations/layer{i}"][:, 0].double().numpy() for p in (parts, known(50, 2)[0])]
        np.testing.assert_allclose(found[:, i], numpys(ours[0], y.numpy(), ours[1], shrinkage), rtol=2e-4)


def test_without_shrinkage_no_unit_rotation_or_origin_of_the_activations_matters() -> None:
    parts, y = known(400, 1)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(5)))
    there = {"activations/layer0": parts["activations/layer0"] @ (7 * turn) + 11}
    moved = EvidenceSet({"image": torch.zeros(400, 1, 2, 2), **there}, y)
    seen = evidence(50, 2)
    turned = Evidence(None, None, seen.image, **{"activations/layer0": getattr(seen, "activations/layer0") @ (7 * turn) + 11})
    for shrinkage in (0.0, 0.01):  # a multiple of the identity turns with it
        ours, theirs = gaussians_of(training(), ("layer0",), shrinkage)(seen), gaussians_of(moved, ("layer0",), shrinkage)(turned)
        assert torch.allclose(ours, theirs, rtol=2e-3)


def test_the_order_and_number_of_classes_does_not_matter() -> None:
    parts, y = known(400, 1)
    renamed = EvidenceSet({"image": torch.zeros(400, 1, 2, 2), **parts}, torch.tensor([7, 2, 5])[y])
    seen = evidence(50, 2)
    assert torch.allclose(gaussians_of(training(), (), 0.01)(seen), gaussians_of(renamed, (), 0.01)(seen), rtol=1e-4)


def test_at_a_class_mean_the_distance_is_nothing_and_on_the_training_images_their_width_on_average() -> None:
    parts, y = known(4000, 1)
    data = EvidenceSet({"image": torch.zeros(4000, 1, 2, 2), **parts}, y)
    gaussians = gaussians_of(data, ("layer1",), 0.0)
    mean = torch.stack([parts["activations/layer1"][y == k].mean(0) for k in range(CLASSES)])
    at_the_means = Evidence(None, None, torch.zeros(3, 1, 2, 2), **{"activations/layer1": mean})
    assert float(gaussians(at_the_means).abs().max()) < 1e-3
    mine = gaussians._nearest(0, parts["activations/layer1"][:, 0])
    assert float(mine.mean()) <= 6.001  # E d^2 = dimension for the own class, and the nearest is no further
    assert float(mine.mean()) > 5


def test_it_learns_from_training_naturals_what_lies_off_their_classes() -> None:
    given = EvidenceSet.of(evidence(200, 3), evidence(200, 4, shift=4.0), torch.zeros(200, dtype=torch.int64), training=training())
    fitted = Mahalanobis().fit(given, given.labels, seed=0)
    with torch.no_grad():
        natural, moved = fitted(evidence(200, 5)), fitted(evidence(200, 6, shift=4.0))
    assert float((moved[:, None] > natural).float().mean()) > 0.9
    assert fitted.needs == {"activations", "activations/layer0", "activations/layer1"}
    assert Mahalanobis().needs == {"activations", "training"} and Mahalanobis(("a",)).needs == {"activations/a", "training"}


def test_without_training_naturals_and_out_of_range_it_says_so() -> None:
    given = EvidenceSet.of(evidence(20, 3), evidence(20, 4), torch.zeros(20, dtype=torch.int64))
    with pytest.raises(UsageError, match="naturals that the classifier was trained on"):
        Mahalanobis().fit(given, given.labels, seed=0)
    with pytest.raises(UsageError, match=r"shrinkage lies in \[0, 1\]; found 2"):
        Mahalanobis(shrinkage=2)
    with pytest.raises(UsageError, match=r"magnitude lies in \[0, 1\]; found -1"):
        Mahalanobis(magnitude=-1)


# --- the move along the gradient ----------------------------------------------------------------------------------------


def linear() -> tuple[nn.Sequential, EvidenceSet, Tensor]:
    """A linear network, naturals of three classes in its layer ``1``, and 20 images."""
    net = examples.affine(Shape(1, 3, 3, 4), dtype=torch.float32)
    x = torch.rand(320, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    seen = Evidence(net, None, x[:300], frozenset({"activations/1"}))
    data = EvidenceSet({"image": x[:300], "activations/1": getattr(seen, "activations/1").detach()}, torch.arange(300) % CLASSES)
    return net, data, x[300:]


def test_the_move_is_the_papers_on_a_linear_network() -> None:
    """f = W x + b: the gradient of the distance is 2 W' S^-1 (f - m) of the nearest class, and the image goes against its sign."""
    net, data, x = linear()
    gaussians, weight = gaussians_of(data, ("1",), 0.0), net[1].weight.double()
    mean, whitening = gaussians.mean0.double(), gaussians.whitening0.double()
    inverse = whitening @ whitening.T

    def nearest(flat: Tensor) -> tuple[Tensor, Tensor]:
        apart = (flat @ weight.T + net[1].bias.double())[:, None] - mean
        distances = torch.einsum("nki,ij,nkj->nk", apart, inverse, apart)
        return distances.amin(1), apart[torch.arange(len(flat)), distances.argmin(1)]

    flat = x.flatten(1).double()
    moved = flat - 0.01 * (nearest(flat)[1] @ inverse @ weight).sign()
    found = Mahalanobis(("1",), magnitude=0.01).view(Evidence(net, None, x), gaussians)
    assert torch.allclose(found[:, 0].double(), nearest(moved)[0], rtol=1e-3)
    assert bool((found[:, 0] < Mahalanobis(("1",)).view(Evidence(net, None, x, frozenset({"activations/1"})), gaussians)[:, 0]).all())


def test_with_a_move_it_is_fitted_asks_the_classifier_and_has_a_gradient() -> None:
    net, data, x = linear()
    spec = Mahalanobis(("1",), magnitude=0.002)
    assert spec.needs == {"training", "classifier", "activations/1"} and "classifier" not in Mahalanobis(("1",)).needs
    twins = torch.cat([x, x + 0.5])
    given = EvidenceSet({"image": twins}, torch.zeros(40, dtype=torch.int64), classifier=net, training=data)
    fitted = spec.fit(given, given.labels, seed=0)
    here = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(fitted(Evidence(net, None, here)).sum(), here)
    assert bool((slope.flatten(1).norm(dim=1) > 0).all())
    with pytest.raises(UsageError, match="needs a classifier"):
        fitted(Evidence(None, None, x))
