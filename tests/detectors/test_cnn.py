from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from salientry.detectors import FULL_RESOLUTION, ID, REPLICA, IDPlus, SmallCNN
from salientry.errors import UsageError
from salientry.keys import decode, encode
from salientry.learned import facts_of, fingerprint, seeded

from .. import examples
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
    fitted: Any = examples.fitted(ID(replace(REPLICA, width=4, epochs=1)), pairs())
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
    fitted = examples.fitted(ID(replace(HEAD, batch=40, epochs=3)), given)
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
        examples.fitted(ID(replace(HEAD, epochs=3)), Watched(pairs().natural, pairs().adversarial), seed=seed)
    assert len(set(asked)) == 6


def test_fewer_pairs_than_a_batch_are_enough() -> None:
    fitted = examples.fitted(ID(replace(HEAD, batch=1000, epochs=2)), pairs(10))
    assert len(facts_of(fitted)["learning_curve"]) == 2  # type: ignore[arg-type]


def test_settings_move_the_weights() -> None:
    base = examples.fitted(ID(HEAD), pairs())
    for change in ({"lr": 2e-2}, {"batch": 16}, {"epochs": 5}, {"schedule": "constant"}, {"dropout": 0.3}, {"norm": "none"}):
        assert fingerprint(examples.fitted(ID(replace(HEAD, **change)), pairs())) != fingerprint(base)  # type: ignore[arg-type]


def test_refuses_an_unknown_norm() -> None:
    with pytest.raises(UsageError, match="'batch' or 'none'; found 'layer'"):
        SmallCNN(norm="layer")  # type: ignore[arg-type]


def test_strides_say_which_convolutions_halve() -> None:
    assert FULL_RESOLUTION.strides == (1, 2, 2)
    for strides in ((2, 2, 1), (1, 2, 2), (1, 1, 1)):
        net = SmallCNN(width=4, strides=strides).build(1)
        assert tuple(c.stride[0] for c in kinds(net, nn.Conv2d)) == strides
        sizes: list[int] = []
        for c in kinds(net, nn.Conv2d):
            c.register_forward_hook(lambda m, given, out, sizes=sizes: sizes.append(out.shape[-1]))
        assert net(torch.rand(2, 1, 28, 28)).shape == (2,)
        assert sizes == [28 // strides[0], 28 // (strides[0] * strides[1]), 28 // (strides[0] * strides[1] * strides[2])]
    for wrong in ((2, 2), (1, 2, 3), (0, 1, 1), (1, 1, 1, 1), ()):
        with pytest.raises(UsageError, match="strides are three numbers, each 1 or 2"):
            SmallCNN(strides=wrong)


def test_full_resolution_survives_the_trip_through_a_file() -> None:
    settings = IDPlus()
    assert decode(json.loads(json.dumps(encode(settings)))) == settings and settings.head is FULL_RESOLUTION


def test_weights_lie_in_memory_as_those_of_an_untrained_net() -> None:
    """Training turns them round for speed; what is left must not tell."""
    fitted: Any = examples.fitted(ID(HEAD), ViewPairs(pairs().natural.repeat(1, 3, 1, 1), pairs().adversarial.repeat(1, 3, 1, 1)))
    assert all(p.is_contiguous() for p in fitted.parameters())
    assert [p.stride() for p in fitted.parameters()] == [p.stride() for p in ID(HEAD).build((3, 12, 12)).parameters()]


def test_training_is_plain_adam_on_the_cross_entropy() -> None:
    """The same steps written out: fused, channels last and one cycle change digits, not the method."""
    given, settings = pairs(), replace(HEAD, epochs=2, batch=32, schedule="constant", lr=1e-3)
    fitted: Any = examples.fitted(ID(settings), given, seed=7)
    with seeded(7):
        net = settings.build(1)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3, foreach=False, fused=False)
    for epoch in range(2):
        for views in given.batches(16, 7 * 1_000_003 + epoch):
            optimiser.zero_grad()
            scores = net(torch.cat(views))
            torch.cat([nn.functional.softplus(scores[:16]), nn.functional.softplus(-scores[16:])]).mean().backward()
            optimiser.step()
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(fitted.head(given.natural), net(given.natural), rtol=0, atol=2e-3)
    with seeded(7):
        assert float((fitted.head(given.natural) - settings.build(1).eval()(given.natural)).detach().abs().max()) > 0.02
