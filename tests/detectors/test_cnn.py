from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from salientry.contracts import facts_of, fingerprint
from salientry.detectors import ID, REPLICA, SmallCNN
from salientry.errors import UsageError

from ..examples import HEAD, ViewPairs


def pairs(n: int = 64) -> ViewPairs:
    """Views that differ by a faint checkerboard."""
    natural = torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 0.5
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(6, 6)
    return ViewPairs(natural, natural + 0.1 * board)


def kinds(net: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in net.modules() if isinstance(m, kind)]


def test_head_is_three_convolutions_a_pool_and_one_unit() -> None:
    net = SmallCNN(width=16).build(3)
    found = [(c.in_channels, c.out_channels, c.stride[0], c.kernel_size[0]) for c in kinds(net, nn.Conv2d)]
    assert found == [(3, 16, 2, 3), (16, 32, 2, 3), (32, 32, 1, 3)]
    assert len(kinds(net, nn.BatchNorm2d)) == 3
    assert [(m.in_features, m.out_features) for m in kinds(net, nn.Linear)] == [(32 * 16, 1)]
    for size in ((28, 28), (7, 33), (112, 112)):
        assert net(torch.rand(2, 3, *size)).shape == (2,)


def test_replica_has_no_batch_norm_and_drops_out_in_training_only() -> None:
    net = REPLICA.build(1)
    assert not kinds(net, nn.BatchNorm2d)
    assert [m.p for m in kinds(net, nn.Dropout)] == [0.6]
    x = torch.rand(4, 1, 12, 12)
    fitted: Any = ID(replace(REPLICA, width=4, epochs=1)).fit(pairs(), seed=0)
    assert torch.equal(fitted.head(x), fitted.head(x))
    fitted.train()
    assert not torch.equal(fitted.head(x), fitted.head(x))


def test_training_makes_whole_passes_of_half_naturals_half_adversarials() -> None:
    seen: list[int] = []

    class Watched(ViewPairs):
        def batches(self, size: int, seed: int | None) -> Any:
            for natural, adversarial in super().batches(size, seed):
                seen.append(len(natural) if seed is not None else 0)
                assert len(natural) == len(adversarial)
                yield natural, adversarial

    given = Watched(pairs(70).natural, pairs(70).adversarial)
    fitted = ID(replace(HEAD, batch=40, epochs=3)).fit(given, seed=0)
    assert [n for n in seen if n] == [20] * 3 * 3  # 70 pairs: three batches of 20 a pass, the rest in another order next time
    curve: Any = facts_of(fitted)["learning_curve"]
    assert len(curve) == 3 and curve[-1] < curve[0]
    assert all(int(m.num_batches_tracked) == 9 for m in kinds(fitted, nn.BatchNorm2d))


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    asked: list[int] = []

    class Watched(ViewPairs):
        def batches(self, size: int, seed: int | None) -> Any:
            asked.extend([] if seed is None else [seed])
            return super().batches(size, seed)

    for seed in (0, 1):
        ID(replace(HEAD, epochs=3)).fit(Watched(pairs().natural, pairs().adversarial), seed=seed)
    assert len(set(asked)) == 6


def test_fewer_pairs_than_a_batch_are_enough() -> None:
    fitted = ID(replace(HEAD, batch=1000, epochs=2)).fit(pairs(10), seed=0)
    assert len(facts_of(fitted)["learning_curve"]) == 2  # type: ignore[arg-type]


def test_settings_move_the_weights() -> None:
    base = ID(HEAD).fit(pairs(), seed=0)
    for change in ({"lr": 2e-2}, {"batch": 16}, {"epochs": 5}, {"schedule": "constant"}, {"dropout": 0.3}, {"norm": "none"}):
        assert fingerprint(ID(replace(HEAD, **change)).fit(pairs(), seed=0)) != fingerprint(base)  # type: ignore[arg-type]


def test_refuses_an_unknown_norm() -> None:
    with pytest.raises(UsageError, match="'batch' or 'none'; found 'layer'"):
        SmallCNN(norm="layer")  # type: ignore[arg-type]
