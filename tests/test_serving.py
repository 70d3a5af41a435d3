"""A guard can be served: any number of threads, any mode of torch around a call, and the network that was given stays its owner's."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salientry.detectors import JSD
from salientry.errors import UsageError
from salientry.evidence import Evidence
from salientry.guard import Guard
from salientry.saliency import Gradient, GradientInput, GuidedBackprop
from salientry.types import Shape
from salientry.verdict import Verdict

from . import examples
from .examples import ViewPairs

SHAPE = Shape(2, 10, 12, 5)
X = examples.images(SHAPE, 6, seed=6)
PARTS = ("margin", "smd", "spd", "jsd", "pooled_activations", "class_presence", "second_net", "id")
MAPS = {"gradient": Gradient(), "gradient_input": GradientInput(), "guided": GuidedBackprop()}
GUARDS = ("spd by unet", "smd by unet per image", "smd by gradient", "spd by gradient_input", "spd by guided")
GUARDS += ("jsd", "jsd of everything", "pooled_activations", "fused")
EVERY = pytest.mark.parametrize("name", GUARDS)


def drawer(name: str, classifier: nn.Module) -> nn.Module:
    if name in MAPS:
        return MAPS[name].fit(examples.images(SHAPE, 20), torch.zeros(20, dtype=torch.int64), classifier, SHAPE, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: Any = examples.saliency()["unet"].build(SHAPE)
    net.instance = name == "unet per image"
    return net


def fitted(name: str, classifier: nn.Module, saliency: nn.Module | None) -> nn.Module:
    """A fitted detector; what it reads of the networks is theirs, so that its scores are not all alike."""
    spec: Any = JSD("full", examples.HEAD) if name == "jsd of everything" else examples.detectors()[name]
    parts = [fitted(p, classifier, saliency) for p in PARTS] if name == "fused" else []
    looks = [Evidence(classifier, saliency, examples.images(SHAPE, 40, seed=s)) for s in (0, 1)]
    with torch.no_grad():
        detector: nn.Module = examples.fitted(spec, ViewPairs.of(spec, *looks, *parts), *parts)
    return detector


def guarded(name: str, classifier: nn.Module) -> Guard:
    kind, _, by = name.partition(" by ")
    saliency = drawer(by or "unet", classifier) if by or kind == "fused" else None
    return Guard(classifier, saliency, fitted(kind, classifier, saliency), 0.0, 0.1, torch.linspace(-3, 3, 50), SHAPE)


@cache
def ready(name: str) -> tuple[nn.Module, Guard, Verdict]:
    """A network, a guard of it, and what it says when nothing else goes on; shared, so leave them alone."""
    net = examples.conv(SHAPE)
    guard = guarded(name, net)
    return net, guard, guard(X, batch=4)


def same(a: Verdict, b: Verdict) -> bool:
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("flagged", "score", "p_value", "predicted", "map", "contributions")]
    return all((v is None) == (w is None) and (v is None or torch.equal(v, w)) for v, w in pairs)


def state(net: nn.Module) -> list[Any]:
    """Everything of a module that another thread could see."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = [(n, m.training, [list(getattr(m, k)) for k in kinds], sorted(vars(m))) for n, m in net.named_modules()]
    tensors = [(n, t.requires_grad, t.grad, t._version, t.tolist()) for n, t in [*net.named_parameters(), *net.named_buffers()]]
    return [modules, tensors]


@contextmanager
def switching_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def owner_at_work(net: nn.Module, stop: threading.Event) -> None:
    """Passes forward and backward in both modes, and flags up and down; no weight is written to."""
    x = examples.images(SHAPE, 4, seed=9)
    while not stop.is_set():
        net.train()
        net(x).square().sum().backward()
        net.eval().requires_grad_(False)
        net(x)
        net.requires_grad_(True)
        net.zero_grad()


