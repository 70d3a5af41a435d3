"""The gradients beside the image, against autograd and finite differences, and why one of them is a map of zeros (claim C19)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import JSD, SmallCNN
from salientry.detectors.jsd import PART
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.types import Shape

from .. import examples

SHAPE, N = Shape(3, 8, 10, 4), 5


def every(classifier: nn.Module, x: Tensor) -> Tensor:
    """(N, K, C, H, W) gradient of each logit, image by image and logit by logit."""
    return torch.stack([torch.autograd.functional.jacobian(lambda v: classifier(v)[0], row[None])[:, 0] for row in x])


def expected(target: str, classifier: nn.Module, x: Tensor) -> Tensor:
    slopes = every(classifier, x)
    if target == "pred":
        return slopes[torch.arange(len(x)), classifier(x).argmax(1)]
    if target == "prob":
        return torch.zeros_like(x)
    return slopes.sum(1) if target == "sum" else slopes.flatten(1, 2)


@pytest.mark.parametrize("target", PART)
@pytest.mark.parametrize("announced", [True, False])
def test_view_is_the_image_beside_the_gradient(target: Any, announced: bool) -> None:
    classifier = examples.conv(SHAPE, dtype=torch.float64).requires_grad_(False)
    x, jsd = examples.images(SHAPE, N, dtype=torch.float64), JSD(target)
    seen = jsd.view(Evidence(classifier, None, x, jsd.needs if announced else frozenset()))
    assert seen.shape == (N, 3 + (12 if target == "full" else 3), 8, 10)
    assert torch.equal(seen[:, :3], x)
    torch.testing.assert_close(seen[:, 3:], expected(target, classifier, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", PART)
def test_gradient_matches_finite_differences(target: Any) -> None:
    classifier = examples.conv(SHAPE, smooth=True, dtype=torch.float64).requires_grad_(False)
    x = examples.images(SHAPE, N, dtype=torch.float64)
    k = classifier(x).argmax(1, keepdim=True)

    def values(v: Tensor) -> Tensor:
        z = classifier(v)
        wide: Tensor = {"pred": z.gather(1, k), "sum": z.sum(1, keepdim=True), "prob": z.softmax(1).sum(1, keepdim=True), "full": z}[target]
        return wide

    found = JSD(target).view(Evidence(classifier, None, x))[:, 3:].unflatten(1, (-1, 3))
    g = torch.Generator().manual_seed(0)
    for _ in range(3):
        d = torch.randn(x.shape, generator=g, dtype=torch.float64)
        slope = (values(x + 1e-6 * d) - values(x - 1e-6 * d)) / 2e-6
        torch.testing.assert_close((found * d[:, None]).sum((2, 3, 4)), slope, rtol=1e-6, atol=1e-8)


def test_the_gradient_of_all_probabilities_is_nothing_but_rounding(shape: Shape, classifier: nn.Module) -> None:
    x = examples.images(shape, 20)
    look = Evidence(classifier.requires_grad_(False), None, x)
    prob, pred = (JSD(target).view(look)[:, shape.channels :].abs() for target in ("prob", "pred"))  # type: ignore[arg-type]
    assert float(prob.max()) < 1e-6
    assert float(pred.flatten(1).amax(1).min()) > 1e-3


def test_needs_the_gradient_of_its_target_and_scores_it() -> None:
    classifier, x = examples.conv(SHAPE).requires_grad_(False), examples.images(SHAPE, N)
    for target, part in PART.items():
        settings = JSD(target, SmallCNN(width=4))  # type: ignore[arg-type]
        assert settings.needs == {part}
        detector: Any = settings.build((3 + (12 if target == "full" else 3), 8, 10))
        assert detector.needs == {part}
        look = Evidence(classifier, None, x)
        assert detector(look).shape == (N,)
        assert part in look and not any(other in look for other in PART.values() if other != part)


def test_refuses_another_target() -> None:
    with pytest.raises(UsageError, match="target must be one of pred, sum, prob, full; found 'logit'"):
        JSD("logit")  # type: ignore[arg-type]
