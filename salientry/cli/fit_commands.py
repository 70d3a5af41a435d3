"""The commands ``fit`` and ``refit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .lines import guarded, print_line
from .options import (
    Debug,
    Detectors,
    Device,
    FitData,
    FitResize,
    FitSecond,
    FitSeed,
    FitStore,
    Fitted,
    Groups,
    OwnDetector,
    SecondWeights,
    TrainSecond,
    Weights,
    Workers,
)

Minutes = Annotated[
    float, typer.Option(help="Of one core; an attack that the guard is only tried on, and that would take a fifth, is left out.")
]


def fit(
    classifier: Fitted,
    data: FitData,
    out: Annotated[Path, typer.Option(help="Folder of the guard; one that is there is replaced.", metavar="DIR", show_default=False)],
    weights: Weights = None,
    second: FitSecond = None,
    second_weights: SecondWeights = None,
    train_second: TrainSecond = None,
    level: Annotated[
        float, typer.Option(help="Largest share of ordinary images that may be flagged, promised with 95 % confidence.")
    ] = 0.05,
    promise: Annotated[
        str, typer.Option(help="Of which ordinary images: all, or correct, those that the classifier is right on.", metavar="all|correct")
    ] = "all",
    quick: Annotated[
        bool, typer.Option("--quick", help="Try the cheapest detector alone, and no attacks but those it learns from.")
    ] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Try also masks of the map, and ten published detectors.")] = False,
    minutes: Minutes = 30.0,
    groups: Groups = None,
    detector: Detectors = None,
    resize: FitResize = None,
    workers: Workers = 0,
    device: Device = "cpu",
    seed: FitSeed = 0,
    store: FitStore = None,
    debug: Debug = False,
) -> None:
    """Fit a guard for your own classifier, and measure how good it is on images that it was not fitted on.

    DIR gets guard.json and its arrays for `salientry check`, and a report, card.md and card.json. The classifier itself is saved only when
    it is one of this package. An interrupted fit continues when the same command is given again.
    """
    with guarded(debug):
        from .fitting import execute

        if quick and thorough:
            raise UsageError("--quick and --thorough were both given; one of them or neither expected")
        how: dict[str, Any] = {"workers": workers, "device": device, "seed": seed, "store": store, "say": print_line}
        how |= {
            "second": second,
            "second_weights": second_weights,
            "train_second": train_second,
            "groups": groups,
            "detectors": detector or [],
            "resize": resize,
        }
        effort = "quick" if quick else "thorough" if thorough else "usual"
        execute(classifier, weights, data, out, level=level, promise=promise, effort=effort, minutes=minutes, **how)


def refit(
    guard: Annotated[Path, typer.Argument(help="Folder of the guard of the classifier as it was.", metavar="GUARD", show_default=False)],
    classifier: Fitted,
    data: FitData,
    out: Annotated[Path, typer.Option(help="Folder of the new guard; GUARD itself is replaced.", metavar="DIR", show_default=False)],
    weights: Weights = None,
    second: FitSecond = None,
    second_weights: SecondWeights = None,
    train_second: TrainSecond = None,
    minutes: Minutes = 30.0,
    groups: Groups = None,
    detector: OwnDetector = None,
    workers: Workers = 0,
    device: Device = "cpu",
    seed: FitSeed = 0,
    store: FitStore = None,
    debug: Debug = False,
) -> None:
    """Fit a guard again after its classifier was trained again: the same kind of detector, false-positive rate, promise and resizing.

    Nothing is chosen anew; weights and threshold are fitted to the new classifier, and how good the guard is, is measured again. The last
    line compares it with GUARD's own report. An interrupted call continues when the same command is given again.
    """
    with guarded(debug):
        from .fitting import execute

        how: dict[str, Any] = {"workers": workers, "device": device, "seed": seed, "store": store, "say": print_line, "like": guard}
        how |= {
            "second": second,
            "second_weights": second_weights,
            "train_second": train_second,
            "groups": groups,
            "detectors": [detector] if detector else [],
        }
        execute(classifier, weights, data, out, minutes=minutes, **how)
