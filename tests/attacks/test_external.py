"""Attacks of others as ours: what they are recognised by, and that they attack the classifier that is given."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from salientry.attacks import BIM, FGSM, ExternalAttack, as_attack
from salientry.attacks import external as module
from salientry.attacks._given import keep
from salientry.errors import UsageError
from salientry.keys import decode, digest, encode, label
from salientry.types import Attack, Shape

from .. import examples

SHAPE = examples.SHAPES["colour"]
N = 9


def gives(found: Any) -> ExternalAttack:
    """An attack of foolbox whose object gives this, whatever it is asked."""
    return keep(ExternalAttack("foolbox 0", "Odd", ""), found)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.CALLS, "foolbox", lambda given, net, x, y, size: given(x))


def pieces() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    net, x = examples.conv(SHAPE), examples.images(SHAPE, N)
    return net, x, examples.predicted(net, x)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(
    ("found", "says"),
    [
        (lambda x: x[:-1], r"should give floats \(9, 3, 10, 14\), as its images are; it gave torch.float32 \(8, 3, 10, 14\)"),
        (lambda x: x * 255, r"should give images in \[0, 1\]; it gave values in \[0, 255\]"),
        (lambda x: x - 1, r"should give images in \[0, 1\]; it gave values in \[-1, 0\]"),
        (lambda x: x / 0, r"should give images in \[0, 1\]; it gave values in \[nan, nan\]"),
        (lambda x: (x * 255).to(torch.uint8), r"should give floats .*; it gave torch.uint8"),
        (lambda x: x.numpy(), "should give floats .*; it gave ndarray"),
        (lambda x: 1 / 0, r"Odd \(foolbox\) fails: ZeroDivisionError"),
    ],
)
def test_what_is_no_batch_of_images_is_one_clear_error(found: Any, says: str) -> None:
    net, x, y = pieces()
    with pytest.raises(UsageError, match=says):
        gives(found)(net, x, y, seeds=examples.seeds(N))


@pytest.mark.usefixtures("odd")
def test_rounding_outside_the_range_is_clipped_and_generators_are_as_they_were() -> None:
    net, x, y = pieces()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    draw = gives(lambda v: v + torch.randn(v.shape) * 1e-7 + float(np.random.rand()) * 1e-7)
    found = draw(net, x, y, seeds=examples.seeds(N))
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert torch.equal(draw(net, x, y, seeds=examples.seeds(N)), found)
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]


def test_ours_stay_what_they_are_and_what_is_none_is_refused() -> None:
    assert as_attack(FGSM(0.1)) == FGSM(0.1)
    for bad, found in (
        ("fgsm", "'fgsm'"),
        (3, "3"),
        (FGSM, "FGSM itself: make one"),
        (nn.Linear(1, 1), "Linear"),
        (lambda x: x, "function"),
    ):
        with pytest.raises(UsageError, match=f"foolbox, torchattacks or ART expected; found {found}"):
            as_attack(bad)


def test_read_from_a_file_it_says_that_the_object_is_missing() -> None:
    net, x, y = pieces()
    a = gives(lambda v: v)
    back = decode(json.loads(json.dumps(encode(a))))
    assert back == a and digest(back) == digest(a)
    with pytest.raises(UsageError, match="hold no attack: make it as it was made first"):
        back(net, x, y, seeds=examples.seeds(N))


@pytest.mark.oracle
def test_foolbox_s_attack_is_that_of_foolbox() -> None:
    foolbox = pytest.importorskip("foolbox", reason="pip install foolbox")
    net, x, y = pieces()
    theirs = as_attack(foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=0.015, steps=10, random_start=False), size=0.15)
    assert isinstance(theirs, Attack) and theirs.eps == 0.15
    found = theirs(net.train(), x, y, seeds=examples.seeds(N))
    assert float((found - BIM(0.15, 0.015, 10)(net, x, y, seeds=examples.seeds(N))).abs().max()) <= 1e-5
    assert net.training
    with pytest.raises(UsageError, match=r"LinfProjectedGradientDescentAttack of foolbox needs a size: as_attack\(attack, size=8 / 255\)"):
        as_attack(foolbox.attacks.LinfPGD())
    l2 = as_attack(foolbox.attacks.L2PGD(steps=3), size=0.5)
    assert isinstance(l2, ExternalAttack) and (l2.eps, l2.size, l2.norm) == (None, 0.5, "l2")
    assert float((l2(net, x, y, seeds=examples.seeds(N)) - x).flatten(1).norm(dim=1).max()) <= 0.5 + 1e-5


@pytest.mark.oracle
def test_what_it_is_recognised_by() -> None:
    foolbox = pytest.importorskip("foolbox", reason="pip install foolbox")
    one, same, other = (as_attack(foolbox.attacks.DDNAttack(steps=k)) for k in (7, 7, 8))
    assert digest(one) == digest(same) != digest(other)
    assert isinstance(one, ExternalAttack) and one.settings == "gamma=0.05, init_epsilon=1.0, steps=7" and one.norm == "l2"
    assert one.library == f"foolbox {foolbox.__version__}" and one.title == "DDNAttack (foolbox)"
    assert "0x" not in label(one) and "0x" not in label(as_attack(foolbox.attacks.BoundaryAttack()))
    net, x, y = pieces()
    twin = pickle.loads(pickle.dumps(one))
    assert torch.equal(twin(net, x, y, seeds=examples.seeds(N)), one(net, x, y, seeds=examples.seeds(N)))


@pytest.mark.oracle
def test_art_s_attack_is_that_of_art_on_the_classifier_that_is_given() -> None:
    pytest.importorskip("art", reason="pip install adversarial-robustness-toolbox")
    from art.attacks.evasion import BasicIterativeMethod
    from art.estimators.classification import PyTorchClassifier

    other = PyTorchClassifier(examples.conv(SHAPE, seed=5), nn.CrossEntropyLoss(), (3, 10, 14), SHAPE.classes, clip_values=(0, 1))
    net, x, y = pieces()
    theirs = as_attack(BasicIterativeMethod(other, eps=0.15, eps_step=0.015, max_iter=10, verbose=False), eps=0.15)
    found = theirs(net, x, y, seeds=examples.seeds(N))
    same = (found - BIM(0.15, 0.015, 10)(net, x, y, seeds=examples.seeds(N))).abs() <= 1e-5
    assert float(same.double().mean()) >= 0.999
    assert isinstance(theirs, ExternalAttack) and "max_iter=10" in theirs.settings and "eps=0.15" in theirs.settings


@pytest.mark.oracle
def test_an_attack_of_art_asks_nobody_but_the_classifier_that_is_given() -> None:
    """Its loss is a method of its own, which asks the classifier that it has: made with another one it does the same."""
    pytest.importorskip("art", reason="pip install adversarial-robustness-toolbox")
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import PyTorchClassifier

    shape, calls = Shape(3, 16, 16, SHAPE.classes), list[int]()
    net, other, x = examples.conv(shape), examples.conv(shape, seed=5), examples.images(shape, N)
    other.register_forward_hook(lambda *_: calls.append(1))
    estimators = (PyTorchClassifier(n, nn.CrossEntropyLoss(), (3, 16, 16), shape.classes, clip_values=(0, 1)) for n in (other, net))
    attacks = [as_attack(SquareAttack(e, eps=0.1, max_iter=20, verbose=False)) for e in estimators]
    found = [a(net, x, examples.predicted(net, x), seeds=examples.seeds(N)) for a in attacks]
    assert not calls and torch.equal(found[0], found[1]) and not torch.equal(found[0], x)


class Ours:
    """What an attack of torchattacks is made of, without torchattacks."""

    def __init__(self, model: nn.Module, eps: float) -> None:
        self.model, self.eps, self.steps, self.attack, self._attacks = model, eps, 1, "Ours", {}

    def set_model(self, model: nn.Module) -> None:
        self.model = model

    def set_device(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        here = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(self.model(here), y, reduction="sum")
        return (x + self.eps * torch.autograd.grad(loss, here)[0].sign()).clamp(0, 1)


Ours.__module__ = "torchattacks.attacks.ours"


def test_torchattacks_object_leaves_its_own_model_for_the_classifier_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself needs torchvision; the benchmark of attacks runs it."""
    monkeypatch.setattr(module.metadata, "version", lambda name: {"torchattacks": "3"}[name])
    net, x, y = pieces()
    object_ = Ours(examples.conv(SHAPE, seed=5), 0.1)
    a = as_attack(object_)
    assert isinstance(a, ExternalAttack) and (a.library, a.settings, a.eps, a.norm) == ("torchattacks 3", "eps=0.1, steps=1", 0.1, "linf")
    found = a(net, x, y, seeds=examples.seeds(N))
    assert torch.equal(found, FGSM(0.1)(net, x, y, seeds=examples.seeds(N)))
    assert vars(a)["_given"].model is None  # their network is not kept, in memory or in a pickle
