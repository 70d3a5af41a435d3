"""More attacks against foolbox and ART: patch, rotation and shift, universal, HopSkipJump, Square in L2, AutoAttack
(`pip install .[oracle]`).
"""

from __future__ import annotations

import math
import multiprocessing
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.adaptive import Defended
from salientry.adaptive import HopSkipJump as Guarded
from salientry.attacks import AutoAttack, HopSkipJumpL2, Patch, Spatial, SquareL2, Universal
from salientry.attacks.spatial import moved
from salientry.types import Shape

from .. import examples
from .counting import passes
from .test_oracle import SHAPE, N, norms, of_art, of_foolbox, ours, pieces, same_pixels

pytestmark = pytest.mark.oracle

SQUARE = Shape(3, 12, 12, 5)


def of_squares(n: int = N) -> tuple[nn.Sequential, Tensor, Tensor]:
    """As ``pieces``, of images as high as wide: foolbox turns others as if they were."""
    net, x = examples.conv(SQUARE, smooth=True).requires_grad_(False), examples.images(SQUARE, n)
    return net, x, examples.predicted(net, x)


# --- patch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [Patch(0.2, 7, 0.1), Patch(0.05, 12, 0.03)], ids=str)
def test_patch_is_art_s_descent_inside_a_mask(a: Patch) -> None:
    """The same places, and in them the same pixels."""
    net, x, y = pieces(torch.float32)
    mask = a.placed(examples.seeds(N), SHAPE.height, SHAPE.width)[:, None].expand_as(x)
    art = pytest.importorskip("art.attacks.evasion", reason="pip install adversarial-robustness-toolbox")
    from art.estimators.classification import PyTorchClassifier

    model = PyTorchClassifier(net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), SHAPE.classes, clip_values=(0.0, 1.0), device_type="cpu")
    attack = art.BasicIterativeMethod(model, eps=1.0, eps_step=a.step_size, max_iter=a.steps, verbose=False)
    theirs = torch.from_numpy(attack.generate(x.numpy(), np.eye(SHAPE.classes)[y.numpy()], mask=mask.numpy().astype(np.float32)))
    found = ours(a, net, x, y)
    assert torch.equal(found[~mask], x[~mask]) and bool((found != x).any())
    assert same_pixels(found, theirs) >= 0.999


# --- rotation and shift --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(("down", "right", "degrees"), [(0, 0, 30), (2, -1, 0), (1.5, 2.25, 0), (-1, 2.5, -17)])
def test_a_turn_and_a_shift_are_foolbox_s(down: float, right: float, degrees: float) -> None:
    """foolbox turns the other way round, shifts before it turns, and its pixels are n / (n - 1) as large."""
    other = pytest.importorskip("foolbox.attacks.spatial_attack_transformations", reason="pip install foolbox")
    _, x, _ = of_squares(4)
    turn = math.radians(degrees)
    back = (-(math.cos(turn) * right + math.sin(turn) * down), math.sin(turn) * right - math.cos(turn) * down)
    n = SQUARE.height
    theirs = other.rotate_and_shift(eager(x), translation=tuple(b * n / (n - 1) for b in back), rotation=-degrees).raw
    assert float((moved(x, x.new_tensor([[down, right, turn]]).expand(4, 3)) - theirs).abs().max()) <= 1e-5


def eager(x: Tensor) -> Any:
    """A tensor as foolbox has it."""
    return pytest.importorskip("eagerpy").astensor(x)


@pytest.mark.parametrize(("down", "right"), [(2, -1), (-3, 0)])
def test_a_shift_by_whole_pixels_is_art_s(down: int, right: int) -> None:
    art = pytest.importorskip("art.attacks.evasion", reason="pip install adversarial-robustness-toolbox")
    from art.estimators.classification import PyTorchClassifier

    net, x, _ = of_squares(4)
    model = PyTorchClassifier(net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), SQUARE.classes, clip_values=(0.0, 1.0), device_type="cpu")
    theirs = torch.from_numpy(art.SpatialTransformation(model, verbose=False)._perturb(x.numpy(), down, right, 0.0))
    assert float((moved(x, x.new_tensor([[down, right, 0.0]]).expand(4, 3)) - theirs).abs().max()) <= 1e-4


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_turns_fool_the_images_that_foolbox_s_do() -> None:
    """Without a shift the grids are the same 31 turns."""
    net, x, y = of_squares()
    settings = {"max_translation": 0, "num_translations": 1, "max_rotation": 40, "num_rotations": 31}
    theirs = of_foolbox("SpatialAttack", net, x, y, None, **settings)
    fooled = [examples.predicted(net, v) != y for v in (ours(Spatial(40.0, 0.0, grid=True), net, x, y), theirs)]
    assert 0 < int(fooled[0].sum()) < N
    assert torch.equal(*fooled)


