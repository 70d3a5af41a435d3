"""Enhanced guided backpropagation by hand, and against the computation in its first author's code."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.errors import UsageError
from salientry.saliency import EnhancedGuidedBackprop
from salientry.saliency._gradients import guided
from salientry.types import Shape

from .. import examples

SHAPE = Shape(3, 8, 10, 4)
SETTINGS = EnhancedGuidedBackprop()


def some(n: int = 6) -> tuple[Tensor, Tensor]:
    return examples.images(SHAPE, n, dtype=torch.float64), (torch.arange(n) * 3 + 1) % SHAPE.classes


def guided_map(net: nn.Module, x: Tensor, k: int) -> np.ndarray:
    """(H, W, C) signed guided gradient of one image."""
    here = x.clone().requires_grad_()
    with guided(net):
        (found,) = torch.autograd.grad(net(here)[0, k], here)
    return found[0].permute(1, 2, 0).numpy()


def test_it_is_the_first_authors_computation() -> None:
    """Theirs for one image, up to the division by its own maximum; negative values, which theirs keeps, are 0 here."""
    net, (x, k) = examples.conv(SHAPE, dtype=torch.float64).requires_grad_(False), some()
    found = SETTINGS.build(SHAPE, net).raw(x, k)
    negative = 0
    for i in range(len(x)):
        order = np.argsort(net(x[i : i + 1])[0].numpy())
        contra = order[-2] if order[-1] == k[i] else order[-1]
        own, other = (np.maximum(0, guided_map(net, x[i : i + 1], int(c))) for c in (k[i], contra))
        signed = (own / own.sum((0, 1)).reshape(1, 1, 3) - other / other.sum((0, 1)).reshape(1, 1, 3)).sum(2)
        negative += int((signed < 0).sum())
        assert abs(signed.sum()) < 1e-12, "as much is taken away as there is"
        np.testing.assert_allclose(found[i, 0].numpy(), np.maximum(signed, 0), rtol=0, atol=1e-12)
    assert negative > 50


def test_two_classes_that_share_a_pixel_by_hand() -> None:
    """Class 0 reads pixels 0 and 1 by 3 and 1, class 1 pixels 1 and 2 by 1 and 1: shares (3/4, 1/4, 0), (0, 1/2, 1/2)."""
    net = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(3, 3, bias=False)).double()
    net[2].weight.data = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, -1.0]]).double()
    net.requires_grad_(False)
    module, x = SETTINGS.build(Shape(1, 1, 3, 3), net), torch.tensor([0.5, 0.5, 0.5]).double().view(1, 1, 1, 3).repeat(3, 1, 1, 1)
    found = module.raw(x, torch.tensor([0, 1, 2])).flatten(1).tolist()
    assert found == [[0.75, 0, 0], [0, 0.25, 0.5], [0, 0, 0]], "class 2 has nothing positive: its map is empty"


def test_the_size_of_a_classs_logit_does_not_matter_where_guided_maps_grow_with_it() -> None:
    net, (x, k) = examples.conv(SHAPE, dtype=torch.float64).requires_grad_(False), some()
    larger = copy.deepcopy(net)
    larger[6].weight.data *= 7
    larger[6].bias.data *= 7
    torch.testing.assert_close(SETTINGS.build(SHAPE, larger).raw(x, k), SETTINGS.build(SHAPE, net).raw(x, k), rtol=0, atol=1e-12)


def test_gradients_of_the_map_are_finite_and_its_classifier_is_left_as_found() -> None:
    net, (x, k) = examples.conv(SHAPE, smooth=False, dtype=torch.float64).requires_grad_(False), some()
    here = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(SETTINGS.build(SHAPE, net)(here, k)["map"].sum(), here)
    assert bool(torch.isfinite(slope).all())
    assert not any("forward" in vars(m) for m in net.modules())
    empty = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(240, 4)).double().requires_grad_(False)
    empty[2].weight.data.zero_()
    here = x.clone().requires_grad_()
    found = SETTINGS.build(SHAPE, empty)(here, k)["map"]
    assert not found.any()


def test_refuses_a_classifier_without_relu() -> None:
    x, k = some()
    with pytest.raises(UsageError, match=r"guided backpropagation replaces nn\.ReLU modules; Sequential has none"):
        SETTINGS.build(SHAPE, examples.affine(SHAPE))(x, k)
