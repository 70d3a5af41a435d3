"""What a guard says of images, with its reasons in words."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

LARGEST = 2  # contributions that are named


@dataclass(frozen=True)
class Verdict:
    """What a guard says about a batch of images.

    Attributes:
        flagged: (N,) bool: True = do not trust this prediction; so is a score that is no number.
        score: (N,) higher = more adversarial; flagged means above the guard's threshold.
        p_value: (N,) share of calibration naturals at least as suspicious; small = suspicious.
        predicted: (N,) int64, the classifier's answer.
        map: (N, 1, H, W) in [0, 1], where the classifier looks for that answer; None without a saliency model.
        contributions: (N, D) how much each of the guard's ``components`` adds to the score, above what it adds on average over the images
            that weights were fitted on.
        answers: what the classifier answers to the image after each change that the guard asks about, and what a second network answers,
            by its name in words: (N,) int64 each.
        logits: (N, K), what the classifier gave; None where nobody kept them.
        components: what each column of ``contributions`` stands for, in words.

    Examples:
        >>> import torch
        >>> from salientry import Verdict
        >>> found = Verdict(torch.tensor([True]), torch.tensor([3.1]), torch.tensor([0.01]), torch.tensor([7]), None, torch.ones(1, 1),
        ...                 {"a blur": torch.tensor([1])})
        >>> found[0].flagged, found.reasons
        (tensor(True), ['after a blur it is 1, not 7'])
    """

    ALONE = ("answers", "components")  # fields that are no tensors

    flagged: Tensor
    score: Tensor
    p_value: Tensor
    predicted: Tensor
    map: Tensor | None
    contributions: Tensor
    answers: dict[str, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    components: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.flagged)

    def __getitem__(self, at: int | slice | Tensor) -> Verdict:
        """The verdicts of some of the images."""
        names = [f.name for f in fields(self) if f.name not in self.ALONE]
        chosen: dict[str, Any] = {n: None if (v := getattr(self, n)) is None else v[at] for n in names}
        return Verdict(**chosen, answers={name: v[at] for name, v in self.answers.items()}, components=self.components)

    @classmethod
    def joined(cls, verdicts: list[Verdict]) -> Verdict:
        """Those of several batches as one."""
        parts: dict[str, Any] = {f.name: [getattr(v, f.name) for v in verdicts] for f in fields(cls) if f.name not in cls.ALONE}
        whole: dict[str, Any] = {k: None if p[0] is None else torch.cat(p) for k, p in parts.items()}
        answers = {name: torch.cat([v.answers[name] for v in verdicts]) for name in verdicts[0].answers}
        return cls(**whole, answers=answers, components=verdicts[0].components)

    @property
    def reasons(self) -> list[str]:
        """For each image which answers differ from its own, in words. Where none does: of a flagged one what raised its score most, of
        another nothing.
        """
        n = self.predicted.numel()
        own, flagged, added = (v.reshape(n, -1).tolist() for v in (self.predicted, self.flagged, self.contributions))
        others = {name: v.reshape(-1).tolist() for name, v in self.answers.items()}
        found = []
        for i, (answer,) in enumerate(own):
            different: dict[int, list[str]] = {}
            for name, answers in others.items():
                if answers[i] != answer:
                    different.setdefault(answers[i], []).append(name)
            words = "; ".join(f"after {_listed(names)} it is {k}, not {answer}" for k, names in different.items())
            found.append(words or (largest(said(self.components, added[i])) if flagged[i][0] and self.components else ""))
        return found


def said(components: tuple[str, ...], added: list[float]) -> dict[str, float]:
    """How much was added in each component's name; those that go by the same words count as one."""
    out = dict.fromkeys(components, 0.0)
    for name, value in zip(components, added, strict=True):
        out[name] += value
    return out


def largest(contributions: dict[str, float]) -> str:
    """The one or two that raised a score most, in words; empty where none did."""
    loud = sorted(((v, k) for k, v in contributions.items() if v > 0), reverse=True)[:LARGEST]
    return f"largest contributions: {', '.join(k for _, k in loud)}" if loud else ""


def _listed(names: list[str]) -> str:
    """``a, b or c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
