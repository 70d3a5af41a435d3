"""Against torchattacks and adv-lib, which need torchvision and so an environment of their own (see `benchmarks/attacks.py`): elsewhere they
are skipped.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.attacks import ready
from salientry.attacks import (
    APGD,
    APGDL2,
    BIM,
    DDN,
    FAB,
    FGSM,
    FMN,
    JSMA,
    MIM,
    PGD,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    Square,
    SquareL2,
)
from salientry.attacks._gradient import targets
from salientry.types import Shape

from .. import examples
from .test_oracle import N, norms, ours, same_pixels

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore:distutils Version classes")]

SHAPE = Shape(3, 16, 16, 10)  # Square's first squares of others are as high as small images, and JSMA's targets are of ten classes


def pieces(dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, Tensor, Tensor]:
    net, x = examples.conv(SHAPE, smooth=True, dtype=dtype).requires_grad_(False), examples.images(SHAPE, N, dtype=dtype)
    return net, x, examples.predicted(net, x)


def library(name: str, package: str) -> Any:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"pip install {package}, beside torchvision")
    if not hasattr(ready, "operators"):
        ready()
    return import_module(name)


def of_torchattacks(name: str, net: nn.Module, x: Tensor, y: Tensor, goal: Tensor | None = None, **settings: Any) -> Tensor:
    torch.manual_seed(0)
    attack = getattr(library("torchattacks", "torchattacks"), name)(net, **settings)
    if goal is not None:
        attack.set_mode_targeted_by_label(quiet=True)
    found: Tensor = attack(x, y if goal is None else goal).detach()
    return found


def of_adv_lib(name: str, net: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Tensor:
    torch.manual_seed(0)
    found: Tensor = getattr(library("adv_lib.attacks", "adv-lib"), name)(net, x, y, **settings).detach()
    return found


# --- torchattacks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "a"),
    [
        ("FGSM", {"eps": 0.05}, FGSM(0.05)),
        ("BIM", {"eps": 0.1, "alpha": 0.02, "steps": 7}, BIM(0.1, 0.02, 7)),
        ("MIFGSM", {"eps": 0.1, "alpha": 0.02, "steps": 7, "decay": 0.7}, MIM(0.1, 0.02, 7, 0.7)),
        ("PGD", {"eps": 0.1, "alpha": 0.02, "steps": 7, "random_start": False}, PGD(0.1, 0.02, 7, start=False)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_steps_along_the_gradient_s_sign_are_torchattacks(name: str, settings: dict[str, Any], a: Any) -> None:
    net, x, y = pieces()
    assert same_pixels(ours(a, net, x, y), of_torchattacks(name, net, x, y, **settings)) >= 0.999


@pytest.mark.parametrize(
    ("name", "settings", "a"),
    [
        ("APGD", {"eps": 0.01, "steps": 30}, APGD(0.01, 30)),
        ("APGD", {"eps": 0.01, "steps": 30, "loss": "dlr"}, APGD(0.01, 30, "dlr")),
        ("APGD", {"eps": 0.2, "norm": "L2", "steps": 30}, APGDL2(0.2, 30)),
        ("APGDT", {"eps": 0.008, "steps": 20, "n_classes": 10}, APGD(0.008, 20, "targeted")),
        ("AutoAttack", {"eps": 0.006}, AutoAttack(0.006, steps=50, queries=300)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_ends_within_a_budget_is_as_strong_as_torchattacks(name: str, settings: dict[str, Any], a: Any) -> None:
    net, x, y = pieces()
    share = [norms(net, x, y, v)[0] for v in (ours(a, net, x, y), of_torchattacks(name, net, x, y, **settings))]
    assert share[1] > 0.1
    assert share[0] >= share[1] - 2 / N


@pytest.mark.parametrize(
    ("settings", "a"),
    [({"eps": 0.03, "n_queries": 150}, Square(0.03, 150)), ({"eps": 1.0, "norm": "L2", "n_queries": 150}, SquareL2(1.0, 150))],
    ids=["linf", "l2"],
)
def test_square_is_as_strong_as_torchattacks(settings: dict[str, Any], a: Any) -> None:
    net, x, y = pieces()
    share = [norms(net, x, y, v)[0] for v in (ours(a, net, x, y), of_torchattacks("Square", net, x, y, **settings))]
    assert share[1] > 0.2
    assert share[0] >= share[1] - 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_is_as_near_as_torchattacks(norm: str) -> None:
    """torchattacks gives the image itself where what it found is farther than eps, so that is large."""
    net, x, y = pieces()
    said = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": 5.0, "steps": 20, "multi_targeted": True, "n_classes": 10}
    theirs, found = of_torchattacks("FAB", net, x, y, **said), ours(FAB(norm, 20, 9), net, x, y)  # type: ignore[arg-type]
    far = [(v - x).flatten(1).abs().amax(1) if norm == "linf" else (v - x).flatten(1).norm(dim=1) for v in (found, theirs)]
    assert norms(net, x, y, found)[0] == norms(net, x, y, theirs)[0] == 1
    assert float(far[0].median()) <= 1.03 * float(far[1].median())


def test_cw_is_as_near_as_torchattacks() -> None:
    """torchattacks' DeepFool fools a third of these images: there is nothing to compare."""
    net, x, y = pieces()
    theirs = norms(net, x, y, of_torchattacks("CW", net, x, y, c=1, kappa=0, steps=60, lr=0.01))
    mine = norms(net, x, y, ours(CarliniWagner(1, 60, 0.01, 1.0, abort_early=False), net, x, y))
    assert mine[0] >= theirs[0] > 0.9
    assert mine[1] <= 1.03 * theirs[1]