def called(guard: Guard, threads: int, calls: int) -> tuple[list[Verdict], list[BaseException]]:
    verdicts: list[Verdict] = []
    raised: list[BaseException] = []

    def call() -> None:
        try:
            verdicts.extend(guard(X, batch=4) for _ in range(calls))
        except BaseException as e:
            raised.append(e)

    workers = [threading.Thread(target=call) for _ in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return verdicts, raised


def prove(name: str, threads: int, calls: int) -> None:
    """Threads among each other leave everything of the network as found; and the owner may do with it what he likes."""
    net, _, alone = ready(name)
    net = copy.deepcopy(net).train()
    guard = guarded(name, net.eval())
    net.train()
    before = state(net)
    with switching_all_the_time():
        quiet, raised = called(guard, threads, calls)
        assert not raised and state(net) == before
        stop = threading.Event()
        owner = threading.Thread(target=owner_at_work, args=(net, stop))
        owner.start()
        disturbed, raised = called(guard, threads, calls)
        stop.set()
        owner.join()
    assert not raised
    assert len(quiet) == len(disturbed) == threads * calls
    assert all(same(v, alone) for v in [*quiet, *disturbed])


OWN_WRITES = pytest.mark.filterwarnings("ignore:the classifier has changed")  # its batch norm's buffers, by its owner's passes


@EVERY
@OWN_WRITES
def test_threads_give_the_scores_of_one_bit_for_bit(name: str) -> None:
    prove(name, 4, 6)


@EVERY
@OWN_WRITES
@pytest.mark.nightly
def test_eight_threads_of_three_hundred_calls(name: str) -> None:
    prove(name, 8, 300)


# --- modes around a call ------------------------------------------------------------------------------------------------------------


@contextmanager
def float64_everywhere() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


AROUND: dict[str, Any] = {
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": float64_everywhere,
}


@EVERY
@pytest.mark.parametrize("around", sorted(AROUND))
def test_modes_around_a_call_do_not_matter(name: str, around: str) -> None:
    net, guard, alone = ready(name)
    with AROUND[around]():
        assert same(guard(X, batch=4), alone)
        made_here = Guard(net, guard.saliency, guard.detector, 0.0, 0.1, guard.calibration, SHAPE)
        assert same(made_here(X.clone(), batch=4), alone)  # an inference tensor where that is the mode
    assert same(made_here(X, batch=4), alone)
    assert all(p.dtype == torch.float32 for p in (alone.score, alone.p_value, alone.contributions))


@EVERY
def test_the_graph_around_a_call_is_left_alone(name: str) -> None:
    _, guard, alone = ready(name)
    x = X.clone().requires_grad_()
    y = x * 1
    found = guard(y, batch=4)
    assert same(found, alone) and not found.score.requires_grad
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones_like(X))
    with torch.inference_mode():
        assert same(guard(X.clone().requires_grad_(False), batch=4), alone)


# --- whose network it is --------------------------------------------------------------------------------------------------------------


def test_an_owners_step_is_noticed_once() -> None:
    net = examples.conv(SHAPE)
    guard = guarded("jsd", net)
    first = guard(X)
    net.train().requires_grad_(False).eval()
    assert same(guard(X), first)
    with torch.no_grad():
        net[6].bias += torch.arange(5.0)
    with pytest.warns(UserWarning, match="the classifier has changed since this guard was made.*fit the guard again") as caught:
        second = guard(X)
    assert caught[0].filename == __file__ and not torch.equal(second.predicted, first.predicted)
    assert same(guard(X), second)  # and not reported again


def test_a_pass_of_the_owner_in_training_mode_is_noticed_and_moves_nothing() -> None:
    net = examples.conv(SHAPE)
    guard = guarded("jsd", net)
    first = guard(X)
    net.train()(X)
    with pytest.warns(UserWarning, match="has changed"):
        assert same(guard(X), first)


