"""The strong attacks against foolbox and ART: DDN, FMN, APGD, Square (`pip install .[oracle]`)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import APGD, APGDL2, DDN, FAB, FMN, PGD, AutoAttack, DeepFool, Square

from .. import examples
from .test_oracle import N, norms, of_art, of_foolbox, ours, pieces

pytestmark = pytest.mark.oracle


def within(dtype: torch.dtype) -> tuple[nn.Sequential, Tensor, Tensor]:
    """As ``pieces``, of images without black and white."""
    net, x, _ = pieces(dtype)
    x = 0.3 + 0.4 * x
    return net, x, examples.predicted(net, x)


@pytest.mark.parametrize(("steps", "gamma"), [(20, 0.05), (60, 0.2)])
def test_ddn_is_foolbox_s(steps: int, gamma: float) -> None:
    """foolbox has gamma in float32."""
    net, x, y = pieces(torch.float64)
    theirs = of_foolbox("DDNAttack", net, x, y, None, steps=steps, gamma=gamma, init_epsilon=1.0)
    assert float((ours(DDN(steps, gamma), net, x, y) - theirs).abs().max()) <= 1e-4


def test_fmn_linf_is_as_near_as_foolbox_s() -> None:
    net, x, y = within(torch.float64)
    theirs = (of_foolbox("LInfFMNAttack", net, x, y, None, steps=60) - x).abs().flatten(1).amax(1)
    found = (ours(FMN("linf", 60), net, x, y) - x).abs().flatten(1).amax(1)
    assert norms(net, x, y, x + 0)[0] == 0 and float(theirs.min()) > 0
    assert float(found.mean()) == pytest.approx(float(theirs.mean()), rel=0.02)


def test_in_l2_none_is_farther_than_foolbox_s_ddn() -> None:
    """foolbox's own FMN L2 does not leave its first estimate here, so what it is compared with is its DDN."""
    net, x, y = pieces(torch.float64)
    theirs = norms(net, x, y, of_foolbox("DDNAttack", net, x, y, None, steps=150))
    for a in (DDN(150), FMN(steps=60), FAB("l2", 30), DeepFool(candidates=5)):
        found = norms(net, x, y, ours(a, net, x, y))
        assert found[0] == theirs[0] == 1
        assert found[1] <= 1.02 * theirs[1]


@pytest.mark.parametrize(("norm", "size"), [("linf", 0.003), ("linf", 0.01), ("l2", 0.1)])
def test_apgd_is_as_strong_as_art_s(norm: str, size: float) -> None:
    """Other starts, and ART counts success at the end: success may differ by an image or two."""
    net, x, y = pieces(torch.float32)
    settings: dict[str, Any] = {"norm": torch.inf if norm == "linf" else 2, "eps": size, "eps_step": 2 * size, "max_iter": 30}
    theirs = of_art("AutoProjectedGradientDescent", net, x, y, **settings, nb_random_init=1, batch_size=N, verbose=False)
    attack = APGD(size, 30) if norm == "linf" else APGDL2(size, 30)
    found = [norms(net, x, y, v)[0] for v in (ours(attack, net, x, y), theirs)]
    assert 0 < found[0] < 1
    assert found[0] >= found[1] - 2 / N


@pytest.mark.nightly
def test_apgd_is_no_weaker_than_pgd_of_as_many_steps_and_autoattack_no_weaker_than_either() -> None:
    net, x, y = pieces(torch.float64)
    for eps in (0.002, 0.005, 0.01):
        pgd, apgd, auto = (
            norms(net, x, y, ours(a, net, x, y))[0] for a in (PGD(eps, steps=30), APGD(eps, 30), AutoAttack(eps, "apgd", steps=30))
        )
        assert pgd <= apgd + 1 / N <= auto + 1 / N


def test_square_is_as_strong_as_art_s() -> None:
    net, x, y = pieces(torch.float32)
    theirs = of_art("SquareAttack", net, x, y, eps=0.02, max_iter=200, p_init=0.5, batch_size=N, verbose=False)
    found = [norms(net, x, y, v)[0] for v in (ours(Square(0.02, 200, 0.5), net, x, y), theirs)]
    assert found[0] > 0.2 and found[0] >= found[1] - 0.1
