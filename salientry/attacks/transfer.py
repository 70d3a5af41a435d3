"""An attack made on another network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import UsageError
from ..inputs import plainly
from ..learned import device_of, fingerprint
from ..types import Attack
from ._cost import passes_of
from ._given import keep, kept
from .external import as_attack


@dataclass(frozen=True)
class Transfer:
    """An attack that never asks the classifier: it is made on another network of the same classes, and its images are handed on (Szegedy et
    al. 2014, section 4.2); :meth:`of` makes it.

    An image for which the other network gives another answer than the label is for most attacks done before it begins.

    Attributes:
        attack: of this package, or an :class:`ExternalAttack`.
        source: the other network's fingerprint, over its weights; the network itself is in no file.

    Raises:
        UsageError: for settings that were read from a file; what the attack raises.
    """

    attack: Attack
    source: str

    must_fool = False  # what fools one network need not fool another

    @classmethod
    def of(cls, attack: Attack, network: nn.Module) -> Transfer:
        """An attack made on ``network``, images (N, C, H, W) to logits (N, K).

        Raises:
            UsageError: for what is no network or no attack.
        """
        if not isinstance(network, nn.Module):
            raise UsageError(f"network must be an nn.Module; found {type(network).__name__}")
        return keep(cls(as_attack(attack), fingerprint(network)), network)

    @property
    def eps(self) -> float | None:
        """The attack's."""
        return self.attack.eps

    @property
    def norm(self) -> str:
        """The attack's; empty where it does not say one."""
        return str(getattr(self.attack, "norm", ""))

    @property
    def title(self) -> str:
        """As it stands in a table: ``PGD on another network``."""
        return f"{getattr(self.attack, 'title', type(self.attack).__name__)} on another network"

    @property
    def passes(self) -> float:
        """Those of the attack, on another network."""
        return passes_of(self.attack)

    def __call__(self, classifier: nn.Module, x: Tensor, y: Tensor, *, seeds: Tensor) -> Tensor:
        """(N, C, H, W) images that leave label ``y`` (N,) of the other network; ``seeds`` are handed to the attack."""
        network = kept(self, "network")
        with plainly(grad=False):
            if device_of(network) != x.device:
                network = network.to(x.device)
            return self.attack(network, x, y, seeds=seeds)
