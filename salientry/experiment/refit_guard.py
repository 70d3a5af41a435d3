"""The same kind of guard for a classifier that has been trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..detectors import Fused, as_detector
from ..errors import UsageError
from ..evidence import SECOND
from ..guard import Guard
from ..guard_files import choices, kept_second
from .fit_guard import fit_guard
from .second_network import SecondNetwork


def refit_guard(
    folder: Path | str,
    classifier: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    second: nn.Module | SecondNetwork | None = None,
    detector: Any = None,
    **how: Any,
) -> Guard:
    """A guard like a saved one, for a classifier that has been trained again since.

    What was chosen still holds and is not chosen again: the kind of detector and its settings, the false-positive rate, of which images
    it is promised, the way to resize, the effort. What was learnt does not: weights and threshold are fitted to the new classifier, and how
    good the guard is, is measured again. A guard of a scheme that is fitted in several steps, ``Fused``, cannot be made again.

    Args:
        folder: of the saved guard.
        classifier: images (N, C, H, W) in [0, 1] to logits.
        images: natural images that the classifier was not trained on; as in :func:`~salientry.fit_guard`, which everything is handed to.
        labels: (N,).
        second: the second network, where the guard asks one; None: the one that lies with the guard. As in :func:`~salientry.fit_guard`.
        detector: the user's own detector that it was fitted with, where it cannot be found by its module and name.
        **how: more arguments of :func:`~salientry.fit_guard`, such as ``store``, ``groups``, ``workers``, ``progress``; one that is among
            what still holds, such as ``level``, replaces it.

    Returns:
        A guard, not saved.

    Raises:
        UsageError: when there is no guard in the folder, for a guard of fused scores, or one that asks a second network and none is
            given; and as :func:`~salientry.fit_guard` does.
        DataDamaged: when the guard's file is not what was saved.

    Examples:
        >>> guard = salientry.refit_guard("guard/", retrained, images, labels)    # doctest: +SKIP
    """
    kept = choices(Path(folder), None if detector is None else as_detector(detector))
    if isinstance(kept["detector"], Fused):
        raise UsageError(f"the guard in {folder} fuses the scores of detectors fitted one by one: fit it again with fit_guard")
    if SECOND in kept["detector"].needs and second is None and (second := kept_second(Path(folder))) is None:
        raise UsageError(f"the guard in {folder} asks a second network, and none was given: refit_guard(..., second=net)")
    return fit_guard(classifier, images, labels, second=second, **(kept | how))


__all__ = ["refit_guard"]
