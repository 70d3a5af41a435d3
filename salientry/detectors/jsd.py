"""Joint detector: image and gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import Evidence
from . import _cnn

PART = {"pred": "gradient", "sum": "gradient_sum", "prob": "gradient_prob", "full": "gradient_full"}


@dataclass(frozen=True)
class JSD:
    """JSD: the image beside the classifier's gradient in it (Zhang et al. 2018; paper section 3.5, algorithm 1).

    The gradient is taken raw: a normalisation by image would throw its size away.

    Attributes:
        target: whose gradient. ``"pred"``: the logit of the predicted class, C channels; ``"sum"``: the sum of all logits (what
            a framework gives that differentiates a vector by its sum); ``"prob"``: the same sum of the probabilities, which is
            1 everywhere, so the map is 0 (the paper's "underflow, resulting in a zero matrix"); ``"full"``: every logit, K C channels.
        head: settings of the CNN.

    Raises:
        UsageError: for another target.
    """

    target: Literal["pred", "sum", "prob", "full"] = "pred"
    head: _cnn.Head = field(default_factory=_cnn.SmallCNN)
    group = "image"
    explained = "a net that sees the image and the classifier's gradient"
    description = "the pixels and the classifier's gradient"
    reads, seeded, candidate = "the image", True, False
    build, fit = _cnn.build, _cnn.fit

    def __post_init__(self) -> None:
        if self.target not in PART:
            raise UsageError(f"target must be one of {', '.join(PART)}; found {self.target!r}")

    @property
    def needs(self) -> frozenset[str]:
        """The gradient of its target."""
        return frozenset({PART[self.target]})

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """Image and gradient (N, 2 C, H, W); (N, C + K C, H, W) for ``full``."""
        gradient: Any = getattr(evidence, PART[self.target])
        return torch.cat([evidence.image, gradient], 1)