def test_jsma_reaches_its_targets_as_torchattacks_does() -> None:
    """Both on gradients of logits; theirs may raise a feature once only."""
    net, x, y = pieces()
    x, y = x[:6], y[:6]
    goal = targets("random", net(x), y, examples.seeds(6))
    theirs = of_torchattacks("JSMA", net, x, y, goal, theta=1.0, gamma=0.3)
    found = ours(JSMA(theta=1.0, reuse=False, score="logit", gamma=0.3), net, x, y)
    reached = [float((examples.predicted(net, v) == goal).double().mean()) for v in (found, theirs)]
    touched = [float(((v - x).abs() > 1e-6).double().mean()) for v in (found, theirs)]
    assert reached[0] >= reached[1] > 0.5
    assert touched[0] <= 1.1 * touched[1]


# --- adv-lib -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "gamma"), [(20, 0.05), (60, 0.2)])
def test_ddn_is_adv_lib_s(steps: int, gamma: float) -> None:
    """To the last step."""
    net, x, y = pieces(torch.float64)
    theirs = of_adv_lib("ddn", net, x, y, steps=steps, γ=gamma, levels=None)
    assert float((ours(DDN(steps, gamma), net, x, y) - theirs).abs().max()) <= 1e-6


@pytest.mark.parametrize(
    ("name", "settings", "a", "room"),
    [
        ("fmn", {"norm": float("inf"), "steps": 60}, FMN("linf", 60), 1.02),
        ("df", {"steps": 50, "overshoot": 0.02}, DeepFool(), 1.02),
        (
            "carlini_wagner_l2",
            {"learning_rate": 0.01, "initial_const": 1.0, "binary_search_steps": 2, "max_iterations": 60, "abort_early": False},
            CarliniWagner(2, 60, 0.01, 1.0, abort_early=False),
            1.01,
        ),
        ("fab", {"norm": float("inf"), "n_iter": 20}, FAB("linf", 20, 9), 1.03),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_the_smallest_changes_are_as_near_as_adv_lib_s(name: str, settings: dict[str, Any], a: Any, room: float) -> None:
    """Not FMN in L2: adv-lib's finds nothing on these images, of which many values are black."""
    net, x, y = pieces()
    theirs, found = of_adv_lib(name, net, x, y, **settings), ours(a, net, x, y)
    assert norms(net, x, y, found)[0] >= norms(net, x, y, theirs)[0] > 0.9
    linf = settings.get("norm") == float("inf")
    far = [float(((v - x).flatten(1).abs().amax(1) if linf else (v - x).flatten(1).norm(dim=1)).mean()) for v in (found, theirs)]
    assert far[0] <= room * far[1]


@pytest.mark.parametrize(("norm", "size"), [("linf", 0.01), ("l2", 0.2)])
def test_apgd_is_as_strong_as_adv_lib_s(norm: str, size: float) -> None:
    net, x, y = pieces(torch.float64)
    theirs = of_adv_lib("apgd", net, x, y, eps=size, norm=float("inf") if norm == "linf" else 2, n_iter=30, loss_function="ce")
    found = ours(APGD(size, 30) if norm == "linf" else APGDL2(size, 30), net, x, y)
    share = [norms(net, x, y, v)[0] for v in (found, theirs)]
    assert share[1] > 0.1
    assert share[0] >= share[1] - 2 / N
