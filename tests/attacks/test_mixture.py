"""Mixture: each image is attacked by one of several, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from salientry.attacks import BIM, FGSM, PGD, DeepFool, Mixture
from salientry.classifiers import External
from salientry.errors import UsageError
from salientry.keys import canonical, decode, encode
from salientry.types import Attack

from .. import examples

SHAPE = examples.SHAPES["colour"]
N = 60
THREE = (FGSM(0.1), PGD(0.1, lowest=0.05), DeepFool(steps=5))


@pytest.mark.parametrize("turn", [0, 1, 5])
def test_each_image_is_attacked_as_by_that_attack_alone(turn: int) -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    y, s, mixed = examples.predicted(net, x), examples.seeds(N), Mixture(THREE, turn)
    out, which = mixed(net, x, y, seeds=s), mixed.drawn(s)
    assert set(which.tolist()) == {0, 1, 2} and not out.requires_grad
    for i, attack in enumerate(THREE):
        at = which == i
        assert torch.equal(out[at], attack(net, x[at], y[at], seeds=s[at]))


def test_neighbours_and_order_do_not_matter_in_float64() -> None:
    net, x = examples.conv(SHAPE, dtype=torch.float64), examples.images(SHAPE, N, dtype=torch.float64)
    y, s, mixed = examples.predicted(net, x), examples.seeds(N), Mixture(THREE)
    whole = mixed(net, x, y, seeds=s)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    pieces = torch.cat([mixed(net, x[at], y[at], seeds=s[at]) for at in order.split(7)])
    assert float((pieces - whole[order]).abs().max()) <= 1e-9
    assert mixed(net, x[:0], y[:0], seeds=s[:0]).shape == x[:0].shape


def test_it_draws_evenly_each_turn_another_and_tells_nothing_of_the_attacks_draws() -> None:
    s = examples.seeds(3000)
    turns = torch.stack([Mixture(THREE, turn).drawn(s) for turn in range(4)])
    counts = turns[0].bincount(minlength=3)
    assert int(counts.min()) > 900 and int(counts.max()) < 1100  # deviation 26
    assert torch.equal(turns[:3].sort(0).values, torch.arange(3)[:, None].expand(3, 3000))
    assert torch.equal(turns[3], turns[0])

    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0 * x.flatten(1)[:, :2] - 9  # -9: no probabilities

    x = torch.full((3000, 1, 1, 2), 0.5)
    two = Mixture((PGD(0.1, lowest=0.0), PGD(0.2, lowest=0.1)))
    up = (two(Nothing(), x, torch.zeros(3000, dtype=torch.int64), seeds=s) > x).double().flatten(1)
    assert all(abs(np.corrcoef(u, two.drawn(s).double())[0, 1]) < 0.08 for u in up.T)


def test_it_is_an_attack_that_files_can_hold_without_a_budget() -> None:
    mixed = Mixture((FGSM(0.1), BIM()), 2)
    assert isinstance(mixed, Attack) and mixed.eps is None
    assert decode(encode(mixed)) == mixed and canonical(mixed) != canonical(Mixture((FGSM(0.1), BIM()), 1))


def test_whatever_people_have() -> None:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, 8)
    y, s = examples.predicted(net, x), examples.seeds(8)
    plain = Mixture(THREE)(net, x, y, seeds=s)
    with torch.inference_mode():
        inside = Mixture(THREE)(net, x.clone(), y.clone(), seeds=s.clone())
    assert torch.equal(inside, plain) and not inside.is_inference()
    assert torch.equal(Mixture(THREE)(net, x, nn.functional.one_hot(y, SHAPE.classes), seeds=s), plain)
    meant = External(nn.Sequential(net, nn.Softmax(1)), trust_output=True)
    assert bool((examples.predicted(meant, Mixture(THREE)(meant, x, y, seeds=s)) != y).any())
    with pytest.raises(UsageError, match=r"images must lie in \[0, 1\]"):
        Mixture(THREE)(net, x * 255, y, seeds=s)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Mixture(()), r"at least one attack; found \(\)"),
        (lambda: Mixture([FGSM()]), "a tuple of at least one attack"),
        (lambda: Mixture(("fgsm",)), "has an eps; found 'fgsm'"),
        (lambda: Mixture((FGSM,)), "has an eps; found <class"),
        (lambda: Mixture((FGSM(),), turn=-1), "turn must lie in"),
    ],
)
def test_refuses_settings_that_cannot_be(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()
