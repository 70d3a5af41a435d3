"""Does the classifier keep its answer on what the map keeps, and lose it on what the map removes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..evidence import UNDER, Evidence
from . import _committee
from .consistency import changes


@dataclass(frozen=True)
class Masked:
    """The two terms of the paper's equation 2 as evidence: the answer on the image where the map is, and where it is not.

    For each of the two the three numbers of :class:`~salientry.detectors.Consistency`, and the map's mean.

    Departures: the paper trains its map with these terms and shows the detector the map; elsewhere the image has its mean colour.

    Cost: the saliency model, and two more images through the classifier.

    Attributes:
        head: settings of the networks.
    """

    head: _committee.Committee = _committee.Committee()
    needs: ClassVar[frozenset[str]] = frozenset({"logits", "map", UNDER + "kept", UNDER + "removed", *_committee.BESIDE})
    group = "saliency"
    words = "masked answer"
    description = "the answer on what the map keeps and removes"
    reads, seeded, candidate = "maps", True, False
    build, fit = _committee.build, _committee.fit

    def view(self, evidence: Evidence, *parts: nn.Module) -> Tensor:
        """(N, 7)."""
        area = evidence.map.mean((1, 2, 3))[:, None]
        asked = torch.stack([evidence.under(name) for name in ("kept", "removed")], 1)
        return torch.cat([changes(evidence, asked).flatten(1), area], 1)
