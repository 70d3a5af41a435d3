"""What `python -m benchmarks.attacks` compares: attacks of ours, and those of others with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from salientry.attacks import (
    APGD,
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
    HopSkipJumpL2,
    Patch,
    Spatial,
    Square,
    Universal,
)
from salientry.attacks._gradient import targets

E = 1 / 255
EVERY, FEW, TOGETHER = (32, 1, 256), (32, 1), (32, 256)  # images at once
Call = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One attack: ours, theirs by library, its settings in words, the norm that is compared (None: it has a budget), and how many images at
    once.
    """

    name: str
    settings: str
    ours: Any
    theirs: dict[str, Call]
    norm: str | None = None
    batches: tuple[int, ...] = EVERY


# --- calls of other libraries --------------------------------------------------------------------------------------


def foolbox(name: str, size: float | None = None, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        fb = import_module("foolbox")
        model = fb.models.pytorch.PyTorchModel(net, bounds=(0, 1), device="cpu")
        found: Tensor = getattr(fb.attacks, name)(**settings)(model, x, fb.criteria.Misclassification(y), epsilons=size)[1]
        return found

    return call


def wrapped(net: nn.Module, x: Tensor) -> Any:
    """A network as ART has it."""
    wrapper = import_module("art.estimators.classification").PyTorchClassifier
    return wrapper(net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0), device_type="cpu")