@pytest.mark.parametrize("name", ["jsd", "pooled_activations"])
def test_new_weights_are_run_with_their_own_buffers_and_parts_never_a_mixture(name: str) -> None:
    net, other = examples.conv(SHAPE), examples.conv(SHAPE)
    with torch.no_grad():
        for t in (*other.parameters(), *other.buffers()):
            t += torch.rand(t.shape).to(t.dtype)
    guard = guarded(name, net)
    guard(X)
    net.load_state_dict(other.state_dict())
    with pytest.warns(UserWarning, match="its weights were written to or parts of it replaced. The guard runs it as it is now"):
        now = guard(X)
    assert torch.equal(now.predicted, net(X).argmax(1)) and same(guard(X), now)
    net[6] = nn.Linear(net[6].in_features, net[6].out_features)
    assert torch.equal(guard(X).predicted, net(X).argmax(1)), "also when a part is another one"


@EVERY
def test_copies_and_pickles_judge_the_same_and_stand_alone(name: str) -> None:
    net, guard, alone = ready(name)
    for again in (copy.deepcopy(guard), pickle.loads(pickle.dumps(guard)), copy.deepcopy(copy.deepcopy(guard))):
        assert same(again(X, batch=4), alone)
        theirs = {p.data_ptr() for p in net.parameters()}
        assert not theirs & {p.data_ptr() for p in again.classifier.parameters()} and again.classifier is not net


def test_a_guard_moves_without_its_owners_network() -> None:
    net = examples.conv(SHAPE)
    guard = guarded("fused", net)
    alone = guard(X)
    before = [p.data_ptr() for p in net.parameters()]
    assert guard.double() is guard
    assert all(p.dtype == torch.float32 for p in net.parameters()) and [p.data_ptr() for p in net.parameters()] == before
    assert all(p.dtype == torch.float64 for p in guard._asked.master.parameters())
    guard.float()
    assert same(guard(X), alone)
    guard.to("meta")
    assert {t.device.type for t in [*guard.parameters(), *guard.buffers(), *guard._asked.master.parameters()]} == {"meta"}
    assert {p.device.type for p in net.parameters()} == {"cpu"}


def test_what_is_written_into_its_parts_counts_from_the_next_call() -> None:
    _, guard, alone = ready("fused")
    guard = copy.deepcopy(guard)
    head: Any = guard.detector.head
    head.mean += 1
    moved = guard(X, batch=4)
    assert not torch.equal(moved.score, alone.score)
    with torch.no_grad():
        head.mean -= 1
        head.offset += 2
    assert torch.allclose(guard(X, batch=4).score, alone.score + 2, atol=1e-3)


class NoGradient(nn.Module):
    """As a network that another library runs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = examples.conv(SHAPE)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.net(x)
        return logits


def test_without_a_gradient_only_what_needs_one_is_refused() -> None:
    _, plain, _ = ready("jsd")
    net = NoGradient()
    with pytest.raises(UsageError, match="gradient is a gradient of the classifier, and its forward pass gives none"):
        Guard(net, None, plain.detector, 0.0, 0.1, plain.calibration, SHAPE)(X)
    for settings in MAPS.values():
        if settings != MAPS["guided"]:
            with pytest.raises(UsageError, match="this map is a gradient of the classifier, and its forward pass gives none"):
                settings.fit(X, torch.zeros(6, dtype=torch.int64), net, SHAPE, seed=0)
    for name in ("smd by unet per image", "pooled_activations"):
        _, plain, alone = ready(name)
        assert same(Guard(net, plain.saliency, plain.detector, 0.0, 0.1, plain.calibration, SHAPE)(X, batch=4), alone)


class Merges(nn.Module):
    """One answer for every two images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = examples.conv(SHAPE)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits[::2]


def test_a_verdict_has_a_row_for_each_image_or_is_an_error() -> None:
    net = examples.conv(SHAPE)
    detector = fitted("margin", net, None)
    guard = Guard(Merges(), None, detector, 0.0, 0.1, torch.linspace(-3, 3, 50), SHAPE)
    with pytest.raises(UsageError, match="6 images gave 3 rows of logits and 3 scores; each image must give one"):
        guard(X)
