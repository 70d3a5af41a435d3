"""How long steps will take, roughly: to say so before they are begun, and how much is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import torch
import torch.nn.functional as F

from ..attacks._cost import passes_of as attack_passes
from ..runner.step import Handle, handles_in
from ..types import Roles, Shape
from .cost import attack_seconds, images_of, only_joins
from .parts import passes_of

CROSSED = 16  # fits where a detector is tried on what it was not trained on: two folds, seven kinds of attack and none left out
READ = 1e-7  # seconds a value of an image, to see what a detector sees of it


def time_of(detector: Any) -> float:
    """Forward passes of the classifier that take as long as judging one image does, the classifier's own pass among them: what a detector
    says of itself (``passes``), or what follows from what it reads.
    """
    return float(getattr(detector, "passes", None) or passes_of(detector))


def expected(todo: Sequence[Handle], roles: Roles, pixels: int, forward: float) -> dict[str, float]:
    """Rough seconds of each step, by key.

    Args:
        todo: what is missing.
        roles: how many images have which role.
        pixels: values of an image.
        forward: seconds of one image through the classifier.
    """
    net, out = 1.5e-6 * pixels, {}  # one image through a small CNN, there and back
    for h in todo:
        assert h.step is not None
        name, settings = h.step.name, next((v for k, v in h.args.items() if k in ("settings", "attack")), None)
        count = images_of(h, roles) or sum(astuple(roles))
        if name == "attack_images":
            seconds = attack_seconds(settings, count, forward)
        elif name == "train_classifier":
            seconds = count * net * _epochs(settings) / 10
        elif name == "fit_saliency":
            seconds = count * net * (getattr(settings, "epochs", 10) + getattr(getattr(settings, "encoder", None), "epochs", 10))
        elif name in ("fit_detector", "cross_fit"):
            head, asks = getattr(settings, "head", None), "classifier" in getattr(settings, "needs", ())
            once = 0.2 + 0.005 * getattr(head, "steps", 0) + count * net * 2 * getattr(head, "epochs", 0)
            once += 2 * len(_sets(h)) * count * forward * time_of(settings) * asks  # of naturals and attacked images
            seconds = once
            if name == "cross_fit":  # for each fold without each kind of attack; each reads all sets
                seconds = CROSSED * (once + (1 + len(_sets(h))) * count * READ * pixels)
        elif name == "logits_under":
            seconds = count * forward * len(h.args["names"])
        elif name in ("scores", "score_images"):
            judged = getattr(h.args["detector"], "args", {}).get("settings")
            each = forward * (time_of(judged) if "classifier" in getattr(judged, "needs", ()) else 1)
            images = count if name == "score_images" else sum(images_of(s, roles) for s in _sets(h)) * (not only_joins(h))
            seconds = 0.05 + images * each
        else:
            seconds = 0.05 + count * (2 * forward + net * (name in ("draw", "sanity")))
        out[h.fingerprint] = seconds
    return out


TIMED = 16  # images of a pass that is timed


def training_seconds(settings: Any, shape: Shape, count: int) -> float:
    """Of a classifier on so many images: a pass there and back is timed, a second or so."""
    net, x = settings.build(shape), torch.rand(TIMED, shape.channels, shape.height, shape.width)
    took = []
    for _ in range(2):  # the first one is slow
        began = time.process_time()
        F.cross_entropy(net(x), torch.zeros(TIMED, dtype=torch.long)).backward()  # type: ignore[no-untyped-call]
        took.append(time.process_time() - began)
    return min(took) / TIMED * count * _epochs(settings, shape.height)


def _sets(h: Handle) -> list[Handle]:
    """The image sets that a step is given in lists."""
    return [s for v in h.args.values() if isinstance(v, list) for s in handles_in(v)]


def _epochs(settings: Any, height: int = 112) -> float:
    """Passes over the training images, those of pictures made smaller by their area; with those of an attack on each batch."""
    base = getattr(settings, "base", settings)
    small = getattr(base, "small_epochs", 0) * (getattr(base, "small", 0) / height) ** 2
    attack = getattr(settings, "attack", None)
    each = 1 if attack is None else 1 + attack_passes(attack) * getattr(settings, "share", 1.0)
    return float((getattr(base, "epochs", 10) + small) * each)


__all__ = ["expected", "time_of", "training_seconds"]
