"""One of several attacks, drawn for each image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import UsageError
from ..inputs import as_images, as_labels, as_seeds, dtype_of, plainly
from ..randomness import uniform
from ..types import Attack
from ._cost import passes_of
from ._gradient import WHICH, check_settings


@dataclass(frozen=True)
class Mixture:
    """Each image is attacked by one of the attacks: which one is drawn from its seed and moved on by ``turn``, so that over as many
    turns as there are attacks each image is attacked by each of them once. Images of one attack are attacked together.

    It has no budget of its own, so the strict protocol stores all of its images as it does those of a minimal-norm attack.

    Attributes:
        attacks: of this package or your own, at least one.
        turn: 0 or more.

    Raises:
        UsageError: for settings out of range; images, labels or answers outside the conventions.
    """

    attacks: tuple[Attack, ...]
    turn: int = 0

    eps = None  # each attack has its own

    def __post_init__(self) -> None:
        if not isinstance(self.attacks, tuple) or not self.attacks:
            raise UsageError(f"attacks must be a tuple of at least one attack; found {self.attacks!r}")
        for attack in self.attacks:
            if not isinstance(attack, Attack) or isinstance(attack, type):
                raise UsageError(f"an attack is called with a classifier, images, labels and seeds, and has an eps; found {attack!r}")
        check_settings(turn=(self.turn, 0, 2**31))

    @property
    def passes(self) -> float:
        """The mean: each image has one of them."""
        return sum(map(passes_of, self.attacks)) / len(self.attacks)

    def drawn(self, seeds: Tensor) -> Tensor:
        """(N,) int64: the number of the attack on each image, from ``seeds`` int64 (N,)."""
        count = len(self.attacks)
        return ((uniform(seeds + WHICH, (1,))[:, 0].double() * count).long() + self.turn) % count

    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,); ``seeds`` draw who attacks, and are handed to the attacks."""
        x = as_images(x, dtype=dtype_of(classifier))
        y, seeds = as_labels(y, len(x)), as_seeds(seeds, len(x))
        with plainly(grad=False):
            out, which = x.clone(), self.drawn(seeds)
            for number, attack in enumerate(self.attacks):
                at = (which == number).nonzero()[:, 0]
                if len(at):
                    out[at] = attack(classifier, x[at], y[at], seeds=seeds[at])
        return out
