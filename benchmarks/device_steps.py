"""Of `python -m benchmarks.device`: attacks as they run today beside the same loops as one step that reads no number, and that compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from salientry.attacks import BIM, MIM, PGD, CarliniWagner
from salientry.attacks._gradient import START, labelled, log_odds_slope, margin_slope
from salientry.attacks.cw import BETA1, BETA2, INSIDE, TINY
from salientry.randomness import uniform
from salientry.runner.operations import Counting

from .device_clock import Clock, described, in_turn
from .host_reads import a_step

E = 1 / 255
NUDGE = 1e-7  # of a value: about a rounding
SAME = 1e-6  # a value of an image that differs by no more is the same
NO_GPU = "no GPU"
State = dict[str, Tensor]
Slope = Callable[[nn.Module, Tensor, Callable[[Tensor], Tensor]], tuple[Tensor, Tensor]]
Step = Callable[[nn.Module, Slope, State], State]


# --- gradients ---------------------------------------------------------------------------------------------------


def by_autograd(net: nn.Module, x: Tensor, slope: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (N, K), and the gradient in the images of a function of them whose gradient in the logits is ``slope``."""
    here = x.detach().requires_grad_()
    with torch.enable_grad():
        z = net(here)
    return z.detach(), torch.autograd.grad(z, here, slope(z.detach()))[0]


