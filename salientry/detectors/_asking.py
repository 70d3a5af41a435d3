"""Ask the classifier about images that a detector makes itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from ..evidence_set import EvidenceSet, Fittable, Views
from . import _logistic
from ._fitted import Fitted


def answers(evidence: Evidence, images: Tensor) -> Tensor:
    """(N, K) logits of these images, in the graph of the evidence's own where they require a gradient.

    Raises:
        UsageError: where the evidence has no classifier.
    """
    if evidence.classifier is None:
        raise UsageError("an image that a detector changed needs a classifier, and none was given")
    with torch.set_grad_enabled(evidence.image.requires_grad):
        found: Tensor = evidence.classifier(images).to(evidence.image.dtype)
    return found


def maps(evidence: Evidence, layers: tuple[str, ...]) -> list[Tensor]:
    """(N, C, H, W) what these layers of the classifier give of the images, in the graph of the evidence's own where they require one.

    Raises:
        UsageError: where the evidence has no classifier, or that has no such layer, or it gives no maps.
    """
    found: dict[str, Tensor] = {}

    def note(name: str, out: Any) -> None:
        if not (isinstance(out, Tensor) and out.dim() == 4 and len(out) == len(evidence.image)):
            shape = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise UsageError(f"layer {name!r} gives {shape}: a spectrum is one of maps (N, C, H, W)")
        found[name] = out.to(evidence.image.dtype)

    modules = dict(evidence.classifier.named_modules()) if evidence.classifier is not None else {}
    if evidence.classifier is not None and (missing := [n for n in layers if n not in modules]):
        raise UsageError(f"the classifier has no layer {missing[0]!r}")
    hooks = [modules[n].register_forward_hook(lambda m, i, o, n=n: note(n, o)) for n in layers if n in modules]
    try:
        answers(evidence, evidence.image)
    finally:
        for hook in hooks:
            hook.remove()
    if missing := [n for n in layers if n not in found]:
        raise UsageError(f"layer {missing[0]!r} takes no part in the classifier's forward pass")
    return [found[n] for n in layers]


def views(settings: Any, evidence: Any, labels: Tensor, *parts: nn.Module) -> Any:
    """Views in pairs, as ``evidence.pairs`` gives them, of evidence that has its classifier with it: stored pairs come without one."""
    return EvidenceSet.pairs(evidence, labels, settings, *parts) if isinstance(evidence, EvidenceSet) else evidence


def fit(settings: Any, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
    """Slopes and offset by logistic regression, of views that ask the classifier; the seed is not used."""
    seen: Views = views(settings, evidence, labels, *parts)
    return _logistic.fit(settings, seen, labels, *parts, seed=seed)
