"""Of `python -m benchmarks.device`: CNN heads of detectors trained one by one, as today, beside the same as one batched model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from salientry.detectors import ID
from salientry.detectors._cnn import SmallCNN
from salientry.detectors._fitted import Fitted
from salientry.detectors._together import Untrained, fit_together
from salientry.evidence_set import Views
from salientry.paper_cnn import PaperCNN
from salientry.runner.operations import Counting

from .device_clock import Clock, described, in_turn

WARM = 3  # steps that are not timed
HEADS: dict[str, Any] = {"paper": PaperCNN(centred=True), "compact": SmallCNN()}
NUDGE = 1e-7  # of a weight: about a rounding
Fit = Callable[[Any, Views, range], list[Fitted]]


@dataclass(frozen=True)
class Nudged(ID):
    """An image detector whose initial weights differ by a rounding: what that does to a training is the measure of other differences."""

    def build(self, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
        """An unfitted detector."""
        found = super().build(view, *parts)
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in found.parameters():
                p.mul_(1 + NUDGE * torch.randn(p.shape, generator=draws, dtype=p.dtype))
        return found


class Marked(Views):
    """Views that say when the first ``WARM`` batches of an epoch are over."""

    def __init__(self, views: Views, mark: Callable[[], None]) -> None:
        super().__init__(views.natural, views.adversarial)
        self.mark = mark

    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """As ever."""
        for i, pair in enumerate(super().batches(size, seed)):
            if i == WARM:
                self.mark()
            yield pair


def settings_of(name: str, kind: type[ID] = ID) -> Any:
    """An image detector with this head, that looks at its images once."""
    return kind(head=replace(HEADS[name], epochs=1))


def views(settings: Any, steps: int, side: int, device: str) -> Views:
    """Smooth images, and the same with a little noise, as many as so many steps take."""
    draws, count = torch.Generator().manual_seed(1), steps * (settings.head.batch // 2)
    coarse = torch.rand(count, 3, side // 4, side // 4, generator=draws, dtype=torch.get_default_dtype())
    natural = nn.functional.interpolate(coarse, size=side, mode="bilinear", align_corners=False)
    noise = torch.randn(natural.shape, generator=draws, dtype=natural.dtype)
    return Views(natural.to(device), (natural + 0.05 * noise).clamp(0, 1).to(device))


def one_by_one(settings: Any, pairs: Views, seeds: range) -> list[Fitted]:
    """As detectors are fitted today."""
    return [settings.fit(pairs, pairs.labels, seed=seed) for seed in seeds]


def at_once(settings: Any, pairs: Views, seeds: range) -> list[Fitted]:
    """The same as one batched model."""
    return fit_together([Untrained(settings, pairs, seed) for seed in seeds])


def seconds_of(fit: Fit, settings: Any, pairs: Views, seeds: range, clock: Clock) -> float:
    """Seconds of all steps but the first ``WARM`` of a training."""
    marks: list[float] = []
    fit(settings, Marked(pairs, lambda: marks.append(clock.now())), seeds)
    return clock.now() - marks[0]


def seconds_one_by_one(settings: Any, pairs: Views, seeds: range, clock: Clock) -> float:
    """Of all of them, one after another."""
    return sum(seconds_of(one_by_one, settings, pairs, range(seed, seed + 1), clock) for seed in seeds)


def difference(a: list[Fitted], b: list[Fitted]) -> float:
    """The largest between weights, and statistics, of the same place."""
    pairs = ((p, q) for f, g in zip(a, b, strict=True) for p, q in zip(f.state_dict().values(), g.state_dict().values(), strict=True))
    return max(float((p - q).abs().max()) for p, q in pairs if p.is_floating_point())


def operations(settings: Any, pairs: Views) -> int:
    """Of one step of one head, there and back."""
    natural, adversarial = next(pairs.batches(settings.head.batch // 2, None))
    head = settings.build(pairs.shape).to(natural.device).head.train()
    with Counting() as counting:
        head(torch.cat([natural, adversarial])).sum().backward()
    found: int = counting.total
    return found


def compared(name: str, heads: int, steps: int, rounds: int, clock: Clock, peak: float, side: int = 32) -> dict[str, Any]:
    """So many heads of one shape, one by one and at once: ``rounds`` times some steps of each in turn, ``steps`` in all."""
    settings, seeds = settings_of(name), range(heads)
    part = max(steps // rounds, 1)
    pairs = views(settings, WARM + part, side, clock.device)
    works = {
        "one by one": lambda: seconds_one_by_one(settings, pairs, seeds, clock),
        "together": lambda: seconds_of(at_once, settings, pairs, seeds, clock),
    }
    times = in_turn(works, rounds, lambda _: clock.left < 0)
    batch, one = settings.head.batch // 2 * 2, operations(settings, pairs)
    said = {
        way: described(seconds, times["one by one"], part * batch * heads, float(one * part * heads), peak)
        for way, seconds in times.items()
    }
    done = len(times["together"])
    return {"head": name, "heads": heads, "batch": batch, "timed steps": part * done, "rounds": done, "ways": said}


def differences(name: str, counts: tuple[int, ...], clock: Clock, heads: int = 3, side: int = 32) -> dict[str, Any]:
    """The largest difference of weights after so many steps between trainings at once and one by one; beside it what a rounding of the
    initial weights makes of one by one, and how far any weight has moved.
    """
    found, seeds = [], range(heads)
    for steps in counts:
        settings = settings_of(name)
        pairs = views(settings, steps, side, clock.device)
        single = one_by_one(settings, pairs, seeds)
        with torch.random.fork_rng(devices=[]):
            before = []
            for seed in seeds:
                torch.manual_seed(seed)
                before.append(settings.build(pairs.shape).to(clock.device))
        found.append(
            {
                "steps": steps,
                "together": difference(at_once(settings, pairs, seeds), single),
                "a rounding": difference(one_by_one(settings_of(name, Nudged), pairs, seeds), single),
                "moved": difference(before, single),
            }
        )
    return {"head": name, "heads": heads, "after": found}


def exactly(name: str, clock: Clock, steps: int = 5, side: int = 16) -> float:
    """The same in float64 after a few steps: what is left is rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        settings, seeds = settings_of(name), range(2)
        pairs = views(settings, steps, side, clock.device)
        return difference(at_once(settings, pairs, seeds), one_by_one(settings, pairs, seeds))
    finally:
        torch.set_default_dtype(before)
