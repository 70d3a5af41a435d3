"""What a detector is fitted on: the evidence of many images, and views of them in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .errors import UsageError
from .evidence import LAYER, Activations, Evidence
from .layers import Pooled
from .types import Pairs


class Part(Protocol):
    """A part of many images' evidence, read by slices: a tensor (N, ...) is one."""

    def __getitem__(self, at: slice, /) -> Tensor: ...


class EvidenceSet:
    """The evidence of many images, read as it is asked for: naturals first, then, in the same order, their adversarial twins.

    Args:
        parts: ``image`` and whatever else is known, each read by slices.
        classes: (N,) the true class of each image; a twin's is its natural's.
        classifier: to be asked about other images; for detectors that need ``classifier``.
        training: the evidence of the naturals that the classifier itself was trained on, or of the images that stand for them where
            those are not here; for detectors that need ``training``.
        copies: the evidence of the same naturals changed harmlessly (with noise as large as each attack's perturbation, one attack after
            the other; in a guard by ``HARMLESS``, where the answer stayed); for detectors that need ``copies``.
        naturals: the evidence of all naturals of the detectors' role, those too that have no twin, because the classifier is wrong on
            them or no attack fooled it; for detectors that need ``naturals``.

    Attributes:
        image: (N, C, H, W); and every other part that :class:`~salientry.evidence.Evidence` has and the detector needs, each (N, ...)
            and as a whole. ``pieces`` gives them a few at a time.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        classes: Tensor,
        *,
        classifier: nn.Module | None = None,
        training: EvidenceSet | None = None,
        copies: EvidenceSet | None = None,
        naturals: EvidenceSet | None = None,
    ) -> None:
        self._parts, self.classes = dict(parts), classes
        self.classifier, self.training, self.copies, self.naturals = classifier, training, copies, naturals

    @classmethod
    def of(cls, natural: Evidence, adversarial: Evidence, classes: Tensor | None = None, **given: Any) -> EvidenceSet:
        """Out of two evidences of the same images, with the parts that both know already.

        Args:
            natural: of n images.
            adversarial: of their twins.
            classes: (n,) true classes; default the class predicted for the natural.
            **given: ``classifier``, ``training``, ``copies``, ``naturals``.
        """
        names = ["image", *(n for n in natural._parts if n in adversarial)]
        classes = natural.predicted if classes is None else classes
        return cls({n: torch.cat([getattr(natural, n), getattr(adversarial, n)]) for n in names}, torch.cat([classes, classes]), **given)

    def __len__(self) -> int:
        return len(self.classes)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._parts:
            raise UsageError(
                f"these images have no stored {name}, only {', '.join(self._parts)}: a detector names what it reads in `needs`"
            )
        return self._parts[name][:]

    @property
    def activations(self) -> Mapping[str, Pooled]:
        """What layers give, by name."""
        return Activations(
            sorted(n.removeprefix(LAYER) for n in self._parts if n.startswith(LAYER)), lambda name: getattr(self, LAYER + name)
        )

    @property
    def labels(self) -> Tensor:
        """(N,) int64, 0 natural, 1 adversarial."""
        return (torch.arange(len(self)) >= len(self) // 2).to(torch.int64)

    def pieces(self, size: int = 250) -> Iterator[Evidence]:
        """The same, some images at a time."""
        for s in range(0, len(self), size):
            known = {n: p[s : s + size] for n, p in self._parts.items()}
            yield Evidence(self.classifier, None, known.pop("image"), frozenset(), None, **known)

    def pairs(self, labels: Tensor, settings: Any, *parts: nn.Module) -> Pairs:
        """Views of naturals and of their twins, for a detector that looks at one view of the evidence and learns from pairs.

        Args:
            labels: (N,) which are which; as many of each, in the same order.
            settings: ``settings.view(evidence, *parts)``.
            parts: fitted modules that the view depends on.
        """
        with torch.no_grad():
            seen = torch.cat([settings.view(e, *parts) for e in self.pieces()])
        return Views(seen[(labels == 0).to(seen.device)], seen[(labels == 1).to(seen.device)])


class Views:
    """Views of naturals and of their adversarial twins in memory.

    It may be given to ``fit`` in place of evidence, where the views are known already.

    Args:
        natural: (n, ...).
        adversarial: the same shape, in the same order.
    """

    def __init__(self, natural: Tensor, adversarial: Tensor) -> None:
        if natural.shape != adversarial.shape:
            raise UsageError(f"as many naturals as twins are expected; found {tuple(natural.shape)} and {tuple(adversarial.shape)}")
        self.natural, self.adversarial = natural, adversarial

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view."""
        return tuple(self.natural.shape[1:])

    def __len__(self) -> int:
        return len(self.natural)

    @property
    def labels(self) -> Tensor:
        """(2 n,) int64, 0 natural, 1 adversarial."""
        return torch.cat([torch.zeros(len(self)), torch.ones(len(self))]).to(torch.int64)

    def pairs(self, labels: Tensor, settings: Any, *parts: nn.Module) -> Views:
        """Itself."""
        return self

    def batches(self, size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """(natural views, adversarial views), paired; with ``seed`` None all in order, else shuffled whole batches."""
        n = len(self)
        order = torch.arange(n) if seed is None else torch.from_numpy(np.random.default_rng(seed).permutation(n))
        for at in torch.split(order[: n if seed is None else n - n % size], size):
            yield self.natural[at], self.adversarial[at]


Fittable = EvidenceSet | Views
