"""One perturbation for all images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..inputs import as_images, as_labels, dtype_of, plainly
from ..modules import private
from ._apgd import looked
from ._given import keep, kept
from ._gradient import check_settings, log_odds_against
from ._validation import Attacked, validated
from .external import described


@dataclass(frozen=True)
class Universal:
    """One perturbation that is added to every image (Moosavi-Dezfooli, Fawzi, Fawzi, Frossard 2017); :meth:`fit` learns it from images that
    are not those that are attacked.

    Attributes:
        eps: Linf budget in [0, 1] units.
        perturbation: its type, shape and hash; the values themselves are in no file.

    Raises:
        UsageError: for settings that were read from a file; images of another size.
    """

    eps: float
    perturbation: str

    norm: ClassVar[str] = "linf"
    must_fool: ClassVar[bool] = False  # one for all does not fool all
    title: ClassVar[str] = "universal"

    @classmethod
    def fit(
        cls,
        classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float = 10 / 255,
        epochs: int = 10,
        batch: int = 100,
        seed: int = 0,
    ) -> Universal:
        """Learn it by steps along the sign of the summed gradient of a batch, projected onto the ball (Shafahi, Najibi, Xu, Dickerson,
        Davis, Goldstein 2020, algorithm 2).

        The loss is the log-odds against the label; an image whose log-odds are above 1 counts no more (theirs: a clipped cross-entropy).
        A step is ``eps`` / 5, a tenth of that in the last third of the epochs.

        Cost: ``epochs`` forward and backward passes an image.

        Args:
            classifier: images to logits.
            images: (N, C, H, W) to learn from: not those that are attacked.
            labels: (N,) to leave.
            eps: Linf budget in [0, 1] units.
            epochs: passes over the images.
            batch: images a step.
            seed: of their order.

        Raises:
            UsageError: for settings out of range; images, labels or answers outside the conventions.
        """
        check_settings(eps=(eps, 0, 1), epochs=(epochs, 1, 10_000), batch=(batch, 1, 10**6))
        x = as_images(images, dtype=dtype_of(classifier))
        if not len(x):
            raise UsageError("images to learn a perturbation from are missing; found none")
        y = as_labels(labels, len(x))
        generator = torch.Generator().manual_seed(seed)
        with plainly(grad=False):
            net, delta = Attacked(private(classifier), y), torch.zeros_like(x[:1])
            for epoch in range(epochs):
                step = eps / 5 if 3 * epoch < 2 * epochs else eps / 50
                order = torch.randperm(len(x), generator=generator).to(x.device)
                for at in (order[k : k + batch] for k in range(0, len(x), batch)):
                    delta = (delta + step * _slope(net, (x[at] + delta).clamp(0, 1), y[at]).sign()).clamp(-eps, eps)
        return keep(cls(eps, described(delta)), delta)

    @property
    def delta(self) -> Tensor:
        """(1, C, H, W) the perturbation."""
        found: Tensor = kept(self, "perturbation")
        return found

    @validated
    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) the images with the perturbation; ``y`` and ``seeds`` are not used."""
        if self.delta.shape[1:] != x.shape[1:]:
            raise UsageError(f"the perturbation is for images of {tuple(self.delta.shape[1:])}; found {tuple(x.shape[1:])}")
        return (x + self.delta.to(x)).clamp(0, 1)


def _slope(classifier: nn.Module, here: Tensor, y: Tensor) -> Tensor:
    """(1, C, H, W) gradient of the sum of the log-odds, each up to 1."""
    _, _, graph = looked(classifier, here, y, y, lambda z, own, goal: log_odds_against(z, own).clamp(max=1), True)
    assert graph is not None
    found: Tensor = torch.autograd.grad(*graph)[0].sum(0, keepdim=True)
    return found