def art(name: str, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        kind = getattr(import_module("art.attacks.evasion"), name)
        said = {"verbose": False} if "verbose" in kind.attack_params else {}
        return torch.from_numpy(kind(wrapped(net, x), batch_size=len(x), **said, **settings).generate(x.numpy(), y.numpy()))

    return call


def torchattacks(name: str, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = getattr(import_module("torchattacks"), name)(net, **settings)(x, y)
        return found

    return call


def adv_lib(name: str, **settings: Any) -> Call:
    def call(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = getattr(import_module("adv_lib.attacks"), name)(net, x, y, **settings)
        return found

    return call


def seeds_of(x: Tensor) -> Tensor:
    """What our attacks draw from in this benchmark."""
    return torch.arange(len(x)) + 1


def goals(x: Tensor, y: Tensor) -> Tensor:
    """The random target classes that ours drives images to."""
    return targets("random", x.new_zeros((len(x), 10)), y, seeds_of(x))


def jsma_of_art(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Its score of log probabilities is ours."""
    kind = import_module("art.attacks.evasion").SaliencyMapMethod
    model = wrapped(nn.Sequential(net, nn.LogSoftmax(1)), x)
    return torch.from_numpy(kind(model, theta=0.2, gamma=1.0, batch_size=len(x), verbose=False).generate(x.numpy(), goals(x, y).numpy()))


def patch_of_art(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Its projected gradient descent inside a mask."""
    kind = import_module("art.attacks.evasion").BasicIterativeMethod
    mask = Patch().placed(seeds_of(x), *x.shape[2:])[:, None].expand_as(x).numpy().astype(np.float32)
    attack = kind(wrapped(net, x), eps=1.0, eps_step=0.1, max_iter=20, batch_size=len(x), verbose=False)
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy(), mask=mask))


def universal(net: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
    """Learnt from the images that it is added to, as ART does it."""
    return Universal.fit(net, x, y, eps=10 * E, epochs=10, batch=32)(net, x, y, seeds=seeds)


def universal_of_art(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    kind = import_module("art.attacks.evasion").UniversalPerturbation
    settings: dict[str, Any] = {"attacker": "deepfool", "attacker_params": {"verbose": False}, "delta": 0.0, "max_iter": 10}
    attack = kind(wrapped(net, x), eps=10 * E, norm=np.inf, batch_size=len(x), verbose=False, **settings)
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


class Single(nn.Module):
    """A network that is asked in float64, as ART's HopSkipJump does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x.float())
        return found


def hop_skip_jump_of_art(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return art("HopSkipJump", max_iter=3, init_eval=60)(Single(net), x, y)


# --- rows ----------------------------------------------------------------------------------------------------------


def single_and_iterated() -> list[Row]:
    """Attacks within a budget that take a fixed number of steps along the gradient's sign."""
    steps: dict[str, Any] = {"eps": 8 * E, "eps_step": E, "max_iter": 10}
    mim = foolbox("LinfMomentumIterativeFastGradientMethod", 8 * E, momentum=1.0, abs_stepsize=E, steps=10, random_start=False)
    return [
        Row(
            "FGSM",
            "Linf 8/255",
            FGSM(8 * E),
            {
                "foolbox": foolbox("LinfFastGradientAttack", 8 * E),
                "torchattacks": torchattacks("FGSM", eps=8 * E),
                "ART": art("FastGradientMethod", eps=8 * E),
            },
        ),
        Row(
            "BIM",
            "Linf 8/255, 10 steps of 1/255",
            BIM(8 * E, E, 10),
            {
                "foolbox": foolbox("LinfBasicIterativeAttack", 8 * E, abs_stepsize=E, steps=10, random_start=False),
                "torchattacks": torchattacks("BIM", eps=8 * E, alpha=E, steps=10),
                "ART": art("BasicIterativeMethod", **steps),
            },
        ),
        Row(
            "MIM",
            "Linf 8/255, 10 steps of 1/255",
            MIM(8 * E, E, 10),
            {
                "foolbox": mim,
                "torchattacks": torchattacks("MIFGSM", eps=8 * E, alpha=E, steps=10, decay=1.0),
                "ART": art("MomentumIterativeMethod", decay=1.0, **steps),
            },
        ),
        Row(
            "PGD",
            "Linf 8/255, 10 steps of 2/255, random start",
            PGD(8 * E, 2 * E, 10),
            {
                "foolbox": foolbox("LinfPGD", 8 * E, abs_stepsize=2 * E, steps=10),
                "torchattacks": torchattacks("PGD", eps=8 * E, alpha=2 * E, steps=10),
                "ART": art("ProjectedGradientDescentPyTorch", eps=8 * E, eps_step=2 * E, max_iter=10, num_random_init=1),
            },
        ),
        Row("patch", "5 % of the pixels, 20 steps of .1", Patch(), {"ART": patch_of_art}),
    ]


def strong() -> list[Row]:
    """Attacks within a budget that stop where an image gives way."""
    return [
        Row(
            "APGD",
            "Linf 2/255, 20 steps, cross-entropy",
            APGD(2 * E, 20),
            {
                "torchattacks": torchattacks("APGD", eps=2 * E, steps=20),
                "adv-lib": adv_lib("apgd", eps=2 * E, norm=float("inf"), n_iter=20, loss_function="ce"),
                "ART": art("AutoProjectedGradientDescent", eps=2 * E, eps_step=4 * E, max_iter=20, nb_random_init=1),
            },
        ),
        Row(
            "AutoAttack",
            "Linf 8/255, the standard set",
            AutoAttack(8 * E),
            {
                "torchattacks": torchattacks("AutoAttack", eps=8 * E, seed=0),
                "ART": art("AutoAttack", eps=8 * E, eps_step=2 * E),
            },
            batches=FEW,
        ),
        Row(
            "FAB",
            "Linf, 10 steps towards the likeliest other class",
            FAB("linf", 10, 1),
            {"torchattacks": torchattacks("FAB", norm="Linf", eps=8 * E, steps=10, multi_targeted=True, n_classes=10)},
            "linf",
        ),
    ]


def minimal() -> list[Row]:
    """Attacks that look for the smallest change along gradients."""
    searched: dict[str, Any] = {"binary_search_steps": 1, "initial_const": 1.0, "abort_early": False}
    return [
        Row(
            "C&W",
            "40 steps, one constant of 1, no early stop",
            CarliniWagner(search_steps=1, steps=40, lr=0.01, initial_const=1.0, abort_early=False),
            {
                "foolbox": foolbox("L2CarliniWagnerAttack", steps=40, stepsize=0.01, **searched),
                "torchattacks": torchattacks("CW", c=1, kappa=0, steps=40, lr=0.01),
                "adv-lib": adv_lib("carlini_wagner_l2", learning_rate=0.01, max_iterations=40, **searched),
            },
            "l2",
        ),
        Row(
            "DeepFool",
            "50 steps at most, 10 classes",
            DeepFool(),
            {
                "foolbox": foolbox("L2DeepFoolAttack", steps=50, candidates=10, overshoot=0.02),
                "torchattacks": torchattacks("DeepFool", steps=50, overshoot=0.02),
                "adv-lib": adv_lib("df", steps=50, overshoot=0.02),
                "ART": art("DeepFool", max_iter=50, epsilon=0.02, nb_grads=10),
            },
            "l2",
        ),
        Row(
            "DDN",
            "30 steps",
            DDN(30),
            {"foolbox": foolbox("DDNAttack", steps=30), "adv-lib": adv_lib("ddn", steps=30, levels=None)},
            "l2",
        ),
        Row(
            "FMN",
            "30 steps",
            FMN("l2", 30),
            {"foolbox": foolbox("L2FMNAttack", steps=30), "adv-lib": adv_lib("fmn", norm=2, steps=30)},
            "l2",
        ),
        Row(
            "FMN Linf",
            "30 steps",
            FMN("linf", 30),
            {"foolbox": foolbox("LInfFMNAttack", steps=30), "adv-lib": adv_lib("fmn", norm=float("inf"), steps=30)},
            "linf",
        ),
        Row("JSMA", "theta .2, to a random class", JSMA(theta=0.2), {"ART": jsma_of_art}, "l0", FEW),
    ]


def without_gradients() -> list[Row]:
    """Attacks that ask questions, or that do not look at the image."""
    return [
        Row(
            "Square",
            "Linf 8/255, 100 queries",
            Square(8 * E, 100),
            {
                "torchattacks": torchattacks("Square", eps=8 * E, n_queries=100),
                "ART": art("SquareAttack", eps=8 * E, max_iter=100, p_init=0.8),
            },
        ),
        Row(
            "rotation and shift",
            "30 degrees, 3 px, 10 at random",
            Spatial(),
            {"foolbox": foolbox("SpatialAttack", grid_search=False, random_steps=10)},
        ),
        Row(
            "HopSkipJump",
            "some 300 queries",
            HopSkipJumpL2(300, 60),
            {
                "foolbox": foolbox("HopSkipJumpAttack", steps=3, initial_gradient_eval_steps=60),
                "ART": hop_skip_jump_of_art,
            },
            "l2",
            FEW,
        ),
        Row("universal", "Linf 10/255, 10 epochs", universal, {"ART": universal_of_art}, batches=TOGETHER),
    ]


def rows() -> list[Row]:
    """What is compared."""
    return [*single_and_iterated(), *strong(), *minimal(), *without_gradients()]
