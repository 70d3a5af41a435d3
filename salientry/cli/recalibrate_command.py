"""The command ``recalibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .lines import guarded, print_line
from .options import Debug, Device, OwnDetector, SavedOrGiven, Second, SecondWeights, Weights


def recalibrate(
    guard: Annotated[Path, typer.Argument(help="Folder of a saved guard; it is left as it is.", show_default=False)],
    images: Annotated[
        Path,
        typer.Argument(
            help="New natural images: a folder of pictures, also in sub-folders, or an .npz with images (N, C, H, W). With a guard whose "
            "promise is of correct answers: one sub-folder a class, or labels in the .npz, as for fit.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new guard.", metavar="NEW", show_default=False)],
    classifier: SavedOrGiven = None,
    weights: Weights = None,
    second: Second = None,
    second_weights: SecondWeights = None,
    detector: OwnDetector = None,
    level: Annotated[
        float | None, typer.Option(help="Largest share of ordinary images that may be flagged; default: the guard's.", show_default=False)
    ] = None,
    device: Device = "cpu",
    debug: Debug = False,
) -> None:
    """Give a guard another threshold, from new natural images, by the rule of fit.

    For images that are not like those that it was calibrated on. Classifier and detector stay as they are. NEW gets guard.json and its
    arrays, card.md and card.json, which say what changed.
    """
    with guarded(debug):
        from .recalibrating import execute

        beside: dict[str, Any] = {"second": second, "second_weights": second_weights, "detector": detector}
        for line in execute(guard, images, out, classifier, weights, level, device, **beside):
            print_line(line)
