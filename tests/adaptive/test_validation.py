"""What every attack on a defended classifier owes whoever calls it, and what every control does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.adaptive import ADAPTIVE, Defended, SingleStep
from salientry.attacks import FGSM
from salientry.controls import CONTROLS
from salientry.errors import UsageError
from tests import examples
from tests.surroundings import LAYOUTS, MODES

from .nets import COLOUR, FEW, SLOPES, defended

KINDS = {name: kind(**FEW[name]) for name, kind in ADAPTIVE.items()} | {"single": SingleStep()}
EVERY = pytest.mark.parametrize("name", sorted(KINDS))


def subjects() -> tuple[Defended, Tensor, Tensor]:
    target = defended("SPD", dtype=torch.float32)
    x = examples.images(COLOUR, 4)
    return target, x, examples.predicted(target.classifier, x)


@EVERY
def test_memory_and_modes_do_not_matter(name: str) -> None:
    target, x, y = subjects()
    s = examples.seeds(4)
    plain = KINDS[name](target, x, y, seeds=s)
    assert bool((plain != x).any()) and plain.dtype == torch.float32
    for layout, make in LAYOUTS.items():
        assert torch.equal(KINDS[name](target, make(x), y.int(), seeds=s), plain), layout
    for mode, around in MODES.items():
        with around():
            found = KINDS[name](target, x.clone(), y.clone(), seeds=s)
        assert torch.equal(found, plain) and not found.is_inference(), mode
    raw = (255 * x).round().to(torch.uint8)
    assert torch.equal(KINDS[name](target, raw, y, seeds=s), plain)


@EVERY
def test_what_is_attacked_is_not_touched_meanwhile(name: str) -> None:
    target, x, y = subjects()
    for m in target.modules:
        assert m is None or m.train()

    def now() -> list[Any]:
        return [(k.training, [p.requires_grad for p in k.parameters()], len(k._forward_hooks)) for k in target.modules if k is not None]

    before, seen = now(), []
    handle = target.classifier.register_forward_hook(lambda m, i, o: seen.append(now()))
    inside = [(True, flags, hooks + (i == 0)) for i, (_, flags, hooks) in enumerate(before)]
    KINDS[name](target, x, y, seeds=examples.seeds(4))
    handle.remove()
    assert seen and all(state == inside for state in seen)
    assert now() == before


class Elsewhere(nn.Module):
    """A network that torch cannot differentiate."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).detach()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", sorted({*KINDS} - ({*ADAPTIVE} - {*SLOPES})))
def test_a_classifier_without_a_gradient_is_reported(name: str) -> None:
    target, x, y = subjects()
    away = (y + 1) % COLOUR.classes if name == "alarm" else y  # it asks for the way back alone
    with pytest.raises(UsageError, match=r"needs the gradient of the logits .* gives none"):
        KINDS[name](Defended(Elsewhere(target.classifier), None, None), x, away, seeds=examples.seeds(4))


@pytest.mark.parametrize("name", sorted({*ADAPTIVE} - {*SLOPES}))
def test_an_attack_that_asks_needs_no_gradient(name: str) -> None:
    target, x, y = subjects()
    found = [KINDS[name](Defended(net), x, y, seeds=examples.seeds(4)) for net in (target.classifier, Elsewhere(target.classifier))]
    assert torch.equal(*found)
    assert bool((found[0] != x).any())


@EVERY
def test_labels_and_images_that_cannot_be_meant_are_refused(name: str) -> None:
    target, x, y = subjects()
    for images, labels, message in ((x * 255, y, "images must lie in"), (x, y.float(), "labels must be int64"), (x, y - 9, "labels must")):
        with pytest.raises(UsageError, match=message):
            KINDS[name](target, images, labels, seeds=examples.seeds(4))


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_controls_take_any_memory_and_mode(name: str) -> None:
    net, x, s = examples.conv(COLOUR), examples.images(COLOUR, 6), examples.seeds(6)
    adv = FGSM(0.1)(net, x, examples.predicted(net, x), seeds=s)
    plain = examples.controls()[name](x, adv, seeds=s)
    for layout, make in LAYOUTS.items():
        assert torch.equal(examples.controls()[name](make(x), make(adv), seeds=s), plain), layout
    for mode, around in MODES.items():
        with around():
            found = examples.controls()[name](x.clone(), adv.clone(), seeds=s)
        assert found.dtype == torch.float32 and torch.equal(found, plain) and not found.is_inference(), mode
    for wrong in (x[:3], x * 255):
        with pytest.raises(UsageError, match=r"one shape|images must lie in"):
            examples.controls()[name](wrong, adv, seeds=s)