# --- one perturbation for all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.02, 0.05])
def test_a_universal_perturbation_fools_as_many_as_art_s(eps: float) -> None:
    """Both on the images that they learnt from."""
    net, x, y = (v[:12] if isinstance(v, Tensor) else v for v in pieces(torch.float32))
    settings = {"attacker": "deepfool", "attacker_params": {"verbose": False, "max_iter": 10, "nb_grads": 5}, "delta": 0.0, "max_iter": 3}
    theirs = of_art("UniversalPerturbation", net, x, y, eps=eps, norm=np.inf, batch_size=12, verbose=False, **settings)
    found = ours(Universal.fit(net, x, y, eps=eps, epochs=30), net, x, y)
    assert float((found - x).abs().max()) <= eps + 1e-6
    share = [norms(net, x, y, v)[0] for v in (found, theirs)]
    assert share[1] > 0
    assert share[0] >= share[1] - 0.1


# --- questions -----------------------------------------------------------------------------------------------------


def test_hop_skip_jump_is_as_near_as_foolbox_s_and_art_s_after_as_many_questions() -> None:
    """All begin at the nearest image of another class; ours asks about 8-bit images, and may ask as often as foolbox did."""
    net, x, y = pieces(torch.float32)
    x, y = x[:12], y[:12]
    far = torch.cdist(x.flatten(1), x.flatten(1)).masked_fill(y[:, None] == y[None], float("inf"))
    assert bool(far.amin(1).isfinite().all())
    starts = x[far.argmin(1)]
    foolbox = pytest.importorskip("foolbox", reason="pip install foolbox")
    np.random.seed(0)
    torch.manual_seed(0)
    with passes(net) as asked:
        attack = foolbox.attacks.HopSkipJumpAttack(steps=6)
        theirs = [attack(foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu"), x, y, epsilons=None, starting_points=starts)[1]]
    queries = asked["forward"] // len(x)
    found = Guarded(queries)(Defended(net), x, y, seeds=examples.seeds(12), starts=x)
    alone = ours(HopSkipJumpL2(queries), net, x, y)
    assert 500 < queries < 2500
    art = pytest.importorskip("art.attacks.evasion", reason="pip install adversarial-robustness-toolbox")
    from art.estimators.classification import PyTorchClassifier

    model = PyTorchClassifier(
        nn.Sequential(Single(), net), nn.CrossEntropyLoss(), tuple(x.shape[1:]), SHAPE.classes, clip_values=(0.0, 1.0), device_type="cpu"
    )
    hop = art.HopSkipJump(model, max_iter=6, init_eval=100, verbose=False)
    theirs.append(torch.from_numpy(hop.generate(x.numpy(), y.numpy(), x_adv_init=starts.numpy())))
    for other in theirs:
        assert norms(net, x, y, other)[0] == 1
        for mine in (found, alone):
            assert norms(net, x, y, mine)[0] == 1
            assert size(mine, x) <= 1.1 * size(other, x)


class Single(nn.Module):
    """ART asks in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


def size(found: Tensor, x: Tensor) -> float:
    """Median L2 distance."""
    return float((found - x).flatten(1).norm(dim=1).median())


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_square_in_l2_is_as_strong_as_art_s() -> None:
    net, x, y = pieces(torch.float32)
    np.random.seed(0)
    theirs = of_art("SquareAttack", net, x, y, norm=2, eps=0.8, max_iter=200, p_init=0.5, batch_size=N, verbose=False)
    found = [norms(net, x, y, v)[0] for v in (ours(SquareL2(0.8, 200, 0.5), net, x, y), theirs)]
    assert found[0] > 0.2 and found[0] >= found[1] - 0.1


# --- AutoAttack ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.003, 0.006])
def test_autoattack_is_as_strong_as_art_s(eps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """ART's set has APGD on both losses, DeepFool and Square; ours targeted APGD, FAB and Square after APGD."""
    monkeypatch.setitem(sys.modules, "multiprocess", multiprocessing)  # which it would use in parallel
    net, x, y = pieces(torch.float32)
    art = pytest.importorskip("art.attacks.evasion", reason="pip install adversarial-robustness-toolbox")
    from art.estimators.classification import PyTorchClassifier

    model = PyTorchClassifier(net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), SHAPE.classes, clip_values=(0.0, 1.0), device_type="cpu")
    both = {"eps": eps, "eps_step": 2 * eps, "max_iter": 20, "nb_random_init": 1, "batch_size": N, "verbose": False}
    parts = [art.AutoProjectedGradientDescent(model, loss_type=loss, **both) for loss in ("cross_entropy", "difference_logits_ratio")]
    parts.append(art.SquareAttack(model, eps=eps, max_iter=100, p_init=0.3, batch_size=N, verbose=False))
    np.random.seed(0)
    attack = art.AutoAttack(model, eps=eps, eps_step=2 * eps, attacks=parts, batch_size=N)
    theirs = torch.from_numpy(attack.generate(x.numpy(), np.eye(SHAPE.classes)[y.numpy()]))
    found = ours(AutoAttack(eps, steps=20, queries=100, candidates=4), net, x, y)
    assert float((found - x).abs().max()) <= eps + 1e-6
    share = [norms(net, x, y, v)[0] for v in (found, theirs)]
    assert 0 < share[0] < 1
    assert share[0] >= share[1] - 1 / N
