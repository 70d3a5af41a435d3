from __future__ import annotations

import copy
import functools
import pickle
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from salientry.errors import UsageError
from salientry.learned import frozen
from salientry.modules import bare, private, versions, weights
from salientry.types import Shape

from . import examples

SHAPE = Shape(1, 8, 8, 3)
X = examples.images(SHAPE, 6, seed=2)


@pytest.fixture
def net() -> nn.Sequential:
    return examples.conv(SHAPE)


class Written(nn.Module):
    """A small net, written by hand; subclasses change one thing."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(F.relu(self.norm(self.conv(x))).flatten(1))
        return logits


class WritesIntoItsInput(Written):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.flatten(1)))[:, :3]


class KeepsATensor(Written):
    def __init__(self) -> None:
        super().__init__()
        self.scale = self.out.weight.sum() / 100  # not a leaf: copy.deepcopy refuses it

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Written()
        weight_norm(net.out)
    return net


def parametrized() -> nn.Module:
    net = Written()
    parametrizations.weight_norm(net.out)
    parametrizations.spectral_norm(net.conv)
    return net


def bound_method() -> nn.Module:
    net = Written()

    def forward(self: Written, x: Tensor) -> Tensor:
        return 2 * self.out(self.norm(self.conv(x)).flatten(1))

    net.forward = types.MethodType(forward, net)  # type: ignore[method-assign]
    return net


def closure() -> nn.Module:
    """As libraries wrap a forward pass that is there."""
    net = Written()
    before = net.forward

    def forward(x: Tensor) -> Tensor:
        return before(x) + net.norm(net.conv(x)).mean((1, 2, 3))[:, None]

    net.forward = forward  # type: ignore[method-assign]
    return net


def in_the_defaults() -> nn.Module:
    net = Written()
    net.forward = lambda x, net=net: net.out(net.norm(net.conv(x)).flatten(1))  # type: ignore[method-assign]
    return net


def partial() -> nn.Module:
    net = Written()
    net.forward = functools.partial(Written.forward, net)  # type: ignore[method-assign]
    return net


def changed_by_a_hook() -> nn.Module:
    net = Written()
    net.norm.register_forward_hook(lambda m, given, out: out + m.running_mean[None, :, None, None] + net.norm.running_var.mean())
    return net


GLOBAL = Written()


def in_the_globals() -> nn.Module:
    def forward(x: Tensor) -> Tensor:
        logits: Tensor = GLOBAL.out(GLOBAL.norm(GLOBAL.conv(x)).flatten(1))
        return logits

    GLOBAL.forward = forward  # type: ignore[method-assign]
    return GLOBAL


def inference_weights() -> nn.Module:
    with torch.inference_mode():
        return Written()


def traced() -> nn.Module:
    return torch.jit.trace(Written().eval(), X)  # type: ignore[no-any-return, no-untyped-call]


class Around(nn.Module):
    """As ``External`` stands around a network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(2 * x - 1)
        return logits


