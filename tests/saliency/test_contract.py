"""What every entry of SALIENCY owes: a map in [0, 1] for any size, one image at a time, and a classifier left as it was found."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from salientry.classifiers import CompactCNN
from salientry.learned import fingerprint, rebuild, recipe_of, seeded
from salientry.types import Shape

from .. import examples

pytestmark = pytest.mark.parametrize("name", sorted(examples.saliency()))
N = 48
LEARN_FROM_A_SEED = {"unet"}  # the others are made of the classifier, and nothing is drawn


def known(shape: Shape) -> nn.Module:
    """An untrained classifier that can be built again."""
    with seeded(3):
        return CompactCNN(width=4).build(shape)


def fitted(name: str, shape: Shape, seed: int = 0, classifier: nn.Module | None = None) -> tuple[nn.Module, Tensor, Tensor]:
    x = examples.images(shape, N)
    y = torch.arange(N) % shape.classes
    return examples.saliency()[name].fit(x, y, classifier or examples.conv(shape), shape, seed=seed), x, y


def test_map_is_as_large_as_the_image_and_in_range(name: str, shape: Shape) -> None:
    net, x, y = fitted(name, shape)
    assert not any(m.training for m in net.modules())
    with torch.no_grad():
        said = net(x[:7], y[:7])
    assert said["map"].shape == (7, 1, shape.height, shape.width)
    assert float(said["map"].min()) >= 0 and float(said["map"].max()) <= 1
    assert float(said["map"].std()) > 1e-4
    if "class_presence" in said:
        assert said["class_presence"].shape == (7,) and bool(torch.isfinite(said["class_presence"]).all())
    if "second_net_logprobs" in said:
        assert torch.allclose(said["second_net_logprobs"].exp().sum(1), torch.ones(7), atol=1e-5)


def test_each_image_is_looked_at_alone(name: str, shape: Shape) -> None:
    net, x, y = fitted(name, shape)
    net = net.double().requires_grad_(False)
    x = x.double()
    whole, order = net(x, y), torch.randperm(N, generator=torch.Generator().manual_seed(0))
    for part, value in whole.items():
        assert float((net(x[order], y[order])[part] - value[order]).abs().max()) < 1e-9
        pieces = torch.cat([net(x[at], y[at])[part] for at in torch.arange(N).split(11)])
        assert float((pieces - value).abs().max()) < 1e-9


def test_same_seed_same_weights_other_seed_other_weights_where_a_seed_is_used(name: str) -> None:
    shape = examples.SHAPES["odd"]
    state = torch.get_rng_state()
    first = fingerprint(fitted(name, shape, seed=5)[0])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(77)
    assert fingerprint(fitted(name, shape, seed=5)[0]) == first
    assert (fingerprint(fitted(name, shape, seed=6)[0]) != first) == (name in LEARN_FROM_A_SEED)


def test_is_built_again_bit_for_bit(name: str, shape: Shape) -> None:
    net, x, y = fitted(name, shape, classifier=known(shape))
    again = rebuild(json.loads(json.dumps(recipe_of(net))))
    assert fingerprint(again) != fingerprint(net)
    again.load_state_dict(net.state_dict())
    assert not any(m.training for m in again.modules())
    with torch.no_grad():
        for part, value in net(x, y).items():
            assert torch.equal(again(x, y)[part], value)
    assert recipe_of(again) == recipe_of(net)


def test_map_is_in_the_graph_if_and_only_if_the_image_is(name: str) -> None:
    shape = examples.SHAPES["colour"]
    net, x, y = fitted(name, shape)
    net.requires_grad_(False)
    for ambient in (True, False):
        with torch.set_grad_enabled(ambient):
            assert not net(x[:4], y[:4])["map"].requires_grad
            here = x[:4].clone().requires_grad_()
            alive = net(here, y[:4])["map"]
        assert alive.requires_grad or not ambient
        assert torch.equal(alive.detach(), net(x[:4], y[:4])["map"])


def test_training_leaves_the_classifier_as_found(name: str) -> None:
    shape = examples.SHAPES["grey"]
    classifier = examples.conv(shape).train()
    classifier[1].eval()
    classifier[0].weight.requires_grad_(False)
    before = copy.deepcopy(classifier)
    fitted(name, shape, classifier=classifier)
    assert fingerprint(classifier) == fingerprint(before)
    assert [m.training for m in classifier.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in classifier.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in classifier.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in classifier.modules())
