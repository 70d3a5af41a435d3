"""Does another network give the same answer?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..evidence import SECOND, UNDER, Evidence
from . import _committee
from .consistency import checked


@dataclass(frozen=True)
class SecondOpinion:
    """Numbers of a second classifier: its log-probability of the first one's answer, how far its own best lies above that, the
    cross-entropy between the two, and how far its best class (where that is the answer, the first one's second best) lies below the
    answer in the logits of the first, in its own, and in those of the first after small changes: a wrong answer that was made falls back.

    With a second network of another kind than the first (another architecture, other training) this is the detector by prediction
    inconsistency, PID, with its auxiliary model (Han, Lin, Zhao, Wang et al. 2025, "Prediction Inconsistency Helps Achieve Generalizable
    Detection of Adversarial Examples"), which scores an image by how little the auxiliary model believes the first one's answer.
    Departures: the columns that compare logits, and the learned head, where PID learns nothing. By that belief alone it is
    :class:`~salientry.detectors.SecondNet`, whose auxiliary model is the saliency model's own encoder: recipes train it everywhere.

    The second network must not have seen the images that the head or the threshold learns from: where both nets have learnt an image they
    agree on it, whatever they do on new ones.

    Cost: one pass of the second network.

    Attributes:
        transforms: names of :data:`~salientry.harmless.TRANSFORMS`; the classifier is asked about each.
        head: settings of the networks.
    """

    transforms: tuple[str, ...] = ()
    head: _committee.Committee = _committee.Committee()
    group = "consistency"
    words = "second opinion"
    description = "the answer of a second network"
    reads, seeded, candidate = "the second net", True, False
    build, fit = _committee.build, _committee.fit

    def __post_init__(self) -> None:
        object.__setattr__(self, "transforms", checked(self.transforms))

    @property
    def needs(self) -> frozenset[str]:
        """Both networks' logits, and those of changed images; in ``fit`` all naturals and harmless copies."""
        return frozenset({"logits", SECOND, *_committee.BESIDE, *(UNDER + name for name in self.transforms)})

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 5 + T)."""
        z, answer, second = evidence.logits, evidence.predicted[:, None], evidence.second_logits
        theirs = second.log_softmax(1)
        own = theirs.gather(1, answer)
        crossed = -(z.softmax(1) * theirs).sum(1, keepdim=True)
        best, next_best = second.argmax(1, keepdim=True), z.scatter(1, answer, float("-inf")).argmax(1, keepdim=True)
        rival = torch.where(best == answer, next_best, best)
        gaps = [v.gather(1, rival) - v.gather(1, answer) for v in (z, second, *map(evidence.under, self.transforms))]
        return torch.cat([own, theirs.amax(1, keepdim=True) - own, crossed, *gaps], 1)
