from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry import adaptive
from salientry.attacks import HopSkipJumpL2, _decisions, hop_skip_jump
from salientry.errors import UsageError
from salientry.types import Shape

from .. import examples


def plane() -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """A linear net of two classes, images away from black and white, their labels, and their distances to its boundary."""
    net = examples.affine(Shape(1, 6, 6, 2))
    x = ((0.3 + 0.4 * torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)) * 255).round() / 255
    w, z = net[1].weight.detach(), net(x).detach()
    return net, x, z.argmax(1), (z[:, 0] - z[:, 1]).abs() / (w[0] - w[1]).norm()


def found(attack: Any, net: Any, x: Tensor, y: Tensor) -> Tensor:
    out: Tensor = attack(net, x, y, seeds=examples.seeds(len(x)))
    return out


def test_the_distance_is_that_to_a_linear_net_s_boundary() -> None:
    """As near as 8 bits allow, and nearer with more questions."""
    net, x, y, least = plane()
    ratio = {}
    for queries in (100, 2000):
        out = found(HopSkipJumpL2(queries), net, x, y)
        assert bool((examples.predicted(net, out) != y).all())
        assert torch.equal(out, (out * 255).round() / 255)
        ratio[queries] = (out - x).flatten(1).norm(dim=1) / least
    assert float(ratio[2000].min()) >= 1
    assert float(ratio[2000].median()) < 1.1
    assert float(ratio[2000].mean()) < float(ratio[100].mean())


def test_is_the_search_against_a_guarded_classifier_without_a_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y, _ = plane()
    monkeypatch.setattr(hop_skip_jump, "in_cells", _decisions.uniform_noise)
    assert torch.equal(found(HopSkipJumpL2(300, 40), net, x, y), found(adaptive.HopSkipJump(300, 40), adaptive.Defended(net), x, y))


class Brightness(nn.Module):
    """Three classes by the mean: below .3, above .7, and between them, where all uniform noise is."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([10 * (0.3 - mean), torch.zeros_like(mean), 10 * (mean - 0.7)], 1)


def test_noise_that_is_all_of_one_class_is_no_end() -> None:
    x = ((0.4 + 0.2 * torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))) * 255).round() / 255
    y = torch.ones(6, dtype=torch.int64)
    net = Brightness()
    stuck = found(adaptive.HopSkipJump(400), adaptive.Defended(net), x, y)
    assert bool((net(stuck).argmax(1) == 1).all())
    out = found(HopSkipJumpL2(400), net, x, y)
    assert bool((net(out).argmax(1) != 1).all())
    assert float((out - x).abs().max()) < 0.45


@pytest.mark.parametrize("queries", [32, 50, 200])
def test_asks_no_more_than_it_may(queries: int) -> None:
    seen = 0

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = examples.conv(examples.SHAPES["colour"])

        def forward(self, x: Tensor) -> Tensor:
            nonlocal seen
            seen += len(x)
            return self.net(x)  # type: ignore[no-any-return]

    net, x = Counts().eval(), examples.images(examples.SHAPES["colour"], 5)
    y = examples.predicted(net, x)
    seen = 0
    found(HopSkipJumpL2(queries), net, x, y)
    assert seen <= 5 * queries
    assert queries < 200 or seen > 2 * queries


@pytest.mark.parametrize("bad", [{"queries": 31}, {"probes": 1}])
def test_refuses_settings_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(bad))} must lie in"):
        HopSkipJumpL2(**bad)
