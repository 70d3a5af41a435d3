from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import FGSM
from salientry.classifiers import CompactCNN, External
from salientry.detectors import ID, SMD, Margin2, SmallCNN
from salientry.errors import DataDamaged
from salientry.keys import encode
from salientry.learned import device_of, facts_of, fingerprint, frozen, rebuild, recipe_of, seeded, with_facts, with_recipe
from salientry.saliency import SimpleClassifier, UNet
from salientry.types import Shape

SHAPE = Shape(1, 8, 8, 3)

# --- a module is left as it was found -----------------------------------------------------------------------------


def mixed() -> nn.Sequential:
    """Some of it training, some not; some of it learning, some not; some gradients there."""
    with seeded(0):
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 3)))
    net.train()
    net[1].eval()
    net[2][0].eval()
    net[0].weight.requires_grad_(False)
    net[2][2].weight.grad = torch.full_like(net[2][2].weight, 7.0)
    return net


def state(net: nn.Module) -> tuple[object, ...]:
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    return modes, flags, [None if p.grad is None else p.grad.tolist() for p in net.parameters()], fingerprint(net)


@pytest.mark.parametrize("fails", [False, True])
def test_frozen_leaves_everything_as_found(fails: bool) -> None:
    net, other = mixed(), nn.Linear(2, 2)
    before = state(net), state(other)
    grad = net[2][2].weight.grad

    def look() -> None:
        with frozen(net, None, other, net[2]):
            assert not any(m.training for m in net.modules()) and not other.training
            assert not any(p.requires_grad for p in (*net.parameters(), *other.parameters()))
            x = torch.rand(4, 1, 8, 8, requires_grad=True)
            net(x).sum().backward()
            assert x.grad is not None and bool((x.grad != 0).any()), "the input still gets its gradient"
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            look()
    else:
        look()
    assert (state(net), state(other)) == before
    assert net[2][2].weight.grad is grad


def test_frozen_nests() -> None:
    net = mixed()
    before = state(net)
    with frozen(net):
        with frozen(net):
            pass
        assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert state(net) == before


def test_seeded_draws_alike_and_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1):
        assert torch.equal(torch.rand(3), first)
    with seeded(2):
        assert not torch.equal(torch.rand(3), first)


# --- build, note, rebuild ----------------------------------------------------------------------------------------


def learned() -> Iterator[nn.Module]:
    yield CompactCNN(width=4).build(SHAPE)
    yield SMD(SmallCNN(width=4)).build((1, 8, 8))
    yield Margin2().build((2,))
    yield UNet(encoder=SimpleClassifier(base=4, scales=2)).build(SHAPE)
    yield ID(SmallCNN(width=3)).build((1, 8, 8), SMD(SmallCNN(width=4)).build((1, 8, 8)), CompactCNN(width=4).build(SHAPE))


@pytest.mark.parametrize("at", range(5))
def test_a_module_is_built_again_from_its_note(at: int) -> None:
    module = list(learned())[at]
    note = json.loads(json.dumps(recipe_of(module)))
    with seeded(99):
        again = rebuild(note)
    assert type(again) is type(module) and not again.training
    assert recipe_of(again) == note
    shapes = {k: v.shape for k, v in module.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes
    again.load_state_dict(module.state_dict())
    assert fingerprint(again) == fingerprint(module)


def test_rebuilt_computes_the_same() -> None:
    module, x = CompactCNN(width=4).build(SHAPE), torch.rand(5, 1, 8, 8)
    again = rebuild(recipe_of(module))
    assert not torch.equal(again(x), module(x)), "weights are for the caller to load"
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(x), module(x))


def test_a_note_in_a_file_builds_nothing_of_others() -> None:
    note = recipe_of(CompactCNN(width=4).build(SHAPE))
    with pytest.raises(DataDamaged):
        rebuild(note | {"build": {"class": "subprocess:Popen", "args": "true"}})
    with pytest.raises(DataDamaged):
        rebuild(note | {"args": [{"class": "pathlib:Path"}]})
    assert encode(SHAPE) in note["args"]


def test_made_puts_into_eval_mode_and_returns_the_same() -> None:
    net = nn.Linear(1, 1)
    assert with_recipe(net, FGSM(), SHAPE) is net and not net.training
    assert recipe_of(net) == {"build": encode(FGSM()), "args": [encode(SHAPE)]}


def test_facts_add_up_and_are_not_shared() -> None:
    net = nn.Linear(1, 1)
    assert facts_of(net) == {}
    assert with_facts(net, a=1) is net
    with_facts(net, b=2, a=3)
    facts_of(net)["c"] = 4
    assert facts_of(net) == {"a": 3, "b": 2}


