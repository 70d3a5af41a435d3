"""The private copy of a classifier that attacks run: used again, and never other than a new one would be."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.attacks import FGSM, _lent
from salientry.attacks._lent import lent
from salientry.classifiers import CompactCNN, External, PaperCNN

from .. import examples

SHAPE = examples.SHAPES["colour"]
X = examples.images(SHAPE, 6)


class Own(nn.Module):
    """A network of somebody's own, with settings that are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = examples.conv(SHAPE)
        self.power, self.scales, self.names = 1.0, [1.0, 2.0], {"of": (1, "x")}
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net((x + self.shift) ** self.power * self.scales[-1])
        return found


def attacked(net: nn.Module) -> Tensor:
    with torch.no_grad():
        y = copy.deepcopy(net).eval()(X).argmax(1)
    return FGSM()(net, X, y, seeds=examples.seeds(len(X)))


def copies(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Networks of which a new copy was made, from now on."""
    found, real = list[nn.Module](), _lent.private
    monkeypatch.setattr(_lent, "private", lambda net: (found.append(net), real(net))[1])
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda: examples.conv(SHAPE),
        lambda: examples.conv(SHAPE).train(),
        Own,
        lambda: External(examples.conv(SHAPE), mean=0.5, std=0.5),
        lambda: CompactCNN(width=4).build(SHAPE),
        lambda: PaperCNN(blocks=((1, 4, 3),), dense=(8,)).build(SHAPE),
    ],
    ids=["plain", "in train mode", "own", "External", "compact", "paper"],
)
def test_one_copy_serves_call_after_call(make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    net, made = make(), copies(monkeypatch)
    first = attacked(net)
    assert torch.equal(attacked(net), first) and torch.equal(attacked(net), first)
    assert len(made) == 1


def stepped(net: Own) -> None:
    """One step of an optimiser, in train mode, so that batch norm's statistics move too."""
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    nn.functional.cross_entropy(net.train()(X), torch.arange(6) % SHAPE.classes).backward()
    optimiser.step()


def through_data(net: Own) -> None:
    net.net[0].weight.data.neg_()


def other_memory(net: Own) -> None:
    net.net[0].weight.data = -net.net[0].weight.data


def other_parameter(net: Own) -> None:
    net.net[0].weight = nn.Parameter(-net.net[0].weight.detach())


def buffer_through_data(net: Own) -> None:
    net.shift.data.add_(0.7)


def other_buffer(net: Own) -> None:
    net.shift = torch.full_like(net.shift, 0.7)


def other_part(net: Own) -> None:
    net.net = examples.conv(SHAPE, seed=5)


def other_setting(net: Own) -> None:
    net.power = 3.0


def longer_list(net: Own) -> None:
    net.scales.append(-3.0)


def hooked(net: Own) -> None:
    net.net[0].register_forward_hook(lambda m, i, o: -o)


def other_forward(net: Own) -> None:
    net.forward = lambda x: net.net(1 - x)  # type: ignore[method-assign]


def loaded(net: Own) -> None:
    net.load_state_dict({k: v if "running" in k or "num" in k else 0.3 - v for k, v in net.state_dict().items()})


def in_double(net: Own) -> None:
    net.double()


CHANGES = [stepped, through_data, other_memory, other_parameter, buffer_through_data, other_buffer, other_part, other_setting]
CHANGES += [longer_list, hooked, other_forward, loaded]
IN_PLACE = (through_data, buffer_through_data, loaded)  # one in train mode goes on being in it


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_whatever_is_changed_between_calls_is_seen(change: Callable[[Own], None]) -> None:
    net = Own()
    with torch.no_grad():
        y = net.eval()(X).argmax(1)
    before = FGSM()(net, X, y, seeds=examples.seeds(6))
    change(net)
    after = FGSM()(net, X, y, seeds=examples.seeds(6))
    _lent._KEPT.clear()
    assert torch.equal(after, FGSM()(net, X, y, seeds=examples.seeds(6)))
    assert not torch.equal(after, before)


def as_truth(net: Own) -> None:
    net.power = True  # equal to 1, and another type


def inner_setting(net: Own) -> None:
    net.names["of"] = (2, "x")


def shared_with_another(net: Own) -> None:
    net.net[1] = net.net[3]


@pytest.mark.parametrize("change", [*CHANGES, as_truth, inner_setting, shared_with_another], ids=lambda f: f.__name__)
def test_marks_of_a_network_that_was_changed_do_not_hold(change: Callable[[Own], None]) -> None:
    """Not even where the answer happens to stay: then all is compared. Values that are written in place are brought over instead."""
    net = Own()
    with lent(net) as twin:
        pass
    marks = _lent._KEPT[net][1]
    assert marks is not None and marks.hold(net) and marks.hold(net)
    change(net)
    if change in IN_PLACE:
        assert marks.hold(net) and torch.equal(twin.shift, net.shift) and torch.equal(twin.net[0].weight, net.net[0].weight)
    else:
        assert not marks.hold(net)


def test_a_network_in_place_of_the_one_that_was_wrapped_is_seen() -> None:
    wrapped = nn.DataParallel(examples.conv(SHAPE))
    one, two = attacked(wrapped), None
    wrapped.module = examples.conv(SHAPE, seed=5)
    two = attacked(wrapped)
    _lent._KEPT.clear()
    assert torch.equal(attacked(wrapped), two) and not torch.equal(one, two)


def test_a_copy_that_was_changed_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Own()
    first = attacked(net)
    made, twin = copies(monkeypatch), _lent._KEPT[net][0]
    twin.power = 3.0  # as its forward might
    assert torch.equal(attacked(net), first) and not made
    twin.net[0].weight.requires_grad_()
    assert torch.equal(attacked(net), first) and len(made) == 1


@pytest.mark.parametrize("owned", [False, True])
def test_what_is_remembered_of_a_network_does_not_keep_it(owned: bool) -> None:
    """Not even where a weight has a note of whose it is."""
    net = Own()
    if owned:
        net.net[0].weight.owner = net  # type: ignore[attr-defined]
    for _ in range(2):
        with lent(net):
            pass
    assert (_lent._KEPT[net][1] is None) is owned
    seen = weakref.ref(net)
    del net
    gc.collect()
    assert seen() is None


def test_another_precision_is_seen() -> None:
    net = Own()
    assert attacked(net).dtype == torch.float32
    in_double(net)
    assert attacked(net).dtype == torch.float64


class Counts(Own):
    """Its forward leaves notes: a number, a buffer, and a tensor in place of an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.last = 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.shift.add_(0.1)
        self.last: Any = x.detach()
        return super().forward(x) * (1 if self.calls == 1 else -1)


def test_notes_that_a_network_leaves_in_the_copy_are_not_there_at_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    net, made = Counts(), copies(monkeypatch)
    y = torch.zeros(6, dtype=torch.int64)
    first, second = (FGSM()(net, X, y, seeds=examples.seeds(6)) for _ in range(2))
    assert torch.equal(first, second) and len(made) == 1
    assert net.calls == 0 and float(net.shift.abs().max()) == 0


def test_whoever_asks_meanwhile_gets_another_copy() -> None:
    net = Own()
    with lent(net) as one, lent(net) as two:
        assert one is not two
    with lent(net) as again:
        assert again in (one, two)
        again.training = True  # as no private network is
    with lent(net) as other:
        assert other is not again and not other.training


def test_a_copy_of_an_attack_that_failed_is_not_used_again() -> None:
    net = Own()
    with lent(net) as first:
        pass
    with pytest.raises(RuntimeError), lent(net) as second:
        raise RuntimeError
    with lent(net) as third:
        assert first is second and third is not second


def test_a_copy_goes_with_its_network() -> None:
    net = Own()
    with lent(net) as copied:
        pass
    seen = weakref.ref(copied)
    del net, copied
    gc.collect()
    assert seen() is None


class Says(Own):
    def __deepcopy__(self, memo: dict[int, Any]) -> Says:
        return Says()


class Evaluates(Own):
    def eval(self) -> Evaluates:
        return super().eval()


@pytest.mark.parametrize("kind", [Says, Evaluates])
def test_what_says_how_it_is_copied_is_copied_each_time(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    net, made = kind(), copies(monkeypatch)
    attacked(net)
    attacked(net)
    assert len(made) == 2


def test_what_cannot_be_compared_is_copied_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = copies(monkeypatch)
    for thing in (torch.zeros(3), object(), nn.Linear(2, 2).forward, lambda: 0, [torch.zeros(2)]):
        net, made[:] = Own(), []
        net.thing = thing
        attacked(net)
        attacked(net)
        assert len(made) == 2
