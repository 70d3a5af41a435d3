"""What a user gave, brought to what a run needs: networks with an identity, detectors, settings, groups."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..detectors import DETECTORS, ExternalDetector, as_detector
from ..errors import UsageError, theirs
from ..inputs import plainly
from ..keys import digest
from ..learned import device_of, fingerprint
from ..modules import private
from ..randomness import uniform
from ..runner.step import Handle
from ..store import one_of
from ..types import Shape
from .intake import Pixels
from .run import Run


def named_detector(detector: Any) -> Any:
    """Settings, also by their name."""
    if not isinstance(detector, str):
        return as_detector(detector)
    one_of("detector", detector, [n for n in DETECTORS if n != "fused"])
    return DETECTORS[detector]()


def probed(detector: Any, pixels: NDArray[np.uint8], classes: int) -> Any:
    """A user's own detector tried on noise, which distinguishes it from another one of the same code."""
    shape = Shape(pixels.shape[1], pixels.shape[2], pixels.shape[3], classes)
    return detector.probed(shape) if isinstance(detector, ExternalDetector) else detector


def check_settings(**given: Iterable[Any]) -> None:
    """Raise for what are no settings.

    Raises:
        UsageError: names it.
    """
    for name, specs in given.items():
        for spec in specs:
            if not is_dataclass(spec) or isinstance(spec, type):
                raise UsageError(f"{name} must be settings, made like DeepFool() or SPD(); found {spec!r}")


def groups_of(groups: Any, count: int) -> NDArray[np.int64] | None:
    """(N,) whole numbers for whatever names groups."""
    if groups is None:
        return None
    given = groups.cpu().numpy() if isinstance(groups, torch.Tensor) else np.asarray(groups)
    if given.shape != (count,):
        raise UsageError(f"groups must say of each of {count} images to which it belongs; found shape {given.shape}")
    return np.asarray(np.unique(given, return_inverse=True)[1], np.int64)


def second_network(run: Run, second: nn.Module | None, classes: int, images: Pixels) -> Handle | None:
    """The second network, when it answers to the same classes."""
    if second is None:
        return None
    net = private(second)
    with theirs("the second network fails", second), plainly(grad=False):
        z = net(images[torch.arange(min(2, len(images)))].to(device_of(second)))
    if z.shape != (min(2, len(images)), classes):
        raise UsageError(f"the second network must give (N, {classes}) logits, as the classifier does; found {tuple(z.shape)}")
    return run.given(net, identity(net, images), "second")


def identity(net: nn.Module, images: Pixels) -> str:
    """What distinguishes a network from all others: weights, code and answers."""
    return digest(fingerprint(net), answers_on(net, images))


@torch.no_grad()
def answers_on(net: nn.Module, images: Pixels) -> str:
    """Sha256 of the logits on some of the images and on noise: what distinguishes networks whose difference is no weight (a number in
    an attribute, code, a frozen script). To the last bit: where a machine rounds otherwise, the work is done again, never taken
    from another network's.
    """
    where = device_of(net)
    noise = uniform(torch.arange(4, device=where), images.source.shape[1:])
    some = images[torch.arange(0, len(images), -(-len(images) // 64))].to(where)
    logits = [net(x).to("cpu", torch.float32).contiguous() for x in (noise, some)]
    return hashlib.sha256(b"".join(z.numpy().tobytes() for z in logits)).hexdigest()


def pass_seconds(net: nn.Module, images: Pixels) -> float:
    """Of one image through the classifier; of the processor's time, where it computes there: that does not grow with what else runs."""
    x = images[torch.arange(min(8, len(images)))].to(device_of(net))
    clock = time.process_time if x.device.type == "cpu" else time.perf_counter
    times = []
    with plainly(grad=False):
        for _ in range(4):  # the first one is slow
            began = clock()
            net(x)
            times.append(clock() - began)
    return min(times) / len(x)


@contextlib.contextmanager
def alike(classifier: nn.Module) -> Iterator[None]:
    """The same modes of torch whatever is on around, and what the network raises is its error."""
    with _float32(), plainly(grad=True), theirs("the classifier fails", classifier):
        yield


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    """New weights are float32 inside. All threads share this setting of torch, so it is touched only where it is another."""
    before = torch.get_default_dtype()
    try:
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
        yield
    finally:
        if before != torch.float32:
            torch.set_default_dtype(before)


def warn_caller(text: str) -> None:
    """Warn in the name of the line that called the package."""
    here, level, frame = Path(__file__).parents[1], 1, sys._getframe()
    while (above := frame.f_back) is not None and Path(frame.f_code.co_filename).is_relative_to(here):
        frame, level = above, level + 1
    warnings.warn(text, stacklevel=level)