def by_function(net: nn.Module, x: Tensor, slope: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The same in a form that ``torch.compile`` follows to the end."""
    z, back = torch.func.vjp(net, x)[:2]
    return z, back(slope(z))[0]


# --- loops -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loop:
    """An attack, and the same as one step over tensors that stay where they are.

    Attributes:
        name: in the record.
        attack: what runs today.
        steps: how many.
        begin: from the logits' shape, images, labels and seeds to the state before the first step.
        step: from a state to what of it is new.
        result: what of the state are the images.
        moves: what of it is moved.
    """

    name: str
    attack: Any
    steps: int
    begin: Callable[[Any, Tensor, Tensor, Tensor, Tensor], State]
    step: Callable[[Any, nn.Module, Slope, State], State]
    result: str
    moves: str

    def state(self, net: nn.Module, x: Tensor, y: Tensor, seeds: Tensor) -> State:
        """Before the first step, on images, labels and seeds."""
        with torch.no_grad():
            return self.begin(self.attack, x, y, seeds, labelled(net(x), y))

    def stepped(self, net: nn.Module, slope: Slope = by_autograd) -> Callable[[State], State]:
        """Its step on a network."""
        return lambda state: self.step(self.attack, net, slope, state)


def within(attack: Any, x: Tensor, y: Tensor, seeds: Tensor, own: Tensor) -> State:
    """Of BIM, MIM and PGD."""
    eps = attack.eps
    low, high, here = (x - eps).clamp_min(0), (x + eps).clamp_max(1), x
    if getattr(attack, "start", False):
        start = x + eps * (2 * uniform(seeds + START, tuple(x.shape[1:])).to(x.dtype) - 1)
        here = torch.minimum(torch.maximum(start, low), high)
    return {"here": here, "low": low, "high": high, "own": own, "total": torch.zeros_like(x)}


def ascends(attack: Any, net: nn.Module, slope: Slope, state: State) -> State:
    """Along the sign of the gradient, or of the running sum of gradients."""
    own = state["own"]
    _, way = slope(net, state["here"], lambda z: log_odds_slope(z, own))
    new: State = {}
    if isinstance(attack, MIM):
        size = way.abs().flatten(1).mean(1).clamp_min(1e-12)
        way = new["total"] = state["total"] * attack.decay + way / size.view(-1, 1, 1, 1)
    return new | {"here": torch.clamp(way.sign() * attack.step_size + state["here"], state["low"], state["high"])}


def near(attack: CarliniWagner, x: Tensor, y: Tensor, seeds: Tensor, own: Tensor) -> State:
    """Of one search step of C&W without an early stop."""
    w, far = (INSIDE * (2 * x - 1)).atanh(), x.new_full((len(x),), float("inf"))
    powers = torch.arange(1, attack.steps + 1, dtype=torch.float64, device=x.device)
    return {
        "w": w,
        "m": torch.zeros_like(w),
        "v": torch.zeros_like(w),
        "natural": (w.tanh() + 1) / 2,
        "own": own,
        "y": y,
        "best": x.clone(),
        "nearest": far,
        "rate": (attack.lr / (1 - BETA1**powers)).to(x.dtype),  # of each step: Adam's corrections
        "second": (1 - BETA2**powers).to(x.dtype),
        "at": torch.zeros(1, dtype=torch.int64, device=x.device),
    }


def descends(attack: CarliniWagner, net: nn.Module, slope: Slope, state: State) -> State:
    """One step of Adam; every image has a backward pass, also where the logits' loss is flat."""
    own, y, const = state["own"], state["y"], attack.initial_const

    def towards(z: Tensor) -> Tensor:
        others = z.masked_fill(own, float("-inf"))
        most = others.amax(1)
        above = (z + attack.confidence * own).gather(1, y[:, None])[:, 0] - most
        return margin_slope(-const * (above > 0).to(z.dtype), own, others, most)

    t = state["w"].tanh()
    here = 0.5 + 0.5 * t
    z, gradient = slope(net, here, towards)
    moved = here - state["natural"]
    l2 = moved.square().flatten(1).sum(1)
    nearer = ((z + attack.confidence * own).argmax(1) != y) & (l2 < state["nearest"])
    gradient = (gradient + 2 * moved) * (0.5 - 0.5 * t.square())
    m = state["m"].lerp(gradient, 1 - BETA1)
    v = BETA2 * state["v"] + (1 - BETA2) * gradient * gradient
    rate, second = state["rate"][state["at"]], state["second"][state["at"]]
    return {
        "w": state["w"] - rate * m / ((v / second).sqrt() + TINY),
        "m": m,
        "v": v,
        "best": torch.where(nearer.view(-1, 1, 1, 1), here, state["best"]),
        "nearest": torch.where(nearer, l2, state["nearest"]),
        "at": state["at"] + 1,
    }


def loops(steps: int = 10, descents: int = 40) -> list[Loop]:
    """What is measured, with the settings of `python -m benchmarks.attacks`."""
    searched = CarliniWagner(search_steps=1, steps=descents, lr=0.01, initial_const=1.0, abort_early=False)
    return [
        Loop("BIM", BIM(8 * E, E, steps), steps, within, ascends, "here", "here"),
        Loop("PGD", PGD(8 * E, 2 * E, steps), steps, within, ascends, "here", "here"),
        Loop("MIM", MIM(8 * E, E, steps), steps, within, ascends, "here", "here"),
        Loop("C&W", searched, descents, near, descends, "best", "w"),
    ]


# --- ways to run a loop --------------------------------------------------------------------------------------------


class Running:
    """A loop that goes from one state to the next without a number being read.

    Args:
        step: from a state to what of it is new; writes into none of its tensors.
        begin: the state before the first step.
    """

    def __init__(self, step: Callable[[State], State], begin: State) -> None:
        self.begin, self.state, self.step = begin, dict(begin), step
        self.replay: Callable[[], None] | None = None

    @torch.no_grad()
    def advance(self) -> None:
        """One step."""
        if self.replay is None:
            self.state |= self.step(self.state)
        else:
            self.replay()

    def reset(self) -> None:
        """To where it began."""
        if self.replay is None:
            self.state = dict(self.begin)
            return
        for k, v in self.begin.items():
            self.state[k].copy_(v)

    def captured(self) -> Running:
        """Itself, its step a CUDA graph over tensors that stay where they are."""
        self.state = {k: v.clone() for k, v in self.begin.items()}

        @torch.no_grad()
        def once() -> None:
            for k, new in self.step(self.state).items():
                self.state[k].copy_(new)

        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                once()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            once()
        self.replay = graph.replay
        return self

    def run(self, steps: int, result: str) -> Tensor:
        """The images after so many steps from the beginning."""
        self.reset()
        for _ in range(steps):
            self.advance()
        return self.state[result]


def compiled(loop: Loop, net: nn.Module, backend: str) -> Callable[[State], State]:
    """Its step by ``torch.compile``."""
    found: Callable[[State], State] = torch.compile(loop.stepped(net, by_function), fullgraph=True, dynamic=False, backend=backend)
    return found


def ways(loop: Loop, net: nn.Module, begin: State, device: str, backend: str) -> tuple[dict[str, Running], dict[str, str]]:
    """A loop run in all ways that there are, each ready to go; and why others are not."""
    found: dict[str, Running] = {"one step": Running(loop.stepped(net), begin)}
    failed: dict[str, str] = {}
    makers: dict[str, Callable[[], Running]] = {
        "CUDA graph": lambda: Running(loop.stepped(net), begin).captured(),
        "compiled": lambda: Running(compiled(loop, net, backend), begin),
        "compiled, CUDA graph": lambda: Running(found["compiled"].step, begin).captured(),
    }
    for name, make in makers.items():
        if "graph" in name and device == "cpu":
            failed[name] = NO_GPU
            continue
        try:
            found[name] = make()
            found[name].run(2, loop.result)
        except Exception as e:  # of a compiler or a driver that is not there
            found.pop(name, None)
            failed[name] = f"{type(e).__name__}: {e}"[:200]
    return found, failed


def unlike(a: Tensor, b: Tensor) -> dict[str, float]:
    """How two batches of images differ: the share of values that do, and the most."""
    apart = (a - b).abs()
    return {"values that differ": float((apart > SAME).float().mean()), "at most": float(apart.max())}


@torch.no_grad()
def left(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """How many of the images leave their label."""
    return {"success": float((net(x).argmax(1) != y).float().mean())}


def nudged(begin: State, what: str) -> State:
    """A state that differs by about a rounding: what that does to the images is the measure of other differences."""
    noise = torch.randn(begin[what].shape, generator=torch.Generator().manual_seed(0)).to(begin[what])
    return begin | {what: begin[what] * (1 + NUDGE * noise)}


def measured(
    loop: Loop, net: nn.Module, x: Tensor, clock: Clock, peak: float, seconds: float, rounds: int = 40, backend: str = "inductor"
) -> dict[str, Any]:
    """One attack on a batch: as it runs today and in all other ways in turn, their images compared, waits counted."""
    with torch.no_grad():
        y = net(x).argmax(1)
    seeds = torch.arange(len(x), device=x.device) + 1
    begin = loop.state(net, x, y, seeds)
    running, failed = ways(loop, net, begin, clock.device, backend)

    def today() -> Tensor:
        found: Tensor = loop.attack(net, x, y, seeds=seeds)
        return found

    ours = today()
    with Counting() as counting:
        today()
    operations = {"today": counting.total} | {name: 0 for name in running}
    with Counting() as counting:
        running["one step"].run(1, loop.result)
    operations |= {name: counting.total * loop.steps for name in running}
    apart = {name: unlike(r.run(loop.steps, loop.result), ours) | left(net, r.state[loop.result], y) for name, r in running.items()}
    apart["today"] = left(net, ours, y)
    rounding = unlike(Running(loop.stepped(net), nudged(begin, loop.moves)).run(loop.steps, loop.result), ours)
    runs: dict[str, Callable[[], Any]] = {"today": today}
    runs |= {name: partial(r.run, loop.steps, loop.result) for name, r in running.items()}
    works: dict[str, Callable[[], float]] = {name: partial(clock.taken, work) for name, work in runs.items()}
    before = clock.left
    times = in_turn(works, rounds, lambda _: before - clock.left > seconds or clock.left < 0)
    said: dict[str, Any] = {name: {"failed": why} for name, why in failed.items()}
    for name, each in times.items():
        said[name] = described(each, times["today"], len(x), float(operations[name]), peak) | apart.get(name, {})
    row = {"attack": loop.name, "batch": len(x), "steps": loop.steps, "rounds": len(times["today"])}
    return row | {"ways": said, "a rounding of the start": rounding}


def waits_of(loop: Loop, net: nn.Module, x: Tensor, device: str) -> dict[str, float]:
    """How often the host waits in a step, today and in one step that reads no number."""
    with torch.no_grad():
        y = net(x).argmax(1)
    seeds = torch.arange(len(x), device=x.device) + 1
    one, attacks = Running(loop.stepped(net), loop.state(net, x, y, seeds)), {n: replace(loop.attack, steps=n) for n in (4, 8)}
    return {
        "today": a_step(lambda n: attacks[n](net, x, y, seeds=seeds), device, 4, 8),
        "one step": a_step(lambda n: one.run(n, loop.result), device, 4, 8),
    }
