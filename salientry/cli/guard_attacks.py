"""Attacks on a guard by someone who knows it, from the words of a command to counts."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import torch

from ..classifiers import load_classifier
from ..errors import UsageError
from ..experiment.attack_guard import GuardAttacked, attack_guard
from ..experiment.intake import Pixels, taken
from ..runner.run import usable
from .checking import guard_of
from .fitting import read
from .lines import print_line

QUIET = 10.0  # seconds between lines of progress


def attacked(
    guard: Path,
    classifier: str,
    weights: Path | None,
    data: Path,
    *,
    second: str | None,
    second_weights: Path | None,
    detector: str | None,
    device: str,
    budgets: str,
    count: int,
    steps: int,
    seed: int,
) -> GuardAttacked:
    """See the command.

    Raises:
        Error: see :mod:`salientry.errors`.
    """
    sizes = parsed(budgets)
    device = usable(device)
    net = load_classifier(classifier, weights)
    loaded = guard_of(guard, net, device, second=second, second_weights=second_weights, detector=detector)
    began = last = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal last
        if done and time.monotonic() - last > QUIET:
            last = time.monotonic()
            print_line(f"{done} of {total} attacks of a batch done, about {(last - began) / done * (total - done):.0f} s left", err=True)

    with tempfile.TemporaryDirectory() as scratch:
        pixels, labels = taken(read(data), None, Path(scratch))
        x, y = Pixels(pixels)[torch.arange(len(pixels))], torch.as_tensor(labels)
        return attack_guard(loaded, x, y, budgets=sizes, count=count, steps=steps, seed=seed, progress=say)


def parsed(budgets: str) -> list[float]:
    """``1,2,4`` grey levels in [0, 1] units.

    Raises:
        UsageError: for what is no number, or not between 0 and 255.
    """
    found = []
    for word in budgets.split(","):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not 0 < value <= 255:
            raise UsageError(f"--budgets are numbers of grey levels between 0 and 255, with commas between them; found {word.strip()!r}")
        found.append(value / 255)
    return found


__all__ = ["attacked", "parsed"]
