"""What a guard costs beside its classifier, measured here and now."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .inputs import plainly, random_images
from .machine import processor
from .store import JSON

BATCHES = (1, 64)
SECONDS, FEWEST = 0.5, 3  # for each batch size, and calls of each


def guard_cost(guard: Any) -> JSON:
    """Times of a call on random 8-bit images, of the guard and of its bare classifier in turn, in milliseconds (medians).

    Args:
        guard: a :class:`~salientry.Guard`; it is called some dozen times.

    Returns:
        ``passes``: images that the classifier is asked about for each image that is judged (of a cascade: on these images); ``batches``: by
        number of images ``{"guard_ms", "classifier_ms", "ratio"}``; ``processor`` and ``threads``.
    """
    with plainly(grad=False), guard.networks() as nets:
        alone = {n: _pixels(guard, n) for n in BATCHES}
        times = {n: _medians((lambda x=x: guard(x, batch=len(x)), lambda x=x: nets.classifier(x))) for n, x in alone.items()}  # type: ignore[misc]
    return {
        "passes": _passes(guard),
        "batches": {
            str(n): {"guard_ms": round(mine, 3), "classifier_ms": round(bare, 3), "ratio": round(mine / bare, 2)}
            for n, (mine, bare) in times.items()
        },
        "processor": processor(),
        "threads": torch.get_num_threads(),
    }


def cost_text(cost: JSON) -> list[str]:
    """The same in sentences.

    Args:
        cost: what :func:`guard_cost` gave.
    """
    one, many = (cost["batches"][str(n)] for n in BATCHES)
    return [
        f"for each image the classifier is asked about {cost['passes']:g}; one image takes {one['guard_ms']:.1f} ms in place of "
        f"{one['classifier_ms']:.1f} ({one['ratio']:.1f} times), {BATCHES[1]} at once {many['guard_ms']:.0f} ms in place of "
        f"{many['classifier_ms']:.0f} ({many['ratio']:.1f} times)",
        f"measured on {cost['processor']}, {cost['threads']} thread{'s' * (cost['threads'] != 1)}",
    ]


def _pixels(guard: Any, count: int) -> Tensor:
    s = guard.shape
    return random_images(count, s.channels, s.height, s.width).to(guard.calibration.device)


def _medians(calls: tuple[Callable[[], Any], ...]) -> list[float]:
    """Milliseconds of each, called in turn; the first round is not counted."""
    found: list[list[float]] = [[] for _ in calls]
    began = time.perf_counter()
    while len(found[0]) <= FEWEST or time.perf_counter() - began < SECONDS:
        for call, taken in zip(calls, found, strict=True):
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken[1:]) for taken in found]


def _passes(guard: Any) -> float:
    """Images through the classifier for each that is judged."""
    count, x = 0, _pixels(guard, BATCHES[1])

    def note(module: Any, given: tuple[Any, ...], out: Any) -> None:
        nonlocal count
        count += len(given[0])

    with plainly(grad=False), guard.networks() as nets:
        hook = nets.classifier.register_forward_hook(note)
        try:
            guard._judge(x, nets)
        finally:
            hook.remove()
    return count / len(x)


__all__ = ["cost_text", "guard_cost"]
