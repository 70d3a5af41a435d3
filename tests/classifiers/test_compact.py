from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.classifiers import CompactCNN
from salientry.learned import fingerprint, rebuild, recipe_of
from salientry.types import ClassifierSettings, Shape

from .. import examples

EVERY = pytest.mark.parametrize("name", sorted(examples.classifiers()))


def stripes(n: int, shape: Shape, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of which class k has one bright column in the k-th part of its width, under noise."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, shape.classes, (n,), generator=g)
    x = 0.3 * torch.rand(n, shape.channels, shape.height, shape.width, generator=g)
    x[torch.arange(n), :, :, (y * shape.width) // shape.classes + 1] = 0.9
    return x, y


def settings(name: str) -> ClassifierSettings:
    return examples.classifiers()[name]


def longer(spec: Any) -> ClassifierSettings:
    """With six epochs."""
    found: ClassifierSettings = replace(spec, base=longer(spec.base)) if hasattr(spec, "base") else replace(spec, epochs=6)
    return found


@EVERY
def test_gives_finite_logits_for_any_shape_and_any_number_of_classes(name: str) -> None:
    for shape in (*examples.SHAPES.values(), Shape(4, 7, 5, 2), Shape(1, 17, 9, 23)):
        net = settings(name).build(shape)
        z = net(examples.images(shape, 6)).detach()
        assert z.shape == (6, shape.classes) and bool(torch.isfinite(z).all())
        assert not net.training
        assert float((z.sum(1) - 1).abs().max()) > 1e-3  # logits, not probabilities


@EVERY
def test_learns_and_knows_new_images(name: str) -> None:
    shape = Shape(1, 12, 12, 3)
    x, y = stripes(200, shape)
    net = longer(settings(name)).fit(x, y, shape, seed=0)
    new, labels = stripes(200, shape, seed=1)
    assert not net.training
    assert float((examples.predicted(net, new) == labels).float().mean()) > 0.9


@EVERY
def test_same_seed_same_weights_other_seed_other_weights(name: str, shape: Shape) -> None:
    x, y = stripes(40, shape)
    torch.manual_seed(1)
    first = fingerprint(settings(name).fit(x, y, shape, seed=3))
    torch.manual_seed(2)
    assert fingerprint(settings(name).fit(x, y, shape, seed=3)) == first
    assert fingerprint(settings(name).fit(x, y, shape, seed=4)) != first


@EVERY
def test_training_leaves_the_global_generator_alone(name: str) -> None:
    shape = examples.SHAPES["grey"]
    x, y = stripes(40, shape)
    state = torch.get_rng_state()
    settings(name).fit(x, y, shape, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


@EVERY
def test_is_built_again_bit_for_bit(name: str, shape: Shape) -> None:
    x, y = stripes(40, shape)
    net = settings(name).fit(x, y, shape, seed=0)
    again = rebuild(recipe_of(net))
    assert not torch.equal(again(x), net(x))  # untrained
    again.load_state_dict(net.state_dict())
    assert not again.training and torch.equal(again(x), net(x))
    assert fingerprint(again) == fingerprint(net)


@EVERY
def test_neighbours_do_not_matter(name: str, shape: Shape) -> None:
    x, y = stripes(40, shape)
    net = settings(name).fit(x, y, shape, seed=0).double().requires_grad_(False)
    whole = net(x.double())
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert float((net(x.double()[order]) - whole[order]).abs().max()) < 1e-10
    assert float((torch.cat([net(p) for p in x.double().split(7)]) - whole).abs().max()) < 1e-10
    assert net(x[:0].double()).shape == (0, shape.classes)


def test_compact_is_three_convolutions_and_a_linear_layer() -> None:
    net = CompactCNN(width=16).build(Shape(3, 32, 32, 10))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size[0], m.stride[0], m.bias is None) for m in convolutions] == [
        (16, 5, 2, True),
        (32, 3, 2, True),
        (32, 3, 1, True),
    ]
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(32 * 8 * 8, 10)]


def test_compact_shift_moves_training_images_by_at_most_that_many_pixels() -> None:
    """A dot in the middle of a 9 x 9 image: where it is seen in training is where shifts may bring it."""

    class Watched:
        """Images that are all the same dot, and a record of what the first layer was given."""

        def __len__(self) -> int:
            return 32

        def __getitem__(self, at: Tensor) -> Tensor:
            x = torch.zeros(len(at), 1, 9, 9)
            x[:, :, 4, 4] = 1
            return x

    places: set[tuple[int, int]] = set()

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        if x.shape[1:] == (1, 9, 9):
            assert bool((x.flatten(1).sum(1) == 1).all())
            places.update((int(r), int(c)) for r, c in x[:, 0].nonzero()[:, 1:].tolist())

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        CompactCNN(width=2, epochs=100, batch=32, shift=1).fit(Watched(), torch.arange(32) % 2, Shape(1, 9, 9, 2), seed=0)
    finally:
        handle.remove()
    assert places == {(r, c) for r in (3, 4, 5) for c in (3, 4, 5)}
