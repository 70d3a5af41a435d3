"""Small networks on a few numbers, their mean the score: the head of the detectors that compare the classifier's answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attacks._gradient import check_settings
from ..evidence_set import EvidenceSet, Fittable
from ..learned import seeded
from ..training import train
from ._fitted import Fitted, assembled

BESIDE = frozenset({"copies", "naturals"})  # what ``fit`` learns from beside pairs
STILL = 1e-6  # of a column's largest value: one that moves less says nothing and is left out
FAR = 8.0  # standard deviations from which a number is as good as further away


@dataclass(frozen=True)
class Committee:
    """Settings: networks of one hidden layer with drop-out, each from its own initial weights, trained together on the same batches.

    Attributes:
        members: networks.
        width: hidden units of each.
        dropout: share of the hidden units that a step leaves out.
        weight_decay: of the weights, as in AdamW.
        steps: of training.
        lr: peak of the one-cycle rate.
        batch: images a step, half of them adversarial.
        copies: share of the others that are harmless copies, where there are any; the rest are natural.
    """

    members: int = 5
    width: int = 64
    dropout: float = 0.4
    weight_decay: float = 0.1
    steps: int = 400
    lr: float = 3e-3
    batch: int = 128
    copies: float = 0.5

    def __post_init__(self) -> None:
        check_settings(copies=(self.copies, 0.01, 0.99))

    def build(self, columns: int) -> CommitteeHead:
        """Untrained, for D columns."""
        return CommitteeHead(columns, self)


class CommitteeHead(nn.Module):
    """Standardised columns (N, D) through M networks to their mean score (N,).

    A column is squashed beyond some standard deviations, smoothly, so that an image unlike all others is not scored by a straight line
    that nothing has held there.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, columns: int, settings: Committee) -> None:
        super().__init__()
        m, w = settings.members, settings.width
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("std", torch.ones(columns))
        bound = 1 / math.sqrt(max(columns, 1)), 1 / math.sqrt(w)
        self.first = nn.Parameter((2 * torch.rand(m, columns, w) - 1) * bound[0])
        self.first_offset = nn.Parameter((2 * torch.rand(m, 1, w) - 1) * bound[0])
        self.last = nn.Parameter((2 * torch.rand(m, w, 1) - 1) * bound[1])
        self.last_offset = nn.Parameter((2 * torch.rand(m, 1, 1) - 1) * bound[1])
        self.dropout = settings.dropout

    def each(self, view: Tensor) -> Tensor:
        """(M, N) scores of each network."""
        x = FAR * torch.tanh((view - self.mean) / self.std / FAR)
        hidden = torch.relu(_through(x, self.first) + self.first_offset)
        hidden = F.dropout(hidden, self.dropout) if self.training else hidden
        return (hidden @ self.last + self.last_offset).squeeze(2)

    def forward(self, view: Tensor) -> Tensor:
        """Scores (N,)."""
        return self.each(view).mean(0)

    def added(self, columns: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (N,), and how far each falls when a group's numbers are what they are on average, (N, G); the groups (N, D) are side by
        side. An average number is 0 to the networks, so that each group's share of the hidden values is reckoned once.
        """
        x = FAR * torch.tanh((torch.cat(columns, 1) - self.mean) / self.std / FAR)
        widths = [c.shape[1] for c in columns]
        each = [_through(p, w) for p, w in zip(torch.split(x, widths, 1), torch.split(self.first, widths, 1), strict=True)]
        shares = torch.stack(each)  # (G, M, N, W)
        whole = shares.sum(0, keepdim=True) + self.first_offset
        hidden = torch.relu(torch.cat([whole, whole - shares]))
        score, without = ((hidden @ self.last + self.last_offset).squeeze(3).mean(1)).tensor_split([1])
        return score[0], (score - without).T


def _through(x: Tensor, weights: Tensor) -> Tensor:
    """(M, N, W) of columns (N, D) and each network's weights (M, D, W). In a graph for ONNX it is one product for all networks, of weights
    that lie side by side there: several times as fast on one image.
    """
    members, _, width = weights.shape
    if torch.compiler.is_exporting():
        return (x @ weights.transpose(0, 1).flatten(1)).view(x.shape[0], members, width).transpose(0, 1)
    return x.expand(members, -1, -1) @ weights


class Apart(nn.Module):
    """Committees that each look at columns of their own, trained apart, their scores added: what one learns of many columns does not
    drown what another learns of few.

    Args:
        widths: columns of each, in order.
        settings: of each.
        weight: of the scores of all but the first.
    """

    def __init__(self, widths: tuple[int, ...], settings: Committee, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.widths, self.committees = widths, nn.ModuleList(settings.build(w) for w in widths)

    @property
    def mean(self) -> Tensor:
        """(D,) of the columns, over training negatives."""
        return torch.cat([c.mean for c in self.committees])  # type: ignore[misc]

    def forward(self, view: Tensor) -> Tensor:
        """Scores (N,)."""
        pieces = torch.split(view, list(self.widths), 1)
        first, *others = [committee(piece) for committee, piece in zip(self.committees, pieces, strict=True)]
        scores: Tensor = first + self.weight * torch.stack(others).sum(0) if others else first
        return scores

    def added(self, columns: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (N,), and how far each falls when the numbers of one of these columns, (N, D) side by side, are what they are on average,
        (N, G).
        """
        score, falls, left = torch.zeros(()), list[Tensor](), list(columns)
        for i, (committee, width) in enumerate(zip(self.committees, self.widths, strict=True)):
            mine = list[Tensor]()
            while left and sum(c.shape[1] for c in mine) < width:
                mine.append(left.pop(0))
            own, fall = committee.added(mine)  # type: ignore[operator]
            score, falls = (score + self.weight * own, [*falls, self.weight * fall]) if i else (own, [fall])
        return score, torch.cat(falls, 1)


def build(settings: Any, view: tuple[int, ...], *parts: nn.Module) -> Fitted:
    """An unfitted detector, with a committee for each number of columns in ``view``."""
    return assembled(settings, Apart(tuple(view), settings.head, getattr(settings, "weight", 1.0)), view, parts)


def fit(settings: Any, evidence: Fittable, labels: Tensor, *parts: nn.Module, seed: int) -> Fitted:
    """Build and train with binary cross-entropy: naturals and harmless copies 0, adversarials 1.

    Half of each batch is adversarial; the other half is natural where there are no copies, else natural and copies as the head's settings
    say. Naturals are those of the pairs, or all where the evidence has them.

    Args:
        settings: of the detector: ``settings.head`` and ``settings.view``.
        evidence: naturals and their adversarial twins; its ``copies``, where it has some, are negatives too.
        labels: (N,) which are which.
        parts: fitted modules that the view depends on.
        seed: of initial weights, drop-out and the order of images.
    """
    pairs = evidence.pairs(labels, settings, *parts)
    natural, adversarial = (torch.cat(v) for v in zip(*pairs.batches(500, None), strict=True))
    beside = [_views(settings, getattr(evidence, name, None), parts) for name in ("naturals", "copies")]
    negatives = [natural if beside[0] is None else beside[0], *([] if beside[1] is None else [beside[1]])]
    head: Committee = settings.head
    with seeded(seed):
        apart = isinstance(evidence, EvidenceSet) and bool(getattr(settings, "apart", ()))
        widths = settings.widths(next(evidence.pieces(1))) if apart else pairs.shape  # type: ignore[union-attr]
        fitted: Fitted = settings.build(widths, *parts).to(natural.device)
        module: Any = fitted.head
        columns = [torch.split(v, list(module.widths), 1) for v in (*negatives, adversarial)]
        for i, committee in enumerate(module.committees):
            *mine, positives = (c[i] for c in columns)
            every = torch.cat(mine)
            spread = every.std(0)
            committee.mean.copy_(every.mean(0))
            committee.std.copy_(torch.where(spread > STILL * every.abs().amax(0), spread, torch.inf))
            _train(committee, mine, positives, head, seed)
    return fitted.eval()


def _views(settings: Any, evidence: EvidenceSet | None, parts: tuple[nn.Module, ...]) -> Tensor | None:
    """(n, D) views of images beside the pairs; None where there are none."""
    if evidence is None or not len(evidence):
        return None
    with torch.no_grad():
        return torch.cat([settings.view(e, *parts) for e in evidence.pieces()])


def _train(module: CommitteeHead, negatives: list[Tensor], positives: Tensor, settings: Committee, seed: int) -> None:
    """Steps on random batches: a half positives, the other half shared by the groups of negatives."""
    groups = [positives, *negatives]
    half = settings.batch // 2
    counts = [half, half] if len(negatives) == 1 else [half, half - round(settings.copies * half), round(settings.copies * half)]
    generator = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.full((n,), float(i == 0)) for i, n in enumerate(counts)]).to(positives.device)

    def batches(epoch: int) -> Iterator[Tensor]:
        for _ in range(settings.steps):
            at = [torch.randint(0, len(g), (n,), generator=generator) for g, n in zip(groups, counts, strict=True)]
            yield torch.cat([g[i.to(g.device)] for g, i in zip(groups, at, strict=True)])

    def loss(x: Tensor) -> Tensor:
        scores = module.each(x)
        return F.binary_cross_entropy_with_logits(scores, y.expand_as(scores)) * settings.members

    decay = {"optimiser": "adamw", "weight_decay": settings.weight_decay}
    train(module, batches, loss, epochs=1, steps=settings.steps, lr=settings.lr, **decay)  # type: ignore[arg-type]