# --- fingerprints ------------------------------------------------------------------------------------------------


def test_a_fingerprint_changes_with_every_weight_and_buffer() -> None:
    net = CompactCNN(width=2).build(SHAPE)
    seen = {fingerprint(net)}
    assert {"0.1.running_mean", "0.1.num_batches_tracked", "4.bias"} <= set(net.state_dict())
    for value in net.state_dict().values():
        before = value.clone()
        flat = value.view(-1)
        for at in (0, len(flat) - 1):
            flat[at] = torch.nextafter(flat[at], torch.tensor(torch.inf)) if value.is_floating_point() else flat[at] + 1
            seen.add(fingerprint(net))
            value.copy_(before)
    doubled = sum(2 if v.numel() > 1 else 1 for v in net.state_dict().values())
    assert len(seen) == 1 + doubled
    assert fingerprint(net) in seen and len(fingerprint(net)) == 64


class Shifted(nn.Module):
    """Its shift is no part of its state dict."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([shift]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def test_a_fingerprint_changes_with_buffers_that_are_not_saved() -> None:
    assert fingerprint(Shifted(0.0)) == fingerprint(Shifted(0.0)) != fingerprint(Shifted(1.0))
    assert fingerprint(nn.Sequential(Shifted(0.0), Shifted(1.0))) != fingerprint(nn.Sequential(Shifted(1.0), Shifted(0.0)))


def test_a_fingerprint_does_not_depend_on_mode_gradients_or_layout() -> None:
    net = CompactCNN(width=2).build(Shape(3, 8, 8, 3))
    before = fingerprint(net)
    net.train().requires_grad_(False)
    net.to(memory_format=torch.channels_last)
    assert fingerprint(net) == before
    assert fingerprint(nn.Linear(2, 2).double()) != fingerprint(nn.Linear(2, 2))


def test_a_fingerprint_knows_shapes_dtypes_names_and_identity() -> None:
    def holding(name: str, value: Tensor) -> nn.Module:
        module = nn.Module()
        module.register_buffer(name, value)
        return module

    zeros = torch.zeros(4)
    different = [holding("a", zeros), holding("b", zeros), holding("a", zeros.view(2, 2)), holding("a", zeros.int())]
    different += [holding("a", torch.zeros(0)), nn.Module(), External(holding("a", zeros)), External(holding("a", zeros), std=0.5)]
    different += [External(holding("a", zeros), channels="BGR"), External(holding("a", zeros), output="logits")]
    assert len({fingerprint(m) for m in different}) == len(different)


class Extra(nn.Module):
    """What it knows beside its weights, as ``get_extra_state`` gives it."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.extra = extra

    def get_extra_state(self) -> Any:
        return self.extra


def test_a_fingerprint_knows_what_is_no_tensor() -> None:
    values: list[Any] = [None, 1, 2, "1", b"1", torch.qint8, [1, 2], {"a": 1}, {"a": 2}, {"b": 1}, torch.ones(2), [torch.zeros(2), None]]
    assert len({fingerprint(Extra(e)) for e in values}) == len(values)
    assert fingerprint(Extra({"a": 1, "b": 2})) == fingerprint(Extra({"b": 2, "a": 1}))
    assert fingerprint(Extra(object())) == fingerprint(Extra(object()))  # of a stranger only its kind


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TypedStorage", "ignore:.*quantiz")
def test_a_fingerprint_changes_with_packed_and_quantised_weights() -> None:
    def quantised(weight: float, bias: float = 0.0) -> nn.Module:
        net = nn.Sequential(nn.Linear(3, 2))
        with torch.no_grad():
            net[0].weight.copy_(torch.tensor([[1.0, 0.5, 0.25], [0.1, 0.2, weight]]))
            net[0].bias.fill_(bias)
        made: nn.Module = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
        return made

    assert fingerprint(quantised(0.3)) == fingerprint(quantised(0.3))
    assert len({fingerprint(quantised(*w)) for w in ((0.3,), (0.5,), (0.3, 1.0))}) == 3
    assert device_of(quantised(0.3)).type == "cpu"
    channels = [torch.quantize_per_channel(torch.ones(2, 2), torch.tensor([s, 0.1]), torch.zeros(2), 0, torch.qint8) for s in (0.1, 0.2)]
    assert fingerprint(Extra(channels[0])) != fingerprint(Extra(channels[1]))