NETS: dict[str, Callable[[], nn.Module]] = {
    "sequential": lambda: examples.conv(SHAPE),
    "written": Written,
    "around": lambda: Around(Written()),
    "writes into its input": WritesIntoItsInput,
    "tied": Tied,
    "keeps a tensor": KeepsATensor,
    "old weight norm": old_weight_norm,
    "parametrized": parametrized,
    "bound method": bound_method,
    "closure": closure,
    "in the defaults": in_the_defaults,
    "partial": partial,
    "changed by a hook": changed_by_a_hook,
    "in the globals": in_the_globals,
    "inference weights": inference_weights,
    "parallel": lambda: nn.DataParallel(Written()),
    "parallel inside": lambda: Around(nn.DataParallel(Written())),
    "compiled": lambda: torch.compile(Written()),
    "compiled inside": lambda: Around(torch.compile(Written())),
    "compiled in place": lambda: (net := Written(), net.compile())[0],
    "scripted": lambda: torch.jit.script(Written()),
    "scripted inside": lambda: Around(torch.jit.script(Written())),
    "frozen script": lambda: torch.jit.freeze(torch.jit.script(Written().eval())),
    "traced": traced,
}
EVERY = pytest.mark.parametrize("name", sorted(NETS))
SCRIPTS = {"scripted", "scripted inside", "frozen script", "traced"}
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def state(net: nn.Module) -> list[Any]:
    """Everything of a module that another thread could see."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    seen: list[Any] = []
    for n, m in net.named_modules():
        hooks = [] if isinstance(m, torch.jit.ScriptModule) else [list(getattr(m, k).items()) for k in kinds]
        names = [] if isinstance(m, torch.jit.ScriptModule) else sorted(vars(m))
        seen.append((n, getattr(m, "training", None), hooks, names))
    tensors = [(n, p.requires_grad, p.grad, p.tolist()) for n, p in [*net.named_parameters(), *net.named_buffers()]]
    return [seen, tensors]


def answer(net: nn.Module, x: Tensor) -> Tensor:
    """In eval mode, on the bare network: what the copy should say."""
    with torch.no_grad():
        found: Tensor = bare(net).eval()(x.clone())
    return found


@EVERY
def test_it_answers_bit_for_bit_as_the_network_does_in_eval_mode_and_leaves_it_alone(name: str) -> None:
    net = NETS[name]()
    if name != "frozen script":
        net.train()
    before, x = state(net), X.clone()
    twin = private(net)
    assert state(net) == before
    with torch.no_grad():
        found = twin(x)
        again = private(twin)(x)
    assert torch.equal(x, X) and state(net) == before
    assert not twin.training and torch.equal(again, found)
    here = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(twin(here).sum(), here)
    assert bool(slope.any()) and state(net) == before
    if name not in ("compiled", "compiled inside", "compiled in place"):  # those are run outside the compiler
        assert torch.equal(found, answer(net, X))


@EVERY
def test_nothing_of_it_is_seen_from_outside(name: str) -> None:
    """Hooks, modes and buffers of the copy are its own; layers of the given network are never called by it."""
    net = NETS[name]()
    twin = private(net)
    before = state(net)
    called: list[str] = []
    if name not in SCRIPTS:
        for m in net.modules():
            m.register_forward_hook(lambda m, given, out: called.append(type(m).__name__))
    for m in twin.modules():
        if not isinstance(m, torch.jit.ScriptModule):
            m.register_forward_hook(lambda m, given, out: None)
    twin.train()
    twin(X)
    assert called == []
    if name in SCRIPTS:
        assert state(net) == before
    else:
        assert [s[1] for s in state(net)[0]] == [s[1] for s in before[0]] and state(net)[1] == before[1]


def test_weights_are_the_same_memory_and_need_no_gradient(net: nn.Sequential) -> None:
    twin = private(net.train())
    for mine, theirs in zip(twin.parameters(), net.parameters(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr() and mine is not theirs
        assert theirs.requires_grad and not mine.requires_grad
    for mine, theirs in zip(twin.buffers(), net.buffers(), strict=True):
        assert mine.data_ptr() != theirs.data_ptr() and torch.equal(mine, theirs)
    with torch.no_grad():
        net[6].bias += 1
    assert torch.equal(twin(X), private(net)(X))


def test_a_backward_pass_survives_an_optimisers_step_of_the_owner(net: nn.Sequential) -> None:
    """In the middle of a gradient, from another thread: a graph must not know that the memory is somebody else's, too."""
    twin, x = private(net), X.clone().requires_grad_()
    out = twin(x).sum()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.01)
    assert torch.autograd.grad(out, x)[0].abs().sum() > 0


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, X)], ids=["script", "trace"])
def test_the_weights_of_a_script_are_held_still_like_any_others(net: nn.Sequential, make: Any) -> None:
    twin = private(make(net.eval()))
    with frozen(twin):
        assert not any(p.requires_grad for p in twin.parameters())
        x = X.clone().requires_grad_()
        assert torch.autograd.grad(twin(x).sum(), x)[0].abs().sum() > 0
    torch.testing.assert_close(twin(X), net(X))


