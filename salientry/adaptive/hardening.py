"""Adversarial training of a detector: what the paper does after its white-box attack has won."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from ..attacks._gradient import check_settings
from ..detectors import _cnn
from ..detectors._fitted import Fitted
from ..errors import UsageError
from ..learned import facts_of, fingerprint, seeded, with_facts
from ..types import Pairs


@dataclass(frozen=True)
class Hardening:
    """One round: a detector with a CNN head is trained on from its weights, on naturals and everything that attacked it so far.

    The paper (section 3.6) trains "iteratively against the white-box attack" and lets the attack see the new detector; it gives
    neither the number of rounds nor of passes. Classifier and saliency model stay as they are.

    Attributes:
        epochs: passes over all pairs, a round.
        lr: constant learning rate.

    Raises:
        UsageError: for settings out of range.
    """

    epochs: int = 2
    lr: float = 1e-3

    def __post_init__(self) -> None:
        check_settings(epochs=(self.epochs, 1, 1000), lr=(self.lr, 0, 1))

    def __call__(self, detector: Fitted, pairs: Pairs, *, seed: int) -> Fitted:
        """A detector trained on from this one, which stays as it is. Its facts hold the weights' fingerprint.

        Raises:
            UsageError: for a detector whose head is no CNN.
        """
        settings = getattr(detector.settings, "head", None)
        if not isinstance(settings, _cnn.Head):
            raise UsageError(f"adversarial training needs a detector with a CNN head; found {type(detector.settings).__name__}")
        with seeded(seed):
            made = copy.deepcopy(detector)
            made.head.requires_grad_(True)
            how: dict[str, Any] = {"epochs": self.epochs, "lr": self.lr}  # the paper's own net has a constant rate anyway
            head = replace(settings, **how | ({"schedule": "constant"} if isinstance(settings, _cnn.SmallCNN) else {}))
            trained = _cnn.improve(made, pairs, head, seed)
        return with_facts(trained, **(facts_of(detector) | facts_of(trained) | {"weights": fingerprint(trained)[:16]}))
