from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from salientry.classifiers import ResidualCNN
from salientry.classifiers.residual import augmented
from salientry.types import Shape

SHAPE = Shape(3, 16, 12, 4)


@pytest.mark.parametrize("shape", [Shape(3, 32, 32, 10), Shape(1, 28, 28, 10), Shape(2, 13, 11, 3)])
def test_stages_halve_and_the_answer_is_made_of_the_last(shape: Shape) -> None:
    net = ResidualCNN(width=4).build(shape)
    x = torch.rand(5, shape.channels, shape.height, shape.width)
    with torch.no_grad():
        maps = net.trunk(x)  # type: ignore[operator]
        assert [m.shape[1] for m in maps] == [4, 8, 16] == list(net.widths)  # type: ignore[arg-type]
        if shape.height == 32:
            assert [tuple(m.shape[2:]) for m in maps] == [(16, 16), (8, 8), (4, 4)]
        assert torch.equal(net.answer(maps[-1]), net(x))  # type: ignore[operator]
        assert net(x).shape == (5, shape.classes)


def test_the_width_of_the_paper_sized_net_costs_what_the_docstring_says() -> None:
    net = ResidualCNN().build(Shape(3, 32, 32, 10))
    assert sum(p.numel() for p in net.parameters()) == 267_466


def test_augmentation_is_a_window_of_the_reflected_image_perhaps_mirrored() -> None:
    x = torch.rand(40, 3, 9, 7)
    found = augmented(x, 2, True, torch.Generator().manual_seed(1))
    padded, mirrored, moved = F.pad(x, (2, 2, 2, 2), mode="reflect"), 0, set[tuple[int, int]]()
    for image, whole in zip(found, padded, strict=True):
        windows = {(t, left): whole[:, t : t + 9, left : left + 7] for t in range(5) for left in range(5)}
        same = [at for at, w in windows.items() if torch.equal(w, image)]
        flipped = [at for at, w in windows.items() if torch.equal(w.flip(2), image)]
        assert same or flipped, "no window of the padded image"
        mirrored += bool(flipped)
        moved |= {*same, *flipped}
    assert 8 < mirrored < 32
    assert len(moved) > 10
    assert torch.equal(augmented(x, 0, False, torch.Generator()), x)


def test_it_learns_and_a_seed_repeats_it() -> None:
    y = torch.arange(240) % 4
    x = (torch.randn(240, 3, 16, 12) * 0.1 + 0.5).clamp(0, 1)
    for k in range(4):
        x[y == k, k % 3, 4 * (k // 3) : 4 * (k // 3) + 8] = 1.0  # mirrored, it is still the same class
    spec = ResidualCNN(width=4, epochs=6, batch=24, lr=0.1, crop=1)
    first, again, other = (spec.fit(x, y, SHAPE, seed=s) for s in (0, 0, 1))
    with torch.no_grad():
        assert (first(x).argmax(1) == y).float().mean() > 0.95
        assert torch.equal(first(x), again(x))
        assert not torch.equal(first(x), other(x))
    assert not first.training
