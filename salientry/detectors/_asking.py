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


def views(settings: Any, evidence: Any, labels: Tensor, *parts: nn.Module) -> Any:
    """Views in pairs, as ``evidence.pairs`` gives them, of evidence that has its classifier with it: stored pairs come without one."""
    return EvidenceSet.pairs(evidence, labels, settings, *parts) if isinstance(evidence, EvidenceSet) else evidence


def fit(settings: Any, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
    """Slopes and offset by logistic regression, of views that ask the classifier; the seed is not used."""
    seen: Views = views(settings, evidence, labels, *parts)
    return _logistic.fit(settings, seen, labels, *parts, seed=seed)
