"""Does the classifier keep its answer when the image is changed a little?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..evidence import UNDER, Evidence
from ..harmless import TRANSFORMS
from . import _committee

LIGHT = ("blur", "shift")
FULL = ("blur", "shift", "shift_back", "rotation", "rotation_back", "zoom_out")


@dataclass(frozen=True)
class Consistency:
    """How far the classifier's answer moves under harmless changes of the image.

    Adversarial perturbations are fitted to the exact pixels: what a photograph keeps through a small shift, blur or rotation, they
    often lose (Xu, Evans, Qi 2018, feature squeezing; Tian, Yang, Cai 2018, image transformations; Guo et al. 2018). Four numbers a
    change: of the answer's logit, of its log-probability, the L1 distance of the two probability vectors, and the answer's margin there.
    And two of all changes together: how far the class that gains most on the answer lies below it, before them and on average after them.

    Departures: a learned head on all changes together, where feature squeezing takes the largest L1 distance of its squeezers.

    Cost: one more image through the classifier for each change, in the same batch.

    Attributes:
        transforms: names of :data:`~salientry.harmless.TRANSFORMS`.
        head: settings of the networks.

    Raises:
        UsageError: for a transform that there is not, or none.
    """

    transforms: tuple[str, ...] = FULL
    head: _committee.Committee = _committee.Committee()
    group = "consistency"
    words = "consistency"
    reads, seeded, candidate = "changed images", True, False
    build, fit = _committee.build, _committee.fit

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", checked(self.transforms))
        if not self.transforms:
            raise UsageError(f"transforms are names among {', '.join(TRANSFORMS)}; found none")

    @property
    def description(self) -> str:
        """What it goes by."""
        return f"the answer under {len(self.transforms)} small changes"

    @property
    def needs(self) -> frozenset[str]:
        """The logits of the image and of each changed one; in ``fit`` all naturals and harmless copies."""
        return frozenset({"logits", *_committee.BESIDE, *(UNDER + name for name in self.transforms)})

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 4 T + 2)."""
        others = torch.stack([evidence.under(name) for name in self.transforms], 1)  # (N, T, K)
        answer = evidence.predicted[:, None]
        each = torch.cat([changes(evidence, others), margin(others, answer[:, None].expand(-1, others.shape[1], 1))], 2)
        return torch.cat([each.flatten(1), _gaining(evidence.logits, others.mean(1), answer)], 1)


def checked(transforms: Sequence[str]) -> tuple[str, ...]:
    """Names of transforms that there are.

    Raises:
        UsageError: for another one.
    """
    if unknown := [n for n in transforms if n not in TRANSFORMS]:
        raise UsageError(f"transforms are names among {', '.join(TRANSFORMS)}; found {unknown[0]}")
    return tuple(transforms)


def margin(z: Tensor, answer: Tensor) -> Tensor:
    """(..., 1) how far the logits (..., K) of an answer (..., 1) lie above the largest other one."""
    if z.shape[-1] < 2:
        return torch.zeros_like(z)
    return z.gather(-1, answer) - z.scatter(-1, answer, float("-inf")).amax(-1, keepdim=True)


def _gaining(z: Tensor, mean: Tensor, answer: Tensor) -> Tensor:
    """(N, 2) how far the class that gains most on the answer lies below it in the logits (N, K), and in their mean over changes."""
    moved = mean - z
    rises = (moved - moved.gather(1, answer)).detach()
    rival = rises.scatter(1, answer, float("-inf")).argmax(1, keepdim=True)
    return torch.cat([v.gather(1, rival) - v.gather(1, answer) for v in (z, mean)], 1)


def changes(evidence: Evidence, other: Tensor) -> Tensor:
    """(N, T, 3) how each of T other logits (N, T, K) differs from the image's own: change of the answer's logit, its log-probability there
    less that here, L1 distance of the probabilities.
    """
    z, answer = evidence.logits[:, None], evidence.predicted[:, None, None].expand(-1, other.shape[1], 1)
    here, there = z.log_softmax(2), other.log_softmax(2)
    moved = (other - z).gather(2, answer), (there - here).gather(2, answer)
    return torch.cat([*moved, (there.exp() - here.exp()).abs().sum(2, keepdim=True)], 2)
