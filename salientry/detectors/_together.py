"""CNN heads of one shape trained as one batched model, to the weights that each would have had by itself, but for rounding.

No recipe and no guard trains like this: on one thread of a processor it is slower than one head after another. Whether it pays on a GPU is
what ``python -m benchmarks.device`` measures.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from ..errors import UsageError
from ..learned import seeded, with_facts
from ..training import CHECKPOINTS
from ..types import Pairs
from ._fitted import Fitted

Views = Sequence[tuple[Tensor, Tensor]]  # of each head: naturals and adversarials of its batch


class Untrained(NamedTuple):
    """A detector with a CNN head that is to be trained: what ``fit`` is given.

    Attributes:
        settings: of the detector.
        pairs: views that it learns from.
        seed: of its weights, its order of images and its drop-out.
        parts: fitted modules that its view depends on.
    """

    settings: Any
    pairs: Pairs
    seed: int
    parts: tuple[nn.Module, ...] = ()


def fit_together(heads: Sequence[Untrained]) -> list[Fitted]:
    """Fitted detectors, each to rounding as ``settings.fit(pairs, labels, *parts, seed=seed)`` gives it alone: the same initial weights,
    order of images, drop-out and steps. Training that was interrupted begins anew.

    Raises:
        UsageError: for heads that are not of one shape, or do not learn in one manner from as many pairs.
    """
    if not heads:
        return []
    first = heads[0]
    for other in heads[1:]:
        for what, mine, theirs in (
            ("head", first.settings.head, other.settings.head),
            ("view", first.pairs.shape, other.pairs.shape),
            ("number of pairs", len(first.pairs), len(other.pairs)),
        ):
            if mine != theirs:
                raise UsageError(f"heads that are trained together have one {what}; found {mine} and {theirs}")
    how, half = first.settings.head, min(first.settings.head.batch // 2, len(first.pairs))
    device = next(iter(first.pairs.batches(1, None)))[0].device
    with _restored(_generator(device)) as generator:
        fitted, states = list[Fitted](), list[Tensor]()
        for one in heads:
            with seeded(one.seed):
                fitted.append(one.settings.build(one.pairs.shape, *one.parts).to(device))
                states.append(generator.get_state())
        together = Stacked([f.head for f in fitted], states, generator)
        curve = torch.zeros(how.epochs, len(heads), device=device)
        now = [0]

        def batches(epoch: int) -> Iterable[Views]:
            now[0] = epoch
            return zip(*(one.pairs.batches(half, one.seed * 1_000_003 + epoch) for one in heads), strict=True)

        def loss(views: Views) -> Tensor:
            each = together.losses(views)
            curve[now[0]] += each.detach()
            return each.sum()

        steps, kept = len(first.pairs) // half, CHECKPOINTS.set(None)
        try:
            how.descend(together, batches, loss, steps)
        finally:
            CHECKPOINTS.reset(kept)
    together.write()
    curves = (curve.cpu() / steps).T.tolist()
    return [with_facts(f.eval(), learning_curve=c) for f, c in zip(fitted, curves, strict=True)]


class Stacked(nn.Module):
    """Heads of one shape as one model whose parameters are theirs, stacked: views (H, N, C, height, width) to scores (H, N).

    The gradient of the sum of their losses is in each slice that of its own loss, and every optimiser here works value by value, so each
    slice descends as its head would.

    Args:
        heads: alike but for their weights; in train mode.
        states: of ``generator`` at the beginning, one each: where each head's drop-out is drawn from.
        generator: torch's own, of the device.
    """

    def __init__(self, heads: Sequence[nn.Module], states: Sequence[Tensor], generator: torch.Generator) -> None:
        super().__init__()
        parameters, buffers = stack_module_state(list(heads))
        self.names = list(parameters)
        self.weights = nn.ParameterList([nn.Parameter(p.detach()) for p in parameters.values()])
        self.others, self.heads = buffers, tuple(heads)  # a tuple is no part of the module, so that its parameters are those stacked alone
        pattern = copy.deepcopy(heads[0]).train()
        self.shares = _given_masks(pattern)
        self.pattern, self.states, self.generator = (pattern,), list(states), generator
        self._sizes = dict[tuple[int, ...], list[tuple[str, torch.Size]]]()

    def forward(self, views: Tensor) -> Tensor:
        """Scores (H, N), with drop-out and the statistics of the batch, as in training."""

        def one(weights: dict[str, Tensor], others: dict[str, Tensor], x: Tensor) -> Tensor:
            scores: Tensor = functional_call(self.pattern[0], (weights, others), (x,))
            return scores

        found: Tensor = vmap(one)(dict(zip(self.names, self.weights, strict=True)), self.others | self._masks(views), views)
        return found

    def losses(self, views: Views) -> Tensor:
        """(H,) each head's binary cross-entropy on its batch, naturals 0, adversarials 1."""
        scores = self(torch.stack([torch.cat(pair) for pair in views]))
        natural = len(views[0][0])
        wanted = torch.cat([scores.new_zeros(natural), scores.new_ones(scores.shape[1] - natural)])
        return F.binary_cross_entropy_with_logits(scores, wanted.expand_as(scores), reduction="none").mean(1)

    @torch.no_grad()
    def write(self) -> None:
        """Write what was learned into the heads."""
        stacked = dict(zip(self.names, self.weights, strict=True)) | self.others
        for k, head in enumerate(self.heads):
            for name, value in [*head.named_parameters(), *head.named_buffers()]:
                value.copy_(stacked[name][k])

    def _masks(self, views: Tensor) -> dict[str, Tensor]:
        """(H, ...) what drop-out multiplies with, by the name that the pattern has for it: each head's from its own random numbers."""
        if not self.shares:
            return {}
        drawn: list[list[Tensor]] = []
        for k, state in enumerate(self.states):
            self.generator.set_state(state)
            ones = ((name, torch.ones(size, dtype=views.dtype, device=views.device)) for name, size in self._dropped(views))
            drawn.append([F.dropout(one, self.shares[name]) for name, one in ones])
            self.states[k] = self.generator.get_state()
        return {name: torch.stack(of_each) for (name, _), of_each in zip(self._dropped(views), zip(*drawn, strict=True), strict=True)}

    def _dropped(self, views: Tensor) -> list[tuple[str, torch.Size]]:
        """Names and shapes of what drop-out is applied to, in the order in which a head comes to it."""
        key = tuple(views.shape[1:])
        if key not in self._sizes:
            found = self._sizes[key] = []
            layers = [(f"{name}.mask", m) for name, m in self.pattern[0].named_modules() if isinstance(m, _Masked)]
            hooks = [m.register_forward_hook(lambda _, given, __, n=name: found.append((n, given[0].shape))) for name, m in layers]
            with torch.no_grad():
                copy.deepcopy(self.pattern[0]).eval()(views[0])
            for hook in hooks:
                hook.remove()
        return self._sizes[key]


class _Masked(nn.Module):
    """Drop-out whose mask somebody else has drawn."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Of the mask's shape."""
        return x * self.mask


def _given_masks(module: nn.Module) -> dict[str, float]:
    """Put a :class:`_Masked` in the place of each drop-out that drops something; the shares that they dropped, by the masks' names."""
    found: dict[str, float] = {}
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Dropout) and layer.p > 0:
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, _Masked())
            found[f"{name}.mask"] = layer.p
    return found


def _generator(device: torch.device) -> torch.Generator:
    """Torch's own generator of a device."""
    if device.type != "cuda":
        return torch.default_generator
    at = torch.cuda.current_device() if device.index is None else device.index
    found: torch.Generator = torch.cuda.default_generators[at]
    return found


@contextmanager
def _restored(generator: torch.Generator) -> Iterator[torch.Generator]:
    """The generator, afterwards as it was."""
    before = generator.get_state()
    try:
        yield generator
    finally:
        generator.set_state(before)
