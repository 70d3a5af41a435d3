"""Attacks that were learnt or are made elsewhere: a universal perturbation, and transfer."""

from __future__ import annotations

import json

import pytest
import torch

from salientry.attacks import FGSM, PGD, Transfer, Universal
from salientry.errors import UsageError
from salientry.keys import decode, digest, encode, label

from .. import examples

SHAPE = examples.SHAPES["grey"]
N = 40


def test_a_universal_perturbation_of_an_affine_net_of_two_classes_is_the_sign_of_its_weights() -> None:
    """Learnt from images of one class: every gradient is w, so the best point of the ball is eps sign(w)."""
    shape = examples.Shape(1, 6, 6, 2)
    net, x = examples.affine(shape), 0.3 + 0.4 * examples.images(shape, 60, dtype=torch.float64)
    y = examples.predicted(net, x)
    one = y == y[0]
    w = (net[1].weight[1 - y[0]] - net[1].weight[y[0]]).detach().view(1, 1, 6, 6)
    a = Universal.fit(net, x[one], y[one], eps=0.01, epochs=6, batch=10)
    assert float((a.delta - 0.01 * w.sign()).abs().max()) <= 1e-9


def test_it_moves_every_image_alike_and_fools_images_that_it_has_not_seen() -> None:
    net, x = examples.conv(SHAPE), 0.25 + 0.5 * examples.images(SHAPE, 240)
    y, s = examples.predicted(net, x), examples.seeds(N)
    a = Universal.fit(net, x[N:], y[N:], eps=0.2, epochs=4, batch=50)
    found = a(net, x[:N], y[:N], seeds=s)
    assert float((found - x[:N] - a.delta).abs().max()) <= 1e-6 and float(a.delta.abs().max()) <= 0.2 + 1e-7
    noise = (x[:N] + 0.2 * torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0)).sign()).clamp(0, 1)
    fooled = [float((examples.predicted(net, v) != y[:N]).float().mean()) for v in (found, noise)]
    assert fooled[0] > fooled[1] + 0.1
    with pytest.raises(UsageError, match=r"the perturbation is for images of \(1, 12, 12\); found \(1, 10, 12\)"):
        a(net, x[:2, :, 1:-1], y[:2], seeds=s[:2])
    with pytest.raises(UsageError, match="images to learn a perturbation from are missing"):
        Universal.fit(net, x[:0], y[:0])


def test_transfer_never_asks_the_classifier_that_is_attacked() -> None:
    net, other, x = examples.conv(SHAPE), examples.conv(SHAPE, seed=3), examples.images(SHAPE, N)
    y, s = examples.predicted(other, x), examples.seeds(N)
    asked: list[int] = []
    handle = net.register_forward_hook(lambda m, i, o: asked.append(1))
    a = Transfer.of(PGD(0.1), other)
    assert torch.equal(a(net, x, y, seeds=s), PGD(0.1)(other, x, y, seeds=s))
    handle.remove()
    assert not asked
    assert (a.title, a.eps, a.norm) == ("PGD 0.1 on another network", 0.1, "linf")


def test_they_are_recognised_by_what_they_hold_and_need_it() -> None:
    nets, x = [examples.conv(SHAPE, seed=k) for k in (0, 1)], examples.images(SHAPE, 8)
    y, s = examples.predicted(nets[0], x), examples.seeds(8)
    transfers = [Transfer.of(FGSM(), n) for n in (*nets, examples.conv(SHAPE, seed=0))]
    learnt = [Universal.fit(n, x, examples.predicted(n, x), epochs=1) for n in (*nets, nets[0])]
    for one, other, same in (transfers, learnt):
        assert digest(one) == digest(same) != digest(other) and len(label(one)) < 200
        back = decode(json.loads(json.dumps(encode(one))))
        assert back == one
        with pytest.raises(UsageError, match="make it as it was made first"):
            back(nets[0], x, y, seeds=s)
    for bad in ((FGSM, nets[0]), (FGSM(), FGSM())):
        with pytest.raises(UsageError):
            Transfer.of(*bad)  # type: ignore[arg-type]