def test_an_optimisers_step_and_a_pass_in_training_mode_are_noticed(net: nn.Sequential) -> None:
    first = versions(net)
    private(net)(X)
    net(X).sum().backward()
    net.train().eval().requires_grad_(False).requires_grad_(True)
    assert versions(net) == first
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    stepped = versions(net)
    assert stepped != first
    net.train()(X)
    moved = versions(net)
    assert moved != stepped
    net[6] = nn.Linear(96, 3)
    assert versions(net) != moved
    script = torch.jit.script(Written())
    assert versions(script) == versions(script)


def test_tied_weights_stay_tied() -> None:
    twin: Any = private(Tied())
    assert twin.a.weight is twin.b.weight


def test_a_hook_on_the_backward_pass_stays_behind(net: nn.Sequential) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("not here")

    net[4].register_full_backward_hook(fail)
    here = X.clone().requires_grad_()
    private(net)(here).sum().backward()
    assert here.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_go_in_and_come_out_as_their_caller_has_them(net: nn.Sequential, dtype: torch.dtype) -> None:
    expected = private(net)(X)
    other = copy.deepcopy(net).to(dtype)
    here = X.clone().requires_grad_()
    found = private(other)(here)
    assert found.dtype == torch.float32 and found.requires_grad
    assert torch.equal(found, other(X.to(dtype)).float())
    assert torch.allclose(found, expected, atol=0.05 * float(expected.abs().max()))
    (slope,) = torch.autograd.grad(found.sum(), here)
    assert slope.dtype == torch.float32
    assert private(net.double())(X.double()).dtype == torch.float64


class WithALock(Written):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.calls = threading.Lock(), iter(range(10))

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return super().forward(x)


def test_what_cannot_be_copied_is_shared_and_named_once() -> None:
    net = Around(WithALock())
    with pytest.warns(UserWarning, match=r"net\.lock \(lock\).* of Around cannot be copied: .* shares them") as caught:
        twin = private(net)
    assert len(caught) == 1 and "calls" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert private(twin)(X).shape == private(net)(X).shape == (6, 3)
    assert twin.net.lock is net.net.lock and twin.net is not net.net  # type: ignore[union-attr]


class NotToBeCopied(Written):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("there is but one")


def test_what_cannot_be_copied_at_all_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"NotToBeCopied cannot be copied \(RuntimeError: there is but one \(.*, in NotToBeCopied"):
        private(NotToBeCopied())
    with pytest.raises(UsageError, match="LazyLinear has no weights yet"):
        private(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))


def test_copies_and_pickles_of_it_answer_the_same(net: nn.Sequential) -> None:
    twin = private(net)
    for again in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert torch.equal(again(X), twin(X))
        assert not {p.data_ptr() for p in again.parameters()} & {p.data_ptr() for p in net.parameters()}


def test_made_in_inference_mode_it_can_be_differentiated() -> None:
    net = Written()
    with torch.inference_mode():
        twin = private(net)
    here = X.clone().requires_grad_()
    assert torch.autograd.grad(twin(here).sum(), here)[0].any()


def test_weights_come_in_the_order_of_parameters() -> None:
    """So the precision of the first one is the same, of a network with a script in it, too; one that is tied may come twice."""
    part = nn.Linear(3, 3)
    tied = nn.Sequential(nn.ReLU(), nn.Sequential(part, nn.BatchNorm1d(3)), part, nn.Bilinear(2, 2, 2), nn.Linear(3, 3, bias=False))
    tied[1].register_parameter("none", None)
    tied[4].weight = part.weight
    found = list(weights(tied))
    assert len(found) == 7 and list(dict.fromkeys(map(id, found))) == [id(p) for p in tied.parameters()]
    scripted = nn.Sequential(nn.Linear(2, 2), torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)))
    assert [p.shape for p in weights(scripted)] == [p.shape for p in scripted.parameters()]
