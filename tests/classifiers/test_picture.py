from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salientry.classifiers import PictureCNN
from salientry.training import CHECKPOINTS, Checkpoints
from salientry.types import Shape

SHAPE = Shape(3, 24, 24, 2)


def test_stages_halve_and_the_answer_is_the_mean_of_the_last() -> None:
    net = PictureCNN().build(Shape(3, 112, 112, 2))
    x = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        maps = net.trunk(x)  # type: ignore[operator]
        assert [tuple(m.shape[1:]) for m in maps] == [(16, 56, 56), (32, 28, 28), (64, 14, 14), (128, 7, 7)]
        assert list(net.widths) == [16, 32, 64, 128]  # type: ignore[arg-type]
        torch.testing.assert_close(net(x), F.linear(maps[-1].flatten(2).mean(2), net.head.weight, net.head.bias))  # type: ignore[union-attr, arg-type]
    assert sum(p.numel() for p in net.parameters()) == 486_242


def test_nothing_is_changed_when_nothing_may_be() -> None:
    x = torch.rand(6, 3, 20, 14)
    still = PictureCNN(zoom=1.0, turn=0.0, shift=0.0, light=0.0)
    found = still.changed(x, torch.Generator().manual_seed(0))
    kept = [bool(torch.isclose(a, b, atol=1e-5).all()) for a, b in zip(found, x, strict=True)]
    mirrored = [bool(torch.isclose(a, b.flip(2), atol=1e-5).all()) for a, b in zip(found, x, strict=True)]
    assert [k + m for k, m in zip(kept, mirrored, strict=True)] == [1] * 6
    assert any(kept) and any(mirrored)


def test_what_is_seen_stays_inside_its_bounds() -> None:
    """A ramp tells where each pixel came from: columns give x, rows give y, in [-1, 1]."""
    n, side = 400, 64
    line = (torch.arange(side) + 0.5) / side
    ramp = torch.stack([line.expand(side, side), line[:, None].expand(side, side), torch.full((side, side), 0.5)])[None].expand(
        n, -1, -1, -1
    )
    spec = PictureCNN(zoom=1.5, turn=0.0, shift=0.0, light=0.0)
    found = 2 * spec.changed(ramp, torch.Generator().manual_seed(1)) - 1
    width = (found[:, 0, 32, -1] - found[:, 0, 32, 0]).abs() * side / (side - 1) / 2  # share of the side that is seen
    height = (found[:, 1, -1, 32] - found[:, 1, 0, 32]) * side / (side - 1) / 2
    torch.testing.assert_close(width, height, atol=0.02, rtol=0)
    assert 1 / 1.5 - 0.02 < width.min() < 0.69
    assert 0.97 < width.max() < 1.02
    mirrored = (found[:, 0, 32, -1] < found[:, 0, 32, 0]).float().mean()
    assert 0.4 < mirrored < 0.6
    turned = PictureCNN(zoom=1.0, turn=10.0, shift=0.0, light=0.0).changed(ramp, torch.Generator().manual_seed(2))
    slope = (turned[:, 1, 32, 40] - turned[:, 1, 32, 24]) / (turned[:, 0, 32, 40] - turned[:, 0, 32, 24])
    angle = torch.rad2deg(torch.atan(slope)).abs()
    assert 9 < angle.max() < 10.1


def test_light_is_bounded() -> None:
    x = torch.full((300, 3, 8, 8), 0.5)
    found = PictureCNN(zoom=1.0, turn=0.0, shift=0.0, light=0.2).changed(x, torch.Generator().manual_seed(0)).flatten(1).mean(1)
    assert 0.4 - 1e-5 <= found.min() < 0.41
    assert 0.59 < found.max() <= 0.6 + 1e-5


def test_it_learns_and_a_seed_repeats_it() -> None:
    y = torch.arange(120) % 2
    x = (torch.randn(120, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.5).clamp(0, 1)
    for k in range(2):
        x[y == k, 2 * k, 6:18, 6:18] = 1.0
    spec = PictureCNN(width=4, stages=3, small_epochs=4, epochs=4, small=16, batch=20)
    first, again, other = (spec.fit(x, y, SHAPE, seed=s) for s in (0, 0, 1))
    with torch.no_grad():
        assert (first(x).argmax(1) == y).float().mean() > 0.95
        assert torch.equal(first(x), again(x))
        assert not torch.equal(first(x), other(x))
    assert not first.training


def test_a_stopped_training_goes_on_after_its_last_whole_epoch_to_the_same_weights(tmp_path: Path) -> None:
    spec = PictureCNN(width=4, stages=2, small_epochs=2, epochs=2, small=12, batch=8)
    x, y = torch.rand(16, 3, 24, 24, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
    whole = spec.fit(x, y, SHAPE, seed=1).state_dict()

    class Halting:
        reads = 0

        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, at: Tensor) -> Tensor:
            self.reads += 1
            if self.reads > 5:
                raise KeyboardInterrupt
            return x[at]

    def again(images: Any) -> nn.Module:
        token = CHECKPOINTS.set(Checkpoints(tmp_path / "state", seconds=0.0))
        try:
            return spec.fit(images, y, SHAPE, seed=1)
        finally:
            CHECKPOINTS.reset(token)

    with pytest.raises(KeyboardInterrupt):
        again(Halting())
    state, resumed = torch.get_rng_state(), Halting()
    net = again(resumed)
    assert resumed.reads == 4, "two of four epochs of two batches were done"
    assert all(torch.equal(v, whole[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator is as it was"
