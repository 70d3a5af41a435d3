"""Against foolbox and the Adversarial Robustness Toolbox (ART), on the same network and images (`pip install .[oracle]`).

foolbox computes in float64. ART casts images and gradients to float32, so it is compared there, and a pixel whose gradient is
a rounding error away from 0 may go the other way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import BIM, FGSM, JSMA, MIM, PGD, PGDL2, CarliniWagner, DeepFool
from salientry.attacks._gradient import targets
from salientry.types import Attack

from .. import examples

pytestmark = pytest.mark.oracle

SHAPE = examples.SHAPES["colour"]
N = 30


def pieces(dtype: torch.dtype) -> tuple[nn.Sequential, Tensor, Tensor]:
    net, x = examples.conv(SHAPE, smooth=True, dtype=dtype), examples.images(SHAPE, N, dtype=dtype)
    return net.requires_grad_(False), x, examples.predicted(net, x)


def ours(a: Attack, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return a(net, x, y, seeds=examples.seeds(len(x)))


def of_foolbox(name: str, net: nn.Module, x: Tensor, y: Tensor, eps: float | None, **settings: Any) -> Tensor:
    foolbox = pytest.importorskip("foolbox", reason="pip install foolbox")
    attack = getattr(foolbox.attacks, name)(**settings)
    found: Tensor = attack(foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu"), x, y, epsilons=eps)[1]
    return found


def of_art(name: str, net: nn.Module, x: Tensor, y: Tensor | None, **settings: Any) -> Tensor:
    pytest.importorskip("art", reason="pip install adversarial-robustness-toolbox")
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    size = tuple(x.shape[1:])
    model = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), input_shape=size, nb_classes=SHAPE.classes, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = getattr(evasion, name)(model, **settings)
    return torch.from_numpy(attack.generate(x.numpy(), None if y is None else np.eye(SHAPE.classes)[y.numpy()]))


def norms(net: nn.Module, x: Tensor, y: Tensor, out: Tensor) -> tuple[float, float]:
    """Share of images that left ``y``, and the mean L2 norm of their perturbations."""
    fooled = examples.predicted(net, out) != y
    return float(fooled.double().mean()), float((out - x)[fooled].flatten(1).norm(dim=1).mean())


# --- foolbox, float64 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [8 / 255, 0.2])
def test_fgsm_is_foolbox_s(eps: float) -> None:
    net, x, y = pieces(torch.float64)
    theirs = of_foolbox("LinfFastGradientAttack", net, x, y, eps)
    assert float((ours(FGSM(eps), net, x, y) - theirs).abs().max()) <= 1e-12


@pytest.mark.parametrize("settings", [(0.15, 0.015, 10), (0.1, 0.04, 7)])
def test_bim_is_foolbox_s(settings: tuple[float, float, int]) -> None:
    net, x, y = pieces(torch.float64)
    eps, size, steps = settings
    theirs = of_foolbox("LinfBasicIterativeAttack", net, x, y, eps, abs_stepsize=size, steps=steps, random_start=False)
    assert float((ours(BIM(eps, size, steps), net, x, y) - theirs).abs().max()) <= 1e-12


@pytest.mark.parametrize("settings", [(8 / 255, 2 / 255, 10), (0.1, 0.04, 7)])
def test_pgd_without_a_start_is_foolbox_s(settings: tuple[float, float, int]) -> None:
    net, x, y = pieces(torch.float64)
    eps, size, steps = settings
    theirs = of_foolbox("LinfPGD", net, x, y, eps, abs_stepsize=size, steps=steps, random_start=False)
    assert float((ours(PGD(eps, size, steps, start=False), net, x, y) - theirs).abs().max()) <= 1e-12


@pytest.mark.parametrize("eps", [0.02, 0.04, 0.1])
def test_pgd_with_a_start_is_as_strong_as_foolbox_s(eps: float) -> None:
    """Other random numbers, so success may differ by an image or two."""
    net, x, y = pieces(torch.float64)
    torch.manual_seed(0)
    theirs = of_foolbox("LinfPGD", net, x, y, eps, abs_stepsize=eps / 4, steps=10, random_start=True)
    found = ours(PGD(eps), net, x, y)
    assert abs(norms(net, x, y, found)[0] - norms(net, x, y, theirs)[0]) <= 2 / N
    lengths = [float((v - x).flatten(1).norm(dim=1).mean()) for v in (found, theirs)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.02)


@pytest.mark.parametrize("settings", [(0.5, 0.125, 10), (1.5, 0.6, 7)])
def test_pgd_l2_is_foolbox_s(settings: tuple[float, float, int]) -> None:
    net, x, y = pieces(torch.float64)
    radius, size, steps = settings
    theirs = of_foolbox("L2PGD", net, x, y, radius, abs_stepsize=size, steps=steps, random_start=False)
    assert float((ours(PGDL2(radius, size, steps), net, x, y) - theirs).abs().max()) <= 1e-9


def test_mim_is_foolbox_s_once_it_normalises_alike() -> None:
    """foolbox sums the signs of gradients; the publication, ART and ours sum gradients of equal size: only that is replaced."""
    net, x, y = pieces(torch.float64)
    mi_fgsm = pytest.importorskip("foolbox.attacks.mi_fgsm", reason="pip install foolbox")
    import foolbox

    class Normalised(mi_fgsm.LinfMomentumIterativeFastGradientMethod):  # type: ignore[misc,name-defined]
        def normalize(self, gradients: Any, *, x: Any, bounds: Any) -> Any:
            return gradients / gradients.abs().mean(axis=(1, 2, 3), keepdims=True)

    attack = Normalised(momentum=0.9, abs_stepsize=0.03, steps=8, random_start=False)
    theirs = attack(foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu"), x, y, epsilons=0.15)[1]
    assert float((ours(MIM(0.15, 0.03, 8, decay=0.9), net, x, y) - theirs).abs().max()) <= 1e-12


def test_mim_without_memory_is_foolbox_s() -> None:
    net, x, y = pieces(torch.float64)
    settings = {"momentum": 0.0, "abs_stepsize": 0.03, "steps": 8, "random_start": False}
    theirs = of_foolbox("LinfMomentumIterativeFastGradientMethod", net, x, y, 0.15, **settings)
    assert float((ours(MIM(0.15, 0.03, 8, decay=0.0), net, x, y) - theirs).abs().max()) <= 1e-12


@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_cw_is_foolbox_s_without_its_stop(confidence: float) -> None:
    """foolbox stops on the loss of the whole batch, so it is compared without; then every step is the same."""
    net, x, y = pieces(torch.float64)
    settings = {"steps": 60, "confidence": confidence, "initial_const": 0.05, "abort_early": False}
    theirs = of_foolbox("L2CarliniWagnerAttack", net, x, y, None, binary_search_steps=4, stepsize=0.03, **settings)
    found = ours(CarliniWagner(search_steps=4, lr=0.03, **settings), net, x, y)
    assert float((found - theirs).abs().max()) <= 1e-6
    assert norms(net, x, y, found)[0] == 1


def test_cw_is_as_near_as_foolbox_s_with_its_stop() -> None:
    net, x, y = pieces(torch.float64)
    settings = {"steps": 150, "initial_const": 0.1, "abort_early": True}
    theirs = norms(net, x, y, of_foolbox("L2CarliniWagnerAttack", net, x, y, None, binary_search_steps=4, stepsize=0.01, **settings))
    found = norms(net, x, y, ours(CarliniWagner(search_steps=4, lr=0.01, **settings), net, x, y))
    assert found[0] == theirs[0] == 1
    assert found[1] == pytest.approx(theirs[1], rel=0.02)


def test_deepfool_is_as_near_as_foolbox_s() -> None:
    """foolbox fixes its candidates on the clean image and tests for success beyond the boundary, with the overshoot."""
    net, x, y = pieces(torch.float64)
    theirs = norms(net, x, y, of_foolbox("L2DeepFoolAttack", net, x, y, None, steps=50, candidates=5, overshoot=0.02, loss="logits"))
    found = norms(net, x, y, ours(DeepFool(candidates=5), net, x, y))
    assert found[0] == theirs[0] == 1
    assert found[1] == pytest.approx(theirs[1], rel=0.02)


# --- ART, float32 --------------------------------------------------------------------------------------------------


def same_pixels(found: Tensor, theirs: Tensor) -> float:
    return float(((found - theirs).abs() <= 1e-6).double().mean())


def test_fgsm_is_art_s() -> None:
    net, x, y = pieces(torch.float32)
    theirs = of_art("FastGradientMethod", net, x, y, eps=0.2)
    assert same_pixels(ours(FGSM(0.2), net, x, y), theirs) == 1


@pytest.mark.parametrize("settings", [(0.15, 0.015, 10), (0.1, 0.04, 7)])
def test_bim_is_art_s(settings: tuple[float, float, int]) -> None:
    net, x, y = pieces(torch.float32)
    eps, size, steps = settings
    theirs = of_art("BasicIterativeMethod", net, x, y, eps=eps, eps_step=size, max_iter=steps, verbose=False)
    assert same_pixels(ours(BIM(eps, size, steps), net, x, y), theirs) >= 0.999


def test_pgd_towards_the_least_likely_is_art_s() -> None:
    """ART is given the targets."""
    net, x, y = pieces(torch.float32)
    goal = targets("least_likely", net(x), y, examples.seeds(N))
    settings = {"eps": 0.1, "eps_step": 0.025, "max_iter": 10, "targeted": True, "num_random_init": 0, "verbose": False}
    theirs = of_art("ProjectedGradientDescentPyTorch", net, x, goal, **settings)
    found = ours(PGD(0.1, target="least_likely", start=False), net, x, y)
    reached = [float((examples.predicted(net, v) == goal).double().mean()) for v in (found, theirs)]
    assert reached[0] == pytest.approx(reached[1], abs=1 / N)
    assert same_pixels(found, theirs) >= 0.98


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_mim_is_art_s(decay: float) -> None:
    """ART divides by the sum of |gradient|, as the publication does; ours by its mean: the same signs."""
    net, x, y = pieces(torch.float32)
    theirs = of_art("MomentumIterativeMethod", net, x, y, eps=0.15, eps_step=0.03, max_iter=8, decay=decay, verbose=False)
    assert same_pixels(ours(MIM(0.15, 0.03, 8, decay), net, x, y), theirs) >= 0.999


def test_deepfool_is_as_near_as_art_s() -> None:
    """ART clips what it has and goes on from there; ours, as cleverhans, clips the sum of all steps."""
    net, x, y = pieces(torch.float32)
    theirs = norms(net, x, y, of_art("DeepFool", net, x, None, max_iter=50, epsilon=0.02, nb_grads=5, batch_size=N, verbose=False))
    found = norms(net, x, y, ours(DeepFool(candidates=5), net, x, y))
    assert found[0] == theirs[0] == 1
    assert found[1] == pytest.approx(theirs[1], rel=0.02)


def test_cw_is_as_near_as_art_s() -> None:
    """ART descends by gradient with a line search, not with Adam, and ends a little further away: equal success, but no 2 %."""
    net, x, y = pieces(torch.float32)
    x, y = x[:5], y[:5]
    settings = {"binary_search_steps": 4, "max_iter": 15, "learning_rate": 0.05, "initial_const": 1.0, "batch_size": 5}
    theirs = norms(net, x, y, of_art("CarliniL2Method", net, x, y, **settings, verbose=False))
    found = norms(net, x, y, ours(CarliniWagner(search_steps=4, steps=200, lr=0.005, initial_const=1.0), net, x, y))
    assert found[0] == theirs[0] == 1
    assert 0.85 * theirs[1] <= found[1] <= 1.02 * theirs[1]


@pytest.mark.parametrize("theta", [0.1, 1.0])
def test_jsma_is_art_s(theta: float) -> None:
    """ART takes the two largest gradients of the target's output: our probability score, when it is given log probabilities."""
    net, x, y = pieces(torch.float32)
    goal = targets("random", net(x), y, examples.seeds(N))
    theirs = of_art("SaliencyMapMethod", nn.Sequential(net, nn.LogSoftmax(1)), x, goal, theta=theta, gamma=1.0, batch_size=N, verbose=False)
    found = ours(JSMA(theta=theta), net, x, y)
    reached = [float((examples.predicted(net, v) == goal).double().mean()) for v in (found, theirs)]
    assert reached[0] == reached[1] == 1
    touched = [float(((v - x).abs() > 1e-6).double().mean()) for v in (found, theirs)]
    assert touched[0] == pytest.approx(touched[1], rel=0.02)
    assert same_pixels(found, theirs) >= 0.999
